//! `copy-rows`: every carried table goes through its mapping into green, chunk by chunk; after a crash only what is missing.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::strip_green::definitions;
use super::world::World;
use crate::database::capture::{CaptureError, CaptureStanding};
use crate::database::copy::{self, Copied, CopyOptions, CopyProgress, CopyTold, Ended, IdleWork};
use crate::database::indexes::Definitions;
use crate::database::mapping::Mapping;
use crate::engine::{Context, Effect, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Side, Throttle};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// The step's name.
pub(super) const ID: StepId = StepId::new("copy-rows");

/// Blocks of blue in one chunk, 64 MB of the usual size: a second or two of work, which is what a crash costs.
const CHUNK_BLOCKS: i64 = 8192;

/// Time for those who waited behind our locks to get theirs.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// A snapshot is told of once it is so old.
const SHOWN_S: u64 = 60;

/// Copies the rows.
#[derive(Debug, Clone)]
pub struct CopyRows {
    /// By which mapping. Of blue's own form the tables are dropped with the schema that was copied, so there is nothing else to take back.
    pub form: Form,
    /// Parallel workers.
    pub workers: usize,
    /// Bound on one chunk; twice as long on all of it.
    pub bound: Duration,
    /// How many cleanup rules leave rows behind.
    pub rules: usize,
    /// What keeps the copy from harming blue.
    pub throttle: Throttle,
}

fn receipt(copied: &[Copied]) -> Receipt {
    json!({
        "rows": copied.iter().map(|table| table.rows).sum::<u64>(),
        "cleaned": copied.iter().map(Copied::cleaned_rows).sum::<u64>(),
        "chunks": copied.iter().map(|table| table.chunks).sum::<u64>(),
        "chunks_repeated": copied.iter().map(|table| table.repeated).sum::<u64>(),
        "tables": copied,
    })
    .into()
}

/// What was written on blue since the last chunk must still be told by the capture, and told of the same columns: else more rows are in vain.
async fn require_capture(world: &World, context: &Context) -> Result<(), StepError> {
    let hint = "begin anew: cutover rollback PLAN, then cutover run PLAN";
    let refused = |why: String| StepError::refused(why, hint);
    let blue = world.side(Side::Blue).await?;
    let capture = world.capture(context.run(), Side::Blue);
    let standing = capture.verify(&blue).await.map_err(|error| fail("look at the capture on blue", error))?;
    let CaptureStanding::Present(captured) = standing else {
        return Err(refused(format!("the capture on blue does not stand any more: {standing:?}")));
    };
    match capture.require_unaltered(&blue, &captured).await {
        Err(error @ (CaptureError::Altered { .. } | CaptureError::NoTable { .. })) => Err(refused(error.to_string())),
        other => other.map_err(|error| fail("compare blue's tables with those captured", error)),
    }
}

impl CopyRows {
    /// What one snapshot gives.
    async fn copy(
        &self,
        world: &World,
        context: &Context,
        mapping: &Mapping,
        indexes: &Definitions,
    ) -> Result<Ended, StepError> {
        let options = CopyOptions {
            blue: world.url(Side::Blue),
            standby: world.plan.copy.standby.as_ref(),
            green: world.url(Side::Green),
            term: context.term(),
            workers: self.workers,
            bound: self.bound,
            chunk_blocks: CHUNK_BLOCKS,
            throttle: self.throttle,
            idle: Some(IdleWork { indexes, memory_bytes: world.plan.copy.load.index_memory_bytes }),
        };
        let tell = |told: CopyTold<'_>| match told {
            CopyTold::Rows(progress) => {
                context.progress(progress.rows, Some(progress.rows_expected), "rows", words(&progress));
            }
            CopyTold::Index(name) => context.progress(0, None, "indexes", format!("meanwhile: {name}")),
        };
        copy::copy(&options, mapping, &tell).await.map_err(|error| {
            let is_refused = error.is_refused();
            let failed = fail("copy rows from blue to green", error);
            if is_refused { StepError { kind: FailureKind::Refused, ..failed }.effect(Effect::Applied) } else { failed }
        })
    }
}

fn words(progress: &CopyProgress<'_>) -> String {
    let mut words = progress.table.to_string();
    if progress.snapshot_s > SHOWN_S {
        words.push_str(&format!(
            ", for {} s vacuum on blue keeps what {} transactions left",
            progress.snapshot_s, progress.horizon_xids
        ));
    }
    if let Some(why) = progress.waits {
        words.push_str(&format!(", waits: {why}"));
    }
    words
}

impl Step for CopyRows {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let rules = match self.rules {
            0 => String::new(),
            1 => ", one cleanup rule applied".to_owned(),
            rules => format!(", {rules} cleanup rules applied"),
        };
        let what = match self.form {
            Form::Blue => "copy every table one to one",
            Form::Final => "copy every carried table through its mapping",
        };
        format!("{what}, chunk by chunk, {} at a time{rules}", self.workers)
    }

    fn undo_summary(&self) -> String {
        match self.form {
            Form::Blue => "nothing by itself: undoing copy-schema drops green's tables".to_owned(),
            Form::Final => "empty green's carried tables".to_owned(),
        }
    }

    fn reversal(&self) -> Reversal {
        match self.form {
            Form::Blue => Reversal::Monotone,
            Form::Final => Reversal::Undo,
        }
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound * 2, 2, Duration::from_secs(1))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let copied = copy::read_copied(&green).await.map_err(|error| fail("read what was copied", error))?;
        let Some(copied) = copied.filter(|copied| !copied.is_empty()) else { return Ok(Standing::Absent) };
        let there: BTreeSet<_> = copied.iter().map(|table| table.table.clone()).collect();
        let wanted = self.form.mapping(context)?.carried();
        let missing = wanted.iter().filter(|table| !there.contains(table)).count();
        Ok(match missing {
            0 => Standing::Present(receipt(&copied)),
            _ => Standing::Partial(format!("{} of {} tables are copied", there.len(), wanted.len())),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let (mapping, indexes) = (self.form.mapping(context)?, definitions(context)?);
        loop {
            require_capture(world, context).await?;
            match self.copy(world, context, &mapping, &indexes).await? {
                Ended::Whole(copied) => return Ok(receipt(&copied)),
                Ended::Part { why } => context.progress(0, None, "rows", format!("a new snapshot follows: {why}")),
            }
            tokio::time::sleep(GIVE_WAY).await;
        }
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        if self.form == Form::Blue {
            return Ok(());
        }
        let mut green = world.side(Side::Green).await?;
        let emptied = copy::empty(&mut green, &context.term(), &self.form.mapping(context)?).await;
        emptied.map_err(|error| fail("empty green's carried tables", error))
    }
}
