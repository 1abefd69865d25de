//! After the decision: switch, verify by effect, open, release. Forward only, tried until it succeeds or a person is asked.

use super::route::{Registers, Route};
use super::{FORWARD_PATIENCE, FORWARD_PAUSE, Flip, QUIET_LOCK, WORD, lockstep_failed, released};
use crate::database::refusal::{self, Refusal};
use crate::engine::{Context, FailureKind, Receipt, StepError};
use crate::plan::Side;
use crate::steps::failure::fail;
use crate::steps::flock::Flock;
use crate::steps::laps::Laps;
use crate::steps::probing::broken;
use crate::steps::world::World;
use crate::traffic::Lockstep;
use crate::traffic::register::{self, Change, Opening, Register, State};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

/// Pause between two words on what is tried again and again.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// For all canaries together, once clients are released.
const CANARIES_WITHIN: Duration = Duration::from_secs(10);

/// The side that opens, as the process that has just decided knows it, and a connection to it: clients wait for neither. Opening compares
/// with the register, so one that has changed since is not opened.
pub(super) struct AtHand {
    pub(super) register: Register,
    pub(super) client: Client,
}

impl AtHand {
    async fn look(world: &World, to: Side) -> Result<Self, StepError> {
        Ok(Self { register: Registers::read(world).await?.of(to).clone(), client: world.side(to).await? })
    }
}

impl Flip {
    pub(super) async fn finish(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        mut at_hand: Option<AtHand>,
    ) -> Result<Receipt, StepError> {
        let until = Instant::now() + FORWARD_PATIENCE;
        let mut told = None;
        loop {
            let error = match self.forward_once(world, context, lockstep, at_hand.take()).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if matches!(error.kind, FailureKind::Locked | FailureKind::Stuck) {
                // Another process has taken over and finishes it, or has begun to go back.
                return Err(error);
            }
            if Instant::now() >= until {
                let why = format!("decided for {}, and not finished: {}", self.route.to(), error.why());
                return Err(StepError::stuck(why, format!("go on: {}", self.route.command())));
            }
            if told.is_none_or(|told: Instant| told.elapsed() > TELL_AGAIN) {
                tracing::warn!(error = %error.why(), "decided; trying again");
                told = Some(Instant::now());
            }
            tokio::time::sleep(FORWARD_PAUSE).await;
        }
        Ok(released(context, lockstep.epoch()).unwrap_or_default().into())
    }

    async fn forward_once(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        at_hand: Option<AtHand>,
    ) -> Result<(), StepError> {
        let (to, mut laps) = (self.route.to(), Laps::begin());
        let mut at_hand = match at_hand {
            Some(at_hand) => at_hand,
            None => AtHand::look(world, to).await?,
        };
        laps.ended("look");
        if at_hand.register.state != State::Open {
            self.nobody_went_back(world, &at_hand.register, lockstep)?;
            let switched = lockstep.switch(to, self.hold).await;
            switched.map_err(|error| lockstep_failed("switch the systems", error))?;
            laps.ended("switch");
            let verified = lockstep.verify(to, self.hold).await;
            verified.map_err(|error| lockstep_failed("verify the systems by effect", error))?;
            laps.ended("verify");
            self.open(world, context, lockstep, &mut at_hand).await?;
            laps.ended("open");
        }
        let answered = lockstep.release(to, self.hold).await;
        answered.map_err(|error| lockstep_failed("release the systems", error))?;
        laps.ended("release");
        if self.route == Route::Back && !world.plan.databases.is_in_place {
            self.shut_green(world, context).await?;
        }
        if released(context, lockstep.epoch()).is_none() {
            let opening = register::opening(&at_hand.client).await;
            let opening = opening.map_err(|error| fail(format!("read when {to} opened"), error))?;
            let canaries = self.canaries(world, context).await;
            context.note(self.release_note(context, lockstep.epoch(), (opening, canaries), &laps)).await?;
        }
        Ok(())
    }

    /// A way back from a decided flip begins by a higher epoch of the side that is not open yet; at ours it can open no more.
    /// In place there is one row, which has ours from the decision on.
    fn nobody_went_back(&self, world: &World, register: &Register, lockstep: &Lockstep) -> Result<(), StepError> {
        let is_ours = world.plan.databases.is_in_place && register.epoch == lockstep.epoch();
        if is_ours || register.epoch < lockstep.epoch() {
            return Ok(());
        }
        let (from, to) = (self.route.from(), self.route.to());
        let why =
            format!("{to} stays closed: somebody has begun to give {from} its traffic back, and has not ended it");
        let hint = match self.route {
            Route::Out => "end it: cutover rollback PLAN",
            Route::Back => "end it: cutover flip PLAN",
        };
        Err(StepError::stuck(why, hint))
    }

    /// What the side that serves now says of the canaries: told, and no reason to stop, since clients are released. Inside the hold nobody
    /// asks: every answer would make them wait longer, and none could be obeyed any more.
    async fn canaries(&self, world: &World, context: &Context) -> Value {
        let flock = Flock::of(world, context.run(), context.facts());
        let Ok(readings) = tokio::time::timeout(CANARIES_WITHIN, flock.look(self.route.to())).await else {
            tracing::warn!("the canaries could not be asked in time");
            return Value::Null;
        };
        let broken = broken(&readings);
        for why in &broken {
            tracing::warn!(side = %self.route.to(), "{why}");
        }
        if readings.is_empty() {
            Value::Null
        } else {
            json!({ "held": readings.len() - broken.len(), "broken": broken })
        }
    }

    fn release_note(
        &self,
        context: &Context,
        epoch: i64,
        (opening, canaries): (Option<Opening>, Value),
        laps: &Laps,
    ) -> Value {
        let notes = context.notes();
        let last = |phase: &str| notes.iter().rev().find(|note| note["phase"] == phase).cloned().unwrap_or_default();
        let (decided, baseline, opening) = (last("decided"), last("baseline"), json!(opening));
        json!({
            "phase": "released", "epoch": epoch, "live": self.route.to().as_str(),
            "opened_at": opening["opened_at"], "opened_lsn": opening["opened_lsn"],
            "opened_snapshot": opening["opened_snapshot"], "since_hold_ms": decided["since_hold_ms"],
            "replay_lag_ms": decided["replay_lag_ms"],
            "baseline": baseline["baseline"], "canaries": canaries,
            "phases_ms": { "before": decided["phases_ms"], "after": laps.told() },
        })
    }

    async fn open(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        AtHand { register, client }: &mut AtHand,
    ) -> Result<(), StepError> {
        let side = self.route.to();
        context.note_within(WORD, json!({ "phase": "opening" })).await?;
        if world.plan.databases.is_in_place {
            return self.open_in_place(context, client, lockstep).await;
        }
        let change = Change::open(register.epoch, lockstep.epoch(), lockstep.nonce()).raise_sql();
        let opened = Refusal::Closed.lift(client, &context.term(), context.run(), &change).await;
        opened.map_err(|error| fail(format!("open {side}"), error))
    }

    /// Green was left: it becomes what it was before the flip, closed for everybody but us, so that it can be brought level again or
    /// emptied.
    async fn shut_green(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let found = Registers::read(world).await?;
        if found.green.state != State::Sealed {
            return Ok(());
        }
        let change = Change::shut(found.green.epoch, found.next_epoch(), Uuid::new_v4()).raise_sql();
        let mut green = world.side(self.route.from()).await?;
        let shut = refusal::shut(&mut green, &context.term(), context.run(), QUIET_LOCK, &change).await;
        shut.map_err(|error| fail("let our own login write green again", error))
    }
}
