//! `probe-blue`: the plan's probes on blue, before anything is touched. What fails there was broken before, and would be held against green.
//!
//! Its flows write on blue as any client does, with clients made for it, and remove them. One that was cut off is swept by its undo.

use super::failure::fail;
use super::probing::{Probes, until_clear};
use super::world::World;
use crate::engine::{Context, Effect, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates::{self, Verdict};
use crate::plan::{Side, When};
use serde_json::json;
use std::time::Duration;

/// The step's name.
const ID: StepId = StepId::new("probe-blue");

/// Asks every probe on blue.
#[derive(Debug, Clone)]
pub struct ProbeBlue {
    /// How many.
    pub probes: usize,
    /// The longest that they may take together.
    pub bound: Duration,
}

/// The last word of this step's notes: done, or taken back.
fn last_word(context: &Context) -> Option<serde_json::Value> {
    context.notes().into_iter().rev().find(|note| note["phase"].is_string())
}

async fn left(world: &World) -> Result<usize, StepError> {
    let mut left = 0;
    for probe in Probes::of(world).oauth() {
        let found = probe.left(Side::Blue).await;
        left += found.map_err(|error| fail("look for what probes have left on blue", error).retry())?;
    }
    Ok(left)
}

impl Step for ProbeBlue {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let bound = humantime::format_duration(self.bound);
        format!(
            "ask {} probes on blue, with clients made for them, within {bound}; what fails there was broken before",
            self.probes
        )
    }

    fn undo_summary(&self) -> String {
        "remove from blue what a probe that was cut off has left".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::once(self.bound * 2)
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        match last_word(context) {
            Some(note) if note["phase"] == "probed" => Ok(Standing::Present(note.into())),
            Some(_) => Ok(Standing::Absent),
            None if left(world).await? > 0 => Ok(Standing::Partial("clients of probes that were cut off".to_owned())),
            None => Ok(Standing::Absent),
        }
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let probes = Probes::of(world);
        let asked = tokio::time::timeout(self.bound, until_clear(&probes, When::Start, None)).await;
        let late = |_| StepError::refused("the probes on blue took too long", "see why blue is slow: cutover run PLAN");
        let readings = asked.map_err(late)?;
        let verdict = gates::probed(&readings);
        if let Verdict::NoGo(why) | Verdict::Unclear(why) = verdict {
            let hint = "blue itself does not do what the probe expects: see to blue or to the plan, then: cutover run PLAN; nothing was changed";
            return Err(StepError::refused(why, hint).effect(Effect::Unknown));
        }
        let receipt = json!({ "phase": "probed", "questions": readings.len() });
        context.note(receipt.clone()).await?;
        Ok(receipt.into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        // Flows that came to their end have cleaned up, or said that they could not: the engine is not needed again.
        let is_clean = last_word(context).is_some_and(|note| note["phase"] == "probed");
        for probe in Probes::of(world).oauth().filter(|_| !is_clean) {
            let swept = probe.sweep_flows(Side::Blue).await;
            swept.map_err(|error| fail("remove what probes have left on blue", error).retry())?;
        }
        context.note(json!({ "phase": "swept" })).await
    }
}
