//! `soaked`: the gate before `finalize`. Green has served for the planned time, nothing of the engine is left on blue, which refuses every write,
//! and no revocation is stuck. Reads only.

use super::failure::fail;
use super::finalize;
use super::flip::{self, Registers, Route};
use super::ready_to_flip::systems;
use super::soak::is_begun;
use super::world::World;
use crate::database::claim;
use crate::database::refusal::Refusal;
use crate::engine::{Context, Facts, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates::{self, Verdict};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Says whether the run may be finalized.
#[derive(Debug, Clone)]
pub struct Soaked {
    /// How long green must have served.
    pub soak: Duration,
}

impl Step for Soaked {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("soaked")
    }

    fn summary(&self) -> String {
        let soak = humantime::format_duration(self.soak);
        format!(
            "gate: green has served for {soak}, every system is on it, no engine is connected to blue, blue refuses writes, no revocation is dead"
        )
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
        Some(finalize::ID)
    }

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(60))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        match obstacles(world, context.run(), context.facts(), self.soak).await? {
            Verdict::Go => Ok(json!({ "served_s": served(world, context.facts()).await? }).into()),
            Verdict::NoGo(why) | Verdict::Unclear(why) => {
                Err(StepError::refused(why, "nothing was changed; the way back is still open: cutover rollback PLAN"))
            }
        }
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

/// What speaks against finalizing now, all of it; once it has begun nothing does, it has to be finished.
///
/// # Errors
/// When somebody who must be asked does not answer.
pub async fn obstacles(world: &World, run: Uuid, facts: &Facts, soak: Duration) -> Result<Verdict, StepError> {
    if is_begun(world).await? {
        return Ok(Verdict::Go);
    }
    let state = Registers::read(world).await?.green.state;
    let mut verdicts = vec![gates::soaked(state.as_str(), served(world, facts).await?, soak)];
    // In place both engines are sessions of one role on one database; nothing of theirs is unsealed.
    if !world.plan.databases.is_in_place {
        verdicts.push(left_alone(world).await?);
        verdicts.push(still_sealed(world, run).await?);
    }
    verdicts.push(dead_letters(world).await?);
    verdicts.extend(systems(world, run, Route::Back).await);
    Ok(Verdict::all(verdicts))
}

/// For how many seconds green has served since the flip, by its own clock.
///
/// # Errors
/// When green does not answer.
pub async fn served(world: &World, facts: &Facts) -> Result<Option<f64>, StepError> {
    let green = world.side(Side::Green).await?;
    let flipped = facts.receipt(&flip::ID).cloned().unwrap_or_default();
    let opened_at = flipped["opened_at"].as_str().unwrap_or_default();
    let served = claim::seconds_since(&green, opened_at).await;
    served.map_err(|error| fail("ask green how long it has served", error))
}

/// Without its seal blue would take the writes of an engine that still runs there.
async fn left_alone(world: &World) -> Result<Verdict, StepError> {
    let blue = world.side(Side::Blue).await?;
    let sessions = claim::sessions_of(&blue, &world.plan.databases.blue.role).await;
    let sessions = sessions.map_err(|error| fail("look for the engine's sessions on blue", error))?;
    Ok(gates::left_alone(sessions))
}

/// Whether blue refuses every write still. The owner of its tables may have taken the triggers away, or made a table.
///
/// # Errors
/// When blue does not answer.
pub(super) async fn still_sealed(world: &World, run: Uuid) -> Result<Verdict, StepError> {
    let blue = world.side(Side::Blue).await?;
    let standing = Refusal::Sealed.verify(&blue, run).await;
    Ok(gates::blue_sealed(&standing.map_err(|error| fail("see whether blue refuses writes", error))?))
}

pub(super) async fn dead_letters(world: &World) -> Result<Verdict, StepError> {
    let Some(ledger) = world.ledger(Side::Green) else { return Ok(Verdict::Go) };
    let dead = ledger.dead().await.map_err(|error| fail("look for revocations that failed", error))?;
    Ok(gates::no_dead_letters(dead.len()))
}
