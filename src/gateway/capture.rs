//! Capturing a revocation: chain on both sides, then the queue, then the engine, then the outcome. In this order, always.
//!
//! A revocation that cannot be queued, or whose chain the live side cannot say, is refused with 503: acknowledging it would be a
//! promise that nobody could keep.

use crate::gateway::counters::Counters;
use crate::gateway::gate::Pass;
use crate::gateway::overlay::Overlay;
use crate::revocations::chain::Lookups;
use crate::revocations::hydra::Knock;
use crate::revocations::{Captured, Door, Outcome, Producer, Receipt, RevocationError};
use hyper::StatusCode;
use std::sync::Arc;

/// The means of capturing.
pub(super) struct Capture {
    lookups: Lookups,
    producer: Producer,
    overlay: Arc<Overlay>,
    counters: Arc<Counters>,
}

impl Capture {
    pub(super) fn new(lookups: Lookups, producer: Producer, overlay: Arc<Overlay>, counters: Arc<Counters>) -> Self {
        Self { lookups, producer, overlay, counters }
    }

    /// Queues a revocation durably, with who asked for it as far as that can be seen, and denies what it kills; only then may it be forwarded
    /// to the side of `pass`. Gives what was queued with its receipt.
    pub(super) async fn take(
        &self,
        knock: &Knock,
        pass: &Pass,
        actor: String,
    ) -> Result<(Receipt, Captured), RevocationError> {
        let queued = self.queue(knock, pass, actor).await;
        let count = if queued.is_ok() { &self.counters.captured } else { &self.counters.capture_refused };
        count.add(1);
        queued
    }

    async fn queue(&self, knock: &Knock, pass: &Pass, actor: String) -> Result<(Receipt, Captured), RevocationError> {
        self.overlay.require_room()?;
        let found = self.lookups.both(knock, pass.side).await?;
        let captured = Captured {
            door: knock.door(),
            chain: found.chain,
            live: pass.side,
            epoch: pass.epoch,
            blue: found.blue,
            green: found.green,
        };
        let receipt = self.producer.append_by(captured.clone(), Some(actor)).await?;
        self.overlay.deny(&receipt, &captured);
        Ok((receipt, captured))
    }

    /// Writes what the engine said, which may be by one of the statuses `done` too; an answer that leaves it open leaves the event as captured,
    /// and so it is replayed.
    pub(super) async fn settle(&self, receipt: Receipt, door: Door, done: &[u16], status: StatusCode) {
        if let Some(outcome) = outcome(door, done, status) {
            self.overlay.settle(receipt.id, outcome);
            self.producer.settle(receipt.id, outcome, Some(i32::from(status.as_u16()))).await;
        }
    }

    /// Declares that all revocations before `epoch` are queued.
    pub(super) async fn barrier(&self, epoch: i64) -> Result<i64, RevocationError> {
        self.producer.barrier(epoch).await
    }
}

/// What a status means. A redirect carries out a logout; anywhere else it only sends the client on.
fn outcome(door: Door, done: &[u16], status: StatusCode) -> Option<Outcome> {
    match status.as_u16() {
        status if done.contains(&status) => Some(Outcome::Executed),
        200..=299 => Some(Outcome::Executed),
        300..=399 if door == Door::Logout => Some(Outcome::Executed),
        300..=499 => Some(Outcome::Refused),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_engine_refused_is_never_replayed() {
        assert_eq!(outcome(Door::Token, &[], StatusCode::OK), Some(Outcome::Executed));
        assert_eq!(outcome(Door::Token, &[], StatusCode::UNAUTHORIZED), Some(Outcome::Refused));
        assert_eq!(outcome(Door::Consent, &[], StatusCode::TEMPORARY_REDIRECT), Some(Outcome::Refused));
        assert_eq!(outcome(Door::Logout, &[], StatusCode::FOUND), Some(Outcome::Executed));
        assert_eq!(outcome(Door::Token, &[], StatusCode::BAD_GATEWAY), None, "it may have been executed");
        assert_eq!(outcome(Door::Consent, &[303], StatusCode::SEE_OTHER), Some(Outcome::Executed), "the plan says so");
        assert_eq!(outcome(Door::Consent, &[303], StatusCode::FOUND), Some(Outcome::Refused));
    }
}
