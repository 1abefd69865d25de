//! Values outside that are set before the window, on whole runs: read first, set back on both outcomes, and never set over somebody else's word.

use crate::harness::sandbox::Sandbox;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A service that keeps how long tokens live, and tells it in its own words.
#[derive(Clone)]
struct Lives(Arc<Mutex<Value>>);

impl Lives {
    async fn listen(&self) -> String {
        let routes = Router::new().route("/lives", get(Self::tell).put(Self::set)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/lives", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    async fn tell(State(lives): State<Self>) -> Json<Value> {
        Json(json!({ "refresh": lives.now() }))
    }

    /// `4h` is told as `4h0m0s` from then on.
    async fn set(State(lives): State<Self>, Json(body): Json<Value>) {
        let told = match body["refresh"].as_str() {
            Some("4h") => json!("4h0m0s"),
            _ => body["refresh"].clone(),
        };
        *lives.0.lock().expect("no panic") = told;
    }

    fn now(&self) -> Value {
        self.0.lock().expect("no panic").clone()
    }
}

fn at(from_now: Duration) -> String {
    let moment = std::time::SystemTime::now() + from_now;
    let moment = jiff::Timestamp::try_from(moment).expect("a time of these days");
    format!("{moment:.0}")
}

/// A sandbox whose plan prepares a value of that service and one in a file.
async fn sandbox(lives: &str) -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::up("prepare", 1000, 5).await;
    // Nobody's requests are needed for any of this.
    assert_eq!(sandbox.verb(&["fault", "prober", "kill"]).await["outcome"], "done");
    let file = sandbox.dir.join("limit");
    std::fs::write(&file, "100\n").expect("a file");
    let plan = std::fs::read_to_string(sandbox.dir.join("plan.yaml")).expect("the plan");
    assert!(plan.contains("\nwindow:\n"), "the example plan has a window");
    let plan = plan.replace("\nwindow:\n", "\nwindow:\n  opens: 2020-01-01T00:00:00Z\n");
    std::fs::write(sandbox.dir.join("plan.yaml"), plan).expect("it is written");
    sandbox.add_to_plan(&format!(
        "prepare:
  - {{ name: limit, value: 200, tokens: none, command: {{ read: [cat, limit], set: [sh, -c, \"echo $0 > limit\", $value] }} }}
  - {{ name: lives, value: 4h, tokens: jwt, takes_effect_after: 5s, http: {{ read: {{ url: \"{lives}\", pointer: /refresh }}, set: {{ method: PUT, url: \"{lives}\", body: {{ refresh: $value }} }} }} }}\n"
    ));
    (sandbox, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_values_are_set_in_time_and_set_back_on_both_outcomes() {
    let lives = Lives(Arc::new(Mutex::new(Value::Null)));
    let (sandbox, file) = sandbox(&lives.listen().await).await;
    let limit = || std::fs::read_to_string(&file).expect("the file").trim().to_owned();
    let why = |said: &Value| said["why"].as_str().unwrap_or_default().to_owned();

    // Nobody has answered for tokens that live longer and cannot be ended.
    let later = at(Duration::from_secs(3600));
    let (code, said) = sandbox.run(&format!("run --set window.opens={later}")).await;
    assert!(code == 3 && why(&said).contains("lives lengthens the life of access tokens"), "{said}");
    assert_eq!((lives.now(), limit()), (Value::Null, "100".to_owned()), "nothing was changed");

    // The window of the plan opened long ago: what takes five seconds cannot be there before.
    let waived = "--waive lengthen-jwt --because a-test";
    let (code, said) = sandbox.run(&format!("run {waived}")).await;
    assert!(code == 3 && why(&said).contains("the window opens at 2020-01-01T00:00:00Z"), "{said}");
    assert_eq!(lives.now(), Value::Null, "nothing was changed");

    // First outcome: taken back. Null was there, and null is there again.
    let until_set = format!("run --through set-outside-lives {waived} --set window.opens={later}");
    let (code, said) = sandbox.run(&until_set).await;
    assert_eq!((code, lives.now(), limit()), (0, json!("4h0m0s"), "200".to_owned()), "{said}");
    *lives.0.lock().expect("no panic") = json!("7h0m0s");
    let (code, said) = sandbox.run("rollback --yes").await;
    assert!(code == 8 && why(&said).contains("lives is `7h0m0s`"), "somebody else's value is not set over: {said}");
    assert_eq!((lives.now(), limit()), (json!("7h0m0s"), "200".to_owned()));
    *lives.0.lock().expect("no panic") = json!("4h0m0s");
    let (code, said) = sandbox.run("rollback --yes").await;
    assert_eq!((code, said["state"].as_str()), (0, Some("rolled_back")), "{said}");
    assert_eq!((lives.now(), limit()), (Value::Null, "100".to_owned()), "as before");

    // Second outcome: green serves for good.
    *lives.0.lock().expect("no panic") = json!("30m0s");
    let (code, said) = sandbox.run(&format!("run {waived} --set window.opens={later}")).await;
    assert_eq!((code, lives.now()), (0, json!("4h0m0s")), "{said}");
    std::fs::write(&file, "300\n").expect("somebody else's word");
    let (code, said) = sandbox.run("flip").await;
    assert!(code == 3 && why(&said).contains("limit is `300` and no longer `200`"), "{said}");
    std::fs::write(&file, "200\n").expect("as it was set");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    assert_eq!(sandbox.verb(&["fault", "engine-blue", "kill"]).await["outcome"], "done");
    std::fs::write(&file, "300\n").expect("somebody else's word");
    let (code, said) = sandbox.run("finalize --yes --set window.soak=50ms --waive soak --because seen-by-hand").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    assert_eq!((lives.now(), limit()), (json!("30m0s"), "300".to_owned()), "given back, but for somebody else's word");
}
