//! Forward: brings the steps of a runbook about, in order, and picks up where the journal stands.
//!
//! Intent is durable before `forward`, the outcome before the next step. Calls the journal's log and the steps; never undoes.

use super::error::{Effect, FailureKind, Remedy, StepError};
use super::event::{Event, Events};
use super::outcome::{Halt, Outcome};
use super::runbook::Runbook;
use super::session::{Session, failure_body, stopped};
use super::step::{Receipt, Reversal, Standing, Step, StepId};
use super::stop::Stop;
use crate::journal::{Entry, Kind, Log, Phase, StepPhase};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Everything a run needs; plain references, so that it can be built anew for each verb.
pub struct Engine<'a, S: Step, L: Log> {
    /// What is to happen.
    pub runbook: &'a Runbook<S>,
    /// The hands.
    pub world: &'a S::World,
    /// Where every act is recorded.
    pub log: &'a L,
    /// Who is told.
    pub events: Events,
    /// The request to stop.
    pub stop: Stop,
    /// The gate that a person answers for in this call, if any.
    pub waiver: Option<Waiver>,
}

/// A gate that is not asked, because a person answers for it; its receipt says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The gate.
    pub gate: StepId,
    /// Why, in the person's words.
    pub because: String,
}

impl<S: Step, L: Log> Engine<'_, S, L> {
    /// Brings about every step up to and with `through` (all without it), from where the journal stands; a way back only when
    /// `through` names it.
    ///
    /// Steps already done are left as they are; a step with an intent and no outcome is verified first. Ends at the first step
    /// that does not succeed within its limits, or, when a stop is asked for, between two steps or inside one that may be cut.
    pub async fn advance(&self, through: Option<&StepId>) -> Outcome {
        let mut session = match Session::open(self).await {
            Ok(session) => session,
            Err(halt) => return Outcome::Halted(halt),
        };
        let result = session.advance(through).await;
        session.close(result, json!({ "aim": "advance", "through": through })).await
    }
}

impl<S: Step, L: Log> Session<'_, S, L> {
    /// Records how the verb ended, unless the run is over or the journal is what failed.
    pub(super) async fn close(mut self, result: Result<(), Halt>, aim: Value) -> Outcome {
        let halt = result.err();
        let entry = match &halt {
            None => Entry::of_run(Kind::Arrived, aim),
            Some(halt) => Entry::of_run(Kind::Halted, json!(halt)),
        };
        let unwritten = if self.state.is_over() { None } else { self.append(entry).await.err() };
        match halt.or(unwritten) {
            None => Outcome::Done,
            Some(halt) => Outcome::Halted(halt),
        }
    }

    async fn advance(&mut self, through: Option<&StepId>) -> Result<(), Halt> {
        self.check_forward()?;
        let steps: &[S] = self.engine.runbook.steps();
        let end = match through {
            None => steps.len(),
            Some(id) => 1 + self.engine.runbook.place(id).ok_or_else(|| no_such_step(id))?,
        };
        self.end_cut_gates(end, through).await?;
        self.end_companions(steps).await?;
        self.turn_round(through, &steps[end..]).await?;
        self.none_under_way(&steps[end..])?;
        let wanted: Vec<&S> = steps[..end].iter().filter(|step| !self.is_way_back(step, through)).collect();
        for step in wanted {
            if self.phase(step) == Some(StepPhase::Done) {
                self.keep(step).await?;
            } else if self.engine.stop.is_requested() {
                return Err(stopped(&self.engine.stop).at(step.id()));
            } else {
                self.uphold_until(step).await?;
                self.bring_about(step).await?;
            }
        }
        Ok(())
    }

    /// A gate of another way that was being asked when its process died has said nothing. That is written down, since nothing begins beside
    /// what is under way, and nobody may ever ask it again.
    async fn end_cut_gates(&mut self, end: usize, through: Option<&StepId>) -> Result<(), Halt> {
        for (place, step) in self.engine.runbook.steps().iter().enumerate() {
            let is_of_this_way = place < end && !self.is_way_back(step, through);
            let is_cut = step.reversal() == Reversal::ReadOnly && self.phase(step) == Some(StepPhase::Running);
            if is_cut && !is_of_this_way {
                let why = "the process that asked died before the answer";
                let error = StepError::new(FailureKind::Failed, why).effect(Effect::NotApplied);
                self.append_step(Kind::Failed, step, failure_body(&error)).await?;
            }
        }
        Ok(())
    }

    /// What belongs to a way back and was cut off: nothing else can begin beside it, and a person may have thought better of the way back.
    async fn end_companions(&mut self, steps: &[S]) -> Result<(), Halt> {
        for step in steps.iter().filter(|step| step.goes_with().is_some()) {
            if matches!(self.phase(step), Some(StepPhase::Running | StepPhase::Failed)) {
                self.bring_about(step).await?;
            }
        }
        Ok(())
    }

    /// A way back, what goes with it, and its gates, are only gone when asked for by name.
    fn is_way_back(&self, step: &S, through: Option<&StepId>) -> bool {
        let is_not_asked = |back: &S| back.takes_back().is_some() && through != Some(&back.id());
        let until = step.goes_with().or_else(|| step.holds_until().filter(|_| step.is_gate()));
        let is_out = |other: &S| is_not_asked(other) || self.is_taken_back(other, through);
        is_out(step) || until.and_then(|id| self.engine.runbook.step(&id)).is_some_and(is_out)
    }

    /// A way out that is undone is not made anew on the way back from it.
    fn is_taken_back(&self, step: &S, through: Option<&StepId>) -> bool {
        let back = through.and_then(|id| self.engine.runbook.step(id)).and_then(Step::takes_back);
        back == Some(step.id()) && self.phase(step) == Some(StepPhase::Undone)
    }

    /// A way back that was begun and is not settled gives way when the step that it takes back is asked for by name: it is written
    /// against. When it turns out to be done, the way out is made again.
    async fn turn_round(&mut self, through: Option<&StepId>, later: &[S]) -> Result<(), Halt> {
        let takes_back = |step: &&S| through.is_some() && step.takes_back().as_ref() == through;
        for back in later.iter().filter(takes_back) {
            self.settle_one(back).await?;
        }
        Ok(())
    }

    /// A step further on that was begun and is not settled comes first: two cannot be under way.
    fn none_under_way(&self, later: &[S]) -> Result<(), Halt> {
        let unsettled = |step: &&S| {
            let is_settled = match self.phase(step) {
                None | Some(StepPhase::Done | StepPhase::Undone) => true,
                // It went back by itself: nothing of it is there.
                Some(StepPhase::Failed) => self.last_effect(step) == Some(Effect::NotApplied),
                Some(_) => false,
            };
            step.reversal() != Reversal::ReadOnly && !is_settled
        };
        match later.iter().find(unsettled) {
            None => Ok(()),
            Some(step) => {
                let why = format!("step {} was begun and is not settled", step.id());
                let next = if step.takes_back().is_some() { "cutover rollback PLAN" } else { "cutover run PLAN" };
                Err(Halt::new(FailureKind::Refused, why, format!("finish it first: {next}")).at(step.id()))
            }
        }
    }

    fn check_forward(&self) -> Result<(), Halt> {
        let why = match self.state.phase {
            Phase::Forward => return Ok(()),
            Phase::Unwinding => "a rollback of this run has begun",
            Phase::RolledBack => "this run was rolled back and is over",
        };
        Err(Halt::new(FailureKind::Refused, why, "finish it first: cutover rollback PLAN"))
    }

    /// A step done by an earlier process: left alone, but asked again when its effect must still last.
    async fn keep(&mut self, step: &S) -> Result<(), Halt> {
        self.tell(Event::StepKept { step: step.id(), summary: step.summary() });
        match self.lasting_until(step) {
            Some(_) => self.uphold(step).await,
            None => Ok(()),
        }
    }

    /// The step until whose end `step` must last, if that is not done yet.
    fn lasting_until(&self, step: &S) -> Option<StepId> {
        let until = step.holds_until()?;
        let done = self.state.step(until.as_str()).is_some_and(|known| known.phase == StepPhase::Done);
        (!done).then_some(until)
    }

    /// Asks again every done step whose effect must last until `next`.
    async fn uphold_until(&mut self, next: &S) -> Result<(), Halt> {
        for step in self.engine.runbook.steps() {
            let done = self.phase(step) == Some(StepPhase::Done);
            if done && step.holds_until() == Some(next.id()) {
                self.uphold(step).await?;
            }
        }
        Ok(())
    }

    /// Asks a done step again. An effect that is gone is not made anew: later steps were built on the one that was there.
    async fn uphold(&mut self, step: &S) -> Result<(), Halt> {
        let error = match step.reversal() {
            Reversal::ReadOnly => match self.forward(step).await? {
                Ok(receipt) => return self.append_step(Kind::Held, step, receipt).await.map(drop),
                Err(error) => error,
            },
            _ => match self.verify(step).await {
                Ok(Standing::Present(_)) => return Ok(()),
                Ok(standing) => lapsed(step, &standing),
                Err(error) => error,
            },
        };
        let seq = self.append_step(Kind::Lapsed, step, failure_body(&error)).await?;
        Err(self.fail(seq, error))
    }

    /// Brings one step about that is not done.
    async fn bring_about(&mut self, step: &S) -> Result<(), Halt> {
        if step.reversal() != Reversal::ReadOnly {
            let standing = self.verify(step).await.map_err(|error| halt_at(step, error))?;
            match standing {
                Standing::Absent | Standing::Partial(_) => {}
                Standing::Present(receipt) => return self.found(step, receipt).await,
                other => return self.not_ours(step, &other).await,
            }
        }
        let mut attempt = 1;
        loop {
            let error = match self.attempt(step).await? {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.remedy != Remedy::Retry || attempt >= step.limits().attempts {
                return Err(error.into());
            }
            attempt += 1;
            let why = error.why();
            if let Some(receipt) = self.may_retry(step, error).await? {
                return self.found(step, receipt).await;
            }
            self.pause(step, attempt, why).await?;
        }
    }

    /// One attempt, from intent to recorded outcome.
    async fn attempt(&mut self, step: &S) -> Result<Result<(), StepError>, Halt> {
        let seq = self.intend(step).await?;
        let attempt = self.state.step(step.id().as_str()).map_or(1, |known| known.attempts);
        self.tell(Event::StepStarted { seq, step: step.id(), summary: step.summary(), attempt });
        let begun = Instant::now();
        let error = match self.forward(step).await? {
            Err(error) => error,
            Ok(receipt) => match self.confirm(step).await {
                Ok(()) => return self.done(step, receipt, Some(begun)).await.map(Ok),
                Err(error) => error,
            },
        };
        let seq = self.append_step(Kind::Failed, step, failure_body(&error)).await?;
        self.tell(failed_event(seq, &error, step));
        Ok(Err(error))
    }

    async fn intend(&mut self, step: &S) -> Result<i64, Halt> {
        let before = match self.phase(step) {
            None => self.before(step).await.map_err(|error| halt_at(step, error))?,
            Some(_) => Value::Null,
        };
        self.append_step(Kind::Intent, step, before).await
    }

    /// Asks `verify` after a forward that ended well.
    async fn confirm(&self, step: &S) -> Result<(), StepError> {
        if step.reversal() == Reversal::ReadOnly {
            return Ok(());
        }
        let standing = self.verify(step).await?;
        let what = format!("see the effect of {}: it is {}", step.id(), standing.describe());
        let error = match standing {
            Standing::Present(_) => return Ok(()),
            Standing::Absent | Standing::Partial(_) => StepError::new(FailureKind::Failed, what),
            Standing::Foreign(_) | Standing::Unclear(_) => StepError::stuck(what, look_yourself(step)),
        };
        Err(StepError { step: Some(step.id()), ..error })
    }

    /// Whether a failed act may be tried again: only when nothing of it is there. Says the receipt when all of it is.
    async fn may_retry(&self, step: &S, error: StepError) -> Result<Option<Receipt>, Halt> {
        if error.effect == Effect::NotApplied || step.reversal() == Reversal::ReadOnly {
            return Ok(None);
        }
        match self.verify(step).await {
            Ok(Standing::Absent) => Ok(None),
            Ok(Standing::Present(receipt)) => Ok(Some(receipt)),
            Ok(Standing::Partial(_)) | Err(_) => Err(error.into()),
            Ok(other) => Err(not_ours(step, &other).into()),
        }
    }

    /// The effect stands though its outcome was never recorded (or it was there before we came, carrying our run's id).
    async fn found(&mut self, step: &S, receipt: Receipt) -> Result<(), Halt> {
        if self.phase(step) != Some(StepPhase::Running) {
            self.intend(step).await?;
        }
        self.done(step, receipt.into_body(), None).await
    }

    async fn done(&mut self, step: &S, receipt: Value, begun: Option<Instant>) -> Result<(), Halt> {
        self.supersede(step).await?;
        let seq = self.append_step(Kind::Done, step, receipt.clone()).await?;
        let took_ms = begun.map_or(0, |begun| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.tell(Event::StepDone { seq, step: step.id(), took_ms, found: begun.is_none(), receipt });
        Ok(())
    }

    /// Notes that the one-way step that `step` takes back, or that takes `step` back, is done no longer. Before the outcome, so that
    /// no crash leaves both done.
    pub(super) async fn supersede(&mut self, step: &S) -> Result<(), Halt> {
        let steps = self.engine.runbook.steps();
        let opposite = |other: &&S| step.takes_back() == Some(other.id()) || other.takes_back() == Some(step.id());
        for other in steps.iter().filter(opposite) {
            if self.phase(other) == Some(StepPhase::Done) {
                self.append_step(Kind::Superseded, other, Value::Null).await?;
            }
        }
        Ok(())
    }

    async fn not_ours(&mut self, step: &S, standing: &Standing) -> Result<(), Halt> {
        let error = not_ours(step, standing);
        if self.phase(step) == Some(StepPhase::Running) {
            let seq = self.append_step(Kind::Failed, step, failure_body(&error)).await?;
            return Err(self.fail(seq, error));
        }
        Err(error.into())
    }

    pub(super) fn fail(&self, seq: i64, error: StepError) -> Halt {
        if let Some(step) = error.step.as_ref().and_then(|id| self.engine.runbook.step(id)) {
            self.tell(failed_event(seq, &error, step));
        }
        error.into()
    }
}

pub(super) fn halt_at<S: Step>(step: &S, error: StepError) -> Halt {
    Halt::from(error).at(step.id())
}

fn failed_event<S: Step>(seq: i64, error: &StepError, step: &S) -> Event {
    let (kind, effect, why, hint) = (error.kind, error.effect, error.why(), error.hint.clone());
    Event::StepFailed { seq, step: step.id(), kind, effect, why, hint }
}

fn no_such_step(id: &StepId) -> Halt {
    Halt::new(FailureKind::Refused, format!("the runbook has no step {id}"), "cutover plan PLAN lists the steps")
}

/// The error of a step that meets something it may neither overwrite nor undo.
pub(super) fn not_ours<S: Step>(step: &S, standing: &Standing) -> StepError {
    let what = format!("{}: {}", step.summary(), standing.describe());
    let effect = Effect::Unknown;
    StepError { step: Some(step.id()), effect, ..StepError::stuck(what, look_yourself(step)) }
}

fn lapsed<S: Step>(step: &S, standing: &Standing) -> StepError {
    if matches!(standing, Standing::Foreign(_) | Standing::Unclear(_)) {
        return not_ours(step, standing);
    }
    let what = format!("the effect of {} must last and is {}", step.id(), standing.describe());
    let hint = "go back and start anew: cutover rollback PLAN";
    StepError { step: Some(step.id()), ..StepError::parked(what, hint) }
}

fn look_yourself<S: Step>(step: &S) -> String {
    format!(
        "look at what stands in the place of {} and remove or rename it by hand, then run the same command again",
        step.id()
    )
}
