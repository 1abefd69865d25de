//! Why rows that are left behind could not be looked at, parked, restored or swept.

use crate::database::client::ConnectError;
use crate::database::copy::CopyError;
use crate::database::term::TermError;
use thiserror::Error;

/// Why. Unless it says otherwise nothing was changed.
#[derive(Debug, Error)]
pub enum CleanupError {
    /// Another process has taken over; nothing more is done.
    #[error("{0}")]
    Term(#[from] TermError),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Rows could not be counted.
    #[error(transparent)]
    Count(#[from] CopyError),
    /// What was found says no.
    #[error("{why}")]
    Refused {
        /// What was found.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The server refused or the connection broke.
    #[error("{what}")]
    Server {
        /// What was tried, on what.
        what: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl CleanupError {
    pub(super) fn server(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let what = what.into();
        move |source| Self::Server { what, source }
    }

    pub(super) fn refused(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), hint: hint.into() }
    }
}
