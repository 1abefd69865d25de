//! A way back that was decided and whose blue never opened: `flip` takes it back, and green serves on as if nobody had asked.

use super::flip::{NEVER, count};
use crate::harness::sandbox::Sandbox;
use serde_json::Value;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_that_cannot_end_is_turned_round() {
    let sandbox = Sandbox::up("turned", 2000, 50).await;
    sandbox.until("revoked", 3).await;
    for verb in ["run", "flip"] {
        assert_eq!(sandbox.run(verb).await.0, 0, "{verb}");
    }
    let decided = |event: &Value| event["event"] == "note" && event["body"]["phase"] == "decided";
    assert!(sandbox.killed("rollback --yes", decided, Duration::ZERO).await, "killed after the decision");
    let (code, turned) = sandbox.run("flip").await;
    assert_eq!((code, turned["live"].as_str()), (0, Some("green")), "{turned}");
    let (_, status) = sandbox.run("status").await;
    assert_eq!((status["state"].as_str(), status["live"].as_str()), (Some("flipped"), Some("green")), "{status}");
    let written = count(&sandbox.verb(&["report"]).await, "acked_writes");
    sandbox.until("acked_writes", written + 20).await;
    let report = sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
    // The way back is still there.
    let (code, back) = sandbox.run("rollback --yes").await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
}
