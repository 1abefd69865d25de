//! Asked to stop, by a signal or by `cutover pause` from elsewhere: parked in time before the decision, finished after it.

use crate::harness::sandbox::Sandbox;
use crate::harness::stage::Stage;
use crate::harness::underway::Underway;
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// A command of the plan's that is not killed half-way, and takes its time.
const SLOW: &str = "  - command: { run: [sleep, \"3\"] }\n";

fn began(step: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "step_started" && event["step"] == step
}

fn is_slow(event: &Value) -> bool {
    let step = event["step"].as_str().unwrap_or_default();
    event["event"] == "step_started" && step.starts_with("migrate-") && step != "migrate-migrations"
}

fn is_stopping(event: &Value) -> bool {
    event["event"] == "stopping"
}

/// Where it says that it stops, once it was asked to.
async fn stops(underway: &mut Underway) -> Value {
    underway.until(is_stopping).await.expect("it says where it stops")["stops"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_parks_a_long_step_and_the_next_run_does_the_rest() {
    let stage = Stage::with_accounts(20_000).await;
    for (step, signal) in [
        ("copy-rows", Signal::INT),
        ("copy-rows", Signal::TERM),
        ("build-indexes", Signal::INT),
        ("level-backlog", Signal::TERM),
    ] {
        let mut run = stage.start(&["run"]);
        run.until(began(step)).await.expect("the step begins");
        let asked = Instant::now();
        run.signal(signal);
        assert_eq!(stops(&mut run).await, "here");
        let (code, parked) = run.end().await;
        assert_eq!(
            (code, parked["outcome"].as_str(), parked["live"].as_str()),
            (6, Some("parked"), Some("blue")),
            "{parked}"
        );
        assert!(parked["why"].as_str().is_some_and(|why| why.contains(&format!("step {step}"))), "{parked}");
        assert!(parked["next"].as_str().is_some_and(|next| next.starts_with("cutover run ")), "{parked}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{step}: {:?}", asked.elapsed());
        stage.writes().await;
    }
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!(code, 0, "{run}");
    assert_eq!(stage.rows(false).await, stage.rows(true).await, "green equals blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_kill_what_must_end_first() {
    let stage = Stage::with_accounts(50).await;
    stage.write_plan(SLOW);
    let mut run = stage.start(&["run"]);
    run.until(is_slow).await.expect("the command begins");
    for _ in 0..2 {
        run.signal(Signal::INT);
        assert_eq!(stops(&mut run).await, "after_step");
    }
    let (code, parked) = run.end().await;
    assert_eq!((code, parked["outcome"].as_str()), (6, Some("parked")), "{parked}");
    let mut run = stage.start(&["run"]);
    assert!(run.until(is_slow).await.is_none(), "the command had ended and is not run again");
    assert_eq!(stage.verb(&["status"]).await.1["state"], "at_flip_point");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_from_elsewhere_parks_the_run_at_work_and_no_later_one() {
    let stage = Stage::with_accounts(50).await;
    let (code, pause) = stage.verb(&["pause"]).await;
    assert_eq!((code, pause["outcome"].as_str(), pause["state"].as_str()), (0, Some("done"), None), "{pause}");
    stage.write_plan(&SLOW.replace('3', "10"));
    let mut run = stage.start(&["run"]);
    run.until(is_slow).await.expect("the command begins");
    let asked = Instant::now();
    let pause = tokio::spawn(stage.start(&["pause"]).end());
    run.until(is_stopping).await.expect("it says that it stops");
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    let (code, parked) = run.end().await;
    assert_eq!(code, 6, "{parked}");
    assert!(parked["why"].as_str().is_some_and(|why| why.contains("cutover pause")), "{parked}");
    let (code, pause) = pause.await.expect("it ends");
    assert_eq!(
        (code, pause["outcome"].as_str(), pause["state"].as_str()),
        (0, Some("done"), Some("parked")),
        "{pause}"
    );

    let (code, pause) = stage.verb(&["pause"]).await;
    assert_eq!((code, pause["lease"].as_str()), (0, None), "nothing is at work: {pause}");
    assert_eq!(stage.verb(&["run"]).await.0, 0, "the request was the other run's");

    let mut back = stage.start(&["rollback"]);
    back.until(|event| event["event"] == "undoing").await.expect("it goes back");
    back.signal(Signal::TERM);
    assert_eq!(stops(&mut back).await, "after_step");
    let (code, parked) = back.end().await;
    assert_eq!((code, parked["state"].as_str()), (6, Some("rolling_back")), "{parked}");
    assert!(parked["next"].as_str().is_some_and(|next| next.starts_with("cutover rollback ")), "{parked}");
    assert_eq!(stage.verb(&["rollback"]).await.0, 0);
    assert_eq!(stage.left_on_blue().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flip_is_parked_before_its_decision_and_finished_after_it() {
    let sandbox = Sandbox::up("parked", 1000, 30).await;
    sandbox.until("revoked", 3).await;
    assert_eq!(sandbox.run("run").await.0, 0);
    let phase = |phase: &'static str| move |event: &Value| event["event"] == "note" && event["body"]["phase"] == phase;

    let mut flip = sandbox.start("flip");
    flip.until(phase("propose")).await.expect("it is proposed");
    flip.signal(Signal::INT);
    assert_eq!(stops(&mut flip).await, "unless_decided");
    let (code, parked) = flip.end().await;
    assert_eq!(
        (code, parked["outcome"].as_str(), parked["live"].as_str()),
        (6, Some("parked"), Some("blue")),
        "{parked}"
    );

    let mut flip = sandbox.start("flip");
    flip.until(phase("decided")).await.expect("it is decided");
    flip.signal(Signal::TERM);
    let (code, flipped) = flip.end().await;
    assert_eq!(
        (code, flipped["outcome"].as_str(), flipped["live"].as_str()),
        (0, Some("done"), Some("green")),
        "{flipped}"
    );
    let report = sandbox.verb(&["report"]).await;
    for word in ["failed", "lost_writes", "revoked_accepted", "ended_accepted", "two_writer_ms"] {
        assert_eq!(report["prober"][word], 0, "{word} in {report}");
    }
}
