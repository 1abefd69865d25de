//! `prewarm-green`: green's indexes and tables are in its memory before clients come.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::prewarm::{self, PrewarmError};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use std::time::Duration;

/// It ends by itself when its time is over; one piece may then still be under way.
const LAST_PIECE: Duration = Duration::from_secs(60);

/// Fills green's shared buffers.
#[derive(Debug, Clone)]
pub struct PrewarmGreen {
    /// When it ends, whole or not.
    pub bound: Duration,
}

impl Step for PrewarmGreen {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("prewarm-green")
    }

    fn summary(&self) -> String {
        "load the carried tables' indexes, and then the tables, into green's shared buffers, until these are full"
            .to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound + LAST_PIECE, 2, Duration::from_secs(1))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let green = world.side(Side::Green).await?;
        let tell = |done, all, relation: &str| context.progress(done, Some(all), "bytes", relation);
        let done = prewarm::prewarm(&green, &Form::Final.mapping(context)?.carried(), self.bound, &tell).await;
        match done {
            Ok(done) => Ok(Receipt::of(&done)),
            Err(PrewarmError::Missing) => {
                let hint = format!("`{}` in green's database, as a superuser; then: cutover run PLAN", prewarm::CREATE);
                Err(StepError::refused(PrewarmError::Missing.to_string(), hint))
            }
            Err(error) => Err(fail("load green's tables into its memory", error)),
        }
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
