//! Why an engine could not be asked, or did not answer as it should. No variant holds a token, a secret or an address with a query.

use super::super::super::probe::Finding;
use thiserror::Error;

/// What went wrong.
#[derive(Debug, Error)]
pub enum OauthError {
    /// No answer, or not in time.
    #[error("{what}: no answer")]
    Silent {
        /// What was tried.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// Another status than the one that belongs there.
    #[error("{what}: answered {status} {words}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// The engine's own words.
        words: String,
    },
    /// A redirect where none belongs.
    #[error("{what}: answered by a redirect to {to}, which is not followed, since credentials would go along")]
    Redirected {
        /// What was tried.
        what: &'static str,
        /// Whereto.
        to: String,
    },
    /// It should have been otherwise.
    #[error("{what}: {why}")]
    Unexpected {
        /// What was tried.
        what: &'static str,
        /// How it was instead.
        why: String,
    },
}

impl OauthError {
    /// Something that should have been otherwise.
    #[must_use]
    pub fn unexpected(what: &'static str, why: impl Into<String>) -> Self {
        Self::Unexpected { what, why: why.into() }
    }

    /// The finding of a question that ended this way.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let said = crate::gates::said(self);
        match self {
            Self::Silent { .. } | Self::Refused { status: 502..=504, .. } => Finding::Silent(said),
            _ => Finding::Broken(said),
        }
    }
}
