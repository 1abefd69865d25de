//! The flip of a plan in place: one database, so nothing is fenced, levelled or carried; what is decided is which version of the engine serves.
//!
//! The one row of the register is sealed while all systems hold, which is the decision, and opened for the other side once each was seen
//! to have turned. Whatever happens in between is settled by the same writes as anywhere: against the row.

use super::attempt::may_open;
use super::revoked::Revoked;
use super::route::Registers;
use super::{Flip, WORD, lockstep_failed};
use crate::engine::{Context, FailureKind, Receipt, StepError};
use crate::steps::failure::fail;
use crate::steps::world::World;
use crate::traffic::Lockstep;
use crate::traffic::register::{self, Change, RegisterError, State};
use serde_json::json;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

impl Flip {
    /// One attempt, up to the decision; whatever fails before it, the side being left serves on.
    pub(super) async fn attempt_in_place(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        self.every_gateway_denies(world).await?;
        let mut revoked = self.revoked(world, context).await?;
        self.note_baseline(world, context).await?;
        let found = Registers::read(world).await?;
        let lockstep = self.propose(world, context, &found).await?;
        match self.decide_in_place(world, context, &lockstep, &found, revoked.as_mut()).await {
            Ok(()) => self.finish(world, context, &lockstep, None).await,
            Err(error) => self.stay(world, context, &lockstep, error).await,
        }
    }

    async fn decide_in_place(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        found: &Registers,
        revoked: Option<&mut Revoked>,
    ) -> Result<(), StepError> {
        let (from, to) = (self.route.from(), self.route.to());
        let prepared = lockstep.prepare(to, self.hold).await;
        prepared.map_err(|error| lockstep_failed("prepare the systems", error))?;
        let mut client = world.side(from).await?;
        may_open(&client, to).await?;
        let held = Instant::now();
        let holding = lockstep.hold(to, self.hold).await;
        holding.map_err(|error| lockstep_failed("hold the systems", error))?;
        if let Some(revoked) = revoked {
            revoked.all_dead(lockstep.epoch()).await?;
        }
        let still = lockstep.still_holding(self.route.to(), self.hold).await;
        still.map_err(|error| lockstep_failed("see that every system still holds", error))?;
        let change = Change::seal(found.of(from).epoch, lockstep.epoch(), lockstep.nonce());
        match register::change_held(&mut client, &context.term(), &change).await {
            Ok(true) => {}
            Err(RegisterError::Term(error)) => return Err(fail("decide", error)),
            Ok(false) => {
                let why = format!("decide: {from}'s register has changed meanwhile");
                return Err(StepError::new(FailureKind::Failed, why));
            }
            Err(error) => self.resolve(world, lockstep, &error.to_string()).await?,
        }
        let since_hold_ms = u64::try_from(held.elapsed().as_millis()).unwrap_or(u64::MAX);
        let decided = json!({ "phase": "decided", "epoch": lockstep.epoch(), "since_hold_ms": since_hold_ms });
        context.note_within(WORD, decided).await
    }

    /// The sealed row becomes the other side's, open at the same epoch.
    pub(super) async fn open_in_place(
        &self,
        context: &Context,
        client: &mut Client,
        lockstep: &Lockstep,
    ) -> Result<(), StepError> {
        let to = self.route.to();
        let opened = register::hand_over(client, &context.term(), to, lockstep.epoch(), lockstep.nonce()).await;
        if opened.map_err(|error| fail(format!("open {to}"), error))? {
            return Ok(());
        }
        Err(StepError::new(FailureKind::Failed, format!("open {to}: the register was changed by another")))
    }

    /// Decided, and the other side is not open: the row is opened again for the side that it was of.
    pub(super) async fn unseal_in_place(
        &self,
        world: &World,
        context: &Context,
        found: &Registers,
        epoch: i64,
    ) -> Result<(), StepError> {
        let (side, nonce) = (self.route.from(), Uuid::new_v4());
        let mut client = world.side(side).await?;
        let register = found.of(side);
        let change = Change::unseal(register.epoch, epoch, nonce);
        let changed = register::change_held(&mut client, &context.term(), &change).await;
        if register.state != State::Sealed || !changed.map_err(|error| fail(format!("open {side} again"), error))? {
            return Err(StepError::new(FailureKind::Locked, format!("{side}'s register was changed by another")));
        }
        self.give_back(world, context, epoch, nonce).await;
        Ok(())
    }
}
