//! What a step is given beside the world: who we are, what earlier steps found, and how to note, tell and stop.

use super::error::{Effect, FailureKind, StepError};
use super::event::{Event, Events};
use super::step::StepId;
use super::stop::Stop;
use crate::journal::{JournalError, Record, RunState, StepPhase, Term};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

/// The receipts of the steps that are done.
#[derive(Debug, Clone, Default)]
pub struct Facts(BTreeMap<StepId, Value>);

impl Facts {
    /// The receipts in a run's state.
    #[must_use]
    pub fn of(state: &RunState) -> Self {
        let done = state.steps.iter().filter(|step| step.phase != StepPhase::Undone);
        let receipts = done.filter_map(|step| Some((StepId::named(&step.step), step.receipt.clone()?)));
        Self(receipts.collect())
    }

    /// Adds a receipt.
    pub fn set(&mut self, step: StepId, receipt: Value) {
        self.0.insert(step, receipt);
    }

    /// A step's receipt, if it is done.
    #[must_use]
    pub fn receipt(&self, step: &StepId) -> Option<&Value> {
        self.0.get(step)
    }

    /// A step's receipt as the type it was made from.
    ///
    /// # Errors
    /// When the step is not done or its receipt has another shape; nothing was changed.
    pub fn get<T: DeserializeOwned>(&self, step: &StepId) -> Result<T, StepError> {
        let Some(receipt) = self.0.get(step) else {
            let what = format!("read the receipt of step {step}: it is not done");
            return Err(StepError::new(FailureKind::Failed, what).effect(Effect::NotApplied));
        };
        serde_json::from_value(receipt.clone()).map_err(|source| {
            let what = format!("read the receipt of step {step}: it has another shape (written by another version?)");
            StepError::failed(what, source).effect(Effect::NotApplied)
        })
    }
}

/// A note on its way to the journal, and where the answer goes.
pub(super) struct NoteRequest {
    pub(super) body: Value,
    pub(super) answer: oneshot::Sender<Result<Record, JournalError>>,
}

/// What a step is given beside the world.
#[derive(Debug)]
pub struct Context {
    run: Uuid,
    term: Term,
    step: StepId,
    facts: Facts,
    before: Value,
    notes: Mutex<Vec<Value>>,
    notebook: Option<mpsc::Sender<NoteRequest>>,
    events: Events,
    stop: Stop,
}

impl Context {
    /// A context without a journal: for dry runs, `status` and tests of single steps. Notes stay in memory.
    #[must_use]
    pub fn detached(run: Uuid, term: Term, step: StepId, facts: Facts) -> Self {
        let (before, notes, notebook) = (Value::Null, Mutex::default(), None);
        Self { run, term, step, facts, before, notes, notebook, events: Events::silent(), stop: Stop::never() }
    }

    /// The same, with the state before as the step's own `before` gave it.
    #[must_use]
    pub fn with_before(self, before: Value) -> Self {
        Self { before, ..self }
    }

    pub(super) fn recorded(self, state: &RunState, notebook: mpsc::Sender<NoteRequest>) -> Self {
        let known = state.step(self.step.as_str());
        let before = known.map_or(Value::Null, |known| known.intent.clone());
        let notes = Mutex::new(known.map_or_else(Vec::new, |known| known.notes.clone()));
        Self { before, notes, notebook: Some(notebook), ..self }
    }

    pub(super) fn telling(self, events: Events, stop: Stop) -> Self {
        Self { events, stop, ..self }
    }

    /// The run's id; whatever we create in the world carries it.
    #[must_use]
    pub fn run(&self) -> Uuid {
        self.run
    }

    /// The term in which this process acts; every effect inside a database holds it until its commit.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The step this context was made for.
    #[must_use]
    pub fn step(&self) -> &StepId {
        &self.step
    }

    /// What the steps before found.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the step's `before` answered when its first intent was recorded.
    #[must_use]
    pub fn before(&self) -> &Value {
        &self.before
    }

    /// This step's notes, from this and earlier processes, in order.
    #[must_use]
    pub fn notes(&self) -> Vec<Value> {
        self.notes.lock().expect("no holder of this lock can panic").clone()
    }

    /// Makes a note durable in the journal before it returns. Only while forward or undo is under way.
    ///
    /// # Errors
    /// When the note is not in the journal: the step must not go on to what the note announces.
    pub async fn note(&self, body: Value) -> Result<(), StepError> {
        self.write(&body).await?;
        self.remember(body);
        Ok(())
    }

    /// The same for what is only told: when the journal has not answered within `bound` the step goes on without it, for there are clients who
    /// wait. The note is written later if it can be; whoever goes on after this process may not find it.
    ///
    /// # Errors
    /// When another process has taken over.
    pub async fn note_within(&self, bound: Duration, body: Value) -> Result<(), StepError> {
        match timeout(bound, self.write(&body)).await {
            Ok(Err(error)) if error.kind == FailureKind::Locked => return Err(error),
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error.why(), "going on without the journal's word"),
            Err(_) => tracing::warn!(?bound, "the journal does not answer; going on without its word"),
        }
        self.remember(body);
        Ok(())
    }

    async fn write(&self, body: &Value) -> Result<(), StepError> {
        let Some(notebook) = &self.notebook else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        let closed = || StepError::new(FailureKind::Failed, "write a note to the journal: the engine has gone on");
        notebook.send(NoteRequest { body: body.clone(), answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?.map(drop).map_err(note_failed)
    }

    fn remember(&self, body: Value) {
        self.notes.lock().expect("no holder of this lock can panic").push(body);
    }

    /// Tells how far the step is: `done` of `total` `unit`s, and what it is at.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &'static str, detail: impl Into<String>) {
        let (step, detail) = (self.step.clone(), detail.into());
        self.events.tell(self.run, Event::StepProgress { step, done, total, unit, detail });
    }

    /// The request to stop: a long step looks at it at its safe points and ends with [`StepError::parked`].
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }
}

fn note_failed(error: JournalError) -> StepError {
    let kind = if error.is_superseded() { FailureKind::Locked } else { FailureKind::Failed };
    let hint = error.hint();
    StepError { source: Some(Box::new(error)), ..StepError::new(kind, "write a note to the journal").hint(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::TermError;
    use serde_json::json;

    const BOUND: Duration = Duration::from_millis(20);

    fn written_by(notebook: mpsc::Sender<NoteRequest>) -> Context {
        let term = Term { term: 1, nonce: Uuid::nil() };
        let context = Context::detached(Uuid::nil(), term, StepId::new("flip"), Facts::default());
        Context { notebook: Some(notebook), ..context }
    }

    #[tokio::test]
    async fn what_is_only_told_does_not_wait_for_a_journal_that_is_away() {
        let (notebook, mut requests) = mpsc::channel(1);
        let context = written_by(notebook);
        // The second finds the first still on its way, and the third no place at all.
        for phase in ["decided", "opening", "third"] {
            context.note_within(BOUND, json!({ "phase": phase })).await.expect("it goes on");
        }
        assert_eq!(context.notes().len(), 3, "this process knows");
        assert_eq!(requests.recv().await.expect("asked for").body["phase"], "decided", "written when it can be");
    }

    #[tokio::test]
    async fn whoever_is_superseded_is_told_so() {
        let (notebook, mut requests) = mpsc::channel::<NoteRequest>(1);
        let context = written_by(notebook);
        let refuse = async {
            let request = requests.recv().await.expect("asked for");
            let superseded = TermError::Superseded { ours: context.term(), found: context.term() };
            let _ = request.answer.send(Err(superseded.into()));
        };
        let (noted, ()) = tokio::join!(context.note_within(BOUND, json!("decided")), refuse);
        assert_eq!(noted.expect_err("another acts").kind, FailureKind::Locked);
        assert!(context.notes().is_empty());
    }
}
