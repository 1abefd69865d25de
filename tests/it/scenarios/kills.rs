//! Killed at every step and in recovery too: forward it still ends at the flip point, back it still leaves nothing.

use crate::harness::stage::Stage;
use crate::level::for_both;
use cutover::plan::CaptureMethod;
use serde_json::Value;

fn step(event: &Value) -> String {
    event["step"].as_str().unwrap_or_default().to_owned()
}

/// Kills `verb` at each `event` of a step where it was not killed before, one process after the other, until one comes through;
/// the application writes after each kill up to the one at `last`. The steps, in order, and blue's rows.
async fn killed_at_every(stage: &Stage, verb: &str, event: &str, last: &str) -> (Vec<String>, String) {
    let mut steps: Vec<String> = Vec::new();
    let mut rows = stage.rows(true).await;
    let is_new = |told: &Value, steps: &[String]| told["event"] == event && !steps.contains(&step(told));
    while let Some(at) = stage.killed(verb, |told| is_new(told, &steps)).await {
        if !steps.iter().any(|step| step == last) {
            stage.writes().await;
            rows = stage.rows(true).await;
        }
        steps.push(step(&at));
    }
    (steps, rows)
}

async fn assert_nothing_is_left(stage: &Stage, rows: &str) {
    assert_eq!(stage.left_on_blue().await, 0);
    assert_eq!(stage.rows(true).await, rows, "blue holds what the application wrote, and nothing else happened to it");
    let tables: i64 = stage.pair.green.ask("select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace where relkind in ('r','S') and nspname in ('public','cutover')").await;
    assert_eq!(tables, 0, "green is empty again");
    stage.writes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_killed_twice_ends_and_leaves_nothing() {
    let stage = Stage::with_accounts(500).await;
    for step in ["copy-rows", "level-backlog"] {
        assert!(stage.killed_at("run", step).await, "{step}");
        stage.writes().await;
        let undoing = |event: &Value| event["event"] == "undoing";
        assert!(stage.killed("rollback", undoing).await.is_some());
        stage.writes().await;
        let later = |event: &Value| undoing(event) && event["step"] == "migrate-migrations";
        assert!(stage.killed("rollback", later).await.is_some());
        stage.writes().await;
        let rows = stage.rows(true).await;
        let (code, back) = stage.verb(&["rollback"]).await;
        assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (0, Some("done"), Some("blue")), "{back}");
        assert_nothing_is_left(&stage, &rows).await;
    }
}

for_both!(a_run_and_its_rollback_killed_at_every_step_come_through);

async fn a_run_and_its_rollback_killed_at_every_step_come_through(method: CaptureMethod) {
    let stage = Stage::with_accounts(500).await;
    if method == CaptureMethod::Triggers {
        stage.write_plan_by("triggers", "");
    }
    // What is written after the backlog is brought by the flip, not by the run.
    let (steps, rows) = killed_at_every(&stage, "run", "step_started", "level-backlog").await;
    assert!(steps.len() >= 15, "only killed at {steps:?}");
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!((code, run["state"].as_str()), (0, Some("at_flip_point")), "{run}");
    assert_eq!((stage.rows(true).await, stage.rows(false).await), (rows.clone(), rows), "green equals blue");

    let (undone, rows) = killed_at_every(&stage, "rollback", "undoing", "claim-sides").await;
    assert!(undone.len() >= 5, "only killed at {undone:?}");
    assert_nothing_is_left(&stage, &rows).await;
}
