//! Why blue's schema could not be read, copied or taken away again.

use crate::database::claim::ClaimError;
use crate::database::client::ConnectError;
use crate::database::inventory::InventoryError;
use crate::database::migrate::MigrateError;
use crate::database::refusal::RefusalError;
use crate::database::term::TermError;
use thiserror::Error;

/// Why blue's schema could not be read, copied or taken away again. Green is as it was: all of it is one transaction.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process has taken over; nothing was changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// Our notes on green cannot be read or written.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// What is on green cannot be listed, handed over or dropped.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// Green cannot be closed.
    #[error(transparent)]
    Refusal(#[from] RefusalError),
    /// No program fits.
    #[error("find pg_dump {wanted} or newer, as old as blue's server at least: {}; nothing was changed", found(there))]
    NoProgram {
        /// The major version of blue's server.
        wanted: u32,
        /// What was found instead.
        there: Vec<String>,
    },
    /// The program could not be run to its end.
    #[error("read blue's schema")]
    Dump(#[source] MigrateError),
    /// Blue has something that is not copied.
    #[error("copy blue's schema: it holds what is not copied: {}; nothing was changed on green", what.join("; "))]
    NotCopied {
        /// The first words of each statement.
        what: Vec<String>,
    },
    /// Green holds tables already.
    #[error("copy blue's schema: green is not empty: {}; nothing was changed", what.join(", "))]
    NotEmpty {
        /// Some of what is there.
        what: Vec<String>,
    },
    /// A server refused.
    #[error("{what}; nothing was changed on green")]
    Server {
        /// What was tried, on what.
        what: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl SchemaError {
    pub(super) fn server(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let what = what.into();
        move |source| Self::Server { what, source }
    }

    /// Whether it will be refused again until a person has changed something.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::NoProgram { .. } | Self::NotCopied { .. } | Self::NotEmpty { .. })
    }
}

fn found(there: &[String]) -> String {
    if there.is_empty() { "there is none".to_owned() } else { format!("there is only {}", there.join(", ")) }
}
