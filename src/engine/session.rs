//! One process's hold on a run: it appends records, keeps the state folded, and lets a step act under its bounds while serving
//! the step's notes. Shared by `run` (forward) and `unwind` (back).

use super::context::{Context, Facts, NoteRequest};
use super::error::{FailureKind, Remedy, StepError};
use super::event::{Event, StopPoint};
use super::outcome::Halt;
use super::run::Engine;
use super::step::{Limits, Reversal, Standing, Step};
use super::stop::Stop;
use crate::journal::{Entry, JournalError, Kind, Log, Record, RunState, StepPhase};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Session<'a, S: Step, L: Log> {
    pub(super) engine: &'a Engine<'a, S, L>,
    pub(super) state: RunState,
}

impl<'a, S: Step, L: Log> Session<'a, S, L> {
    /// Reads the journal, folds it and sees that every step in it is one of the runbook's.
    pub(super) async fn open(engine: &'a Engine<'a, S, L>) -> Result<Self, Halt> {
        let records = engine.log.records().await?;
        let state = RunState::fold(&records).map_err(JournalError::from)?;
        let unknown =
            state.steps.iter().find(|known| engine.runbook.steps().iter().all(|s| s.id().as_str() != known.step));
        match unknown {
            None => Ok(Self { engine, state }),
            Some(known) => Err(Halt::new(
                FailureKind::Changed,
                format!("the journal names step {}, which this runbook does not have", known.step),
                "use the version of cutover and the plan the run was started with",
            )),
        }
    }

    /// Makes an entry durable and folds it.
    pub(super) async fn append(&mut self, entry: Entry) -> Result<Record, Halt> {
        let record = self.engine.log.append(entry).await?;
        self.fold(&record).await?;
        Ok(record)
    }

    /// Folds a record; when some were written that this session never saw (a note cut off by its deadline), reads all anew.
    async fn fold(&mut self, record: &Record) -> Result<(), Halt> {
        if record.seq == self.state.seq + 1 {
            let seq = record.seq;
            return self.state.take(record).map_err(|why| corrupt(seq, why));
        }
        let records = self.engine.log.records().await?;
        self.state = RunState::fold(&records).map_err(JournalError::from)?;
        Ok(())
    }

    pub(super) async fn append_step(&mut self, kind: Kind, step: &S, body: Value) -> Result<i64, Halt> {
        Ok(self.append(Entry::of_step(kind, step.id().as_str(), body)).await?.seq)
    }

    pub(super) fn phase(&self, step: &S) -> Option<StepPhase> {
        self.state.step(step.id().as_str()).map(|known| known.phase)
    }

    pub(super) fn tell(&self, event: Event) {
        self.engine.events.tell(self.engine.log.run(), event);
    }

    fn context(&self, step: &S) -> (Context, mpsc::Receiver<NoteRequest>) {
        let (notebook, notes) = mpsc::channel(1);
        let (run, term) = (self.engine.log.run(), self.engine.log.term());
        let context = Context::detached(run, term, step.id(), Facts::of(&self.state))
            .telling(self.engine.events.clone(), self.engine.stop.clone())
            .recorded(&self.state, notebook);
        (context, notes)
    }

    /// Asks the step's `verify`, under its deadline; asking again is harmless, so a passing failure is outwaited.
    pub(super) async fn verify(&self, step: &S) -> Result<Standing, StepError> {
        let mut attempt = 1;
        loop {
            let (context, _notes) = self.context(step);
            let error = match bounded(step, "look", step.verify(self.engine.world, &context)).await {
                Err(error) if error.remedy == Remedy::Retry && attempt < step.limits().attempts => error,
                answer => return answer,
            };
            attempt += 1;
            if self.pause(step, attempt, error.why()).await.is_err() {
                return Err(error);
            }
        }
    }

    /// Asks the step's `before`, under its deadline.
    pub(super) async fn before(&self, step: &S) -> Result<Value, StepError> {
        let (context, _notes) = self.context(step);
        bounded(step, "look at the state before", step.before(self.engine.world, &context)).await
    }

    /// Lets the step end what it may have left under way.
    pub(super) async fn settle(&self, step: &S) -> Result<(), StepError> {
        let (context, _notes) = self.context(step);
        bounded(step, "end what was under way", step.settle(self.engine.world, &context)).await
    }

    /// Lets the step act forward, serving its notes.
    pub(super) async fn forward(&mut self, step: &S) -> Result<Result<Value, StepError>, Halt> {
        if let Some(waiver) = self.engine.waiver.as_ref().filter(|waiver| step.is_gate() && waiver.gate == step.id()) {
            // What an earlier process was at when it was asked last must not go on beside what comes now.
            let because = waiver.because.clone();
            return Ok(self.settle(step).await.map(|()| json!({ "waived": because })));
        }
        let (context, notes) = self.context(step);
        let stops = match step.reversal() {
            _ if step.may_be_cut() => StopPoint::Here,
            Reversal::OneWay => StopPoint::UnlessDecided,
            _ => StopPoint::AfterStep,
        };
        let act = async { step.forward(self.engine.world, &context).await.map(super::step::Receipt::into_body) };
        self.act(step, ("forward", stops), act, notes).await
    }

    /// Lets the step undo, serving its notes.
    pub(super) async fn undo(&mut self, step: &S) -> Result<Result<(), StepError>, Halt> {
        let (context, notes) = self.context(step);
        self.act(step, ("undo", StopPoint::AfterStep), step.undo(self.engine.world, &context), notes).await
    }

    async fn act<T>(
        &mut self,
        step: &S,
        (what, stops): (&str, StopPoint),
        act: impl Future<Output = Result<T, StepError>>,
        notes: mpsc::Receiver<NoteRequest>,
    ) -> Result<Result<T, StepError>, Halt> {
        let written = Mutex::new(Vec::new());
        let result = tokio::select! {
            biased;
            () = self.serve(step, notes, &written) => unreachable!("serving notes never ends by itself"),
            result = bounded(step, what, act) => result,
            () = self.answer_stops(step, stops) => Err(cut(step, &self.engine.stop)),
        };
        for record in written.into_inner().expect("no holder of this lock can panic") {
            self.fold(&record).await?;
        }
        Ok(result)
    }

    /// Writes the step's notes as they come, side by side with its act; never returns.
    async fn serve(&self, step: &S, mut notes: mpsc::Receiver<NoteRequest>, written: &Mutex<Vec<Record>>) {
        while let Some(request) = notes.recv().await {
            let entry = Entry::of_step(Kind::Note, step.id().as_str(), request.body);
            let answer = self.engine.log.append(entry).await;
            if let Ok(record) = &answer {
                self.tell(Event::Note { seq: record.seq, step: step.id(), body: record.body.clone() });
                written.lock().expect("no holder of this lock can panic").push(record.clone());
            }
            // The step may have been cut off meanwhile; the note stands all the same.
            let _ = request.answer.send(answer);
        }
        std::future::pending().await
    }

    /// Tells whoever asks for a stop where it will be; returns when the step is to be cut there and then.
    async fn answer_stops(&self, step: &S, stops: StopPoint) {
        let mut times = 0;
        loop {
            times = self.engine.stop.asked_beyond(times).await;
            self.tell(Event::Stopping { step: step.id(), by: self.engine.stop.by(), stops });
            if stops == StopPoint::Here {
                return;
            }
        }
    }

    /// Waits before attempt `attempt` (from 2), unless a stop is asked for: then says so.
    pub(super) async fn pause(&self, step: &S, attempt: u32, why: String) -> Result<(), Halt> {
        let limits = step.limits();
        let pause = jittered(&limits, attempt);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.tell(Event::Retrying { step: step.id(), attempt, attempts: limits.attempts, pause_ms, why });
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.engine.stop.requested() => Err(stopped(&self.engine.stop).at(step.id())),
        }
    }
}

/// The halt of a run that was asked to stop; where it then stands names the next command.
pub(super) fn stopped(stop: &Stop) -> Halt {
    Halt::new(FailureKind::Parked, asked(stop), "")
}

/// The failure of a step that was cut off because a stop was asked for.
fn cut<S: Step>(step: &S, stop: &Stop) -> StepError {
    StepError { step: Some(step.id()), ..StepError::parked(asked(stop), "") }
}

fn asked(stop: &Stop) -> String {
    format!("a stop was asked for by {}", stop.by())
}

fn corrupt(seq: i64, why: String) -> Halt {
    JournalError::from(crate::journal::Corruption { seq, why }).into()
}

async fn bounded<S: Step, T>(
    step: &S,
    what: &str,
    act: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    let deadline = step.limits().deadline;
    let result = match tokio::time::timeout(deadline, act).await {
        Ok(result) => result,
        Err(_) => Err(StepError::late(what, deadline)),
    };
    result.map_err(|error| StepError { step: Some(step.id()), ..error })
}

/// Doubles with each attempt, bounded, and spread over its upper half so that several do not come back at once.
fn jittered(limits: &Limits, attempt: u32) -> Duration {
    let doubled = limits.pause.saturating_mul(1 << attempt.saturating_sub(2).min(16)).min(LONGEST_PAUSE);
    doubled.mul_f64(rand::random_range(0.5..=1.0))
}

/// A failure as the journal keeps it.
pub(super) fn failure_body(error: &StepError) -> Value {
    json!({ "kind": error.kind, "effect": error.effect, "why": error.why(), "hint": error.hint })
}
