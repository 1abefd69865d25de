//! The end: after the soak nothing of ours is left, and the gateway goes on without registers.

use super::triggers::without_decoding;
use super::way_back::LEFT;
use crate::harness::eventually;
use crate::harness::sandbox::Sandbox;
use crate::level::for_both;
use cutover::plan::CaptureMethod;
use std::time::Duration;

for_both!(finalize_waits_for_the_soak_and_for_blues_engine_and_leaves_nothing);

async fn finalize_waits_for_the_soak_and_for_blues_engine_and_leaves_nothing(method: CaptureMethod) {
    let sandbox = Sandbox::up("finalize", 2000, 20).await;
    if method == CaptureMethod::Triggers {
        without_decoding(&sandbox).await;
    }
    assert_eq!(sandbox.run("run").await.0, 0);
    let (code, early) = sandbox.run("finalize --yes").await;
    assert_eq!((code, early["live"].as_str()), (3, Some("blue")), "it moves no traffic: {early}");
    assert_eq!(sandbox.run("flip").await.0, 0);
    let (code, unasked) = sandbox.run("finalize").await;
    assert_eq!((code, unasked["live"].as_str()), (3, Some("green")), "nobody agreed: {unasked}");
    let (code, early) = sandbox.run("finalize --yes").await;
    assert_eq!(code, 3, "{early}");
    let why = early["why"].as_str().expect("a reason");
    assert!(why.contains("window.soak") && why.contains("sessions of the application's role"), "{why}");

    // A no of that gate leaves the way back open.
    for (verb, live) in [("rollback --yes", "blue"), ("flip", "green")] {
        let (code, said) = sandbox.run(verb).await;
        assert_eq!((code, said["live"].as_str()), (0, Some(live)), "{verb}: {said}");
    }

    // The prober writes to blue as the application would, and blue's engine is still connected.
    for part in ["prober", "engine-blue"] {
        let said = sandbox.verb(&["fault", part, "kill"]).await;
        assert_eq!(said["outcome"], "done", "{part}: {said}");
    }
    killed_half_way(&sandbox).await;
    let (code, said) = sandbox.run("finalize --yes --set window.soak=50ms").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    for side in ["BLUE_URL", "GREEN_URL"] {
        assert_eq!(sandbox.ask(side, LEFT).await, 0, "nothing of ours is left: {side}");
    }
    let (_, status) = sandbox.run("status").await;
    assert_eq!((status["state"].as_str(), status["live"].as_str()), (Some("finalized"), Some("green")), "{status}");
    let (code, over) = sandbox.run("rollback --yes").await;
    assert_eq!(code, 3, "there is no way back: {over}");

    // A gateway that starts again has only its memory, and serves green.
    for fault in ["kill", "up"] {
        let said = sandbox.verb(&["fault", "gateway", fault]).await;
        assert_eq!(said["outcome"], "done", "{fault}: {said}");
    }
    let version = format!("{}/version", sandbox.variable("GATEWAY_ADMIN"));
    let answer = reqwest::get(&version).await.expect("the gateway answers");
    assert_eq!(answer.headers()["x-cutover-side"], "green");
}

/// Killed when blue is done and green is not, because somebody holds a lock there. Green is live all the same.
async fn killed_half_way(sandbox: &Sandbox) {
    let mut holder = sandbox.client("GREEN_URL").await;
    let lock = holder.transaction().await.expect("a transaction");
    lock.batch_execute("lock table hydra_client in access share mode").await.expect("the lock");
    let verb = "finalize --yes --set window.soak=50ms --waive soak --because the-load-has-ended";
    let underway = sandbox.start(verb);
    eventually(Duration::from_secs(60), "blue is done", || async {
        (sandbox.ask("BLUE_URL", LEFT).await == 0).then_some(())
    })
    .await;
    assert!(underway.kill().await, "killed half-way");
    assert!(sandbox.ask("GREEN_URL", LEFT).await > 0, "green is not done");
    let (_, status) = sandbox.run("status").await;
    assert_eq!(status["live"], "green", "{status}");
    lock.rollback().await.expect("the lock is gone");
}
