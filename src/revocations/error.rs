//! What can go wrong with a revocation, in words.

use crate::database::client::ConnectError;
use crate::plan::Side;
use thiserror::Error;
use uuid::Uuid;

/// Why something about revocations could not be done.
#[derive(Debug, Error)]
pub enum RevocationError {
    /// A database did not let us in; nothing was changed.
    #[error("{act}: {what} cannot be reached")]
    Unreachable {
        /// Which database.
        what: String,
        /// What was tried.
        act: &'static str,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// A database did not answer in time; whether it did what was asked is unknown.
    #[error("{act}: {what} did not answer within {limit_ms} ms")]
    Slow {
        /// Which database.
        what: String,
        /// What was tried.
        act: &'static str,
        /// The bound.
        limit_ms: u128,
    },
    /// A database refused a statement, or the connection was lost in it.
    #[error("{act} on {what}")]
    Query {
        /// Which database.
        what: String,
        /// What was tried.
        act: &'static str,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The live side does not hold the tables that chains are looked up in.
    #[error("look a revocation's chain up: {side} is live and has none of the engine's token and consent tables")]
    NoTables {
        /// Which side.
        side: Side,
    },
    /// Our tables are not in the control database yet.
    #[error("install the queue's tables in control: {0}")]
    Install(String),
    /// Another process registered under the same gateway name.
    #[error("append a revocation: this producer was ended by another process with the same gateway name")]
    Ended,
    /// The producer's task has stopped or is out of room.
    #[error("append a revocation: the queue takes no more now")]
    Busy,
    /// A queue outside the control database did not do what was asked.
    #[error("{act}: {queue}: {why}")]
    Queue {
        /// Which queue.
        queue: &'static str,
        /// What was tried.
        act: &'static str,
        /// What it said, or why it could not be asked.
        why: String,
        /// It is certain that nothing was done, and that nothing will be.
        is_undone: bool,
    },
    /// A revocation could not be queued, in the words of what failed.
    #[error("append a revocation: {0}")]
    NotQueued(String),
    /// A gateway denies as many revocations as it may keep in memory; nothing was queued.
    #[error("deny what is revoked: {most} revocations are denied already, as many as gateway.overlay_entries allows")]
    Full {
        /// The plan's bound.
        most: usize,
    },
    /// A row of the queue that cannot be understood.
    #[error("read revocation {id} from the queue: {why}")]
    Malformed {
        /// The event.
        id: Uuid,
        /// What is wrong with it.
        why: String,
    },
}

impl RevocationError {
    /// Whether it is certain that what was asked was not done and will not be.
    #[must_use]
    pub fn is_certainly_undone(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NoTables { .. }
            | Self::Install(_)
            | Self::Ended
            | Self::Busy
            | Self::NotQueued(_)
            | Self::Full { .. }
            | Self::Malformed { .. } => true,
            Self::Queue { is_undone, .. } => *is_undone,
            Self::Slow { .. } | Self::Query { .. } => false,
        }
    }

    /// A queue that has no room.
    pub(super) fn full(queue: &'static str, room: u32) -> Self {
        let why = format!("it is full: {room} messages wait, and nobody takes them");
        Self::Queue { queue, act: "publish messages", why, is_undone: true }
    }
}
