//! `invariants`: the gate before traffic moves to a green on which something does not hold that holds on blue. What it writes on green is a
//! batch, as any levelling does.
//!
//! It is asked in `run`, and again right before the flip. Nobody can waive it: who wants less changes the plan, and so approves that.

use super::asking::{self, Asking};
use super::flip;
use super::world::World;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Invariant, Repair};
use std::time::Duration;

/// The gate's name.
pub const ID: StepId = StepId::new("invariants");

/// Says whether every invariant of the plan holds.
#[derive(Debug, Clone)]
pub struct Invariants {
    /// What is asked.
    pub invariants: Vec<Invariant>,
    /// What may put rows right.
    pub repairs: Vec<Repair>,
    /// Whether the plan has a flip before which it is asked again.
    pub is_before_flip: bool,
    /// Bound on all of it.
    pub bound: Duration,
}

impl Step for Invariants {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let names: Vec<&str> = self.invariants.iter().map(|one| one.name.as_str()).collect();
        format!("gate: at one moment of both sides all of these hold on green: {}", names.join(", "))
    }

    fn undo_summary(&self) -> String {
        "nothing: it only asks".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn holds_until(&self) -> Option<StepId> {
        self.is_before_flip.then_some(flip::ID)
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound, 3, Duration::from_secs(2))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if flip::is_decided(world).await? {
            // The flip only has to be finished: nothing here may stop it, and green is not to be levelled any more.
            return Ok(serde_json::json!({ "decided": true }).into());
        }
        let answers = Asking::open(world, context).await?.ask(&self.invariants, context).await?;
        let failed = asking::failed(&answers);
        if failed.is_empty() {
            return Ok(asking::noted(&answers).into());
        }
        context.note(asking::noted(&answers)).await?;
        Err(asking::refused(&failed, self.hint()))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

impl Invariants {
    fn hint(&self) -> String {
        let what = if self.repairs.is_empty() {
            "correct the mapping, the migrations or the cleanup rules of the plan"
        } else {
            "no repair of the plan mends it any more: correct the migrations or the mapping"
        };
        format!("blue serves as before; {what}, then cutover rollback PLAN, and run anew")
    }
}
