//! What the engine tells while it works; `report` makes it readable. Never waits for a listener.

use super::error::{Effect, FailureKind};
use super::step::StepId;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

/// One thing that happened. `seq` is the place of the journal's record about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step was done in an earlier process and is left as it is.
    StepKept {
        /// The step.
        step: StepId,
        /// Its one line.
        summary: String,
    },
    /// A step's forward begins; its intent is recorded.
    StepStarted {
        /// Place in the journal.
        seq: i64,
        /// The step.
        step: StepId,
        /// Its one line.
        summary: String,
        /// Which attempt of the run this is, from 1.
        attempt: u32,
    },
    /// A step under way says how far it is.
    StepProgress {
        /// The step.
        step: StepId,
        /// How much is done.
        done: u64,
        /// Of how much, when known.
        total: Option<u64>,
        /// Of what: `rows`, `bytes`, `keys`.
        unit: &'static str,
        /// What it is at, such as a table.
        detail: String,
    },
    /// A step's effect stands.
    StepDone {
        /// Place in the journal.
        seq: i64,
        /// The step.
        step: StepId,
        /// How long forward took, in milliseconds; 0 when the effect was found in place.
        took_ms: u64,
        /// Whether the effect was found in place, rather than made now.
        found: bool,
        /// What it says of itself.
        receipt: Value,
    },
    /// A step did not succeed.
    StepFailed {
        /// Place in the journal.
        seq: i64,
        /// The step.
        step: StepId,
        /// How.
        kind: FailureKind,
        /// Whether the world changed.
        effect: Effect,
        /// Why.
        why: String,
        /// What next.
        hint: String,
    },
    /// A failed act is tried again after a pause.
    Retrying {
        /// The step.
        step: StepId,
        /// The attempt to come, from 2.
        attempt: u32,
        /// How many attempts there are.
        attempts: u32,
        /// The pause before it, in milliseconds.
        pause_ms: u64,
        /// Why the last attempt failed.
        why: String,
    },
    /// A stop was asked for, once more each time.
    Stopping {
        /// The step that is under way.
        step: StepId,
        /// Who asked.
        by: String,
        /// Where it will stop.
        stops: StopPoint,
    },
    /// A note of a step became durable.
    Note {
        /// Place in the journal.
        seq: i64,
        /// The step.
        step: StepId,
        /// The step's own words.
        body: Value,
    },
    /// A rollback begins.
    Unwinding {
        /// Place in the journal.
        seq: i64,
        /// How many steps have to be looked at.
        steps: usize,
    },
    /// A step's undo begins.
    Undoing {
        /// Place in the journal.
        seq: i64,
        /// The step.
        step: StepId,
        /// What its undo does, one line.
        summary: String,
    },
    /// Nothing of a step is left.
    Undone {
        /// Place in the journal.
        seq: i64,
        /// The step.
        step: StepId,
        /// Whether there was nothing to undo.
        found: bool,
    },
    /// A step's undo did not succeed.
    UndoFailed {
        /// Place in the journal.
        seq: i64,
        /// The step.
        step: StepId,
        /// How.
        kind: FailureKind,
        /// Why.
        why: String,
        /// What next.
        hint: String,
    },
}

/// Where a step under way will stop, now that it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopPoint {
    /// Right here: it is cut, as by a crash, and the next run does the rest.
    Here,
    /// At its own safe point, or when it has ended.
    AfterStep,
    /// It goes back if it is not decided yet; once decided it is finished.
    UnlessDecided,
}

/// An event with the run it belongs to and when it happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stamped {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The run.
    pub run: Uuid,
    /// This machine's clock; for people, never for order.
    pub at: Timestamp,
}

/// The sending end: cheap to clone, never blocks, silent when nobody listens.
#[derive(Debug, Clone)]
pub struct Events(Option<mpsc::UnboundedSender<Stamped>>);

impl Events {
    /// A sender and its listener.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Stamped>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// A sender to which nobody listens.
    #[must_use]
    pub fn silent() -> Self {
        Self(None)
    }

    /// Tells one event.
    pub(super) fn tell(&self, run: Uuid, event: Event) {
        if let Some(sender) = &self.0 {
            // A listener that went away is no reason to stop working.
            let _ = sender.send(Stamped { event, run, at: Timestamp::now() });
        }
    }
}
