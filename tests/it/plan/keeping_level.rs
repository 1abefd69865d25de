//! What a plan says about keeping level: its throttles, and the log that may be kept.

use super::{anything, whole};
use cutover::engine::Step as _;
use cutover::plan::{self, CaptureMethod, Plan};
use std::path::Path;
use std::time::Duration;

fn parse(text: &str) -> Result<Plan, Vec<String>> {
    let problems = |problems: Vec<plan::Problem>| problems.iter().map(|problem| problem.message.clone()).collect();
    plan::parse(text, Path::new("."), &anything).map_err(problems)
}

#[test]
fn a_plan_says_when_a_batch_waits() {
    let without = parse(whole()).expect("a plan");
    assert_eq!((without.level.replica_lag, &without.level.load), (None, &None));
    let level = "level: { replica_lag: 5s, load: { query: select 1, most: 2.5 }, every: 500ms, fan_out: 7 }\n";
    let with = parse(&format!("{}{level}", whole())).expect("a plan");
    assert_eq!((with.level.replica_lag, with.level.every), (Some(Duration::from_secs(5)), Duration::from_millis(500)));
    assert_eq!((with.level.fan_out, without.level.fan_out), (7, 100_000));
    assert_eq!(with.level.load.expect("a load").most, 2.5);
    let same = parse(&format!("{}{}", whole(), level.replace("500ms", "500 ms"))).expect("a plan");
    assert_eq!(with.digest, same.digest, "written otherwise");
    assert_ne!(with.digest, without.digest);
    let wrong =
        parse(&format!("{}level: {{ load: {{ query: delete from t, most: 1 }} }}\n", whole())).expect_err("no query");
    assert_eq!(wrong, ["`level.load.query` is not a select"]);
}

#[test]
fn a_side_is_captured_by_a_slot_unless_the_plan_says_by_triggers() {
    let without = parse(whole()).expect("a plan");
    let said =
        |method: &str| parse(&whole().replacen("role: hydra }", &format!("role: hydra, capture: {method} }}"), 1));
    let by = |plan: &Plan| (plan.databases.blue.capture, plan.databases.green.capture);
    assert_eq!(by(&without), (CaptureMethod::Slot, CaptureMethod::Slot));
    let with = said("triggers").expect("a plan");
    assert_eq!(by(&with), (CaptureMethod::Triggers, CaptureMethod::Slot));
    assert_ne!(with.digest, without.digest);
    assert_eq!(said("slot").expect("a plan").digest, without.digest, "the default, written out");
    assert!(said("magic").is_err());
    let words = |plan: &Plan| {
        let runbook = cutover::steps::compile(plan).expect("a runbook");
        let step = runbook.steps().iter().find(|step| step.id().as_str() == "capture-blue").expect("the step");
        format!("{} {}", step.summary(), step.undo_summary())
    };
    assert!(words(&without).contains("logical slot"), "{}", words(&without));
    assert!(words(&with).contains("triggers on every captured table") && words(&with).contains("cutover.touched"));
}

#[test]
fn a_slot_may_be_dropped_only_above_what_it_may_keep() {
    let with = |drop: &str| parse(&whole().replace("wal_keep: 10GB", &format!("wal_keep: 10GB\n  wal_drop: {drop}")));
    let mut plan = with("20GB").expect("a plan");
    assert_eq!(plan.window.wal_drop_bytes, Some(20 << 30));
    assert_eq!(with("10GB").expect_err("not above"), ["`window.wal_drop` is not above `window.wal_keep`"]);
    assert!(plan.apply_sets([("window.wal_drop", "9GB")]).is_err(), "nor by --set");
    plan.apply_sets([("window.wal_drop", "11GB")]).expect("a budget");
    assert_eq!(plan.window.wal_drop_bytes, Some(11 << 30));
}
