//! Why an invariant could not be asked, and which of the reasons pass by themselves.

use crate::database::client::ConnectError;
use crate::plan::Side;
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// Why an invariant could not be asked; nothing was changed.
#[derive(Debug, Error)]
pub enum InvariantError {
    /// A side does not answer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A side refused something of ours, or the connection broke.
    #[error("{what} on {side}")]
    Server {
        /// What was tried.
        what: &'static str,
        /// The side.
        side: Side,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A side refused the question, or did not answer it.
    #[error("ask invariant {name} of {side}")]
    Asked {
        /// The invariant.
        name: String,
        /// The side.
        side: Side,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The answer has not the form that the plan says.
    #[error("invariant {name} gives {what} on {side}")]
    Shape {
        /// The invariant.
        name: String,
        /// The side.
        side: Side,
        /// What it gives instead.
        what: String,
    },
    /// Blue is not asked.
    #[error("invariant {name} asks nothing of blue")]
    NoQuestion {
        /// The invariant.
        name: String,
    },
    /// Rows would come in another order than ours.
    #[error("the encoding of {side} is {encoding}, and rows can only be compared as UTF8")]
    Encoding {
        /// The side.
        side: Side,
        /// Its encoding.
        encoding: String,
    },
}

impl InvariantError {
    /// Whether asking again may help: the connection broke, or a lock was in the way.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Server { source, .. } | Self::Asked { source, .. } => {
                source.is_closed() || source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
            }
            Self::Shape { .. } | Self::NoQuestion { .. } | Self::Encoding { .. } => false,
        }
    }

    /// Whether the question took longer than its bound.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Asked { source, .. } if source.code() == Some(&SqlState::QUERY_CANCELED))
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Asked { name, side, .. } if self.is_late() => {
                format!(
                    "invariant {name} took longer on {side} than window.invariants: raise it, or give the question an index"
                )
            }
            Self::Asked { name, side, .. } | Self::Shape { name, side, .. } if !self.may_pass() => {
                format!("correct invariant {name} in the plan, for {side}")
            }
            _ => String::new(),
        }
    }
}

/// A server's refusal of something of ours.
pub(super) fn on(what: &'static str, side: Side) -> impl FnOnce(tokio_postgres::Error) -> InvariantError {
    move |source| InvariantError::Server { what, side, source }
}
