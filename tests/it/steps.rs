//! Each step of a runbook on real servers: made twice, undone twice, absent after undo, and out of a superseded process's reach.

use crate::harness::stage::Stage;
use crate::level::for_both;
use cutover::engine::{Context, Facts, FailureKind, Reversal, Standing, Step as _, StepId};
use cutover::journal::{Claim, Journal, Lease, Term};
use cutover::plan::CaptureMethod;
use cutover::steps::{Action, World, compile};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// What an undo takes back; the other steps only read, or only ever move onward.
const UNDOABLE: [&str; 7] =
    ["claim-sides", "migrate-migrations", "capture-blue", "prepare-green", "copy-rows", "park-rows", "capture-green"];

/// A run that a test walks by hand, step by step.
pub(crate) struct Walk {
    pub(crate) stage: Stage,
    pub(crate) world: World,
    pub(crate) steps: Vec<Action>,
    pub(crate) lease: Lease,
    run: Uuid,
    facts: Facts,
    /// What each step saw before it was made for the first time, as the engine would have journalled it.
    before: BTreeMap<StepId, Value>,
}

impl Walk {
    async fn begin() -> Self {
        Self::with("").await
    }

    /// The same plan with more text at its end.
    pub(crate) async fn with(more: &str) -> Self {
        Self::by(CaptureMethod::Slot, more).await
    }

    /// The same, with both sides captured in this way.
    pub(crate) async fn by(method: CaptureMethod, more: &str) -> Self {
        Self::set_up(Stage::with_accounts(200).await, method, more).await
    }

    /// On a stage whose files a test has written.
    pub(crate) async fn on(stage: Stage, more: &str) -> Self {
        Self::set_up(stage, CaptureMethod::Slot, more).await
    }

    async fn set_up(stage: Stage, method: CaptureMethod, more: &str) -> Self {
        stage.write_file(
            "after/V2__by_day.sql",
            "create index concurrently if not exists account_by_day on account (created_at);",
        );
        let rest = "  - refinery: { folder: after, name: indexes, after_copy: true }\ncleanup:\n  - { name: old-notes, table: note, where: \"id <= 20\", cap: { rows: 100, percent: 50 }, because: \"a test\" }\n";
        let capture = if method == CaptureMethod::Slot { "slot" } else { "triggers" };
        stage.write_plan_by(capture, &format!("{rest}{more}"));
        let plan = stage.plan();
        let journal = Journal::open(&plan.control).await.expect("the journal");
        let (blue, green) = (stage.pair.blue.client().await, stage.pair.green.client().await);
        let claim = Claim {
            plan: plan.name.clone(),
            holder: "a test".to_owned(),
            ttl: Duration::from_secs(60),
            take_over: None,
        };
        let lease = journal.acquire(&claim, &[&blue, &green]).await.expect("the lease");
        let log = journal.begin(&lease, &plan.name, &plan.digest, &json!({}), json!({})).await.expect("the run");
        let steps = compile(&plan).expect("a runbook").steps().to_vec();
        let world = World {
            plan,
            http: cutover::traffic::http_client().expect("a client"),
            gone: None,
            allowed_repairs: Default::default(),
            programs: None,
        };
        Self { stage, world, steps, lease, run: log.info().id, facts: Facts::default(), before: BTreeMap::new() }
    }

    pub(crate) fn context(&self, step: &Action, term: Term) -> Context {
        let before = self.before.get(&step.id()).cloned().unwrap_or_default();
        Context::detached(self.run, term, step.id(), self.facts.clone()).with_before(before)
    }

    pub(crate) async fn see(&self, step: &Action) -> Standing {
        let seen = step.verify(&self.world, &self.context(step, self.lease.term())).await;
        seen.unwrap_or_else(|error| panic!("look at {}: {}", step.id(), error.why()))
    }

    pub(crate) async fn make(&mut self, step: &Action) {
        if !self.before.contains_key(&step.id()) {
            let before = step.before(&self.world, &self.context(step, self.lease.term())).await;
            let before = before.unwrap_or_else(|error| panic!("look before {}: {}", step.id(), error.why()));
            self.before.insert(step.id(), before);
        }
        let made = step.forward(&self.world, &self.context(step, self.lease.term())).await;
        let made = made.unwrap_or_else(|error| panic!("make {}: {}", step.id(), error.why()));
        self.facts.set(step.id(), made.into_body());
    }

    async fn undo(&self, step: &Action) {
        let undone = step.undo(&self.world, &self.context(step, self.lease.term())).await;
        undone.unwrap_or_else(|error| panic!("undo {}: {}", step.id(), error.why()));
    }

    async fn make_and_see(&mut self, step: &Action) {
        self.make(step).await;
        let seen = self.see(step).await;
        assert!(matches!(seen, Standing::Present(_)), "{} is {} after forward", step.id(), seen.describe());
    }

    pub(crate) async fn undo_and_see(&self, step: &Action) {
        self.undo(step).await;
        let seen = self.see(step).await;
        assert_eq!(seen, Standing::Absent, "{} is {} after undo", step.id(), seen.describe());
    }

    /// Makes every step twice, those that can be undone also after they were undone twice; the names of these.
    pub(crate) async fn there_twice(&mut self) -> Vec<String> {
        let mut undoable = Vec::new();
        for step in self.steps.clone() {
            if step.reversal() != Reversal::Undo {
                self.make(&step).await;
                self.make(&step).await;
                continue;
            }
            undoable.push(step.id().to_string());
            assert_eq!(self.see(&step).await, Standing::Absent, "{} at first", step.id());
            if step.id() != StepId::new("claim-sides") {
                self.refuse_an_older_term(&step).await;
            }
            self.make_and_see(&step).await;
            self.make_and_see(&step).await;
            self.undo_and_see(&step).await;
            self.undo_and_see(&step).await;
            self.make_and_see(&step).await;
        }
        undoable
    }

    /// A process that was superseded can neither make nor undo.
    async fn refuse_an_older_term(&self, step: &Action) {
        let ours = self.lease.term();
        let older = self.context(step, Term { term: ours.term - 1, nonce: Uuid::new_v4() });
        let before = self.see(step).await;
        let made = step.forward(&self.world, &older).await;
        assert!(made.is_err(), "{} was made in an older term", step.id());
        assert_eq!(self.see(step).await, before, "{} in an older term", step.id());
    }
}

for_both!(every_step_is_made_twice_undone_twice_and_absent_afterwards);

async fn every_step_is_made_twice_undone_twice_and_absent_afterwards(method: CaptureMethod) {
    let mut walk = Walk::by(method, "").await;
    let blue = walk.stage.rows(true).await;
    assert_eq!(walk.there_twice().await, UNDOABLE);
    for step in walk.steps.iter().rev().filter(|step| step.reversal() == Reversal::Undo) {
        walk.undo_and_see(step).await;
    }
    assert_eq!(walk.stage.left_on_blue().await, 0);
    assert_eq!(walk.stage.rows(true).await, blue, "blue is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_half_begun_is_finished_and_a_lost_one_refused() {
    let mut walk = Walk::begin().await;
    let at = walk.steps.iter().position(|step| step.id() == StepId::new("capture-blue")).expect("the step");
    for at in 0..=at {
        let step = walk.steps[at].clone();
        walk.make(&step).await;
    }
    let capture = walk.steps[at].clone();
    walk.stage.pair.green.execute("delete from cutover.progress").await;
    let half = walk.see(&capture).await;
    assert!(matches!(half, Standing::Partial(_)), "{}: the process died between slot and position", half.describe());
    walk.make_and_see(&capture).await;

    walk.stage.pair.blue.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots").await;
    assert!(walk.see(&capture).await.describe().contains("what was written since is unknown"));
    let refused = capture.forward(&walk.world, &walk.context(&capture, walk.lease.term())).await;
    let refused = refused.expect_err("nothing may be continued from another slot");
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.hint.contains("rollback"), "{}", refused.hint);
    walk.undo_and_see(&capture).await;
}

#[test]
fn every_example_plan_compiles_into_a_runbook() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the plans") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        // Each variable gets a place of its own: databases that of a server, everything else that of a listener.
        let value = |name: &str| {
            let host = name.to_lowercase().replace('_', "-");
            let is_database = name.ends_with("_URL") || name.ends_with("_DSN");
            Some(match name {
                _ if is_database => format!("postgres://cutover@{host}/db"),
                _ if name.ends_with("_KEY") => "0123456789abcdef".repeat(4),
                _ => format!("http://{host}:4444"),
            })
        };
        let plan =
            cutover::plan::load(&path, &value).unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
        let runbook = compile(&plan).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(runbook.steps().len() > UNDOABLE.len(), "{}", path.display());
        names.push(plan.name);
    }
    names.sort();
    assert_eq!(names, ["hydra-0x-to-1x", "hydra-1x-to-2x", "hydra-logical", "minimal"]);
}
