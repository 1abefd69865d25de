//! A fourth system that slips in a real flip: it says that it holds and does not, loses the answer to its switch, or lies about who answers it.

use super::flip::NEVER;
use crate::harness::sandbox::Sandbox;
use crate::harness::{eventually, fresh_folder};
use cutover::sandbox::servers::free_port;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const EXAMPLE: &str = include_str!("../../../docs/examples/participant/participant.py");
/// It has taken the order to hold, and lets its users on all the same.
const SLEEPS_IN_NO_HOLD: (&str, &str) = (
    "return self.answer(200, participant.standing())",
    r#"return self.answer(200, {**participant.standing(), "state": "serving"})"#,
);
/// Whoever answers it, it says blue's engine; and the first answer to a switch never arrives.
const LIES: (&str, &str) = (r#"standing["answered_by"] = said["version"]"#, r#"standing["answered_by"] = "1.11.10""#);
const LOSES_AN_ANSWER: (&str, &str) = (
    "            return self.answer(200, standing)",
    r#"            if verb == "switch" and not participant.__dict__.setdefault("switched", []):
                participant.switched.append(verb)
                self.close_connection = True
                return
            return self.answer(200, standing)"#,
);

/// The example service of the documents behind the sandbox's gateway, as one of the plan's systems.
struct Greeter {
    address: String,
    folder: PathBuf,
    engine: String,
    child: Option<Child>,
}

impl Greeter {
    fn join(sandbox: &Sandbox) -> Self {
        let address = format!("127.0.0.1:{}", free_port().expect("a port"));
        let last = "  - name: dashboard\n    participant: { url: \"${DASHBOARD_CUTOVER}\" }\n    answers: { blue: \"1.11.10\", green: \"2.2.0\" }\n";
        let more = last.replace("dashboard", "greeter").replace("${DASHBOARD_CUTOVER}", &format!("http://{address}"));
        sandbox.change_plan(last, &format!("{last}{more}"));
        let folder = fresh_folder("greeter");
        std::fs::create_dir_all(&folder).expect("a folder");
        Self { address, folder, engine: sandbox.variable("GATEWAY_ADMIN"), child: None }
    }

    /// Starts it again with these slips, on what it remembers.
    async fn start(&mut self, slips: &[(&str, &str)]) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it ends");
        }
        let text = slips.iter().fold(EXAMPLE.to_owned(), |text, (line, instead)| {
            assert_eq!(text.matches(line).count(), 1, "the example has the line once: {line}");
            text.replacen(line, instead, 1)
        });
        let file = self.folder.join("greeter.py");
        std::fs::write(&file, text).expect("the service");
        let mut python = Command::new("python3");
        python.arg(&file).args(["--listen", &self.address, "--engine", &self.engine, "--state"]);
        python.arg(self.folder.join("state.json")).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.child = Some(python.spawn().expect("python3 starts"));
        let url = format!("http://{}/cutover/v1/state", self.address);
        eventually(Duration::from_secs(30), "it answers", async || reqwest::get(&url).await.ok()).await;
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn says(phase: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "note" && event["body"]["phase"] == phase
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_slips_keeps_blue_serving_or_green_closed_until_it_is_mended() {
    let sandbox = Sandbox::up("slips", 1000, 30).await;
    sandbox.until("revoked", 3).await;
    let mut greeter = Greeter::join(&sandbox);
    greeter.start(&[SLEEPS_IN_NO_HOLD]).await;
    assert_eq!(sandbox.run("run").await.0, 0);

    let (code, stays) = sandbox.run("flip").await;
    assert_eq!((code, stays["live"].as_str()), (7, Some("blue")), "{stays}");
    assert!(stays["why"].as_str().is_some_and(|why| why.contains("greeter")), "{stays}");

    greeter.start(&[LIES, LOSES_AN_ANSWER]).await;
    let mut flip = sandbox.start("flip");
    flip.until(says("decided")).await.expect("it is decided");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let closed = "select count(*) from cutover.register where state = 'closed'";
    assert_eq!(sandbox.ask("GREEN_URL", closed).await, 1, "nobody is let to green while one system is on blue");
    greeter.start(&[]).await;
    let (code, flipped) = flip.end().await;
    assert_eq!((code, flipped["live"].as_str()), (0, Some("green")), "{flipped}");
    let report = sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(super::flip::count(&report, word), 0, "{word} in {report}");
    }
}
