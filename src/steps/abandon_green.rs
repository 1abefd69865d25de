//! `green-isolated` and `abandon-green`: the way back when green does not answer. It cannot be sealed, so blue opens only once green is cut
//! off from everybody, by the plan's command or by a person's word; what green took since it opened is lost with it.

use super::flip::{self, alone, last_proposal, released};
use super::world::{Gone, World};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::traffic::register::State;
use serde_json::json;
use std::time::Duration;

/// The name of the way back without green.
pub const ID: StepId = StepId::new("abandon-green");
/// The gate before it, as `--waive` names it.
pub const GATE: StepId = StepId::new("green-isolated");

/// Says whether green may be left out.
#[derive(Debug, Clone)]
pub struct GreenIsolated;

/// Opens blue without green.
#[derive(Debug, Clone)]
pub struct AbandonGreen {
    /// Longest wait for one answer of a system.
    pub hold: Duration,
    /// Bound on cutting off gateways that are counted out.
    pub count_out: Duration,
}

impl Step for GreenIsolated {
    type World = World;

    fn id(&self) -> StepId {
        GATE
    }

    fn summary(&self) -> String {
        "gate: green does not answer, and is cut off by isolate_green or by a person's word".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn holds_until(&self) -> Option<StepId> {
        Some(ID)
    }

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(60))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, _context: &Context) -> Result<Receipt, StepError> {
        match &world.gone {
            Some(Gone::Said(because)) => Ok(json!({ "waived": because }).into()),
            Some(Gone::ByCommand) => Ok(json!({ "by": "isolate_green" }).into()),
            None => {
                Err(StepError::refused("green answers: it is sealed and read on the way back", "cutover rollback PLAN"))
            }
        }
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

impl Step for AbandonGreen {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "only when green is dead: cut it off, replay the queue's revocations on blue, open blue, release; green's writes are lost".to_owned()
    }

    fn undo_summary(&self) -> String {
        "none: green is filled anew by another run".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::OneWay
    }

    fn takes_back(&self) -> Option<StepId> {
        Some(flip::ID)
    }

    fn limits(&self) -> Limits {
        Limits::once(self.count_out + self.hold * 4 + Duration::from_secs(300))
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let blue = alone::blue(world).await?;
        let proposed = last_proposal(&context.notes());
        Ok(match (blue.state, proposed) {
            (State::Open, Some((epoch, _))) if blue.epoch == epoch => match released(context, epoch) {
                Some(receipt) => Standing::Present(receipt.into()),
                None => Standing::Partial("blue is open, the systems are not all released".to_owned()),
            },
            (State::Open, _) => Standing::Unclear("blue's register is open, and this step did not open it".to_owned()),
            (_, Some(_)) => Standing::Partial("blue is being brought to where it can open".to_owned()),
            (_, None) => Standing::Absent,
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        alone::open_blue_alone(world, context).await.map(Receipt::from)
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        match alone::blue(world).await?.state {
            // Nothing of it counts before blue is open.
            State::Sealed | State::Closed => Ok(()),
            State::Open => {
                let why = format!("blue is open without green ({})", context.step());
                Err(StepError::stuck(why, "finish it: cutover rollback PLAN"))
            }
        }
    }
}
