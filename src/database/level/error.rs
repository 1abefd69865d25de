//! Why the target could not be brought level, and which of the reasons pass by themselves.

use crate::database::capture::CaptureError;
use crate::database::changes::ChangesError;
use crate::database::client::ConnectError;
use crate::database::copy::CopyError;
use crate::database::term::TermError;
use crate::plan::{Side, TableName};
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// Why the target could not be brought level. Unless said otherwise nothing was changed, and the same batch can be tried again.
#[derive(Debug, Error)]
pub enum LevelError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A moment of the source could not be exported, or looked through.
    #[error("keep level: {0}")]
    Moment(#[from] CopyError),
    /// Another process took over; nothing was committed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The slot, or the log of triggers, does not deliver every change since the target's position.
    #[error("keep level: {why}; the target must be copied anew, never continued")]
    LostSlot {
        /// Why.
        why: String,
    },
    /// A captured table was changed on the source.
    #[error(
        "keep level: the columns of {table} changed (were: {before}; are: {now}); the run is parked: undo that change, or begin a new run"
    )]
    Changed {
        /// The table.
        table: String,
        /// Its columns at the start.
        before: String,
        /// Its columns now.
        now: String,
    },
    /// The change list makes no sense, or shows that a captured table was changed.
    #[error("keep level: {0}")]
    Changes(#[from] ChangesError),
    /// Derived rows point to rows that are not there.
    #[error(
        "level {table}: its foreign key {constraint} would point to nothing ({sample}); the mapping or a cleanup rule leaves out rows that others need"
    )]
    ForeignKey {
        /// The referencing table of the target.
        table: TableName,
        /// The constraint.
        constraint: String,
        /// One value.
        sample: String,
    },
    /// The mapping gives one key twice.
    #[error("level {table}: the mapping gives two rows for key {key}")]
    Twice {
        /// The target's table.
        table: TableName,
        /// The key.
        key: String,
    },
    /// Another worker moved the target's position, or reads the slot.
    #[error("keep level: another worker is at work ({what})")]
    AnotherWorker {
        /// What showed it.
        what: String,
    },
    /// A lock on a captured table could not be had in time; waiting longer would make the application wait.
    #[error("keep level: a table of {side} is locked by others")]
    Locked {
        /// The side.
        side: Side,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The log did not hold our marker.
    #[error("keep level: the marker that was just committed is not in the change list")]
    NoMarker,
    /// Not level within the bound.
    #[error("keep level: not level within {bound_ms} ms: {left} commits left, {lag_ms} ms behind ({why})")]
    NotLevel {
        /// The bound.
        bound_ms: u128,
        /// Commits left in the slot by the last batch.
        left: u64,
        /// How far behind the last batch was.
        lag_ms: u64,
        /// What holds it up, as far as known.
        why: String,
    },
    /// The server refused or the connection broke.
    #[error("keep level: {what} on {side}")]
    Server {
        /// The side.
        side: Side,
        /// What was tried.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl LevelError {
    pub(super) fn on(side: Side, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| match source.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::Locked { side, source },
            _ => Self::Server { side, what, source },
        }
    }

    pub(super) fn reading_slot(side: Side) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| {
            let said = || source.as_db_error().map_or_else(|| source.to_string(), |error| error.message().to_owned());
            match source.code() {
                Some(&SqlState::OBJECT_IN_USE) => Self::AnotherWorker { what: said() },
                Some(&SqlState::UNDEFINED_OBJECT | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                    Self::LostSlot { why: said() }
                }
                _ => Self::Server { side, what: "read the change list", source },
            }
        }
    }

    /// Whether the same batch may succeed a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::AnotherWorker { .. } | Self::NoMarker)
    }
}
