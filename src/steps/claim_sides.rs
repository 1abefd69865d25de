//! `claim-sides`: our schema, identity, term and register on blue and green.

use super::failure::fail;
use super::world::World;
use crate::database::claim::{self, Claimed};
use crate::database::{refusal, term};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use crate::traffic::register;
use std::time::Duration;

/// The step's name.
pub(super) const ID: StepId = StepId::new("claim-sides");

/// Longest wait for the lock of one table when a trigger of ours is dropped; clients wait behind us as long.
const LOCK: Duration = Duration::from_millis(500);

/// Marks both sides as this run's.
#[derive(Debug, Clone)]
pub struct ClaimSides;

impl Step for ClaimSides {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "create schema cutover on blue and green: whose run it is, who may act, and which side serves".to_owned()
    }

    fn undo_summary(&self) -> String {
        "drop schema cutover on blue and green".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::retried(Duration::from_secs(30), 3, Duration::from_secs(1))
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let mut ours = 0;
        for side in there(world).iter().copied() {
            match claim::read(&world.side(side).await?).await.map_err(|error| fail("look at the sides", error))? {
                Claimed::Nobody => {}
                Claimed::By { run, side: claimed } if run == context.run() && claimed == side => ours += 1,
                Claimed::By { run, side: claimed } => {
                    return Ok(Standing::Foreign(format!("{side} is claimed as {claimed} by run {run}")));
                }
                Claimed::Unsigned => {
                    return Ok(Standing::Foreign(format!("{side} has a schema cutover that no run has signed")));
                }
            }
        }
        let complete = ours == there(world).len() && registers_stand(world).await?;
        Ok(match ours {
            0 => Standing::Absent,
            _ if complete => Standing::present(),
            _ => Standing::Partial("one of the sides is claimed".to_owned()),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let is_there = |(side, _): &(Side, i64)| there(world).contains(side);
        for (side, epoch) in [(Side::Green, 0), (Side::Blue, 1)].into_iter().filter(is_there) {
            let mut client = world.side(side).await?;
            let what = format!("claim {side}");
            claim::claim(&mut client, context.run(), side).await.map_err(|error| fail(&what, error))?;
            term::install(&client, &context.term()).await.map_err(|error| fail(&what, error))?;
            register::install(&client, side, epoch, context.run()).await.map_err(|error| fail(&what, error))?;
        }
        Ok(Receipt::none())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        for side in there(world).iter().copied() {
            let mut client = world.side(side).await?;
            let claimed = claim::read(&client).await.map_err(|error| fail("look at the sides", error))?;
            if matches!(claimed, Claimed::By { run, .. } if run == context.run()) {
                let what = format!("give {side} back");
                let unfenced = refusal::remove_all(&mut client, &context.term(), LOCK).await;
                unfenced.map_err(|error| fail(&what, error).retry())?;
                claim::release(&mut client, &context.term(), side).await.map_err(|error| fail(what, error))?;
            }
        }
        Ok(())
    }
}

/// The sides that can be asked: both, unless green is cut off, or is blue's own database.
fn there(world: &World) -> &'static [Side] {
    if world.gone.is_some() || world.plan.databases.is_in_place { &[Side::Blue] } else { &[Side::Blue, Side::Green] }
}

async fn registers_stand(world: &World) -> Result<bool, StepError> {
    for side in there(world).iter().copied() {
        let client = world.side(side).await?;
        let register = register::read(&client).await.map_err(|error| fail("read the registers", error))?;
        let term = term::read(&client).await.map_err(|error| fail("read the terms", error))?;
        if register.is_none() || term.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
