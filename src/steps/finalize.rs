//! `finalize`: what is left of ours is removed from both sides. After it there is no way back.
//!
//! Blue first: while green's register stands, nobody can take an unsealed blue for the side that serves.

use super::failure::fail;
use super::flip::Registers;
use super::issue_canaries;
use super::world::World;
use crate::database::{claim, refusal};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use crate::traffic::register::State;
use serde_json::json;
use std::time::Duration;

/// The step's name.
pub const ID: StepId = StepId::new("finalize");

/// Longest wait for the lock of one table; clients wait behind us as long.
const LOCK: Duration = Duration::from_millis(500);

/// Removes our schemas, slots, publications and triggers.
#[derive(Debug, Clone)]
pub struct Finalize;

/// The databases, each once.
fn sides(world: &World) -> &'static [Side] {
    if world.plan.databases.is_in_place { &[Side::Blue] } else { &[Side::Blue, Side::Green] }
}

async fn leftovers(world: &World, side: Side) -> Result<Vec<String>, StepError> {
    let client = world.side(side).await?;
    let left = claim::leftovers(&client).await;
    left.map_err(|error| fail(format!("look for what is left of ours on {side}"), error))
}

impl Step for Finalize {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "remove our schemas, slots, publications and triggers from both sides, and canaries from green; green's archive and blue's seal go too"
            .to_owned()
    }

    fn undo_summary(&self) -> String {
        "none: after it there is no way back".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::OneWay
    }

    fn limits(&self) -> Limits {
        Limits::retried(Duration::from_secs(120), 5, Duration::from_secs(1))
    }

    async fn verify(&self, world: &World, _context: &Context) -> Result<Standing, StepError> {
        let (blue, green) = (leftovers(world, Side::Blue).await?, leftovers(world, Side::Green).await?);
        Ok(match (blue.is_empty(), green.is_empty()) {
            (true, true) => Standing::Present(json!({ "left_on_blue": 0, "left_on_green": 0 }).into()),
            (true, false) => Standing::Partial(format!("left on green: {}", green.join(", "))),
            (false, _) => Standing::Absent,
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        for side in sides(world).iter().copied() {
            if leftovers(world, side).await?.is_empty() {
                continue;
            }
            if side == Side::Green {
                // Green serves, and blue is empty of us: from here on nothing asks for them any more.
                issue_canaries::remove(world, context.run(), side).await?;
            }
            if side == Side::Blue && Registers::read(world).await?.green.state != State::Open {
                return Err(StepError::refused("green does not serve", "cutover status PLAN"));
            }
            let mut client = world.side(side).await?;
            if !world.plan.databases.is_in_place {
                let stopped = world.capture(context.run(), side).stop(&mut client, &context.term()).await;
                stopped.map_err(|error| fail(format!("drop the capture on {side}"), error))?;
            }
            let unfenced = refusal::remove_all(&mut client, &context.term(), LOCK).await;
            unfenced.map_err(|error| fail(format!("drop the triggers on {side}"), error).retry())?;
            let released = claim::release(&mut client, &context.term(), side).await;
            released.map_err(|error| fail(format!("remove our schema from {side}"), error).retry())?;
            let left = leftovers(world, side).await?;
            if !left.is_empty() {
                let why = format!("left on {side}: {}", left.join(", "));
                return Err(StepError::stuck(why, "remove it by hand, then: cutover finalize PLAN"));
            }
        }
        Ok(json!({ "left_on_blue": 0, "left_on_green": 0 }).into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Err(StepError::stuck("part of it may be removed already", "finish it: cutover finalize PLAN"))
    }
}
