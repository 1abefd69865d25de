//! Why two sides could not be compared; rows are untouched in any case.

use crate::database::client::ConnectError;
use crate::database::copy::CopyError;
use crate::database::term::TermError;
use crate::plan::TableName;
use thiserror::Error;

/// Why two sides could not be compared. No row was changed; parts that were compared are noted, and a diff that is called again goes on.
#[derive(Debug, Error)]
pub enum DiffError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process has taken over; nothing more is done.
    #[error("{0}")]
    Term(#[from] TermError),
    /// The watch over blue failed, or the snapshot is gone.
    #[error(transparent)]
    Watch(#[from] CopyError),
    /// The servers do not print values alike, so that equal ones would look different.
    #[error("compare blue and green: {why}")]
    Unlike {
        /// What is different, and what to do.
        why: String,
    },
    /// The bound of the plan has passed.
    #[error("compare {table}: one part was not done within {bound_s} s; raise `window.copy`")]
    Expired {
        /// The green table.
        table: TableName,
        /// The bound, in seconds.
        bound_s: u64,
    },
    /// A server refused or the connection broke.
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
}

impl DiffError {
    /// Whether trying again changes nothing before somebody has changed a server.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Unlike { .. })
    }

    pub(super) fn server(act: &'static str, object: impl ToString) -> impl Fn(tokio_postgres::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Server { act, object: object.clone(), source }
    }
}
