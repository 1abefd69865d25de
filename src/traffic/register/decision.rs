//! What may be concluded from having read both registers: the pure decision of who may be served.

use super::{Register, RegisterError, State};
use crate::plan::Side;

/// What was seen of one side's register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The database answered, and its register says this.
    Row(Register),
    /// The database answered, and has no register.
    Absent,
    /// The database did not answer.
    Unreachable,
}

impl From<Result<Option<Register>, RegisterError>> for Seen {
    fn from(answer: Result<Option<Register>, RegisterError>) -> Self {
        match answer {
            Ok(Some(register)) => Self::Row(register),
            Ok(None) => Self::Absent,
            Err(_) => Self::Unreachable,
        }
    }
}

/// What may be concluded from having read both registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This side may be served, at this epoch.
    Serving(Side, i64),
    /// Nothing is settled: resolve it by writing, or refuse.
    Undecided,
    /// A register that could settle it is out of reach: refuse.
    Unreachable,
}

/// The pure decision of who may be served, for one who has accepted orders up to epoch `accepted` (0: none).
///
/// An open register below `accepted` settles nothing: the flip of that epoch may be deciding just now. A blue without a register
/// has never been part of a cutover or was fully undone, and is served at epoch 0: a decision is only ever made on a register that
/// exists, and a sealed one is never removed. Still, one who has accepted an epoch wants to have seen green too. Both open means
/// that the two rows were read across a change, or that a side that was left for dead came back: the higher epoch is the later one.
#[must_use]
pub fn decide(blue: &Seen, green: &Seen, accepted: i64) -> Decision {
    match (open_at(blue), open_at(green)) {
        (Some(blue), Some(green)) if blue > green => settle(Side::Blue, blue, accepted),
        (Some(blue), Some(green)) if green > blue => settle(Side::Green, green, accepted),
        (Some(_), Some(_)) => Decision::Undecided,
        (Some(epoch), None) => settle(Side::Blue, epoch, accepted),
        (None, Some(epoch)) => settle(Side::Green, epoch, accepted),
        (None, None) if *blue == Seen::Absent && (accepted == 0 || *green != Seen::Unreachable) => {
            Decision::Serving(Side::Blue, 0)
        }
        (None, None) if *blue == Seen::Unreachable || *green == Seen::Unreachable => Decision::Unreachable,
        (None, None) => Decision::Undecided,
    }
}

fn open_at(seen: &Seen) -> Option<i64> {
    match seen {
        Seen::Row(register) if register.state == State::Open => Some(register.epoch),
        _ => None,
    }
}

fn settle(side: Side, epoch: i64, accepted: i64) -> Decision {
    if epoch >= accepted { Decision::Serving(side, epoch) } else { Decision::Undecided }
}
