//! Who serves when nobody says so: at the start, and when a hold ends without word. The registers are asked; without a definite
//! answer everything is refused, the flip that nobody finishes is written against, and they are asked again, until they settle it or an
//! order comes.

use super::error::GatewayError;
use super::participant::{Participant, Position};
use crate::traffic::stand::Settled;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Participant {
    /// Finds the side at the start; goes on asking in the background when it is not to be had at once.
    pub(super) async fn start(self: &Arc<Self>) {
        let change = self.position.lock().await.change;
        if !self.try_settle(change).await {
            // A hold may be under way that this process does not remember the end of: it is given its whole time.
            self.refuse(change, Instant::now() + self.hold).await;
        }
    }

    /// Watches a hold: when it ends and nothing has changed since, the registers decide.
    pub(super) fn watch(self: &Arc<Self>, change: u64, until: Instant) {
        let participant = Arc::clone(self);
        tokio::spawn(async move {
            sleep_until(until).await;
            if !participant.try_settle(change).await {
                participant.refuse(change, Instant::now()).await;
            }
        });
    }

    /// Asks once. True when it is settled, or no longer ours to settle.
    async fn try_settle(self: &Arc<Self>, change: u64) -> bool {
        if self.position.lock().await.change != change {
            return true;
        }
        let readings = self.registers.read().await;
        let mut position = self.position.lock().await;
        if position.change != change {
            return true;
        }
        let Some(settled) = readings.settle(&position.stand) else {
            tracing::warn!(?readings, epoch = position.stand.epoch, "which side serves is not settled; refusing");
            return false;
        };
        match self.obey_register(&mut position, settled).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the state file cannot be written; refusing");
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
        tokio::spawn(async move {
            loop {
                sleep(ASK_AGAIN).await;
                if Instant::now() >= write_from {
                    participant.write_against(change).await;
                }
                if participant.try_settle(change).await {
                    return;
                }
            }
        });
    }

    /// The flip of a hold that is over, and not another's: an order that came meanwhile has changed the position.
    async fn write_against(&self, change: u64) {
        let position = self.position.lock().await;
        let is_ours = position.change == change && position.stand.is_held();
        let stand = position.stand.clone();
        drop(position);
        if is_ours {
            self.registers.keep_open(&stand).await;
        }
    }
}
