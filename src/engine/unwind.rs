//! Back: undoes every recorded intent, newest first, and nothing past a one-way line.
//!
//! Acts only on what `verify` says is present or partly there and ours; absent is done; foreign or unclear stops as stuck.

use super::error::{Effect, FailureKind, Remedy, StepError};
use super::event::Event;
use super::outcome::{Halt, Outcome};
use super::run::{Engine, halt_at, not_ours};
use super::session::{Session, failure_body, stopped};
use super::step::{Reversal, Standing, Step};
use crate::journal::{Entry, Kind, Log, Phase, StepPhase};
use serde_json::{Value, json};

impl<S: Step, L: Log> Engine<'_, S, L> {
    /// Undoes the run, from where the journal stands: every recorded intent, newest first, whether it succeeded, failed or is
    /// unknown. Refuses when a one-way step is done; settles one whose outcome is unknown by writing against it.
    pub async fn unwind(&self) -> Outcome {
        let mut session = match Session::open(self).await {
            Ok(session) => session,
            Err(halt) => return Outcome::Halted(halt),
        };
        let result = session.unwind().await;
        session.close(result, json!({ "aim": "unwind" })).await
    }
}

impl<S: Step, L: Log> Session<'_, S, L> {
    async fn unwind(&mut self) -> Result<(), Halt> {
        if self.state.is_over() {
            return Ok(());
        }
        if self.state.phase == Phase::Forward {
            self.settle_one_way().await?;
            let steps = self.engine.runbook.steps().iter().filter(|step| self.must_undo(step)).count();
            let seq = self.append(Entry::of_run(Kind::Unwinding, Value::Null)).await?.seq;
            self.tell(Event::Unwinding { seq, steps });
        }
        for step in self.engine.runbook.steps().iter().rev() {
            if self.must_undo(step) {
                if self.engine.stop.is_requested() {
                    return Err(stopped(&self.engine.stop).at(step.id()));
                }
                self.take_back(step).await?;
            } else if self.may_be_under_way(step) {
                self.settle(step).await.map_err(|error| halt_at(step, error))?;
            }
        }
        self.append(Entry::of_run(Kind::RolledBack, Value::Null)).await.map(drop)
    }

    fn must_undo(&self, step: &S) -> bool {
        let open = self.phase(step).is_some_and(|phase| phase != StepPhase::Undone);
        open && step.reversal() == Reversal::Undo
    }

    /// A step that only reads has nothing to undo, but one that was cut off may still be at it.
    fn may_be_under_way(&self, step: &S) -> bool {
        step.reversal() == Reversal::ReadOnly && self.phase(step).is_some_and(|phase| phase != StepPhase::Done)
    }

    /// Sees that no one-way step stands: refuses when one is done, and has an unknown one written against.
    async fn settle_one_way(&mut self) -> Result<(), Halt> {
        for step in self.engine.runbook.steps().iter().rev().filter(|step| step.reversal() == Reversal::OneWay) {
            self.settle_one(step).await?;
        }
        Ok(())
    }

    /// Settles one one-way step: one that is done and takes nothing back is past the line; one whose outcome is unknown is written
    /// against.
    pub(super) async fn settle_one(&mut self, step: &S) -> Result<(), Halt> {
        match self.phase(step) {
            None | Some(StepPhase::Undone) => Ok(()),
            // What it took back is undone by it, so that nothing one-way stands.
            Some(StepPhase::Done) if step.takes_back().is_some() => Ok(()),
            Some(StepPhase::Done) => Err(past_the_line(step)),
            Some(StepPhase::Failed) if self.last_effect(step) == Some(Effect::NotApplied) => Ok(()),
            Some(_) => self.write_against(step).await,
        }
    }

    pub(super) fn last_effect(&self, step: &S) -> Option<Effect> {
        let failure = self.state.step(step.id().as_str())?.failure.as_ref()?;
        serde_json::from_value(failure.get("effect")?.clone()).ok()
    }

    async fn write_against(&mut self, step: &S) -> Result<(), Halt> {
        if let Standing::Present(receipt) = self.verify(step).await.map_err(|error| halt_at(step, error))? {
            return self.record_past_line(step, receipt.into_body()).await;
        }
        self.append_step(Kind::Intent, step, Value::Null).await?;
        let error = match self.undo(step).await? {
            Ok(()) => StepError::returned("its outcome was unknown; it was settled as not done", ""),
            Err(error) => error,
        };
        let settled = error.effect == Effect::NotApplied;
        self.append_step(Kind::Failed, step, failure_body(&error)).await?;
        if settled {
            return Ok(());
        }
        match self.verify(step).await {
            Ok(Standing::Present(receipt)) => self.record_past_line(step, receipt.into_body()).await,
            _ => Err(halt_at(step, error)),
        }
    }

    /// The one-way step turned out to be done.
    async fn record_past_line(&mut self, step: &S, receipt: Value) -> Result<(), Halt> {
        if self.phase(step) != Some(StepPhase::Running) {
            self.append_step(Kind::Intent, step, Value::Null).await?;
        }
        self.supersede(step).await?;
        self.append_step(Kind::Done, step, receipt).await?;
        if step.takes_back().is_some() { Ok(()) } else { Err(past_the_line(step)) }
    }

    async fn take_back(&mut self, step: &S) -> Result<(), Halt> {
        let unknown = self.is_unknown(step);
        let mut attempt = 1;
        loop {
            let seq = self.append_step(Kind::Undoing, step, Value::Null).await?;
            self.tell(Event::Undoing { seq, step: step.id(), summary: step.undo_summary() });
            let error = match self.remove(step, unknown).await? {
                Ok(found) => {
                    let seq = self.append_step(Kind::Undone, step, Value::Null).await?;
                    self.tell(Event::Undone { seq, step: step.id(), found });
                    return Ok(());
                }
                Err(error) => error,
            };
            self.undo_failed(step, &error).await?;
            if error.remedy != Remedy::Retry || attempt >= step.limits().attempts {
                return Err(halt_at(step, error));
            }
            attempt += 1;
            self.pause(step, attempt, error.why()).await?;
        }
    }

    /// Whether an earlier act may still be under way: it has no outcome, or one that does not say what became of it.
    fn is_unknown(&self, step: &S) -> bool {
        match self.phase(step) {
            Some(StepPhase::Done) => false,
            Some(StepPhase::Failed) => self.last_effect(step) != Some(Effect::NotApplied),
            _ => true,
        }
    }

    /// Removes what is there and ours; says whether there was nothing.
    async fn remove(&mut self, step: &S, unknown: bool) -> Result<Result<bool, StepError>, Halt> {
        if unknown && let Err(error) = self.settle(step).await {
            return Ok(Err(error));
        }
        match self.verify(step).await {
            Ok(Standing::Absent) => return Ok(Ok(true)),
            Ok(Standing::Present(_) | Standing::Partial(_)) => {}
            Ok(other) => return Ok(Err(not_ours(step, &other))),
            Err(error) => return Ok(Err(error)),
        }
        if let Err(error) = self.undo(step).await? {
            return Ok(Err(error));
        }
        Ok(self.confirm_gone(step).await.map(|()| false))
    }

    async fn confirm_gone(&self, step: &S) -> Result<(), StepError> {
        let error = match self.verify(step).await? {
            Standing::Absent => return Ok(()),
            standing @ (Standing::Foreign(_) | Standing::Unclear(_)) => not_ours(step, &standing),
            standing => {
                let what = format!("see the effect of {} gone: it is {}", step.id(), standing.describe());
                StepError::new(FailureKind::Stuck, what).remedy(Remedy::Retry)
            }
        };
        Err(StepError { step: Some(step.id()), ..error })
    }

    async fn undo_failed(&mut self, step: &S, error: &StepError) -> Result<(), Halt> {
        let seq = self.append_step(Kind::UndoFailed, step, failure_body(error)).await?;
        let (kind, why, hint) = (error.kind, error.why(), error.hint.clone());
        self.tell(Event::UndoFailed { seq, step: step.id(), kind, why, hint });
        Ok(())
    }
}

fn past_the_line<S: Step>(step: &S) -> Halt {
    let why = format!("step {} is done and has no undo", step.id());
    Halt::new(FailureKind::Refused, why, "go on with the same plan: cutover status PLAN says from where").at(step.id())
}
