//! The end of a hold without word: ask a resolver, obey a definite answer, refuse until there is one.
//!
//! Never chooses a side by itself.

use super::{Inner, Participant};
use crate::plan::Side;
use crate::traffic::protocol::{Resolution, ResolutionState, State};
use crate::traffic::stand::Settled;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Clients wait on for so long while resolvers are asked: a gateway whose hold ended just now settles it by a write that takes its time.
const REFUSE_AFTER: Duration = Duration::from_millis(500);
/// Longest wait for one round of asking meanwhile.
const SHORT_ROUND: Duration = Duration::from_millis(150);
/// Pause between rounds meanwhile.
const ASK_SOON: Duration = Duration::from_millis(50);
/// Longest wait for one resolver.
const ASK_TIMEOUT: Duration = Duration::from_millis(800);
/// Pause between rounds of asking.
const ASK_AGAIN: Duration = Duration::from_millis(250);

impl Participant {
    /// Watches the hold of `generation`; acts only if no later order has come when it ends.
    pub(super) fn watch_hold(&self, generation: u64, ends: Instant) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep_until(ends).await;
            while let Some(participant) = still_held(&inner, generation).await {
                let are_waiting = Instant::now() < ends + REFUSE_AFTER;
                let (patience, pause) = if are_waiting { (SHORT_ROUND, ASK_SOON) } else { (ASK_TIMEOUT, ASK_AGAIN) };
                if participant.ask_and_obey(generation, patience).await {
                    return;
                }
                if Instant::now() + pause >= ends + REFUSE_AFTER {
                    participant.refuse(generation).await;
                }
                drop(participant);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// One round: true when this hold is over.
    async fn ask_and_obey(&self, generation: u64, patience: Duration) -> bool {
        let (resolvers, epoch) = {
            let memory = self.inner.memory.lock().await;
            (memory.resolvers.clone(), memory.stand.epoch)
        };
        let answer = tokio::time::timeout(patience, self.ask(&resolvers, epoch)).await.ok().flatten();
        let mut memory = self.inner.memory.lock().await;
        if memory.generation != generation {
            return true;
        }
        let Some(side) = answer else { return false };
        tracing::info!(%side, epoch, "the hold ended without word; a resolver says which side is open");
        // A resolver names no nonce, so the epoch stays the one that was accepted.
        let settled = Settled { side, epoch, nonce: memory.stand.nonce };
        let stand = memory.stand.settled(settled);
        let served = self.serve(&mut memory, stand).await;
        if served.is_err() {
            self.inner.gate.refuse();
        }
        served.is_ok()
    }

    /// Nobody could tell in time.
    async fn refuse(&self, generation: u64) {
        let mut memory = self.inner.memory.lock().await;
        if memory.generation != generation {
            return;
        }
        if memory.stand.state != State::Refusing {
            tracing::warn!(epoch = memory.stand.epoch, "the hold ended without word and nobody could tell: refusing");
        }
        memory.stand = memory.stand.without_word();
        self.inner.gate.refuse();
    }

    /// The first definite answer, if any resolver has one.
    async fn ask(&self, resolvers: &[String], epoch: i64) -> Option<Side> {
        for resolver in resolvers {
            let url = format!("{}/resolve", resolver.trim_end_matches('/'));
            let Ok(answer) = self.inner.http.get(&url).timeout(ASK_TIMEOUT).send().await else { continue };
            let Ok(resolution) = answer.json::<Resolution>().await else { continue };
            if let Some(side) = definite(&resolution, epoch) {
                return Some(side);
            }
        }
        None
    }
}

async fn still_held(inner: &Weak<Inner>, generation: u64) -> Option<Participant> {
    let inner = inner.upgrade()?;
    let held = {
        let memory = inner.memory.lock().await;
        memory.generation == generation && memory.stand.is_held()
    };
    held.then_some(Participant { inner })
}

/// The side to obey: one that is open at this epoch or a later one.
fn definite(resolution: &Resolution, epoch: i64) -> Option<Side> {
    let settled = resolution.state == ResolutionState::Open && resolution.epoch >= epoch;
    resolution.side.filter(|_| settled)
}
