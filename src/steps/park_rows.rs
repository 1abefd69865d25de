//! `park-rows`: an archive on green for the rows that cleanup rules leave behind. The batches that come next fill it and keep it exact.

use super::failure::fail;
use super::resolve_mapping::{Form, left_behind};
use super::world::World;
use crate::database::claim;
use crate::database::cleanup::{CleanupError, archive};
use crate::database::mapping::{self, Mapping};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use std::time::Duration;

/// The step's name, and its mark on green.
pub(super) const ID: StepId = StepId::new("park-rows");

/// Makes the archive.
#[derive(Debug, Clone)]
pub struct ParkRows {
    /// Rules that keep their rows.
    pub rules: Vec<String>,
    /// Bound on reading their keys.
    pub bound: Duration,
}

/// The archives of a run as mappings; none when its plan has none, or before they are made.
pub(super) fn archives(context: &Context) -> Result<Mapping, StepError> {
    match context.facts().receipt(&ID) {
        Some(_) => context.facts().get(&ID),
        None => Ok(Mapping::default()),
    }
}

async fn resolved(world: &World) -> Result<Mapping, StepError> {
    let (left, _) = left_behind(world, Form::Final).await?;
    mapping::parked(&left).map_err(super::resolve_mapping::refused)
}

/// What a hand says no to stops the run; everything else may pass.
pub(super) fn said(what: &str, error: CleanupError) -> StepError {
    match error {
        CleanupError::Refused { why, hint } => StepError::refused(why, hint),
        other => fail(what, other),
    }
}

impl Step for ParkRows {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        format!(
            "make an archive in schema cutover on green for the rows that {} leave behind; batches fill it and keep it exact",
            self.rules.join(", ")
        )
    }

    fn undo_summary(&self) -> String {
        "drop the archive; blue has these rows".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound, 3, Duration::from_secs(2))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let noted = claim::noted(&green, context.run(), ID.as_str()).await;
        match noted.map_err(|error| fail("see whether the archive was made", error))? {
            None => Ok(Standing::Absent),
            Some(archives) => Ok(Standing::Present(archives.into())),
        }
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let archives = resolved(world).await?;
        let (mut blue, mut green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let (term, run) = (context.term(), context.run());
        let begun = archive::begin(&mut blue, &mut green, (&term, run, ID.as_str()), &archives).await;
        let counts = begun.map_err(|error| said("make the archive of rows that are left behind", error))?;
        let rows = counts.iter().map(|(_, rows)| rows).sum();
        context.progress(rows, Some(rows), "rows", "put down for the next batch");
        Ok(Receipt::of(&archives))
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let mut green = world.side(Side::Green).await?;
        let removed = archive::remove(&mut green, &context.term(), ID.as_str()).await;
        removed.map_err(|error| said("take the archive away", error))
    }
}
