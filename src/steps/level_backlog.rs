//! `level-backlog`: what was written on blue during the copy is brought to green, before foreign keys are built.

use super::failure::fail;
use super::flip::Route;
use super::levelling::Levelling;
use super::resolve_mapping::mapping;
use super::world::World;
use crate::database::{claim, copy};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;

/// The step's name, and its mark on green.
const NAME: &str = "level-backlog";

/// Brings green level for the first time.
#[derive(Debug, Clone)]
pub struct LevelBacklog {
    /// Bound on the whole step.
    pub bound: Duration,
}

/// A chunk that is written after a batch would bring back what the batch took away: every one stands before the first.
async fn require_copied(world: &World, context: &Context) -> Result<(), StepError> {
    let green = world.side(Side::Green).await?;
    let copied = copy::read_copied(&green).await.map_err(|error| fail("read what was copied", error))?;
    let copied = copied.unwrap_or_default();
    let wanted = mapping(context)?.carried();
    match wanted.iter().find(|table| !copied.iter().any(|copied| copied.table == **table)) {
        None => Ok(()),
        Some(missing) => {
            let why = format!("the copy of {missing} is not whole, and a chunk written later would undo a batch");
            Err(StepError::refused(why, "begin anew: cutover rollback PLAN, then cutover run PLAN"))
        }
    }
}

impl Step for LevelBacklog {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new(NAME)
    }

    fn summary(&self) -> String {
        "bring what was written and revoked on blue since the snapshot to green, batch by batch".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing by itself: undoing the copy empties green's tables".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound * 2, 3, Duration::from_secs(2))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let noted = claim::noted(&green, context.run(), NAME).await;
        let noted = noted.map_err(|error| fail("see whether green was levelled", error))?;
        Ok(noted.map_or(Standing::Absent, |body| Standing::Present(body.into())))
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        require_copied(world, context).await?;
        let mut levelling = Levelling::open(world, context, Route::Out).await?;
        let report = levelling.until_level(self.bound, context).await?;
        let body = json!({ "lag_ms": report.lag_ms, "keys": report.keys, "position": report.lsn.to_string() });
        let mut green = world.side(Side::Green).await?;
        let noted = claim::note(&mut green, &context.term(), context.run(), NAME, &body).await;
        noted.map_err(|error| fail("note that green is level", error))?;
        Ok(body.into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
