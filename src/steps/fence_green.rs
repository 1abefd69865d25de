//! `fence-green`: green refuses every write but ours, from its migrations until it opens.

use super::failure::fail;
use super::world::World;
use crate::database::refusal::{self, Refusal, RefusalStanding};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use std::time::Duration;

/// The step's name.
pub(super) const ID: StepId = StepId::new("fence-green");

/// Longest wait for a lock on green, where nobody should hold one.
const LOCK: Duration = Duration::from_secs(5);

/// Closes green.
#[derive(Debug, Clone)]
pub struct FenceGreen;

impl Step for FenceGreen {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "close green: triggers refuse every write that does not come from cutover's own login".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing by itself: it falls with green's tables, so that nobody writes them before they are gone".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(Duration::from_secs(60), 3, Duration::from_secs(1))
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let standing = Refusal::Closed.verify(&green, context.run()).await;
        Ok(match standing.map_err(|error| fail("look at green's fence", error))? {
            RefusalStanding::Absent => Standing::Absent,
            RefusalStanding::Refusing => Standing::present(),
            RefusalStanding::Lifted => Standing::Partial("the triggers stand and let everybody pass".to_owned()),
            RefusalStanding::Partial(bare) => Standing::Partial(format!("{} tables have no trigger", bare.len())),
            RefusalStanding::Foreign => Standing::Foreign("a function cutover.fence of another run".to_owned()),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let mut green = world.side(Side::Green).await?;
        let closed = refusal::close(&mut green, &context.term(), context.run(), LOCK).await;
        closed.map_err(|error| fail("close green", error))?;
        Ok(Receipt::none())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
