//! Steps that fill green, when blue runs out of room for the log that is kept meanwhile, or has too much to do for another batch.

use crate::steps::Walk;
use cutover::engine::{FailureKind, Receipt, Standing, Step as _, StepError, StepId};
use cutover::plan::CaptureMethod;
use cutover::steps::Action;

/// Three megabytes of log.
const LOG: &str = "select pg_logical_emit_message(false, 'filler', repeat('x', 3000000))";

impl Walk {
    fn step(&self, name: &'static str) -> Action {
        let found = self.steps.iter().find(|step| step.id() == StepId::new(name));
        found.expect("the step").clone()
    }

    /// Makes every step before this one.
    async fn up_to(&mut self, name: &'static str) -> Action {
        for step in self.steps.clone() {
            if step.id() == StepId::new(name) {
                return step;
            }
            self.make(&step).await;
        }
        panic!("there is no step {name}");
    }

    async fn attempt(&self, step: &Action) -> Result<Receipt, StepError> {
        step.forward(&self.world, &self.context(step, self.lease.term())).await
    }

    async fn slots(&self) -> i64 {
        self.stage.pair.blue.ask("select count(*) from pg_replication_slots").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_parked_with_figures_when_the_slot_keeps_more_log_than_the_plan_allows() {
    let mut walk = Walk::with("window: { wal_keep: 2MB }\n").await;
    let copy = walk.up_to("copy-rows").await;
    walk.stage.pair.blue.execute(LOG).await;
    let parked = walk.attempt(&copy).await.expect_err("blue comes first");
    assert_eq!(parked.kind, FailureKind::Parked, "{}", parked.why());
    assert!(parked.why().contains("window.wal_keep is 2 MB") && parked.hint.contains("rollback"), "{}", parked.why());
    assert_eq!(walk.slots().await, 1, "the slot is never dropped without a word in the plan");
    walk.world.plan.apply_sets([("window.wal_keep", "1GB")]).expect("a budget");
    walk.make(&copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_the_plan_lets_go_is_dropped_and_nothing_is_continued() {
    let mut walk = Walk::with("window: { wal_keep: 1MB, wal_drop: 2MB }\n").await;
    let copy = walk.up_to("copy-rows").await;
    walk.stage.pair.blue.execute(LOG).await;
    let given_up = walk.attempt(&copy).await.expect_err("blue comes first");
    assert_eq!(given_up.kind, FailureKind::Refused, "{}", given_up.why());
    assert!(given_up.why().contains("green must be copied anew"), "{}", given_up.why());
    assert_eq!(walk.slots().await, 0);
    let again = walk.attempt(&copy).await.expect_err("there is no slot");
    assert!(again.why().contains("copied anew"), "{}", again.why());
    let capture = walk.step("capture-blue");
    assert!(matches!(walk.see(&capture).await, Standing::Partial(_)), "it is told as lost");
    assert!(walk.attempt(&capture).await.is_err(), "never made anew in silence");
    walk.undo_and_see(&capture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_batch_is_begun_before_the_last_chunk_stands() {
    let mut walk = Walk::with("").await;
    walk.up_to("copy-rows").await;
    let refused = walk.attempt(&walk.step("level-backlog")).await.expect_err("nothing is copied");
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.why().contains("is not whole"), "{}", refused.why());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_while_blue_has_too_much_to_do_and_not_for_ever() {
    let load = "level: { load: { query: \"select count(*) from pg_stat_activity where application_name = 'busy'\", most: 0 }, every: 100ms }\n";
    let mut walk = Walk::with(&format!("window: {{ level: 1s }}\n{load}")).await;
    let level = walk.up_to("level-backlog").await;
    let busy = walk.stage.pair.blue.client().await;
    busy.batch_execute("set application_name = 'busy'").await.expect("a busy session");
    let refused = walk.attempt(&level).await.expect_err("blue is busy");
    assert!(refused.why().contains("no batch is begun: the load on blue is 1, over 0"), "{}", refused.why());
    drop(busy);
    walk.make(&level).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_green_with_a_long_log_on_blue_is_not_ready_to_be_held_for() {
    let mut walk = Walk::with("window: { level: 2s, wal_keep: 2MB }\n").await;
    let level = walk.up_to("level-backlog").await;
    let writer = walk.stage.pair.blue.client().await;
    writer.batch_execute("begin; insert into account (email) values ('open')").await.expect("a writer that stays open");
    walk.stage.pair.blue.execute(LOG).await;
    let refused = walk.attempt(&level).await.expect_err("each call of the slot would read from the writer on");
    assert!(refused.why().contains("green is level and the slot keeps"), "{}", refused.why());
    writer.batch_execute("commit").await.expect("it ends");
    walk.world.plan.apply_sets([("window.level", "60s")]).expect("a budget");
    walk.steps.retain(|step| step.id() != level.id());
    let level = cutover::steps::compile(&walk.world.plan).expect("a runbook").steps().to_vec();
    let level = level.into_iter().find(|step| step.id() == StepId::new("level-backlog")).expect("the step");
    walk.make(&level).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_log_is_bounded_and_given_up_as_a_slot_is() {
    let mut walk = Walk::by(CaptureMethod::Triggers, "window: { wal_keep: 1MB, wal_drop: 2MB }\n").await;
    let copy = walk.up_to("copy-rows").await;
    let write = "insert into account (email) select repeat('long ', 10) || n from generate_series(1, 40000) n";
    walk.stage.pair.blue.execute(write).await;
    let given_up = walk.attempt(&copy).await.expect_err("blue comes first");
    assert_eq!(given_up.kind, FailureKind::Refused, "{}", given_up.why());
    assert!(given_up.why().contains("the log of touched keys takes"), "{}", given_up.why());
    let left = "select (select count(*) from pg_trigger where tgname like 'cutover%') + (select count(*) from cutover.touched)";
    assert_eq!(walk.stage.pair.blue.ask::<i64>(left).await, 0, "nothing costs the application any more");
    let capture = walk.step("capture-blue");
    assert!(matches!(walk.see(&capture).await, Standing::Partial(_)), "it is told as lost");
    assert!(walk.attempt(&capture).await.is_err(), "never made anew in silence");
    walk.undo_and_see(&capture).await;
}
