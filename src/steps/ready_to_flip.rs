//! `ready-to-flip`: the gate before the one-way step. Reads only, and is asked again right before the flip.

use super::failure::fail;
use super::flip::{self, registers};
use super::world::World;
use crate::database::capture::Capture;
use crate::database::refusal::{Refusal, RefusalStanding};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use crate::traffic::Lockstep;
use crate::traffic::protocol::State as Participant;
use crate::traffic::register::State;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for one system's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says whether the flip may begin.
#[derive(Debug, Clone)]
pub struct ReadyToFlip;

impl Step for ReadyToFlip {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("ready-to-flip")
    }

    fn summary(&self) -> String {
        "gate: window, registers, green's fence, the slot's log, every system reachable and on blue".to_owned()
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
        Some(flip::ID)
    }

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(60))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let found = registers(world).await?;
        if found.blue.state == State::Sealed {
            // Decided already: the flip only has to be finished, and nothing here may stop it.
            return Ok(json!({ "decided": true }).into());
        }
        let mut reasons = Vec::new();
        reasons.extend(window(world));
        reasons.extend(green_fence(world, context).await?);
        reasons.extend(log_kept(world, context).await?);
        reasons.extend(systems(world, context).await);
        if reasons.is_empty() {
            return Ok(json!({ "blue_epoch": found.blue.epoch }).into());
        }
        Err(StepError::refused(
            reasons.join("; "),
            "see to it, then: cutover flip PLAN; going back is always possible: cutover rollback PLAN",
        ))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

fn window(world: &World) -> Option<String> {
    let (window, now) = (&world.plan.window, jiff::Timestamp::now());
    let early = window.opens.filter(|opens| now < *opens).map(|opens| format!("the window opens at {opens}"));
    let late = window.closes.filter(|closes| now > *closes).map(|closes| format!("the window closed at {closes}"));
    early.or(late)
}

async fn green_fence(world: &World, context: &Context) -> Result<Option<String>, StepError> {
    let green = world.side(Side::Green).await?;
    let standing = Refusal::Closed.verify(&green, context.run()).await;
    let standing = standing.map_err(|error| fail("look at green's fence", error))?;
    Ok((standing != RefusalStanding::Refusing).then(|| format!("green is not closed everywhere: {standing:?}")))
}

async fn log_kept(world: &World, context: &Context) -> Result<Option<String>, StepError> {
    let blue = world.side(Side::Blue).await?;
    let kept = Capture { run: context.run(), side: Side::Blue }.wal_kept(&blue).await;
    let kept = kept.map_err(|error| fail("measure the log that the slot keeps", error))?;
    let Some(kept) = kept else { return Ok(Some("the slot on blue is gone".to_owned())) };
    let cap = world.plan.window.wal_keep_bytes;
    Ok((kept.bytes > cap).then(|| format!("the slot keeps {} bytes of log on blue, more than {cap}", kept.bytes)))
}

async fn systems(world: &World, context: &Context) -> Vec<String> {
    let lockstep = Lockstep::new(&world.plan.systems, &world.http, context.run(), 0, Uuid::nil());
    let mut reasons = Vec::new();
    for system in lockstep.systems() {
        match system.standing(PATIENCE).await {
            Err(error) => reasons.push(super::failure::words(&error)),
            Ok(standing) if standing.side != Side::Blue => {
                reasons.push(format!("{} is on {}", system.name(), standing.side));
            }
            Ok(standing) if standing.state == Participant::Refusing => {
                reasons.push(format!("{} refuses requests", system.name()));
            }
            Ok(_) => {}
        }
    }
    reasons
}
