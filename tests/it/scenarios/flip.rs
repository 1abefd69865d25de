//! Whole cutovers under load, judged by the prober: straight through, and killed on the way.

use crate::harness::sandbox::Sandbox;
use serde_json::Value;
use std::time::Duration;

/// What no history may hold, whatever was killed and came back.
pub(super) const NEVER: [&str; 4] = ["lost_writes", "revoked_accepted", "ended_accepted", "two_writer_ms"];

pub(super) fn count(report: &Value, word: &str) -> u64 {
    report["prober"][word].as_u64().unwrap_or_else(|| panic!("no {word} in {report}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cutover_loses_nothing_and_resurrects_nothing() {
    let sandbox = Sandbox::up("whole", 5000, 50).await;
    sandbox.until("revoked", 5).await;
    for (verb, live) in [("check", "blue"), ("run", "blue"), ("flip", "green")] {
        let (code, said) = sandbox.run(verb).await;
        assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (0, Some("done"), Some(live)), "{said}");
    }
    let (_, status) = sandbox.run("status").await;
    assert_eq!((status["state"].as_str(), status["epoch"].as_u64()), (Some("flipped"), Some(2)), "{status}");
    let spent = &status["figures"]["hold_phases_ms"];
    for (when, phase) in [("before", "hold"), ("before", "level"), ("before", "decide"), ("after", "open")] {
        assert!(spent[when][phase].as_f64().is_some_and(|ms| ms > 0.0), "{phase} in {spent}");
    }
    let lag = &status["figures"]["replay_lag_ms"];
    assert!(lag.is_u64(), "how far the replay was behind at the hold: {lag}");
    for system in ["engine", "authorization", "dashboard"] {
        let systems = status["systems"].as_array().expect("the systems");
        assert!(systems.iter().any(|one| one["name"] == system && one["side"] == "green"), "{system} in {status}");
    }
    let on_green = count(&sandbox.verb(&["report"]).await, "acked_writes");
    sandbox.until("acked_writes", on_green + 20).await;
    let report = sandbox.verb(&["report"]).await;
    assert_eq!((report["flips"].as_u64(), count(&report, "failed")), (Some(1), 0), "{report}");
    assert!(report["flip"]["write_gap_ms"].as_f64().is_some_and(|gap| gap > 0.0), "{report}");
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
    let revocations = &status["revocations"];
    assert!(revocations["captured"].as_u64().is_some_and(|captured| captured > 0), "{status}");
    assert_eq!(revocations["captured"], revocations["proved"], "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn a_flip_killed_at_any_moment_leaves_one_side_and_goes_on() {
    let sandbox = Sandbox::up("killed", 5000, 50).await;
    sandbox.until("revoked", 5).await;
    assert_eq!(sandbox.run("run").await.0, 0);
    let began = |event: &Value| event["event"] == "step_started" && event["step"] == "flip";
    let phase = |phase: &'static str| move |event: &Value| event["event"] == "note" && event["body"]["phase"] == phase;
    assert!(sandbox.killed("flip", began, Duration::from_millis(30)).await, "killed while it levels");
    let mut killed = 0;
    for after_ms in [0, 15, 30, 50, 80, 120] {
        killed += u32::from(sandbox.killed("flip", phase("propose"), Duration::from_millis(after_ms)).await);
    }
    assert!(killed >= 3, "only {killed} kills hit the flip");
    let (_, status) = sandbox.run("status").await;
    if status["live"] == "blue" {
        assert!(sandbox.killed("flip", phase("decided"), Duration::ZERO).await, "killed after the decision: {status}");
    }
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    let report = sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
}
