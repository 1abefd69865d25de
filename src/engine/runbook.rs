//! An ordered list of steps that is known to be sound before anything runs.

use super::step::{Reversal, Step, StepId};
use std::collections::BTreeSet;
use thiserror::Error;

/// Why a list of steps is no runbook: always a bug in whoever compiled it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunbookError {
    /// Two steps share an id.
    #[error("two steps are called {0}")]
    Twice(StepId),
    /// A one-way step has no gate between it and the one-way step before it.
    #[error("one-way step {0} has no gate before it")]
    NoGate(StepId),
    /// A gate must be read-only.
    #[error("step {0} is a gate but not read-only")]
    ActingGate(StepId),
    /// A step's effect must last until a step that does not come after it.
    #[error("step {step} must hold until {until}, which does not come after it")]
    HoldsUntil {
        /// The step whose effect must last.
        step: StepId,
        /// The step it names.
        until: StepId,
    },
    /// A step without a single attempt could never run.
    #[error("step {0} has no attempt")]
    NoAttempt(StepId),
}

/// The steps of a run, in order.
#[derive(Debug, Clone)]
pub struct Runbook<S> {
    steps: Vec<S>,
}

impl<S: Step> Runbook<S> {
    /// Builds a runbook.
    ///
    /// # Errors
    /// The first rule the list breaks.
    pub fn new(steps: Vec<S>) -> Result<Self, RunbookError> {
        let mut seen = BTreeSet::new();
        let mut gated = false;
        for (place, step) in steps.iter().enumerate() {
            if !seen.insert(step.id()) {
                return Err(RunbookError::Twice(step.id()));
            }
            check_alone(step)?;
            check_hold(step, &steps[place + 1..])?;
            match step.reversal() {
                Reversal::OneWay if !gated => return Err(RunbookError::NoGate(step.id())),
                Reversal::OneWay => gated = false,
                _ => gated |= step.is_gate(),
            }
        }
        Ok(Self { steps })
    }

    /// The steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[S] {
        &self.steps
    }

    /// A step's place, from 0.
    #[must_use]
    pub fn place(&self, id: &StepId) -> Option<usize> {
        self.steps.iter().position(|step| step.id() == *id)
    }

    /// A step by its name.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&S> {
        self.place(id).map(|place| &self.steps[place])
    }
}

fn check_alone<S: Step>(step: &S) -> Result<(), RunbookError> {
    if step.is_gate() && step.reversal() != Reversal::ReadOnly {
        return Err(RunbookError::ActingGate(step.id()));
    }
    if step.limits().attempts == 0 {
        return Err(RunbookError::NoAttempt(step.id()));
    }
    Ok(())
}

fn check_hold<S: Step>(step: &S, later: &[S]) -> Result<(), RunbookError> {
    match step.holds_until() {
        Some(until) if !later.iter().any(|other| other.id() == until) => {
            Err(RunbookError::HoldsUntil { step: step.id(), until })
        }
        _ => Ok(()),
    }
}
