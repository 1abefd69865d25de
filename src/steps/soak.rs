//! `soak`: the gate that watches green after the flip, for the planned time: does it do as well as blue did, and do the revocations hold?
//! What to do when it says no is the plan's word, or a person's.
//!
//! It reads, but for the plan's probes: green is open, so that their flows can be tried now, with clients made for them and removed again.

use super::answers::{Seen, seen};
use super::failure::fail;
use super::finalize;
use super::flip::{self, Registers, Route};
use super::levelling::unproved;
use super::probing::Rounds;
use super::ready_to_flip::systems;
use super::soaked::{dead_letters, served, still_sealed};
use super::world::World;
use crate::database::claim;
use crate::engine::{Context, Effect, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates::{self, Verdict};
use crate::plan::{self, Side};
use crate::traffic::figures::{Answers, LONGEST_S};
use crate::traffic::register::State;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// The step's name, as `--through` and `--waive` say it.
pub const ID: StepId = StepId::new("soak");

/// So many looks in a row must find green worse before it counts: a client that comes back after the flip comes at once.
const WORSE: u32 = 3;
/// Looks in a whole soak, and the pauses between them at least and at most.
const LOOKS: u32 = 40;
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Time for the last looks once the soak is over.
const AFTER: Duration = Duration::from_secs(120);

/// Watches green for the planned time.
#[derive(Debug, Clone)]
pub struct Soak {
    /// How long.
    pub time: Duration,
    /// How green must do.
    pub limits: plan::Soak,
    /// The longest that one round of the plan's probes may take; none without probes.
    pub rounds: Duration,
}

/// What one look found.
struct Look {
    verdict: Verdict,
    detail: String,
}

impl Soak {
    async fn watch(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let mut rounds = Rounds::new(world, context.run(), context.facts());
        let watched = self.watch_on(world, context, &mut rounds).await;
        rounds.settle().await;
        watched
    }

    async fn watch_on(&self, world: &World, context: &Context, rounds: &mut Rounds) -> Result<Receipt, StepError> {
        let (begun, at_first) = (Instant::now(), served(world, context.facts()).await?.unwrap_or_default());
        let mut worse = 0;
        loop {
            let served_s = at_first + begun.elapsed().as_secs_f64();
            let is_over = served_s >= self.time.as_secs_f64();
            let look = self.look(world, context, served_s, is_over).await;
            let probes = rounds.look().await;
            let detail = format!("{}{}", look.detail, rounds.words());
            context.progress(served_s as u64, Some(self.time.as_secs()), "s", detail);
            warn_of_a_broken_seal(world, context).await;
            if let Some(why) = probes {
                return Err(worse_than_blue(why));
            }
            worse = if matches!(look.verdict, Verdict::NoGo(_)) { worse + 1 } else { 0 };
            match look.verdict {
                Verdict::NoGo(why) if worse >= WORSE => {
                    let all = std::iter::once(why).chain(rounds.broken().iter().cloned());
                    return Err(worse_than_blue(all.collect::<Vec<_>>().join("; ")));
                }
                Verdict::Go if is_over && rounds.is_content() => {
                    return Ok(json!({ "served_s": served_s, "probe_rounds": rounds.count() }).into());
                }
                Verdict::Unclear(why) if is_over => return Err(unclear(why)),
                _ => {}
            }
            if context.stop().is_requested() {
                let why = format!("asked to stop by {} while watching green", context.stop().by());
                return Err(StepError::parked(why, watch_on()).effect(Effect::NotApplied));
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    fn pause(&self) -> Duration {
        (self.time / LOOKS).clamp(PAUSES.0, PAUSES.1)
    }

    /// What cannot be asked counts as worse: a side that serves answers.
    async fn look(&self, world: &World, context: &Context, served_s: f64, is_over: bool) -> Look {
        match self.try_look(world, context, served_s, is_over).await {
            Ok(look) => look,
            Err(error) => Look { verdict: Verdict::NoGo(error.why()), detail: error.why() },
        }
    }

    async fn try_look(
        &self,
        world: &World,
        context: &Context,
        served_s: f64,
        is_over: bool,
    ) -> Result<Look, StepError> {
        let green = Registers::read(world).await?.green;
        let mut verdicts = vec![match green.state {
            State::Open => Verdict::Go,
            other => Verdict::NoGo(format!("green's register is {other}: it does not serve")),
        }];
        verdicts.extend(systems(world, context.run(), Route::Back).await);
        verdicts.push(dead_letters(world).await?);
        verdicts.push(unproved(world, Side::Green).await?.map_or(Verdict::Go, Verdict::NoGo));
        verdicts.push(invariants_after(world, context, is_over));
        let (verdict, detail) = self.compared(world, context, served_s, is_over).await?;
        verdicts.push(verdict);
        Ok(Look { verdict: Verdict::all(verdicts), detail })
    }

    /// Green against blue, over the last while; at the end over the whole soak, as far as a gateway remembers.
    async fn compared(
        &self,
        world: &World,
        context: &Context,
        served_s: f64,
        is_over: bool,
    ) -> Result<(Verdict, String), StepError> {
        let back = if is_over { LONGEST_S as f64 } else { self.limits.over.as_secs_f64() };
        let seconds = served_s.min(back).max(1.0) as u64;
        let now = seen(world, Side::Green, seconds).await?;
        let receipt = context.facts().receipt(&flip::ID).cloned().unwrap_or_default();
        let before: Seen = serde_json::from_value(receipt["baseline"].clone()).unwrap_or_default();
        let others = Verdict::all([
            gates::clients_as_good(&before.clients, &now.clients, &self.limits),
            gates::dependants_as_good(&before.dependants, &now.dependants, &self.limits),
        ]);
        let Some(green) = now.answers else {
            return Ok((others, "no gateway counts requests".to_owned()));
        };
        let blue = before.answers.unwrap_or_default();
        let verdict = Verdict::all([gates::as_good(&blue, &green, &self.limits), others]);
        // Until the soak is over there may simply not have been enough requests yet.
        let verdict = if is_over || matches!(verdict, Verdict::NoGo(_)) { verdict } else { Verdict::Go };
        Ok((verdict, words(&green, &blue)))
    }
}

fn words(green: &Answers, blue: &Answers) -> String {
    let p95 = |answers: &Answers| answers.p95_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    format!(
        "{} requests, {:.1} % failed ({:.1} on blue), {:.1} % of refreshes refused ({:.1}), p95 {} ms ({})",
        green.requests,
        green.failed().percent(),
        blue.failed().percent(),
        green.refused().percent(),
        blue.refused().percent(),
        p95(green),
        p95(blue)
    )
}

fn watch_on() -> &'static str {
    "watch on: cutover run PLAN --through soak; go back: cutover rollback PLAN"
}

fn worse_than_blue(why: String) -> StepError {
    let what = format!("green does not do as well as blue did: {why}");
    StepError::new(FailureKind::FailedOnGreen, what).effect(Effect::NotApplied).hint(watch_on())
}

fn unclear(why: String) -> StepError {
    let hint = "wait for more requests: cutover run PLAN --through soak; or answer for it: cutover finalize PLAN --waive soak --because '…'";
    StepError::refused(format!("whether green does as well as blue did cannot be told: {why}"), hint)
}

impl Step for Soak {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let (time, limits) = (humantime::format_duration(self.time), &self.limits);
        let otherwise = if limits.returns { "or go back to blue" } else { "or a person decides" };
        let probes = if self.rounds.is_zero() { "" } else { " and so do the probes" };
        format!(
            "gate: for {time} green fails at most {} points more requests than blue did, refuses at most {} points more refreshes, takes at most {} times as long, revocations hold{probes}; {otherwise}",
            limits.failed, limits.refused_refreshes, limits.slower
        )
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn holds_until(&self) -> Option<StepId> {
        Some(finalize::ID)
    }

    fn limits(&self) -> Limits {
        Limits::once(self.time + AFTER + self.rounds * 4)
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if is_begun(world).await? {
            // Green is kept whatever is seen now: the way back is gone already.
            return Ok(json!({ "finalizing": true }).into());
        }
        self.watch(world, context).await
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

/// It says nothing of green, and going back would not undo it: `soaked` refuses to finalize, and until then it is told.
async fn warn_of_a_broken_seal(world: &World, context: &Context) {
    if world.plan.databases.is_in_place {
        return;
    }
    if let Ok(Verdict::NoGo(why)) = still_sealed(world, context.run()).await {
        tracing::warn!("{why}");
    }
}

/// What the invariants came to right after the flip; until the soak is over an answer that is missing is no reason yet.
fn invariants_after(world: &World, context: &Context, is_over: bool) -> Verdict {
    if world.plan.invariants.is_empty() {
        return Verdict::Go;
    }
    let receipt = context.facts().receipt(&flip::ID).map(|receipt| receipt[flip::AFTER].clone()).unwrap_or_default();
    match gates::invariants_after(&receipt) {
        Verdict::Unclear(_) if !is_over => Verdict::Go,
        verdict => verdict,
    }
}

/// Whether finalizing has begun: nothing of ours is left on blue, which is emptied first.
pub(super) async fn is_begun(world: &World) -> Result<bool, StepError> {
    let blue = world.side(Side::Blue).await?;
    let left = claim::leftovers(&blue).await.map_err(|error| fail("look for what is left of ours on blue", error))?;
    Ok(left.is_empty())
}
