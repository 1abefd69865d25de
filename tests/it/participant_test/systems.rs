//! The verb against the sandbox's internal systems: both pass, and one that may be live is not touched.

use super::Started;
use crate::gateway::world::Engine;
use crate::harness::fresh_folder;
use cutover::plan::{Secret, Side};
use serde_json::Value;

async fn system(part: &str, engine: &Engine) -> Started {
    let engine = engine.url.clone();
    let started = Started::new(fresh_folder(part), |address, dir| {
        std::fs::create_dir_all(dir.join("state")).expect("a folder");
        let variables = format!(
            "AUTHZ_CUTOVER='http://{address}'\nDASHBOARD_CUTOVER='http://{address}'\nGATEWAY_PUBLIC='{engine}'\nGATEWAY_ADMIN='{engine}'\n"
        );
        std::fs::write(dir.join("env"), variables).expect("the variables");
        format!("'{}' sandbox part {part} --dir '{}'", env!("CARGO_BIN_EXE_cutover"), dir.display())
    });
    started.begin().await;
    started
}

/// The verb's exit code and its events.
async fn verb(words: &[&str]) -> (i32, Vec<Value>) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cutover"));
    let output = command.args(["participant", "test", "--json"]).args(words).output().await.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let events = text.lines().map(|line| serde_json::from_str(line).expect("one event a line")).collect();
    (output.status.code().expect("an exit code"), events)
}

#[tokio::test(flavor = "multi_thread")]
async fn participant_test_passes_both_internal_systems_and_does_not_touch_one_that_was_asked_before() {
    let engine = Engine::start(Side::Blue, Secret::new("unused")).await;
    let (authorization, dashboard) = tokio::join!(system("authorization", &engine), system("dashboard", &engine));
    let (for_authorization, for_dashboard) = (authorization.trial(), dashboard.trial());
    let restart = |trial: &cutover::traffic::conformance::Trial| trial.restart.clone().expect("a command");
    let (first, second) = (restart(&for_authorization), restart(&for_dashboard));
    let ask = format!("{}/policies?subject=somebody", authorization.url);
    let to_authorization = [authorization.url.as_str(), "--restart", &first, "--ask", &ask];
    let to_dashboard = [dashboard.url.as_str(), "--restart", &second];
    let (of_authorization, of_dashboard) = tokio::join!(verb(&to_authorization), verb(&to_dashboard));
    for ((code, events), not_tried) in [(of_authorization, 1), (of_dashboard, 2)] {
        let checks: Vec<&Value> = events.iter().filter(|event| event["event"] == "check").collect();
        let summary = events.last().expect("a summary");
        assert_eq!((code, &summary["outcome"]), (0, &"done".into()), "{events:#?}");
        assert_eq!(checks.len(), 20, "{checks:#?}");
        assert_eq!(checks.iter().filter(|check| check["ok"] == true).count(), 20 - not_tried, "{checks:#?}");
        assert_eq!(summary["not_tried"].as_array().map(Vec::len), Some(not_tried), "{summary}");
        assert_eq!(events[0]["event"], "warning");
    }

    let http = cutover::traffic::http_client().expect("a client");
    let state = async || {
        let asked = http.get(format!("{}/cutover/v1/state", dashboard.url)).send().await;
        asked.expect("it answers").json::<Value>().await.expect("JSON")
    };
    let before = state().await;
    let (code, events) = verb(&[&dashboard.url]).await;
    let summary = events.last().expect("a summary");
    assert_eq!((code, &summary["outcome"]), (3, &"refused".into()), "{summary}");
    assert_eq!(state().await, before, "one that may be live is not touched");
    let (code, _) = verb(&["127.0.0.1:9000"]).await;
    assert_eq!(code, 2);
    let (code, _) = verb(&["http://127.0.0.1:9"]).await;
    assert_eq!(code, 1);
}
