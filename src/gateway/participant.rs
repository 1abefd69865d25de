//! The gateway as a participant of the lockstep: orders in, the gate turned, the epoch stored before the answer goes out.
//!
//! A lower epoch, and an equal one with another nonce, are refused. What happens when a hold ends without word is in `settle`.

use super::capture::Capture;
use super::error::GatewayError;
use super::gate::Gate;
use super::registers::Registers;
use super::state::{StateFile, Stored};
use super::upstream::Upstreams;
use crate::traffic::protocol::{Conflict, Order, Standing, State};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

/// Introspections under way at a switch are given this long.
const THAW: Duration = Duration::from_secs(1);
/// A hold that cannot drain says so this much before its end, so that it can still be called off.
const LAST_WORD: Duration = Duration::from_millis(200);

/// Why an order was not carried out.
#[derive(Debug, Error)]
pub(super) enum Refused {
    /// It is older than what was accepted, or contradicts it.
    #[error("{}", .0.error)]
    Conflict(Conflict),
    /// Not now; the standing says why.
    #[error("{why}")]
    NotNow {
        /// One sentence for a person.
        why: String,
        /// Where the gateway stands.
        standing: Standing,
    },
    /// The state file could not be written: nothing was promised.
    #[error(transparent)]
    File(#[from] GatewayError),
}

/// The gateway's place in the lockstep.
pub(super) struct Participant {
    pub(super) gate: Arc<Gate>,
    pub(super) registers: Registers,
    upstreams: Arc<Upstreams>,
    capture: Arc<Capture>,
    pub(super) file: StateFile,
    pub(super) position: Mutex<Position>,
    /// Longest hold of the plan.
    pub(super) hold: Duration,
}

/// Where it stands; changed only under its lock, and written to the file first.
pub(super) struct Position {
    pub(super) stored: Stored,
    /// Grows with every change, so that an older watchdog does nothing.
    pub(super) change: u64,
    pub(super) hold_until: Instant,
}

impl Participant {
    pub(super) fn new(
        gate: Arc<Gate>,
        registers: Registers,
        upstreams: Arc<Upstreams>,
        capture: Arc<Capture>,
        file: StateFile,
        stored: Stored,
        hold: Duration,
    ) -> Arc<Self> {
        let position = Mutex::new(Position { stored, change: 0, hold_until: Instant::now() });
        Arc::new(Self { gate, registers, upstreams, capture, file, position, hold })
    }

    /// Where it stands.
    pub(super) async fn standing(&self) -> Standing {
        self.describe(&self.position.lock().await.stored)
    }

    fn describe(&self, stored: &Stored) -> Standing {
        Standing {
            epoch: stored.epoch,
            nonce: stored.nonce,
            side: stored.side,
            state: stored.state,
            in_flight: self.gate.in_flight(),
            answered_by: None,
        }
    }

    /// Accepts the epoch and goes on serving, provided that the engine of the side to come answers.
    pub(super) async fn prepare(&self, order: &Order) -> Result<Standing, Refused> {
        self.admit(order).await?;
        let limit = Duration::from_millis(order.deadline_ms);
        let answer = timeout(limit, self.upstreams.version(order.side)).await;
        if let Err(why) = answer.unwrap_or_else(|_| Err("it did not answer in time".to_owned())) {
            let why = format!("the engine of {} does not answer on this gateway's path: {why}", order.side);
            return Err(self.not_now(&self.position.lock().await.stored, why));
        }
        let mut position = self.position.lock().await;
        let is_known = admit(&position.stored, order)?;
        match position.stored.state {
            State::Refusing => Err(self.not_now(&position.stored, "which side serves is not settled".to_owned())),
            _ if is_known => Ok(self.describe(&position.stored)),
            State::Holding | State::Switched => {
                Err(self.not_now(&position.stored, "a hold of an earlier epoch is not over".to_owned()))
            }
            State::Serving | State::Prepared => {
                let stored = Stored { state: State::Prepared, ..accepted(order, &position.stored) };
                self.write(&mut position, stored).await?;
                Ok(self.describe(&position.stored))
            }
        }
    }

    /// Stops starting work, waits until nothing is in flight, and writes the barrier of the revocations.
    pub(super) async fn hold(self: &Arc<Self>, order: &Order) -> Result<Standing, Refused> {
        let until = self.begin_hold(order).await?;
        let last_word = until.checked_sub(LAST_WORD).unwrap_or(until).max(Instant::now());
        let left = self.gate.drained(last_word).await;
        if left > 0 {
            let why = format!("{left} requests are still in flight");
            return Err(self.not_now(&self.position.lock().await.stored, why));
        }
        let unwritten = match timeout_at(last_word, self.capture.barrier(order.epoch)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("control did not answer within the hold".to_owned()),
        };
        if let Some(why) = unwritten {
            let why = format!("the barrier of revocations is not written: {why}");
            return Err(self.not_now(&self.position.lock().await.stored, why));
        }
        let position = self.position.lock().await;
        admit(&position.stored, order)?;
        match position.stored.state {
            State::Holding => Ok(self.describe(&position.stored)),
            _ => Err(self.not_now(&position.stored, "the hold is over".to_owned())),
        }
    }

    async fn begin_hold(self: &Arc<Self>, order: &Order) -> Result<Instant, Refused> {
        let mut position = self.position.lock().await;
        let is_known = admit(&position.stored, order)?;
        match position.stored.state {
            // A repeated order never prolongs the hold.
            State::Holding if is_known => return Ok(position.hold_until),
            State::Serving if is_known => return Err(conflict(&position.stored, "this epoch was released already")),
            State::Prepared | State::Serving => {}
            State::Holding | State::Switched | State::Refusing => {
                let why = "an earlier hold is not over, or which side serves is not settled".to_owned();
                return Err(self.not_now(&position.stored, why));
            }
        }
        let until = Instant::now() + Duration::from_millis(order.deadline_ms);
        let stored = Stored { state: State::Holding, ..accepted(order, &position.stored) };
        self.write(&mut position, stored).await?;
        position.hold_until = until;
        self.gate.hold(until);
        self.watch(position.change, until);
        Ok(until)
    }

    /// Turns to the side of the order, still held; from now on introspection is held as well.
    pub(super) async fn switch(self: &Arc<Self>, order: &Order) -> Result<Standing, Refused> {
        let until = Instant::now() + Duration::from_millis(order.deadline_ms);
        {
            let mut position = self.position.lock().await;
            let is_known = admit(&position.stored, order)?;
            if !is_known || !position.stored.is_held() {
                return Err(conflict(&position.stored, "this epoch is not held here"));
            }
            let stored = Stored { state: State::Switched, side: order.side, ..position.stored.clone() };
            self.write(&mut position, stored).await?;
            position.hold_until = until;
            self.gate.turn_away(order.side, until);
            self.watch(position.change, until);
        }
        let left = self.gate.thawed(until.min(Instant::now() + THAW)).await;
        let stored = &self.position.lock().await.stored;
        match left {
            0 => Ok(self.describe(stored)),
            _ => Err(self.not_now(stored, format!("{left} introspections are still being answered"))),
        }
    }

    /// Sends a real request by this gateway's own path to the side it is turned to, and says who answered.
    pub(super) async fn verify(&self, order: &Order) -> Result<Standing, Refused> {
        self.admit(order).await?;
        let standing = self.standing().await;
        let limit = Duration::from_millis(order.deadline_ms);
        match timeout(limit, self.upstreams.version(standing.side)).await {
            Ok(Ok(version)) => Ok(Standing { answered_by: Some(version), ..standing }),
            Ok(Err(why)) => Err(Refused::NotNow { why, standing }),
            Err(_) => Err(Refused::NotNow { why: "the engine did not answer in time".to_owned(), standing }),
        }
    }

    /// Serves the side of the order.
    pub(super) async fn release(self: &Arc<Self>, order: &Order) -> Result<Standing, Refused> {
        let mut position = self.position.lock().await;
        let is_known = admit(&position.stored, order)?;
        if is_known && position.stored.state == State::Serving {
            return match position.stored.side == order.side {
                true => Ok(self.describe(&position.stored)),
                false => Err(conflict(&position.stored, "this epoch was released to the other side")),
            };
        }
        let stored = Stored { state: State::Serving, side: order.side, ..accepted(order, &position.stored) };
        self.write(&mut position, stored).await?;
        self.gate.release(order.side, order.epoch);
        Ok(self.describe(&position.stored))
    }

    async fn admit(&self, order: &Order) -> Result<bool, Refused> {
        admit(&self.position.lock().await.stored, order)
    }

    /// Stores first, then changes what this process knows.
    pub(super) async fn write(&self, position: &mut Position, stored: Stored) -> Result<(), GatewayError> {
        self.file.save(&stored).await?;
        tracing::info!(epoch = stored.epoch, state = ?stored.state, side = %stored.side, "stands");
        position.stored = stored;
        position.change += 1;
        Ok(())
    }

    fn not_now(&self, stored: &Stored, why: String) -> Refused {
        Refused::NotNow { why, standing: self.describe(stored) }
    }
}

/// Whether an order is of the epoch accepted last (true) or of a new one (false).
fn admit(stored: &Stored, order: &Order) -> Result<bool, Refused> {
    if order.epoch < stored.epoch {
        return Err(conflict(stored, "a higher epoch was accepted"));
    }
    if order.epoch == stored.epoch && order.nonce != stored.nonce {
        return Err(conflict(stored, "this epoch was accepted from another proposal"));
    }
    Ok(order.epoch == stored.epoch)
}

fn conflict(stored: &Stored, error: &str) -> Refused {
    Refused::Conflict(Conflict { error: error.to_owned(), epoch: stored.epoch, nonce: stored.nonce })
}

/// What is stored when an order of a new epoch is accepted: its epoch and nonce, everything else as it was.
fn accepted(order: &Order, before: &Stored) -> Stored {
    Stored { epoch: order.epoch, nonce: order.nonce, ..before.clone() }
}
