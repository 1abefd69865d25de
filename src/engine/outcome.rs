//! How a verb ended, and how far a run is: pure, for exit codes, summaries and `status`.

use super::error::{FailureKind, StepError};
use super::runbook::Runbook;
use super::step::{Reversal, Step, StepId};
use crate::journal::{JournalError, Phase, RunState, StepPhase};
use serde::{Deserialize, Serialize};

/// How `advance` or `unwind` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked happened.
    Done,
    /// It did not, and this says how, where, why and what next.
    Halted(Halt),
}

/// Why a verb ended before its aim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// How, as exit codes say it.
    pub kind: FailureKind,
    /// At which step, if at one.
    pub step: Option<StepId>,
    /// What was tried and what the world said.
    pub why: String,
    /// The next safe command or act; empty means: run the same command again.
    pub hint: String,
}

impl Halt {
    pub(super) fn new(kind: FailureKind, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, step: None, why: why.into(), hint: hint.into() }
    }

    pub(super) fn at(self, step: StepId) -> Self {
        Self { step: Some(step), ..self }
    }
}

impl From<StepError> for Halt {
    fn from(error: StepError) -> Self {
        Self { kind: error.kind, why: error.why(), hint: error.hint.clone(), step: error.step }
    }
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        let kind = match &error {
            JournalError::Locked(_) => FailureKind::Locked,
            JournalError::Term(term) if term.is_superseded() => FailureKind::Locked,
            JournalError::Changed { .. } => FailureKind::Changed,
            JournalError::Corrupt(_) => FailureKind::Stuck,
            _ => FailureKind::Failed,
        };
        let hint = error.hint();
        Self::new(kind, StepError::failed("keep the journal", error).why(), hint)
    }
}

/// How far a run is, in the words of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Nothing was done yet.
    Fresh,
    /// Under way, or its process died.
    Running,
    /// Everything before the one-way step is done.
    AtFlipPoint,
    /// The last one-way step is done.
    Flipped,
    /// A one-way step after it is done too: there is no way back any more.
    Finalized,
    /// It was taken back by the way back; what was before it stands, and it can be made again.
    Returned,
    /// It stopped and a person must decide, or asked for the stop.
    Parked,
    /// It stopped at a step that did not succeed.
    Failed,
    /// A gate or a check said no.
    Refused,
    /// A person is needed now.
    Stuck,
    /// Going back, or the process that did died.
    RollingBack,
    /// Everything is undone.
    RolledBack,
}

/// Where a run stands, seen from its runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// How far it is.
    pub phase: RunPhase,
    /// The step it is at: under way, failed or next.
    pub step: Option<StepId>,
    /// Why it stopped, when it did.
    pub why: String,
    /// The next safe command or act, when the stop named one.
    pub hint: String,
    /// The last one-way step that is done.
    pub crossed: Option<StepId>,
    /// How many steps are done.
    pub done: usize,
    /// Of how many.
    pub of: usize,
}

impl Survey {
    /// Looks at a run's state with its runbook.
    #[must_use]
    pub fn of<S: Step>(runbook: &Runbook<S>, state: &RunState) -> Self {
        let is_done = |step: &S| phase_of(state, step) == Some(StepPhase::Done);
        let out = way_out(runbook);
        let next = out.iter().find(|step| !is_done(step));
        let halt = last_halt(state);
        let done = out.iter().filter(|step| is_done(step)).count();
        let crossed = crossed(runbook, state).map(Step::id);
        let phase = run_phase(runbook, out, state, next, halt.as_ref());
        let at = halt.as_ref().and_then(|halt| halt.step.clone()).or_else(|| next.map(Step::id));
        let (why, hint) = halt.map_or_else(Default::default, |halt| (halt.why, halt.hint));
        Self { phase, step: at, why, hint, crossed, done, of: out.len() }
    }
}

fn last_halt(state: &RunState) -> Option<Halt> {
    state.halted.clone().and_then(|body| serde_json::from_value(body).ok())
}

fn phase_of<S: Step>(state: &RunState, step: &S) -> Option<StepPhase> {
    state.step(step.id().as_str()).map(|known| known.phase)
}

fn run_phase<S: Step>(
    runbook: &Runbook<S>,
    out: &[S],
    state: &RunState,
    next: Option<&S>,
    halt: Option<&Halt>,
) -> RunPhase {
    match (state.phase, next) {
        (Phase::RolledBack, _) => RunPhase::RolledBack,
        (Phase::Unwinding, _) => {
            halt.filter(|halt| halt.kind == FailureKind::Stuck).map_or(RunPhase::RollingBack, phase_after)
        }
        (Phase::Forward, _) if state.steps.is_empty() && halt.is_none() => RunPhase::Fresh,
        (Phase::Forward, _) if halt.is_none() && is_at_flip_point(runbook, state) => RunPhase::AtFlipPoint,
        (Phase::Forward, _) if halt.is_some() => halt.map_or(RunPhase::Running, phase_after),
        (Phase::Forward, next) => match (crossed(runbook, state), next) {
            (Some(line), _) if line.takes_back().is_some() => RunPhase::Returned,
            (Some(line), _) if out.last().map(Step::id) != Some(line.id()) => RunPhase::Finalized,
            (Some(_), _) => RunPhase::Flipped,
            // A plan without systems has no flip: all that can be done is done, and nothing of the traffic has moved.
            (None, None) => RunPhase::AtFlipPoint,
            (None, Some(_)) => RunPhase::Running,
        },
    }
}

/// The last one-way step that is done.
fn crossed<'a, S: Step>(runbook: &'a Runbook<S>, state: &RunState) -> Option<&'a S> {
    let lines = runbook.steps().iter().filter(|step| step.reversal() == Reversal::OneWay);
    lines.rev().find(|step| phase_of(state, *step) == Some(StepPhase::Done))
}

/// The steps up to the first one-way step; what comes after a flip is no part of the way to it.
fn way_out<S: Step>(runbook: &Runbook<S>) -> &[S] {
    let steps = runbook.steps();
    let line = steps.iter().position(|step| step.reversal() == Reversal::OneWay);
    &steps[..line.map_or(steps.len(), |line| line + 1)]
}

/// Whether all that is left before the one-way step are its gates, which are asked when it is.
fn is_at_flip_point<S: Step>(runbook: &Runbook<S>, state: &RunState) -> bool {
    let steps = runbook.steps();
    let Some(line) = steps.iter().position(|step| step.reversal() == Reversal::OneWay) else { return false };
    let is_ready = |step: &S| step.is_gate() || phase_of(state, step) == Some(StepPhase::Done);
    phase_of(state, &steps[line]).is_none() && steps[..line].iter().all(is_ready)
}

fn phase_after(halt: &Halt) -> RunPhase {
    match halt.kind {
        FailureKind::Failed | FailureKind::FailedOnGreen => RunPhase::Failed,
        FailureKind::Refused | FailureKind::Changed => RunPhase::Refused,
        FailureKind::Parked | FailureKind::Locked => RunPhase::Parked,
        FailureKind::Returned => RunPhase::AtFlipPoint,
        FailureKind::Stuck => RunPhase::Stuck,
    }
}
