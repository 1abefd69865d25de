//! The gateway as a participant of the lockstep: orders in, the gate turned, the epoch stored before the answer goes out.
//!
//! A lower epoch, and an equal one with another nonce, are refused. What happens when a hold ends without word is in `settle`.

use super::capture::Capture;
use super::error::GatewayError;
use super::gate::Gate;
use super::registers::Registers;
use super::state::StateFile;
use super::upstream::Upstreams;
use crate::traffic::protocol::{Conflict, Order, Standing, State};
use crate::traffic::stand::{Objection, Stand, Verb};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

/// What passes a hold and is under way at a switch is given this long.
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
    pub(super) upstreams: Arc<Upstreams>,
    capture: Arc<Capture>,
    pub(super) file: StateFile,
    pub(super) position: Mutex<Position>,
    /// Longest hold of the plan.
    pub(super) hold: Duration,
}

/// Where it stands; changed only under its lock, and written to the file first.
pub(super) struct Position {
    pub(super) stand: Stand,
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
        stand: Stand,
        hold: Duration,
    ) -> Arc<Self> {
        let position = Mutex::new(Position { stand, change: 0, hold_until: Instant::now() });
        Arc::new(Self { gate, registers, upstreams, capture, file, position, hold })
    }

    /// Where it stands.
    pub(super) async fn standing(&self) -> Standing {
        self.describe(&self.position.lock().await.stand)
    }

    fn describe(&self, stand: &Stand) -> Standing {
        Standing {
            epoch: stand.epoch,
            nonce: stand.nonce,
            side: stand.side,
            state: stand.state,
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
            return Err(self.not_now(&self.position.lock().await.stand, why));
        }
        let mut position = self.position.lock().await;
        let next = self.obey(&position, Verb::Prepare, order)?;
        if next != position.stand {
            self.write(&mut position, next).await?;
        }
        Ok(self.describe(&position.stand))
    }

    /// Stops starting work, waits until nothing is in flight, and writes the barrier of the revocations.
    pub(super) async fn hold(self: &Arc<Self>, order: &Order) -> Result<Standing, Refused> {
        let until = self.begin_hold(order).await?;
        let last_word = until.checked_sub(LAST_WORD).unwrap_or(until).max(Instant::now());
        let left = self.gate.drained(last_word).await;
        if left > 0 {
            let why = format!("{left} requests are still in flight");
            return Err(self.not_now(&self.position.lock().await.stand, why));
        }
        let unwritten = match timeout_at(last_word, self.capture.barrier(order.epoch)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("control did not answer within the hold".to_owned()),
        };
        if let Some(why) = unwritten {
            let why = format!("the barrier of revocations is not written: {why}");
            return Err(self.not_now(&self.position.lock().await.stand, why));
        }
        let position = self.position.lock().await;
        position.stand.admit(order).map_err(|objection| self.refused(&position.stand, objection))?;
        match position.stand.state {
            State::Holding => Ok(self.describe(&position.stand)),
            _ => Err(self.not_now(&position.stand, "the hold is over".to_owned())),
        }
    }

    async fn begin_hold(self: &Arc<Self>, order: &Order) -> Result<Instant, Refused> {
        let mut position = self.position.lock().await;
        let next = self.obey(&position, Verb::Hold, order)?;
        if next == position.stand {
            // A repeated order never prolongs the hold.
            return Ok(position.hold_until);
        }
        let until = Instant::now() + Duration::from_millis(order.deadline_ms);
        self.write(&mut position, next).await?;
        position.hold_until = until;
        self.gate.hold(until);
        self.watch(position.change, until);
        Ok(until)
    }

    /// Turns to the side of the order, still held; from now on what passed the hold is held as well.
    pub(super) async fn switch(self: &Arc<Self>, order: &Order) -> Result<Standing, Refused> {
        let until = Instant::now() + Duration::from_millis(order.deadline_ms);
        {
            let mut position = self.position.lock().await;
            let next = self.obey(&position, Verb::Switch, order)?;
            if next.state == State::Serving {
                return Ok(self.describe(&position.stand));
            }
            self.write(&mut position, next).await?;
            position.hold_until = until;
            self.gate.turn_away(order.side, until);
            self.watch(position.change, until);
        }
        let left = self.gate.thawed(until.min(Instant::now() + THAW)).await;
        let stand = &self.position.lock().await.stand;
        match left {
            0 => Ok(self.describe(stand)),
            _ => Err(self.not_now(stand, format!("{left} requests that pass a hold are still being answered"))),
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
        self.settle_when_late().await;
        let mut position = self.position.lock().await;
        let next = self.obey(&position, Verb::Release, order)?;
        if next == position.stand {
            return Ok(self.describe(&position.stand));
        }
        self.write(&mut position, next).await?;
        self.gate.release(order.side, order.epoch);
        Ok(self.describe(&position.stand))
    }

    /// An order that is carried out after the hold's end may have lain at the door of a process that stood still, while others moved on: where the
    /// registers say who serves, that counts, and the order is measured by it.
    async fn settle_when_late(self: &Arc<Self>) {
        let late = {
            let position = self.position.lock().await;
            let is_late = position.stand.is_held() && Instant::now() >= position.hold_until;
            is_late.then_some(position.change)
        };
        if let Some(change) = late {
            self.try_settle(change, self.registers.limit()).await;
        }
    }

    async fn admit(&self, order: &Order) -> Result<(), Refused> {
        let stand = &self.position.lock().await.stand;
        stand.admit(order).map(drop).map_err(|objection| self.refused(stand, objection))
    }

    fn obey(&self, position: &Position, verb: Verb, order: &Order) -> Result<Stand, Refused> {
        position.stand.obey(verb, order).map_err(|objection| self.refused(&position.stand, objection))
    }

    fn refused(&self, stand: &Stand, objection: Objection) -> Refused {
        match objection {
            Objection::Conflict(error) => {
                Refused::Conflict(Conflict { error: error.to_owned(), epoch: stand.epoch, nonce: stand.nonce })
            }
            Objection::NotNow(why) => self.not_now(stand, why.to_owned()),
        }
    }

    /// Stores first, then changes what this process knows.
    pub(super) async fn write(&self, position: &mut Position, stand: Stand) -> Result<(), GatewayError> {
        self.file.save(&stand).await?;
        tracing::info!(epoch = stand.epoch, state = ?stand.state, side = %stand.side, "stands");
        position.stand = stand;
        position.change += 1;
        Ok(())
    }

    fn not_now(&self, stand: &Stand, why: String) -> Refused {
        Refused::NotNow { why, standing: self.describe(stand) }
    }
}
