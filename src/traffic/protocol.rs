//! The words of the participant protocol, shared by the adapters, the gateway and every system that moves in lockstep.
//!
//! A participant answers `POST {base}/cutover/v1/{prepare,hold,switch,verify,release}` with an [`Order`] as body by a
//! [`Standing`], and `GET {base}/cutover/v1/state` by the same. It stores the highest epoch durably before it answers, refuses a
//! lower epoch and an equal epoch with another nonce (409, [`Conflict`]), and at the end of a hold without word it asks a
//! resolver (`GET {resolver}/resolve`, [`Resolution`]) or refuses; it never serves from memory.

use crate::plan::Side;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The header by which a gate knows the orchestrator's own question, and lets it through a hold: its value is the proposal's nonce.
pub const PROBE: &str = "x-cutover-probe";

/// What the orchestrator asks of a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The run that asks.
    pub run: Uuid,
    /// The epoch of this flip: the highest of both registers plus one.
    pub epoch: i64,
    /// Tells apart two orchestrators that propose the same epoch.
    pub nonce: Uuid,
    /// The side being gone to; for `release`, the side to serve.
    pub side: Side,
    /// Milliseconds from receipt after which a hold ends by itself.
    pub deadline_ms: u64,
    /// Base addresses of resolvers to ask when a hold ends without word.
    pub resolvers: Vec<String>,
}

/// Where a participant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Serves its side.
    Serving,
    /// Serves its side and has accepted the proposal of this epoch.
    Prepared,
    /// Starts no new work; nothing is in flight.
    Holding,
    /// Still held, and turned to the side of the order.
    Switched,
    /// Its hold ended without word and no resolver gave a definite answer: answers 503.
    Refusing,
}

/// A participant's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Highest epoch it has accepted, durably stored.
    pub epoch: i64,
    /// Nonce of that epoch.
    pub nonce: Uuid,
    /// The side it serves or is turned to.
    pub side: Side,
    /// Where it stands.
    pub state: State,
    /// Requests it has started and not finished, those answered during a hold (introspection) left out.
    pub in_flight: u64,
    /// For `verify`: the version of the engine that answered a real request on the participant's own path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
}

/// Why an order was refused with 409.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// One sentence for a person.
    pub error: String,
    /// Highest epoch the participant has accepted.
    pub epoch: i64,
    /// Nonce of that epoch.
    pub nonce: Uuid,
}

/// A resolver's answer to "which side, now?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The side whose register is open, when `state` is `open`; after a finalize, which removes both registers, the side served.
    pub side: Option<Side>,
    /// The epoch of that register, or of that side.
    pub epoch: i64,
    /// Whether that is definite.
    pub state: ResolutionState,
}

/// Whether a resolver could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResolutionState {
    /// Exactly one side is open, at an epoch that settles the hold.
    Open,
    /// Both registers were read and nothing is settled yet.
    Undecided,
    /// A register is out of reach.
    Unreachable,
}
