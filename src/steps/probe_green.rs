//! `probe-green`: the gate that asks a closed green what can be asked without a write: what it publishes, and what it says of the canaries.
//!
//! Asked before the flip point, and again right before the flip. Flows that write wait until green is open: its fence refuses them.

use super::flip::{self, Registers};
use super::flock::Flock;
use super::probing::{Probes, until_clear};
use super::world::World;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates::{self, Verdict};
use crate::plan::When;
use crate::traffic::register::State;
use serde_json::json;
use std::time::Duration;

/// The gate's name, as `--waive` says it.
pub const ID: StepId = StepId::new("probe-green");

/// Asks a closed green.
#[derive(Debug, Clone)]
pub struct ProbeGreen {
    /// The longest that it may take.
    pub bound: Duration,
}

impl Step for ProbeGreen {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "gate: a closed green publishes what blue does, and knows the canaries as blue left them".to_owned()
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
        Limits::once(self.bound)
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if Registers::read(world).await?.blue.state != State::Open {
            // Decided already: the flip only has to be finished, and nothing here may stop it.
            return Ok(json!({ "decided": true }).into());
        }
        let (probes, flock) = (Probes::of(world), Flock::of(world, context.run(), context.facts()));
        let readings = until_clear(&probes, When::Before, Some(&flock)).await;
        match gates::probed(&readings) {
            Verdict::Go => Ok(json!({ "questions": readings.len() }).into()),
            Verdict::NoGo(why) | Verdict::Unclear(why) => Err(StepError::refused(
                why,
                "blue serves as before; green's engine must run, with blue's secrets: see to it and run the same command again; or answer \
                 for it: --waive probe-green --because 'why'",
            )),
        }
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
