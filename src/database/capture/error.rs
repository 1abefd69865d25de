//! Why a capture could not be started, judged or stopped, in words that say what to do.

use crate::database::client::ConnectError;
use crate::database::pgoutput::Lsn;
use crate::database::term::TermError;
use crate::plan::{Side, TableName};
use thiserror::Error;

/// Why capture could not be started, judged or stopped.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// Another process took over, or our term cannot be held.
    #[error("{0}")]
    Term(#[from] TermError),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused; what was made so far stays and is found again.
    #[error("{what} on {side}")]
    Server {
        /// The side.
        side: Side,
        /// What was tried.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A table has no replica identity; publishing it would make the application's own updates fail.
    #[error(
        "capture {table} on {side}: it has neither a primary key nor another replica identity by which its rows are known; give it one, or list it under `drop:`"
    )]
    NoIdentity {
        /// The side.
        side: Side,
        /// The table.
        table: TableName,
    },
    /// Triggers see only part of what is written to an inheritance tree.
    #[error(
        "capture {table} on {side} by triggers: tables inherit from it, and its triggers do not see what is written through them; partition it by declaration, or list it under `drop:`"
    )]
    Inherited {
        /// The side.
        side: Side,
        /// The table.
        table: TableName,
    },
    /// The log ends before the position that is to be skipped to.
    #[error(
        "skip what was captured on {side} up to {lsn:X}: its log ends at {end:X}; the position is not of this server"
    )]
    Beyond {
        /// The side.
        side: Side,
        /// The position asked for.
        lsn: Lsn,
        /// The end of the log.
        end: Lsn,
    },
    /// A table is not there.
    #[error("capture {table} on {side}: there is no such table")]
    NoTable {
        /// The side.
        side: Side,
        /// The table.
        table: TableName,
    },
    /// A captured table is not what it was when the capture began.
    #[error(
        "capture on {side}: the columns of {table} changed (were: {before}; are: {now}); undo that change, or begin a new run"
    )]
    Altered {
        /// The side.
        side: Side,
        /// The table.
        table: String,
        /// Its columns at the start.
        before: String,
        /// Its columns now.
        now: String,
    },
    /// Transactions of others did not end in time.
    #[error(
        "{what} on {side} waited {waited_s} s for transactions that do not end: {blockers}; end them and run again, nothing has changed for clients"
    )]
    Blocked {
        /// The side.
        side: Side,
        /// What waited.
        what: String,
        /// How long.
        waited_s: u64,
        /// Who they are.
        blockers: String,
    },
    /// Something of this name is there and is not ours.
    #[error("capture on {side}: {what}; it is not ours and is left alone")]
    Foreign {
        /// The side.
        side: Side,
        /// What was found.
        what: String,
    },
    /// The capture cannot deliver every change any more.
    #[error("capture on {side} is lost: {why}; green must be copied anew, never continued")]
    Lost {
        /// The side.
        side: Side,
        /// Why.
        why: String,
    },
}
