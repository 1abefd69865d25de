//! The pure fold: from a run's records to its state. An impossible record is corruption, reported with its place, never mended.

use super::record::{Kind, Record};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

/// A journal that cannot be what this tool wrote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("damaged at seq {seq}: {why}")]
pub struct Corruption {
    /// The place of the first impossible record.
    pub seq: i64,
    /// What is impossible about it.
    pub why: String,
}

/// How far one step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepPhase {
    /// Its intent is recorded, its outcome is not: under way, or the process died.
    Running,
    /// Its effect stands.
    Done,
    /// Its forward did not succeed; the effect is as the last failure says.
    Failed,
    /// Its undo is recorded as begun, its end is not.
    Undoing,
    /// Its undo did not succeed.
    UndoFailed,
    /// Its effect is gone.
    Undone,
}

/// What the journal says about one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepState {
    /// The step's id.
    pub step: String,
    /// How far it is.
    pub phase: StepPhase,
    /// How often its forward was begun.
    pub attempts: u32,
    /// The body of its first intent: what stood before.
    pub intent: Value,
    /// The body of its last `Done`.
    pub receipt: Option<Value>,
    /// The body of its last `Failed`, `UndoFailed` or `Lapsed`.
    pub failure: Option<Value>,
    /// The bodies of its notes, in order.
    pub notes: Vec<Value>,
    /// When its first intent was recorded.
    pub begun_at: Timestamp,
    /// When its last record was written.
    pub last_at: Timestamp,
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Going forward, or stopped on the way.
    #[default]
    Forward,
    /// Going back.
    Unwinding,
    /// Everything is undone; over.
    RolledBack,
}

/// The state of a run: a pure fold of its records.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunState {
    /// How far the run is.
    pub phase: Phase,
    /// The steps with a recorded intent, in the order of their first intent.
    pub steps: Vec<StepState>,
    /// The last record's seq, 0 without any.
    pub seq: i64,
    /// The last record's term, 0 without any.
    pub term: i64,
    /// When the last record was written.
    pub last_at: Option<Timestamp>,
    /// The body of a `Halted` that is the last word: how, at which step, why and what next.
    pub halted: Option<Value>,
    /// The body of an `Arrived` that is the last word.
    pub arrived: Option<Value>,
}

impl RunState {
    /// Folds records, in the order of their `seq`.
    ///
    /// # Errors
    /// The first record that cannot follow the ones before it.
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, Corruption> {
        let mut state = Self::default();
        for record in records {
            state.take(record).map_err(|why| Corruption { seq: record.seq, why })?;
        }
        Ok(state)
    }

    /// Adds one record to the state.
    ///
    /// # Errors
    /// In words, why this record cannot follow; the state is then not to be used any more.
    pub fn take(&mut self, record: &Record) -> Result<(), String> {
        self.check_place(record)?;
        (self.halted, self.arrived) = (None, None);
        match (record.kind, record.step.as_deref()) {
            (kind, Some(step)) if kind.is_of_step() => self.take_step(record, step)?,
            (kind, None) if !kind.is_of_step() => self.take_run(record)?,
            (kind, Some(step)) => return Err(format!("{} names step {step:?}", kind.as_str())),
            (kind, None) => return Err(format!("{} names no step", kind.as_str())),
        }
        (self.seq, self.term, self.last_at) = (record.seq, record.term, Some(record.at));
        Ok(())
    }

    /// What is known of a step, if its intent was ever recorded.
    #[must_use]
    pub fn step(&self, step: &str) -> Option<&StepState> {
        self.steps.iter().find(|state| state.step == step)
    }

    /// The step that is under way, failed or being undone, if any: the newest one that is not settled.
    #[must_use]
    pub fn current(&self) -> Option<&StepState> {
        self.steps.iter().rev().find(|state| !matches!(state.phase, StepPhase::Done | StepPhase::Undone))
    }

    /// Whether nothing more can be recorded.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::RolledBack
    }

    fn check_place(&self, record: &Record) -> Result<(), String> {
        if record.seq != self.seq + 1 {
            return Err(format!("a record with seq {} follows one with seq {}", record.seq, self.seq));
        }
        if record.term < self.term {
            return Err(format!("term {} follows term {}", record.term, self.term));
        }
        if self.is_over() {
            return Err(format!("{} follows the end of the run", record.kind.as_str()));
        }
        Ok(())
    }

    fn take_run(&mut self, record: &Record) -> Result<(), String> {
        self.phase = match (record.kind, self.phase) {
            (Kind::Opened | Kind::Halted | Kind::Arrived, phase) => phase,
            (Kind::Unwinding, Phase::Forward) => Phase::Unwinding,
            (Kind::RolledBack, Phase::Unwinding) => Phase::RolledBack,
            (kind, phase) => return Err(format!("{} while the run is {phase:?}", kind.as_str())),
        };
        match record.kind {
            Kind::Halted => self.halted = Some(record.body.clone()),
            Kind::Arrived => self.arrived = Some(record.body.clone()),
            _ => {}
        }
        Ok(())
    }

    fn take_step(&mut self, record: &Record, step: &str) -> Result<(), String> {
        if record.kind == Kind::Intent {
            return self.take_intent(record, step);
        }
        let run = self.phase;
        let Some(state) = self.steps.iter_mut().find(|state| state.step == step) else {
            return Err(format!("{} of step {step:?} without an intent", record.kind.as_str()));
        };
        let phase = next_phase(run, state.phase, record.kind)
            .ok_or_else(|| format!("{} of step {step:?} while it is {:?}", record.kind.as_str(), state.phase))?;
        state.take(record, phase);
        Ok(())
    }

    fn take_intent(&mut self, record: &Record, step: &str) -> Result<(), String> {
        if self.phase != Phase::Forward {
            return Err(format!("intent of step {step:?} after the rollback began"));
        }
        // A step that failed is not under way: a gate that said no to one way leaves the others open.
        let under_way = self.current().filter(|other| other.step != step && other.phase != StepPhase::Failed);
        if let Some(other) = under_way {
            return Err(format!("intent of step {step:?} while step {:?} is {:?}", other.step, other.phase));
        }
        match self.steps.iter_mut().find(|state| state.step == step) {
            Some(state) => {
                state.attempts += 1;
                (state.phase, state.last_at) = (StepPhase::Running, record.at);
            }
            None => self.steps.push(StepState::new(record, step)),
        }
        Ok(())
    }
}

impl StepState {
    fn new(record: &Record, step: &str) -> Self {
        Self {
            step: step.to_owned(),
            phase: StepPhase::Running,
            attempts: 1,
            intent: record.body.clone(),
            receipt: None,
            failure: None,
            notes: Vec::new(),
            begun_at: record.at,
            last_at: record.at,
        }
    }

    fn take(&mut self, record: &Record, phase: StepPhase) {
        (self.phase, self.last_at) = (phase, record.at);
        match record.kind {
            Kind::Done | Kind::Held => self.receipt = Some(record.body.clone()),
            Kind::Failed | Kind::UndoFailed | Kind::Lapsed => self.failure = Some(record.body.clone()),
            Kind::Note => self.notes.push(record.body.clone()),
            _ => {}
        }
    }
}

/// The table of possible pairs; whatever is not listed is corruption.
fn next_phase(run: Phase, step: StepPhase, kind: Kind) -> Option<StepPhase> {
    use StepPhase::{Done, Failed, Running, UndoFailed, Undoing, Undone};
    match (run, step, kind) {
        (Phase::Forward, Running, Kind::Done) => Some(Done),
        (Phase::Forward, Running, Kind::Failed) => Some(Failed),
        (Phase::Forward, Running, Kind::Note) => Some(Running),
        // A gate that is asked again may note what it found before it says no.
        (Phase::Forward, Done, Kind::Held | Kind::Lapsed | Kind::Note) => Some(Done),
        (Phase::Forward, Done, Kind::Superseded) => Some(Undone),
        (Phase::Unwinding, Running | Done | Failed | UndoFailed | Undoing, Kind::Undoing) => Some(Undoing),
        (Phase::Unwinding, Undoing, Kind::Note) => Some(Undoing),
        (Phase::Unwinding, Undoing, Kind::Undone) => Some(Undone),
        (Phase::Unwinding, Undoing, Kind::UndoFailed) => Some(UndoFailed),
        _ => None,
    }
}
