//! One attempt, up to the decision; whatever fails before it, the side being left serves on.

use super::counted_out::count_out;
use super::finish::AtHand;
use super::route::{Registers, Route};
use super::{FORWARD_PATIENCE, FORWARD_PAUSE, Flip, QUIET_LOCK, WORD, lockstep_failed, proposal};
use crate::database::fence::{Budget, Fence, Sealing, Unfenced, lock_holders};
use crate::database::refusal;
use crate::engine::{Context, Effect, FailureKind, Receipt, StepError};
use crate::plan::Side;
use crate::steps::answers::seen;
use crate::steps::failure::fail;
use crate::steps::laps::Laps;
use crate::steps::levelling::Levelling;
use crate::steps::world::World;
use crate::traffic::Lockstep;
use crate::traffic::figures::LONGEST_S;
use crate::traffic::register::{self, Change, Recovered, State};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

/// How long vacuums and the like are outwaited before the hold.
const QUIET_WITHIN: Duration = Duration::from_secs(15);

/// A register that another version has made may have no place for the moment of its opening: said before anybody is held, not after the decision.
pub(super) async fn may_open(client: &Client, side: Side) -> Result<(), StepError> {
    let read = register::opening(client).await;
    read.map(drop).map_err(|error| fail(format!("read when {side} opened last"), error))
}

impl Flip {
    pub(super) async fn attempt(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        count_out(world, context, self.route).await?;
        if world.plan.databases.is_in_place {
            return self.attempt_in_place(world, context).await;
        }
        self.let_us_in(world, context).await?;
        let mut levelling = Levelling::open(world, context, self.route).await?;
        levelling.until_level(self.level, context).await?;
        self.every_gateway_denies(world).await?;
        self.nothing_in_the_way(world).await?;
        self.note_baseline(world, context).await?;
        let found = Registers::read(world).await?;
        let lockstep = self.propose(world, context, &found).await?;
        let begun = Instant::now();
        match self.up_to_the_decision(world, context, &lockstep, &found, &mut levelling, begun).await {
            Ok(at_hand) => {
                let kept = levelling.kept();
                let receipt = self.finish(world, context, &lockstep, Some(at_hand)).await?;
                self.ask_after(world, context, kept, receipt).await
            }
            Err(error) => self.stay(world, context, &lockstep, error).await,
        }
    }

    /// The side gone to must let our own login write it: one that was left before is sealed, and becomes closed.
    async fn let_us_in(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let found = Registers::read(world).await?;
        let (side, register) = (self.route.to(), found.of(self.route.to()));
        if register.state != State::Sealed {
            return Ok(());
        }
        let change = Change::shut(register.epoch, found.next_epoch(), Uuid::new_v4()).raise_sql();
        let mut client = world.side(side).await?;
        let shut = refusal::shut(&mut client, &context.term(), context.run(), QUIET_LOCK, &change).await;
        shut.map_err(|error| fail(format!("let our own login write {side}"), error))
    }

    /// Vacuums, index builds and prepared transactions would make the fence wait; they are outwaited for a while, then named.
    async fn nothing_in_the_way(&self, world: &World) -> Result<(), StepError> {
        let side = self.route.from();
        let client = world.side(side).await?;
        let until = Instant::now() + QUIET_WITHIN;
        loop {
            let holders = lock_holders(&client).await;
            let holders = holders.map_err(|error| fail(format!("look for what holds locks on {side}"), error))?;
            if holders.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                let why = format!("{side} is busy with what the fence would wait for: {}", holders.join("; "));
                let hint = format!("let it end or end it, then: {}", self.route.command());
                return Err(StepError::refused(why, hint));
            }
            tokio::time::sleep(FORWARD_PAUSE * 4).await;
        }
    }

    /// What the soak compares green with: how blue has done until now. A flip does not fail for want of it.
    pub(super) async fn note_baseline(&self, world: &World, context: &Context) -> Result<(), StepError> {
        if self.route == Route::Back {
            return Ok(());
        }
        match seen(world, self.route.from(), LONGEST_S).await {
            Ok(baseline) => context.note(json!({ "phase": "baseline", "baseline": baseline })).await,
            Err(error) => {
                tracing::warn!(error = %error.why(), "how blue has done is not known; the soak will have nothing to compare with");
                Ok(())
            }
        }
    }

    pub(super) async fn propose(
        &self,
        world: &World,
        context: &Context,
        found: &Registers,
    ) -> Result<Lockstep, StepError> {
        let asked = proposal(world, context, 0, Uuid::nil()).highest_epoch(self.hold).await;
        let accepted = asked.map_err(|error| lockstep_failed("ask the systems for their epoch", error))?;
        let (epoch, nonce) = (found.next_epoch().max(accepted + 1), Uuid::new_v4());
        context.note(json!({ "phase": "propose", "epoch": epoch, "nonce": nonce })).await?;
        Ok(proposal(world, context, epoch, nonce))
    }

    async fn up_to_the_decision(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        found: &Registers,
        levelling: &mut Levelling,
        begun: Instant,
    ) -> Result<AtHand, StepError> {
        let (from, to) = (self.route.from(), self.route.to());
        let prepared = lockstep.prepare(to, self.hold).await;
        prepared.map_err(|error| lockstep_failed("prepare the systems", error))?;
        let unfenced = Unfenced::connect(world.url(from), from, context.run()).await;
        let unfenced = unfenced.map_err(|error| fail(format!("connect the fence to {from}"), error))?;
        let client = world.side(from).await?;
        let noted = register::note_fence(&client, found.of(from).epoch, unfenced.pid()).await;
        if !noted.map_err(|error| fail(format!("announce the fence in {from}'s register"), error))? {
            return Err(StepError::stuck(format!("{from}'s register has changed meanwhile"), "cutover status PLAN"));
        }
        let at_hand = AtHand { register: found.of(to).clone(), client: world.side(to).await? };
        may_open(&at_hand.client, to).await?;
        let proved_to = levelling.up_to_now().await?;
        let (held, mut laps) = (Instant::now(), Laps::begin());
        let holding = lockstep.hold(to, self.hold).await;
        holding.map_err(|error| lockstep_failed("hold the systems", error))?;
        laps.ended("hold");
        let fence = self.fence(context, unfenced, held).await?;
        laps.ended("fence");
        levelling.last(lockstep.epoch(), &mut laps).await?;
        self.stop_here(context)?;
        self.decide(world, lockstep, found, fence).await?;
        laps.ended("decide");
        let (prepare_ms, gap_ms) = (held.duration_since(begun).as_millis() as u64, held.elapsed().as_millis() as u64);
        let replay_lag_ms = proved_to.map(|at| held.duration_since(at).as_millis() as u64);
        let decided = json!({
            "phase": "decided", "prepare_ms": prepare_ms, "since_hold_ms": gap_ms, "phases_ms": laps.told(), "replay_lag_ms": replay_lag_ms,
        });
        context.note_within(WORD, decided).await?;
        Ok(at_hand)
    }

    /// The last moment at which a stop that was asked for is looked at.
    fn stop_here(&self, context: &Context) -> Result<(), StepError> {
        if !context.stop().is_requested() {
            return Ok(());
        }
        let by = context.stop().by();
        let why = format!("stayed on {}: asked to stop by {by} before the decision", self.route.from());
        Err(StepError::parked(why, self.route.command()).effect(Effect::NotApplied))
    }

    async fn fence(&self, context: &Context, unfenced: Unfenced, held: Instant) -> Result<Fence, StepError> {
        let left = self.hold.saturating_sub(held.elapsed()).min(self.write_gap);
        let budget = Budget { hold: left, locks: left / 3, attempt: (left / 6).max(Duration::from_millis(20)) };
        let taken = unfenced.take(&context.term(), budget).await;
        taken.map_err(|error| fail(format!("fence {}", self.route.from()), error))
    }

    /// The one moment: the seal and the register of the side being left, in one commit.
    async fn decide(
        &self,
        world: &World,
        lockstep: &Lockstep,
        found: &Registers,
        fence: Fence,
    ) -> Result<(), StepError> {
        let still = lockstep.still_holding(self.route.to(), self.hold).await;
        still.map_err(|error| lockstep_failed("see that every system still holds", error))?;
        fence.still_held().await.map_err(|error| fail("see that the fence is still held", error))?;
        let change = Change::seal(found.of(self.route.from()).epoch, lockstep.epoch(), lockstep.nonce());
        match fence.seal(&change.raise_sql()).await {
            Sealing::Sealed => Ok(()),
            Sealing::Lost { why } => {
                Err(StepError::new(FailureKind::Failed, format!("decide: the server did not commit: {why}")))
            }
            Sealing::Unknown { why } => self.resolve(world, lockstep, &why).await,
        }
    }

    /// The answer to the decision was lost: write against it, and see who won.
    pub(super) async fn resolve(&self, world: &World, lockstep: &Lockstep, why: &str) -> Result<(), StepError> {
        let (side, until) = (self.route.from(), Instant::now() + FORWARD_PATIENCE);
        loop {
            let answer = match world.side(side).await {
                Ok(client) => register::recover(&client, side, lockstep.epoch(), lockstep.nonce()).await.ok(),
                Err(_) => None,
            };
            match answer {
                Some(Recovered::Sealed(_)) => return Ok(()),
                Some(Recovered::Kept(_)) => {
                    let what = format!("decide: the answer was lost ({why}) and {side} stays open");
                    return Err(StepError::new(FailureKind::Failed, what));
                }
                None if Instant::now() >= until => {
                    let what = format!("the decision's answer was lost ({why}) and {side} does not answer");
                    let hint = format!("bring {side} back, then: {}", self.route.command());
                    return Err(StepError::stuck(what, hint));
                }
                None => tokio::time::sleep(FORWARD_PAUSE).await,
            }
        }
    }

    /// Before the decision: the side being left serves on, whatever failed.
    pub(super) async fn stay(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        error: StepError,
    ) -> Result<Receipt, StepError> {
        if error.kind == FailureKind::Locked {
            return Err(error);
        }
        let kept = self.keep_open(world, context, lockstep.epoch(), lockstep.nonce()).await;
        if kept.is_ok() {
            self.give_back(world, context, lockstep.epoch(), lockstep.nonce()).await;
        }
        if error.kind == FailureKind::Stuck {
            return Err(error);
        }
        kept?;
        let (side, why) = (self.route.from(), error.why());
        context.note(json!({ "phase": "returned", "why": why })).await?;
        if error.kind == FailureKind::Parked {
            return Err(error);
        }
        let again = || format!("see to it, then: {}", self.route.command());
        let hint = if error.hint.is_empty() { again() } else { error.hint.clone() };
        Err(match self.route {
            Route::Out => StepError::returned(format!("went back to {side}: {why}"), hint),
            Route::Back => {
                let returned = StepError::returned(format!("stayed on {side}: {why}"), hint);
                StepError { kind: FailureKind::FailedOnGreen, ..returned }
            }
        })
    }
}
