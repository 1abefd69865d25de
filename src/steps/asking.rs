//! Invariants asked of both sides at one moment: green is levelled up to a snapshot of blue's, and while no batch is begun it stays there.
//!
//! So a client that writes in between makes no difference, nor does a revocation that blue executes after that moment. One that blue has not
//! wholly executed, and that could not be finished there, may have made green stricter; what does not hold is therefore asked again at
//! later moments before it counts. Owns no step; used by `invariants` and by every `repair-NAME`.

use super::failure::fail;
use super::flip::Route;
use super::levelling::Levelling;
use super::world::World;
use crate::database::copy::ExportedSnapshot;
use crate::database::invariants::{self, Answer, InvariantError};
use crate::engine::{Context, Effect, FailureKind, StepError};
use crate::plan::{Invariant, Side};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::Client;

/// Moments at which an invariant must not hold before it counts.
const MOMENTS: u32 = 3;

/// Both sides at one moment; green is written by nobody as long as this lives.
pub(super) struct Asking {
    pub(super) blue: Client,
    pub(super) green: Client,
    levelling: Levelling,
    pub(super) moment: ExportedSnapshot,
    pub(super) bound: Duration,
}

impl Asking {
    /// Levels green, and connects to both sides.
    pub(super) async fn open(world: &World, context: &Context) -> Result<Self, StepError> {
        let mut levelling = Levelling::open(world, context, Route::Out).await?;
        levelling.until_level(world.plan.window.level, context).await?;
        let session = async |side: Side| invariants::session(world.url(side), side).await.map_err(not_asked);
        let (blue, green) = (session(Side::Blue).await?, session(Side::Green).await?);
        let moment = levelling.pair().await?;
        Ok(Self { blue, green, levelling, moment, bound: world.plan.window.invariants })
    }

    /// Asks them one after the other, those that do not hold again at later moments.
    pub(super) async fn ask(&mut self, asked: &[Invariant], context: &Context) -> Result<Vec<Answer>, StepError> {
        let mut answers = self.once(asked, context).await?;
        for _ in 1..MOMENTS {
            let is_open = |one: &&Invariant| answers.iter().any(|answer| answer.name == one.name && !answer.holds);
            let again: Vec<Invariant> = asked.iter().filter(is_open).cloned().collect();
            if again.is_empty() {
                break;
            }
            self.moment = self.levelling.pair().await?;
            for answer in self.once(&again, context).await? {
                if let Some(place) = answers.iter_mut().find(|known| known.name == answer.name) {
                    *place = answer;
                }
            }
        }
        Ok(answers)
    }

    async fn once(&mut self, asked: &[Invariant], context: &Context) -> Result<Vec<Answer>, StepError> {
        let blue = invariants::begin(&mut self.blue, Side::Blue, self.bound, Some(self.moment.id())).await;
        let green = invariants::begin(&mut self.green, Side::Green, self.bound, None).await;
        let (blue, green) = (blue.map_err(not_asked)?, green.map_err(not_asked)?);
        let mut answers = Vec::new();
        for (index, invariant) in asked.iter().enumerate() {
            let answer = invariants::ask(invariant, &blue, &green).await.map_err(not_asked)?;
            context.progress(index as u64 + 1, Some(asked.len() as u64), "invariants", told(&answer));
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// One answer for a person who looks on.
pub(super) fn told(answer: &Answer) -> String {
    if answer.holds { format!("{} holds", answer.name) } else { format!("does not hold: {}", answer.words()) }
}

/// Those that do not hold.
pub(super) fn failed(answers: &[Answer]) -> Vec<&Answer> {
    answers.iter().filter(|answer| !answer.holds).collect()
}

/// How the answers stand in the journal.
pub(super) fn noted(answers: &[Answer]) -> Value {
    json!({ "answers": answers })
}

/// The run stops here, and says why; what could be done about it, `hint` says.
pub(super) fn refused(failed: &[&Answer], hint: String) -> StepError {
    let words: Vec<String> = failed.iter().map(|answer| answer.words()).collect();
    let what =
        if failed.len() == 1 { "an invariant does".to_owned() } else { format!("{} invariants do", failed.len()) };
    StepError::refused(format!("{what} not hold on green: {}", words.join("; ")), hint)
}

/// A side could not be asked, or its answer has another form than the plan says.
pub(super) fn not_asked(error: InvariantError) -> StepError {
    let (may_pass, hint) = (error.may_pass(), error.hint());
    let failed = fail("ask the invariants", error).effect(Effect::NotApplied);
    match (may_pass, hint.is_empty()) {
        (true, _) => failed.retry(),
        (false, true) => failed,
        (false, false) => StepError { kind: FailureKind::Refused, ..failed }.hint(hint),
    }
}
