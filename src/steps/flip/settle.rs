//! Settling a proposal without an owner: by a write against it, never by reading. And going back while the other side is not open.

use super::alone::open_blue_alone;
use super::route::Registers;
use super::{Flip, last_proposal, proposal};
use crate::database::fence::terminate_fence;
use crate::database::refusal::Refusal;
use crate::engine::{Context, FailureKind, StepError};
use crate::steps::failure::fail;
use crate::steps::world::World;
use crate::traffic::register::{self, Change, Recovered, State};
use uuid::Uuid;

impl Flip {
    /// Sees to it that the side being left serves on: whatever was proposed can be decided no more; what was decided and not yet
    /// opened is taken back under a new epoch.
    pub(super) async fn settle(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let found = Registers::read(world).await?;
        match (found.of(self.route.from()).state, found.of(self.route.to()).state) {
            (State::Sealed | State::Closed, State::Closed) if world.gone.is_some() => {
                open_blue_alone(world, context).await.map(drop)
            }
            (State::Sealed, State::Closed) => self.unseal(world, context, &found).await,
            _ => self.settle_older_proposal(world, context).await,
        }
    }

    /// Settles a proposal whose owner is gone, and gives the systems back to the side that serves.
    pub(super) async fn settle_older_proposal(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let Some((epoch, nonce)) = last_proposal(&context.notes()) else { return Ok(()) };
        self.keep_open(world, context, epoch, nonce).await?;
        self.give_back(world, context, epoch, nonce).await;
        Ok(())
    }

    /// Makes the register of the side being left say that it stays open at `epoch`. `stuck` when the decision was made before.
    pub(super) async fn keep_open(
        &self,
        world: &World,
        context: &Context,
        epoch: i64,
        nonce: Uuid,
    ) -> Result<(), StepError> {
        let side = self.route.from();
        let client = world.side(side).await?;
        let what = |what: &str| format!("{what} on {side}");
        let before = register::read(&client).await.map_err(|error| fail(what("read the register"), error))?;
        if let Some(pid) = before.and_then(|register| register.fence_pid) {
            let ended = terminate_fence(&client, context.run(), pid, self.hold).await;
            ended.map_err(|error| fail(what("end an older fence"), error))?;
        }
        let recovered = register::recover(&client, side, epoch, nonce).await;
        match recovered.map_err(|error| fail(what("keep the register open"), error))? {
            Recovered::Kept(_) => Ok(()),
            Recovered::Sealed(_) => {
                let why = format!("{side} is sealed: the move was decided before it could be stopped");
                Err(StepError::stuck(why, format!("finish it: {}", self.route.command())))
            }
        }
    }

    /// Releases the systems to the side that serves. One that is away obeys the register by itself.
    pub(super) async fn give_back(&self, world: &World, context: &Context, epoch: i64, nonce: Uuid) {
        let lockstep = proposal(world, context, epoch, nonce);
        if let Err(error) = lockstep.release(self.route.from(), self.hold).await {
            tracing::warn!(%error, "a system did not answer to its release; it finds the open side by itself");
        }
    }

    /// Decided, and the other side is not open: whoever changes its register first may unseal; it is free, no client was there.
    async fn unseal(&self, world: &World, context: &Context, found: &Registers) -> Result<(), StepError> {
        let (side, other, nonce) = (self.route.from(), self.route.to(), Uuid::new_v4());
        let epoch = self.epoch_above(world, context, found).await;
        if world.plan.databases.is_in_place {
            return self.unseal_in_place(world, context, found, epoch).await;
        }
        let client = world.side(other).await?;
        let kept = Change::keep_closed(found.of(other).epoch, epoch, nonce).apply(&client).await;
        if !kept.map_err(|error| fail(format!("keep {other} closed"), error))? {
            return Err(StepError::new(FailureKind::Locked, format!("{other}'s register was changed by another")));
        }
        let mut client = world.side(side).await?;
        let change = Change::unseal(found.of(side).epoch, epoch, nonce).raise_sql();
        let unsealed = Refusal::Sealed.lift(&mut client, &context.term(), context.run(), &change).await;
        unsealed.map_err(|error| fail(format!("unseal {side}"), error))?;
        self.give_back(world, context, epoch, nonce).await;
        Ok(())
    }

    /// An epoch above both registers and above every system that answers.
    async fn epoch_above(&self, world: &World, context: &Context, found: &Registers) -> i64 {
        let lockstep = proposal(world, context, 0, Uuid::nil());
        let accepted = lockstep.highest_epoch(self.hold).await.unwrap_or(0);
        found.next_epoch().max(accepted + 1)
    }
}
