//! Why rows could not be copied, and which of the reasons the plan itself gives.

use crate::database::client::ConnectError;
use crate::database::indexes::IndexError;
use crate::database::term::TermError;
use crate::plan::TableName;
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// Why rows could not be copied. What is committed is listed in `cutover.copied`, chunk by chunk; a copy that is called again goes on from
/// there.
#[derive(Debug, Error)]
pub enum CopyError {
    /// No connection; nothing was changed by it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process has taken over; the chunk under way was rolled back.
    #[error("{0}")]
    Term(#[from] TermError),
    /// Green's indexes could not be read; nothing was changed.
    #[error(transparent)]
    Indexes(#[from] IndexError),
    /// A server refused, or the connection broke; the chunk under way was rolled back.
    #[error("{act} {object}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// On what.
        object: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A cleanup rule would leave more rows behind than it may; nothing of this table was copied.
    #[error(
        "cleanup rule {rule} would leave {rows} of {source_rows} rows of {table} behind, its cap is {cap_rows} rows and {cap_percent} %; \
         look with cutover cleanup preview PLAN, then correct the rule or its cap"
    )]
    OverCap {
        /// The green table.
        table: TableName,
        /// The rule.
        rule: String,
        /// Rows it would leave behind.
        rows: u64,
        /// Rows without cleanup.
        source_rows: u64,
        /// Its cap in rows.
        cap_rows: u64,
        /// Its cap in per cent.
        cap_percent: f64,
    },
    /// A chunk did not move as many rows as the same snapshot counted; it was rolled back.
    #[error(
        "copy {table}: {rows} rows moved, but blue's snapshot holds {source_rows} of which {cleaned} are left behind"
    )]
    Miscounted {
        /// The green table.
        table: TableName,
        /// Rows that were moved.
        rows: u64,
        /// Rows without cleanup.
        source_rows: u64,
        /// Rows left behind by rules.
        cleaned: u64,
    },
    /// Another attempt has copied the same chunk meanwhile; ours was rolled back.
    #[error("copy {table}: another attempt has copied the same rows meanwhile; run again")]
    Twice {
        /// The green table.
        table: TableName,
    },
    /// What the plan calls a standby of blue is none; nothing was read from it.
    #[error("read rows from the standby of blue: {why}; correct `copy.standby`, or leave it out")]
    NoStandby {
        /// What was found.
        why: &'static str,
    },
    /// The standby does not replay blue's log fast enough to begin.
    #[error(
        "read rows from the standby of blue: it is still {behind_bytes} bytes behind after {waited_s} s; see what holds its replay up, or leave `copy.standby` out"
    )]
    StandbyBehind {
        /// Bytes of blue's log.
        behind_bytes: i64,
        /// How long we waited.
        waited_s: u64,
    },
    /// The plan's bound has passed; the chunk was rolled back.
    #[error(
        "copy {table}: one piece was not done within {bound_s} s; raise `window.copy`, or give the copy more workers"
    )]
    Expired {
        /// The green table.
        table: TableName,
        /// The bound, in seconds.
        bound_s: u64,
    },
}

impl CopyError {
    /// Whether a rule of the plan said no, so that trying again changes nothing.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::OverCap { .. } | Self::NoStandby { .. })
    }

    /// Whether a standby ended a reader that stood in the way of its replay.
    pub(super) fn is_recovery_conflict(&self) -> bool {
        let Self::Server { source, .. } = self else { return false };
        let said = source.as_db_error().map_or("", |error| error.message());
        source.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) && said.contains("conflict with recovery")
    }

    /// Whether somebody else held a lock for longer than we wait.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Self::Server { source, .. } if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    pub(super) fn server(act: &'static str, object: impl ToString) -> impl Fn(tokio_postgres::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Server { act, object: object.clone(), source }
    }
}
