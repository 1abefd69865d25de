//! Green filled with blue's schema and rows, the migrations run over them: at the flip point it is level, also when killed at every step;
//! and a whole cutover of the stand-in engine under load, judged by the prober.

use super::flip::{NEVER, count};
use crate::harness::sandbox::Sandbox;
use crate::steps_logical::stage;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Blue's notes as the plan's mapping gives them, and green's as they are.
const MAPPED: &str = "select md5(string_agg(row(id, account_id, body, length(body))::text, '|' order by id)) from note";
const THERE: &str = "select md5(string_agg(row(id, account_id, body, length)::text, '|' order by id)) from note";

#[tokio::test(flavor = "multi_thread")]
async fn a_logical_run_killed_at_every_step_comes_through_and_can_be_taken_back() {
    let stage = stage(300).await;
    let mut killed: Vec<String> = Vec::new();
    let step = |event: &Value| event["step"].as_str().unwrap_or_default().to_owned();
    let is_new = |event: &Value, killed: &[String]| event["event"] == "step_started" && !killed.contains(&step(event));
    while let Some(at) = stage.killed("run", |event| is_new(event, &killed)).await {
        killed.push(step(&at));
        // What is written after the last batch is brought by the flip, not by the run.
        if step(&at) != "set-sequences" && step(&at) != "capture-green" {
            stage.writes().await;
        }
    }
    for id in ["copy-schema", "copy-rows", "migrate-migrations", "level-migrated"] {
        assert!(killed.iter().any(|step| step == id), "not killed at {id}: {killed:?}");
    }
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!((code, run["state"].as_str()), (0, Some("at_flip_point")), "{run}");
    let (wanted, found): (String, String) = (stage.pair.blue.ask(MAPPED).await, stage.pair.green.ask(THERE).await);
    assert_eq!(found, wanted, "green is what the mapping makes of blue");

    let rows = stage.rows(true).await;
    let (code, back) = stage.verb(&["rollback"]).await;
    assert_eq!((code, back["outcome"].as_str()), (0, Some("done")), "{back}");
    assert_eq!((stage.left_on_blue().await, stage.rows(true).await), (0, rows));
    let left: i64 = stage.pair.green.ask("select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace where nspname in ('public', 'cutover')").await;
    assert_eq!(left, 0, "green is empty again");
}

/// A sandbox whose plan is the example of this method, under the name that its gateway knows.
async fn sandbox(name: &str) -> Sandbox {
    let sandbox = Sandbox::up(name, 5000, 50).await;
    let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let plan = std::fs::read_to_string(plans.join("hydra-logical.yaml")).expect("the example plan");
    let plan = plan.replace("name: hydra-logical\n", "name: hydra-1x-to-2x\n");
    std::fs::write(sandbox.dir.join("plan.yaml"), plan).expect("the plan is written");
    for file in ["before/V1__repair_requests.sql", "after/V1__states_of_flows.sql", "repairs/subjects.sql"] {
        let to = sandbox.dir.join("hydra-logical").join(file);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("the folder");
        std::fs::copy(plans.join("hydra-logical").join(file), to).expect("the file");
    }
    sandbox.until("revoked", 5).await;
    sandbox
}

async fn flips_cleanly(sandbox: &Sandbox) {
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    let on_green = count(&sandbox.verb(&["report"]).await, "acked_writes");
    sandbox.until("acked_writes", on_green + 20).await;
    let report = sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
    assert_eq!(count(&report, "failed"), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_logical_cutover_loses_nothing_and_resurrects_nothing() {
    let sandbox = sandbox("logical").await;
    for verb in ["check", "run"] {
        let (code, said) = sandbox.run(verb).await;
        assert_eq!((code, said["outcome"].as_str()), (0, Some("done")), "{said}");
    }
    let untouched = "select count(*) from hydra_oauth2_flow where state = 128 and login_error in ('', '{}')";
    assert_eq!(sandbox.ask("GREEN_URL", untouched).await, 0, "the plan's repairs ran");
    let measured = "select count(*) from cutover.record where step = 'migrate-engine' and body #>> '{files,0,locks,public.hydra_client}' = 'AccessExclusive'
      and body #>> '{files,0,rewritten}' like '%hydra_client%' and (body #>> '{files,0,wal_bytes}')::bigint > 100000";
    assert_eq!(sandbox.ask("CONTROL_URL", measured).await, 1, "what the engine's command did is measured");
    flips_cleanly(&sandbox).await;

    // Whoever did not hear the answer asks once more, and nothing is left to do.
    for state in ["returned", "rolled_back", "rolled_back"] {
        let (code, said) = sandbox.run("rollback --yes").await;
        assert_eq!((code, said["state"].as_str(), said["live"].as_str()), (0, Some(state), Some("blue")), "{said}");
    }
    let report = sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
    let left = "select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace where nspname in ('public', 'cutover')";
    assert_eq!(sandbox.ask("GREEN_URL", left).await, 0, "green is empty again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn a_logical_cutover_killed_in_the_copy_and_in_the_migrations_goes_on() {
    let sandbox = sandbox("logical-killed").await;
    let began = |step: &'static str| move |event: &Value| event["event"] == "step_started" && event["step"] == step;
    for (step, after_ms) in [
        ("copy-schema", 150),
        ("copy-rows", 60),
        ("migrate-engine", 120),
        ("migrate-engine", 700),
        ("level-migrated", 50),
    ] {
        assert!(sandbox.killed("run", began(step), Duration::from_millis(after_ms)).await, "killed in {step}");
    }
    let (code, said) = sandbox.run("run").await;
    assert_eq!((code, said["outcome"].as_str()), (0, Some("done")), "{said}");
    flips_cleanly(&sandbox).await;
}
