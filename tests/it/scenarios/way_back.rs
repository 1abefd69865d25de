//! The way back after the flip under load, judged by the prober: once, and again after a second flip, and killed on the way.

use super::flip::{NEVER, count};
use crate::harness::sandbox::Sandbox;
use serde_json::Value;
use std::time::Duration;

/// What is left of cutover in a database: schemas, slots, publications, triggers.
pub(super) const LEFT: &str = "select (select count(*) from pg_namespace where nspname like 'cutover%') + (select count(*) from pg_replication_slots where database = current_database())
  + (select count(*) from pg_publication) + (select count(*) from pg_trigger where tgname like 'cutover%')";

pub(super) async fn clean(sandbox: &Sandbox, live: &str) -> Value {
    let before = sandbox.seen("acked_writes").await.unwrap_or(0);
    sandbox.until("acked_writes", before + 20).await;
    let report = sandbox.verb(&["report"]).await;
    assert_eq!(report["live"], live, "{report}");
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_and_out_and_back_again_loses_nothing_and_leaves_nothing() {
    let sandbox = Sandbox::up("back", 5000, 50).await;
    sandbox.until("revoked", 5).await;
    for verb in ["run", "flip"] {
        assert_eq!(sandbox.run(verb).await.0, 0, "{verb}");
    }
    clean(&sandbox, "green").await;
    let (code, unasked) = sandbox.run("rollback").await;
    assert_eq!((code, unasked["live"].as_str()), (3, Some("green")), "nobody agreed to the cost: {unasked}");
    for turn in 1..=2 {
        let (code, back) = sandbox.run("rollback --yes").await;
        assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (0, Some("done"), Some("blue")), "{back}");
        let report = clean(&sandbox, "blue").await;
        assert_eq!(count(&report, "failed"), 0, "{report}");
        let (_, status) = sandbox.run("status").await;
        assert_eq!(status["state"], "returned", "{status}");
        if turn == 1 {
            let (code, out) = sandbox.run("flip").await;
            assert_eq!((code, out["live"].as_str()), (0, Some("green")), "{out}");
            clean(&sandbox, "green").await;
        }
    }
    let (code, undone) = sandbox.run("rollback").await;
    assert_eq!((code, undone["live"].as_str()), (0, Some("blue")), "{undone}");
    assert_eq!(sandbox.ask("BLUE_URL", LEFT).await, 0, "nothing of ours is left on blue");
    assert_eq!(sandbox.ask("GREEN_URL", LEFT).await, 0, "nor on green");
    clean(&sandbox, "blue").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn a_way_back_killed_at_any_moment_leaves_one_side_and_goes_on() {
    let sandbox = Sandbox::up("back-killed", 5000, 50).await;
    sandbox.until("revoked", 5).await;
    for verb in ["run", "flip"] {
        assert_eq!(sandbox.run(verb).await.0, 0, "{verb}");
    }
    let began = |event: &Value| event["event"] == "step_started" && event["step"] == "return";
    let phase = |phase: &'static str| {
        move |event: &Value| event["event"] == "note" && event["step"] == "return" && event["body"]["phase"] == phase
    };
    assert!(sandbox.killed("rollback --yes", began, Duration::from_millis(30)).await, "killed while it levels");
    let mut killed = 0;
    for after_ms in [0, 15, 30, 50, 80, 120] {
        killed += u32::from(sandbox.killed("rollback --yes", phase("propose"), Duration::from_millis(after_ms)).await);
    }
    assert!(killed >= 3, "only {killed} kills hit the way back");
    let (code, said) = sandbox.run("rollback --yes").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("blue")), "{said}");
    clean(&sandbox, "blue").await;
}
