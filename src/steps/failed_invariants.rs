//! Which invariants do not hold, for summaries: from the step at which the run has halted, or from what the flip asked once it was done. Pure.

use super::flip;
use super::{invariants, repair};
use crate::database::invariants::Answer;
use crate::journal::{RunState, StepPhase, StepState};
use serde_json::Value;

/// Those that did not hold when they were last asked; none when all did, or when a later step has shown that they do now.
#[must_use]
pub fn failed_invariants(state: &RunState) -> Vec<Answer> {
    let halted_at = state.halted.as_ref().and_then(|halt| halt["step"].as_str()).unwrap_or_default();
    if halted_at == invariants::ID.as_str() || halted_at.starts_with(repair::PREFIX) {
        return state.step(halted_at).map(last_noted).unwrap_or_default();
    }
    let flip = state.step(flip::ID.as_str()).filter(|flip| flip.phase == StepPhase::Done);
    let receipt = flip.and_then(|flip| flip.receipt.clone()).unwrap_or_default();
    failed(&receipt[flip::AFTER])
}

fn last_noted(step: &StepState) -> Vec<Answer> {
    let last = step.notes.iter().rev().find(|note| note["answers"].is_array());
    last.map(failed).unwrap_or_default()
}

fn failed(noted: &Value) -> Vec<Answer> {
    let answers: Vec<Answer> = serde_json::from_value(noted["answers"].clone()).unwrap_or_default();
    answers.into_iter().filter(|answer| !answer.holds).collect()
}
