//! Where a participant stands, and what becomes of that by an order, by the end of a hold, by a restart and by the registers' word.
//!
//! The participant's half of the lockstep as a state machine: pure, without a clock, a file or a gate. Both participants that we ship are built on it,
//! and a test drives it through every interleaving. Whoever uses it stores a new stand durably before answering.

use super::protocol::{Order, State};
use super::register::{Decision, Seen, decide};
use crate::plan::Side;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a participant stands; what it keeps over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stand {
    /// Highest epoch accepted.
    pub epoch: i64,
    /// Its nonce.
    pub nonce: Uuid,
    /// The side it serves or is turned to.
    pub side: Side,
    /// What it does.
    pub state: State,
}

/// The orders that move a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Accept the epoch, and serve on.
    Prepare,
    /// Stop starting work.
    Hold,
    /// Turn to the order's side, still held.
    Switch,
    /// Serve the order's side.
    Release,
}

/// A side that may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The side.
    pub side: Side,
    /// The epoch of its register; 0 when it has none.
    pub epoch: i64,
    /// The nonce of that epoch.
    pub nonce: Uuid,
}

/// Why an order is not obeyed. It changes nothing then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// It is older than what was accepted, or contradicts it.
    Conflict(&'static str),
    /// Not as things stand.
    NotNow(&'static str),
}

impl Stand {
    /// A participant that was never asked anything.
    #[must_use]
    pub fn first(state: State) -> Self {
        Self { epoch: 0, nonce: Uuid::nil(), side: Side::Blue, state }
    }

    /// Whether a flip may be under way: then only a register at this epoch or above settles who serves.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Holding | State::Switched | State::Refusing)
    }

    /// Whether an order is of the proposal accepted last (true) or of a new one (false).
    ///
    /// # Errors
    /// A lower epoch, or an equal one with another nonce.
    pub fn admit(&self, order: &Order) -> Result<bool, Objection> {
        if order.epoch < self.epoch {
            return Err(Objection::Conflict("a higher epoch was accepted"));
        }
        if order.epoch == self.epoch && order.nonce != self.nonce {
            return Err(Objection::Conflict("this epoch was accepted from another proposal"));
        }
        Ok(order.epoch == self.epoch)
    }

    /// Where an order leads. A repeated order leads to where it stands already.
    ///
    /// # Errors
    /// Why it is not obeyed.
    pub fn obey(&self, verb: Verb, order: &Order) -> Result<Self, Objection> {
        let is_known = self.admit(order)?;
        match verb {
            Verb::Prepare => self.prepare(order, is_known),
            Verb::Hold => self.hold(order, is_known),
            Verb::Switch => self.switch(order, is_known),
            Verb::Release => self.release(order, is_known),
        }
    }

    fn prepare(&self, order: &Order, is_known: bool) -> Result<Self, Objection> {
        match self.state {
            State::Refusing => Err(Objection::NotNow("which side serves is not settled")),
            _ if is_known => Ok(self.clone()),
            State::Holding | State::Switched => Err(Objection::NotNow("a hold of an earlier epoch is not over")),
            State::Serving | State::Prepared => Ok(self.accepting(order, State::Prepared)),
        }
    }

    fn hold(&self, order: &Order, is_known: bool) -> Result<Self, Objection> {
        match self.state {
            State::Holding if is_known => Ok(self.clone()),
            State::Serving if is_known => Err(Objection::Conflict("this epoch was released already")),
            State::Prepared | State::Serving => Ok(self.accepting(order, State::Holding)),
            State::Holding | State::Switched | State::Refusing => {
                Err(Objection::NotNow("an earlier hold is not over, or which side serves is not settled"))
            }
        }
    }

    /// Only one that held at this very epoch may be turned: another may have work under way that nobody has waited for.
    fn switch(&self, order: &Order, is_known: bool) -> Result<Self, Objection> {
        match self.state {
            State::Serving if is_known => self.after_the_last_word(order),
            _ if is_known && self.is_held() => Ok(Self { state: State::Switched, side: order.side, ..self.clone() }),
            _ => Err(Objection::Conflict("this epoch is not held here")),
        }
    }

    /// Ends every hold, also one that an overtaken orchestrator has left.
    fn release(&self, order: &Order, is_known: bool) -> Result<Self, Objection> {
        if is_known && self.state == State::Serving {
            return self.after_the_last_word(order);
        }
        Ok(Self { side: order.side, ..self.accepting(order, State::Serving) })
    }

    /// An epoch that was released is over: an order for the side that is served changes nothing, and one for the other is refused.
    fn after_the_last_word(&self, order: &Order) -> Result<Self, Objection> {
        if self.side == order.side {
            return Ok(self.clone());
        }
        Err(Objection::Conflict("this epoch was released to the other side"))
    }

    fn accepting(&self, order: &Order, state: State) -> Self {
        Self { epoch: order.epoch, nonce: order.nonce, side: self.side, state }
    }

    /// A hold that ended without word, and nobody could say who serves.
    #[must_use]
    pub fn without_word(&self) -> Self {
        Self { state: State::Refusing, ..self.clone() }
    }

    /// After a restart: a held one has to ask before it serves.
    #[must_use]
    pub fn restarted(&self) -> Self {
        if self.is_held() { self.without_word() } else { self.clone() }
    }

    /// Which side one who reads the registers may serve, given what it has accepted; none when it must refuse.
    ///
    /// Held by a flip, it obeys only a register at that flip's epoch or above. Otherwise an open register is enough, save that one
    /// below what it has served before may name only the same side: an older state of a database has come back.
    #[must_use]
    pub fn settle(&self, blue: &Seen, green: &Seen) -> Option<Settled> {
        let are_absent = *blue == Seen::Absent && *green == Seen::Absent;
        if are_absent && !self.is_held() && self.epoch > 0 {
            // Both registers were removed on purpose after the last move: what was stored stands.
            return Some(Settled { side: self.side, epoch: self.epoch, nonce: self.nonce });
        }
        if are_absent && self.is_held() && self.side == Side::Green {
            // Finalized, or undone after a way back that was missed: blue may have no seal any more. A person says.
            return None;
        }
        let accepted = if self.is_held() { self.epoch } else { 0 };
        let Decision::Serving(side, epoch) = decide(blue, green, accepted) else { return None };
        let is_older = !self.is_held() && epoch < self.epoch && side != self.side;
        let nonce = match if side == Side::Blue { blue } else { green } {
            Seen::Row(register) => register.nonce,
            _ => Uuid::nil(),
        };
        (!is_older).then_some(Settled { side, epoch, nonce })
    }

    /// Where it stands once that is settled. One that was prepared stays so unless the register is newer, since the proposal may still go on.
    #[must_use]
    pub fn settled(&self, by: Settled) -> Self {
        if by.epoch > self.epoch {
            return Self { epoch: by.epoch, nonce: by.nonce, side: by.side, state: State::Serving };
        }
        let state = if self.state == State::Prepared { State::Prepared } else { State::Serving };
        Self { side: by.side, state, ..self.clone() }
    }
}
