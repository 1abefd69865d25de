//! Who serves when nobody says so: at the start, and when a hold ends without word. The registers are asked, and the flip that nobody
//! finishes is written against. What is held waits a little longer for that. Then, without a definite answer, everything is refused,
//! and they are asked again, until they settle it or an order comes.

use super::error::GatewayError;
use super::gate::AFTER_HOLD;
use super::participant::{Participant, Position};
use crate::traffic::stand::Settled;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Bound of a reading that is waited for by who is held: a side that does not answer leaves time for the write to the other.
const ONE_READING: Duration = Duration::from_millis(200);
/// How long after its end a hold may be written against before what is held is refused. The rest of [`AFTER_HOLD`] is for the last
/// reading and for letting go.
const SETTLE_WITHIN: Duration = AFTER_HOLD.saturating_sub(Duration::from_millis(250));

impl Participant {
    /// Finds the side at the start; goes on asking in the background when it is not to be had at once.
    pub(super) async fn start(self: &Arc<Self>) {
        let change = self.position.lock().await.change;
        if !self.try_settle(change, self.registers.limit()).await {
            // A hold may be under way that this process does not remember the end of: it is given its whole time.
            self.refuse(change, Instant::now() + self.hold).await;
        }
    }

    /// Watches a hold: when it ends and nothing has changed since, it is settled for those who are held, or they are refused.
    pub(super) fn watch(self: &Arc<Self>, change: u64, until: Instant) {
        let participant = Arc::clone(self);
        tokio::spawn(async move {
            sleep_until(until).await;
            if !participant.settle_for_the_held(change, until + SETTLE_WITHIN).await {
                participant.refuse(change, Instant::now()).await;
            }
        });
    }

    /// Asks, and writes against the flip where that settles nothing, until `end`. True when it is settled, or no longer ours to settle.
    async fn settle_for_the_held(self: &Arc<Self>, change: u64, end: Instant) -> bool {
        self.hold_all(change).await;
        loop {
            if self.try_settle(change, ONE_READING).await {
                return true;
            }
            self.write_against(change, end).await;
            // What was written is no answer yet: the other side's register may say more.
            if self.try_settle(change, ONE_READING).await {
                return true;
            }
            if Instant::now() + ASK_AGAIN >= end {
                return false;
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// What passes a hold is answered from the side being left for as long as the hold lasts, and no longer.
    async fn hold_all(&self, change: u64) {
        let position = self.position.lock().await;
        if position.change == change {
            self.gate.hold_all();
        }
    }

    /// Asks once, for at most `bound`. True when it is settled, or no longer ours to settle.
    pub(super) async fn try_settle(self: &Arc<Self>, change: u64, bound: Duration) -> bool {
        if self.position.lock().await.change != change {
            return true;
        }
        let readings = self.registers.read_within(bound).await;
        let mut position = self.position.lock().await;
        if position.change != change {
            return true;
        }
        let Some(settled) = readings.settle(&position.stand) else {
            tracing::warn!(?readings, epoch = position.stand.epoch, "which side serves is not settled");
            return false;
        };
        match self.obey_register(&mut position, settled).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the state file cannot be written; nobody is served");
                false
            }
        }
    }

    async fn obey_register(self: &Arc<Self>, position: &mut Position, settled: Settled) -> Result<(), GatewayError> {
        let stand = position.stand.settled(settled);
        self.write(position, stand).await?;
        self.gate.release(settled.side, settled.epoch);
        Ok(())
    }

    /// The hold is over and nobody knows: refuse, and ask until somebody does; from `write_from` on, write against the flip.
    async fn refuse(self: &Arc<Self>, change: u64, write_from: Instant) {
        let mut position = self.position.lock().await;
        if position.change != change {
            return;
        }
        self.gate.close();
        let stand = position.stand.without_word();
        if let Err(error) = self.write(&mut position, stand).await {
            // The file says holding, which a restart treats alike.
            tracing::error!(%error, "the state file cannot be written");
        }
        let change = position.change;
        drop(position);
        self.ask_until_settled(change, write_from);
    }

    fn ask_until_settled(self: &Arc<Self>, change: u64, write_from: Instant) {
        let participant = Arc::clone(self);
        let bound = self.registers.limit();
        tokio::spawn(async move {
            loop {
                sleep(ASK_AGAIN).await;
                if Instant::now() >= write_from {
                    participant.write_against(change, Instant::now() + bound).await;
                }
                if participant.try_settle(change, bound).await {
                    return;
                }
            }
        });
    }

    /// The flip of a hold that is over, and not another's: an order that came meanwhile has changed the position.
    async fn write_against(&self, change: u64, until: Instant) {
        let position = self.position.lock().await;
        let is_ours = position.change == change && position.stand.is_held();
        let stand = position.stand.clone();
        drop(position);
        if is_ours {
            self.registers.keep_open(&stand, until).await;
        }
    }
}
