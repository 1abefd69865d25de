//! The participant's side of the lockstep protocol: an internal system that holds, switches and is released with the others.
//!
//! Owns the gate in front of the system's work and what is remembered across a restart. May call the protocol's words and HTTP.
//! Never serves from memory once it has answered "holding": it waits for word, asks a resolver, or refuses.

mod api;
mod gate;
mod hold;
mod memory;
mod turned;

pub(crate) use api::routes;
pub(crate) use gate::{Pass, Refused};
pub use memory::MemoryError;

use crate::plan::Side;
use crate::traffic::figures::Figures;
use crate::traffic::protocol::{Conflict, Order, Standing};
use crate::traffic::stand::{Stand, Verb};
use gate::Gate;
use memory::Memory;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use turned::Turned;

/// Longest a `verify` waits for the engine.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(2);

/// What a participant needs to know at its start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// File that keeps what was answered, across a restart.
    pub(crate) state_file: PathBuf,
    /// Base URL of the engine's admin API as the system reaches it (the gateway's admin listener).
    pub(crate) engine_admin: String,
}

/// One system that moves in lockstep; cheap to clone.
#[derive(Clone)]
pub(crate) struct Participant {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    http: reqwest::Client,
    gate: Gate,
    /// Orders are obeyed one at a time; the wait for a drain happens outside this lock.
    memory: Mutex<Memory>,
    turned: Turned,
}

/// Why an order was not obeyed.
#[derive(Debug)]
pub(crate) enum OrderError {
    /// The epoch is older, or the same with another nonce, or the order does not fit where the participant stands.
    Conflict(Conflict),
    /// Not now: work was still in flight at a hold's deadline, or an older hold is not over.
    NotNow(Standing),
    /// The state could not be stored, or the engine did not answer a `verify`; nothing was promised.
    Failed(String),
}

impl Participant {
    /// Starts from the stored state; one that had answered "holding" before a crash refuses until a resolver has answered.
    ///
    /// # Errors
    /// When the state file exists and cannot be read.
    pub(crate) fn start(settings: Settings, http: reqwest::Client) -> Result<Self, MemoryError> {
        let memory = Memory::load(&settings.state_file)?;
        let must_ask = memory.stand.is_held();
        let gate = if must_ask { Gate::refusing() } else { Gate::open(memory.stand.side) };
        let generation = memory.generation;
        let inner = Arc::new(Inner { settings, http, gate, memory: Mutex::new(memory), turned: Turned::new() });
        let participant = Self { inner };
        if must_ask {
            participant.watch_hold(generation, Instant::now());
        }
        Ok(participant)
    }

    /// Waits until work may start, and counts it as in flight until the pass is dropped.
    ///
    /// # Errors
    /// When the participant refuses (503), or too many wait already.
    pub(crate) async fn enter(&self) -> Result<Pass, Refused> {
        self.inner.gate.enter().await
    }

    /// Counts a caller who was let in, or turned away.
    pub(crate) fn count(&self, side: Side, is_turned_away: bool) {
        self.inner.turned.count(side, is_turned_away);
    }

    /// What was counted within the last `seconds`.
    pub(crate) fn figures(&self, seconds: u64) -> Figures {
        self.inner.turned.last(seconds)
    }

    /// Where the participant stands.
    pub(crate) async fn standing(&self) -> Standing {
        self.inner.memory.lock().await.standing(self.inner.gate.in_flight())
    }

    /// Accepts the proposal of an epoch; work goes on.
    pub(crate) async fn prepare(&self, order: &Order) -> Result<Standing, OrderError> {
        let mut memory = self.inner.memory.lock().await;
        let next = memory.obey(Verb::Prepare, order, self.inner.gate.in_flight())?;
        if next != memory.stand {
            memory.accept(next, order);
            self.store(&memory).await?;
        }
        Ok(memory.standing(self.inner.gate.in_flight()))
    }

    /// Stops starting work and answers when none is in flight.
    pub(crate) async fn hold(&self, order: &Order) -> Result<Standing, OrderError> {
        let ends = Instant::now() + Duration::from_millis(order.deadline_ms);
        let mut memory = self.inner.memory.lock().await;
        let next = memory.obey(Verb::Hold, order, self.inner.gate.in_flight())?;
        let ends = match memory.hold_ends {
            // A repeated order never prolongs the hold.
            Some(ends) if next == memory.stand => ends,
            _ => {
                self.keep_held(&mut memory, next, order, ends).await?;
                ends
            }
        };
        drop(memory);
        let idle = tokio::time::timeout_at(ends, self.inner.gate.idle()).await.is_ok();
        let standing = self.standing().await;
        if idle { Ok(standing) } else { Err(OrderError::NotNow(standing)) }
    }

    /// Closes the gate, stores where it stands, and watches for the end.
    async fn keep_held(
        &self,
        memory: &mut Memory,
        next: Stand,
        order: &Order,
        ends: Instant,
    ) -> Result<(), OrderError> {
        self.inner.gate.hold();
        memory.accept(next, order);
        let generation = memory.renew(ends);
        self.store(memory).await?;
        self.watch_hold(generation, ends);
        Ok(())
    }

    /// Turns to the order's side, still held.
    pub(crate) async fn switch(&self, order: &Order) -> Result<Standing, OrderError> {
        let ends = Instant::now() + Duration::from_millis(order.deadline_ms);
        let mut memory = self.inner.memory.lock().await;
        let next = memory.obey(Verb::Switch, order, self.inner.gate.in_flight())?;
        if next.is_held() {
            self.keep_held(&mut memory, next, order, ends).await?;
        }
        Ok(memory.standing(self.inner.gate.in_flight()))
    }

    /// Makes a real request on the system's own path to the engine and says who answered.
    pub(crate) async fn verify(&self, order: &Order) -> Result<Standing, OrderError> {
        {
            let memory = self.inner.memory.lock().await;
            let admitted = memory.stand.admit(order);
            admitted.map_err(|objection| memory.refused(objection, self.inner.gate.in_flight()))?;
        }
        let version = self.engine_version(order).await.map_err(OrderError::Failed)?;
        let mut standing = self.standing().await;
        standing.answered_by = Some(version);
        Ok(standing)
    }

    async fn engine_version(&self, order: &Order) -> Result<String, String> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: String,
        }
        let url = format!("{}/version", self.inner.settings.engine_admin);
        let bound = VERIFY_TIMEOUT.min(Duration::from_millis(order.deadline_ms.max(100)));
        let asked = self.inner.http.get(&url).timeout(bound).send().await.and_then(reqwest::Response::error_for_status);
        let answer = asked.map_err(|error| format!("ask the engine at {url}: {error}"))?;
        let version: Version = answer.json().await.map_err(|error| format!("read the engine's version: {error}"))?;
        Ok(version.version)
    }

    /// Serves the order's side again.
    pub(crate) async fn release(&self, order: &Order) -> Result<Standing, OrderError> {
        let mut memory = self.inner.memory.lock().await;
        let next = memory.obey(Verb::Release, order, self.inner.gate.in_flight())?;
        if next != memory.stand {
            memory.accept(next.clone(), order);
            self.serve(&mut memory, next).await?;
        }
        Ok(memory.standing(self.inner.gate.in_flight()))
    }

    /// Stores that a side is served and opens the gate.
    async fn serve(&self, memory: &mut Memory, stand: Stand) -> Result<(), OrderError> {
        memory.stand = stand;
        memory.generation += 1;
        self.store(memory).await?;
        self.inner.gate.serve(memory.stand.side);
        Ok(())
    }

    async fn store(&self, memory: &Memory) -> Result<(), OrderError> {
        memory.store(&self.inner.settings.state_file).await.map_err(|error| OrderError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
