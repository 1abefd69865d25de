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
    /// A row of the queue that cannot be understood.
    #[error("read revocation {id} from the queue: {why}")]
    Malformed {
        /// The event.
        id: Uuid,
        /// What is wrong with it.
        why: String,
    },
}
