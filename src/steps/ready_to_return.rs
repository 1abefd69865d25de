//! `ready-to-return`: the gate before the way back. Reads only. No window binds it: going back is for the night that went wrong.

use super::failure::fail;
use super::flip::{Registers, Route};
use super::migrate_live::CONTRACTING;
use super::ready_to_flip::systems_that_go;
use super::witnessed::witnessed;
use super::world::World;
use crate::database::claim;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates::{self, Verdict};
use crate::plan::Side;
use crate::traffic::register::State;
use serde_json::json;
use std::time::Duration;

/// Says whether the way back may begin.
#[derive(Debug, Clone)]
pub struct ReadyToReturn;

/// The engine of before works only on a schema of which nothing was taken away.
async fn still_expanded(world: &World, context: &Context) -> Result<Verdict, StepError> {
    let blue = world.side(Side::Blue).await?;
    let noted = claim::noted(&blue, context.run(), CONTRACTING).await;
    let noted = noted.map_err(|error| fail("see whether the schema was contracted", error))?;
    Ok(match noted {
        None => Verdict::Go,
        Some(_) => Verdict::NoGo(
            "the schema is contracted, or half contracted: the engine of before does not work on it".to_owned(),
        ),
    })
}

impl Step for ReadyToReturn {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("ready-to-return")
    }

    fn summary(&self) -> String {
        "gate: registers, the capture of green, every system reachable and on green, every executed revocation dead on green".to_owned()
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
        Some(Route::Back.id())
    }

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(60))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let found = Registers::read(world).await?;
        if found.green.state != State::Open {
            // Decided already: it only has to be finished, and nothing here may stop it.
            return Ok(json!({ "decided": true }).into());
        }
        let mut verdicts = vec![match world.plan.databases.is_in_place {
            true => still_expanded(world, context).await?,
            false => captured(world, context).await?,
        }];
        let witnessed = witnessed(world, Side::Green).await?;
        verdicts.push(witnessed.verdict);
        verdicts.extend(systems_that_go(world, context.run(), Route::Back, found.green.epoch).await);
        match Verdict::all(verdicts) {
            Verdict::Go => Ok(json!({ "green_epoch": found.green.epoch, "revocations": witnessed.receipt }).into()),
            Verdict::NoGo(why) | Verdict::Unclear(why) => {
                Err(StepError::refused(why, "green serves on; see to it, then: cutover rollback PLAN"))
            }
        }
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

/// Whether green's changes since it opened can still be told: without its capture there is no way back that loses nothing.
async fn captured(world: &World, context: &Context) -> Result<Verdict, StepError> {
    let green = world.side(Side::Green).await?;
    let kept = world.capture(context.run(), Side::Green).kept(&green).await;
    let kept = kept.map_err(|error| fail("look at green's capture", error))?;
    Ok(gates::captured(Side::Green, kept.lost))
}
