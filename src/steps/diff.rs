//! `diff`: the gate before traffic moves to a green that is not, row by row, what the mapping makes of blue; and the same for `cutover diff`.

use super::failure::fail;
use super::finalize;
use super::flip::{self, Route};
use super::levelling::Levelling;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::diff::{self, DiffError, DiffOptions, DiffProgress, Difference, Ended, Found};
use crate::database::mapping::Mapping;
use crate::engine::{Context, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::journal::{RunState, StepPhase};
use crate::plan::{CopyMethod, Plan, Side, Throttle};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The gate's name, as `--waive` says it.
pub const ID: StepId = StepId::new("diff");

/// Rows of a part that are kept by their keys, so that each can be asked for its reason.
const KEPT: usize = 5000;
/// Kinds of differences that are told of in an error.
const TOLD: usize = 8;
/// Time for those who waited behind our locks to get theirs.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// Compares green with what the mapping makes of blue.
#[derive(Debug, Clone)]
pub struct DiffSides {
    /// Parts compared at a time.
    pub workers: usize,
    /// Bound on one part, and twice as long on all of it.
    pub bound: Duration,
    /// What keeps it from harming blue.
    pub throttle: Throttle,
    /// Most rows that are listed.
    pub listed: usize,
}

impl DiffSides {
    /// As the plan has it.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self {
            workers: plan.copy.workers,
            bound: plan.window.copy,
            throttle: plan.copy.throttle,
            listed: plan.diff.listed,
        }
    }

    /// Brings green level, compares it, and says what differs.
    ///
    /// # Errors
    /// When a side does not answer, green cannot be brought level, or values print differently on both.
    pub async fn compare(
        &self,
        world: &World,
        context: &Context,
        tell: &(dyn Fn(DiffProgress<'_>) + Sync),
    ) -> Result<Found, StepError> {
        let mapping = Form::Final.mapping(context)?;
        let mut levelling = Levelling::open(world, context, Route::Out).await?;
        // What has gathered is brought to green first, so that the batch for the moment that is compared is short. How far green lags
        // behind clients is no matter: at that moment it does not.
        drop(levelling.pair().await?);
        while let Ended::Part { why } = self.at_a_moment(world, context, &mapping, &mut levelling, tell).await? {
            context.progress(0, None, "parts", format!("a new snapshot follows: {why}"));
            tokio::time::sleep(GIVE_WAY).await;
        }
        let green = world.side(Side::Green).await?;
        diff::found(&green, &mapping, self.listed).await.map_err(uncompared)
    }

    /// As far as one moment of blue leads.
    async fn at_a_moment(
        &self,
        world: &World,
        context: &Context,
        mapping: &Mapping,
        levelling: &mut Levelling,
        tell: &(dyn Fn(DiffProgress<'_>) + Sync),
    ) -> Result<Ended, StepError> {
        let moment = levelling.pair().await?;
        let options = DiffOptions {
            blue: world.url(Side::Blue),
            green: world.url(Side::Green),
            term: context.term(),
            workers: self.workers,
            bound: self.bound,
            throttle: self.throttle,
            listed: self.listed.max(KEPT),
            declared: &[],
            rows_in_part: None,
        };
        let ended = diff::diff(&options, mapping, moment.id(), tell).await.map_err(uncompared)?;
        let mut green = world.side(Side::Green).await?;
        let open = diff::unsettled(&green, mapping).await.map_err(uncompared)?;
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in &open {
            keys.entry(one.table.clone()).or_default().push(one.key.clone());
        }
        let apart = if keys.is_empty() { BTreeMap::new() } else { levelling.apart(&moment, &keys).await? };
        let is_apart = |one: &Difference| apart.get(&one.table).is_some_and(|keys| keys.contains(&one.key));
        let revoked: BTreeSet<Difference> = open.into_iter().filter(|one| !is_apart(one)).collect();
        diff::settle(&mut green, &context.term(), mapping, &revoked).await.map_err(uncompared)?;
        Ok(ended)
    }
}

fn uncompared(error: DiffError) -> StepError {
    let is_refused = error.is_refused();
    let failed = fail("compare green with blue", error);
    if is_refused { StepError { kind: FailureKind::Refused, ..failed } } else { failed }
}

/// What was found, for summaries and the journal: names of tables and columns, and keys; no other value.
#[must_use]
pub fn body(found: &Found) -> Value {
    let row = |one: &Difference| json!({ "table": one.table.to_string(), "key": one.key.join(", "), "class": one.class, "columns": one.columns });
    let mut body = json!({
        "compared": found.rows, "missing": found.missing, "extra": found.extra, "changed": found.changed,
        "expected": found.expected_rows(), "expected_by": found.expected,
        "rows": found.listed.iter().map(row).collect::<Vec<_>>(),
    });
    if !found.declared.is_empty() {
        body["declared_by"] = json!(found.declared);
    }
    body
}

/// The same in words, with the kinds of differences and a row of each.
#[must_use]
pub fn words(found: &Found) -> String {
    let counts = format!("{} missing, {} extra, {} changed", found.missing, found.extra, found.changed);
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    for one in &found.listed {
        let class = format!("{:?}", one.class).to_lowercase();
        let columns = if one.columns.is_empty() { String::new() } else { format!(" in {}", one.columns.join(", ")) };
        kinds.entry(format!("{} {class}{columns}", one.table)).or_insert_with(|| one.key.join(", "));
    }
    let kinds: Vec<String> = kinds.iter().take(TOLD).map(|(kind, key)| format!("{kind} (such as {key})")).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join("; ")) };
    format!("{counts} of {} rows{kinds}", found.rows)
}

/// Why a run cannot be compared where it stands; nothing when it can.
#[must_use]
pub fn obstacle(plan: &Plan, state: &RunState) -> Option<String> {
    let phase = |id: &str| state.step(id).map(|step| step.phase);
    let level = match plan.copy.method {
        CopyMethod::Carry => "level-backlog",
        CopyMethod::Logical => "level-migrated",
    };
    let back = Route::Back.id();
    if phase(finalize::ID.as_str()).is_some() {
        return Some("the run is finalized or about to be: nothing brings the sides level any more".to_owned());
    }
    if phase(level) != Some(StepPhase::Done) {
        return Some(format!("green is not filled and level yet: step {level} is not done"));
    }
    let is_out = !matches!(phase(flip::ID.as_str()), None | Some(StepPhase::Undone | StepPhase::Failed));
    let is_back = phase(back.as_str()) == Some(StepPhase::Done);
    (is_out && !is_back)
        .then(|| "green serves, or is about to: what clients write there is not blue's any more".to_owned())
}

impl Step for DiffSides {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        format!(
            "gate: compare every row of green with what the mapping makes of blue at one moment, {} parts at a time; stop at any \
             difference that no cleanup rule and no revocation explains",
            self.workers
        )
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads, and brings green level".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound * 2, 3, Duration::from_secs(2))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let tell = |told: DiffProgress<'_>| {
            let words = format!("{}, {} rows differ so far", told.table, told.differences);
            context.progress(told.done, Some(told.parts), "parts", words);
        };
        let found = self.compare(world, context, &tell).await?;
        if found.differences() == 0 {
            return Ok(body(&found).into());
        }
        context.note(body(&found)).await?;
        let why = format!("green is not what the mapping makes of blue: {}", words(&found));
        let hint = "see all of it: cutover diff PLAN --json; then correct the plan or the migrations and begin anew: cutover rollback \
                    PLAN; or answer for it: cutover run PLAN --waive diff --because 'why'; blue serves as before";
        Err(StepError::refused(why, hint))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
