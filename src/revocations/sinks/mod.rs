//! Sinks: how an engine that serves is told, through its own API, to revoke once more what may not have been executed.
//!
//! A closed side has no engine that may write; there revocations are replayed as SQL (see [`super::replay`]), and by the plan's own statements
//! ([`SqlSink`]) where it has any. What a sink is answered is never a proof: whoever calls it asks the tables afterwards.

mod http;
mod hydra;
mod sql;

pub use http::HttpSink;
pub use hydra::HydraSink;
pub use sql::{Flaw, SqlSink};

use crate::plan::{Replay, Side};
use futures_util::future::BoxFuture;
use std::time::Duration;
use thiserror::Error;
use url::Url;

/// What an engine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Revoke the consents of a subject, to one client or to all.
    Consents {
        /// The subject.
        subject: String,
        /// The client, when one is meant.
        client: Option<String>,
    },
    /// Revoke one consent by its challenge.
    Consent {
        /// The challenge.
        challenge: String,
    },
    /// End all login sessions of a subject.
    Sessions {
        /// The subject.
        subject: String,
    },
    /// End one login session.
    Session {
        /// Its id.
        id: String,
    },
    /// Delete all access tokens of a client.
    ClientTokens {
        /// The client.
        client: String,
    },
}

/// Why an engine did not do, or may not have done, what it was told.
#[derive(Debug, Error)]
pub enum SinkError {
    /// It refused; nothing was done.
    #[error("the engine refused with status {0}")]
    Refused(u16),
    /// It does not let us in; nothing was done.
    #[error("the engine does not let us in (status {0})")]
    Denied(u16),
    /// It sent us elsewhere, which is never followed; nothing was done.
    #[error(
        "the engine answered with a redirect (status {0}), which is not followed: name the address that it points to"
    )]
    Redirected(u16),
    /// The plan has no words for it; nothing was asked.
    #[error("the plan's `http` has no request for this")]
    Unsaid,
    /// It failed; what it did before is not known.
    #[error("the engine failed with status {0}")]
    Failed(u16),
    /// It did not answer in time; what it did is not known.
    #[error("the engine did not answer within {0:?}")]
    Slow(Duration),
    /// It cannot be reached, or the connection broke; what it did is not known.
    #[error("the engine cannot be asked: {0}")]
    Unreachable(String),
}

impl SinkError {
    /// Whether it is known that nothing was done.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Denied(_) | Self::Redirected(_) | Self::Unsaid)
    }

    /// The status that was answered, when there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(status) | Self::Denied(status) | Self::Redirected(status) | Self::Failed(status) => {
                Some(*status)
            }
            Self::Slow(_) | Self::Unreachable(_) | Self::Unsaid => None,
        }
    }

    /// What a status other than success means.
    fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Redirected(status),
            401 | 403 => Self::Denied(status),
            400..=499 => Self::Refused(status),
            _ => Self::Failed(status),
        }
    }
}

/// An engine's own API.
pub trait Sink: Send + Sync {
    /// Tells the engine; the status of success. Repeating it does no harm.
    fn tell<'a>(&'a self, errand: &'a Errand) -> BoxFuture<'a, Result<u16, SinkError>>;
}

/// The API of `side`'s engine, asked through `http`, which waits for at most `limit`: the plan's own words where it has some, else Hydra's at
/// `admin`. None where there is neither.
#[must_use]
pub fn of_engine(
    http: reqwest::Client,
    replay: Option<&Replay>,
    admin: Option<Url>,
    side: Side,
    limit: Duration,
) -> Option<Box<dyn Sink>> {
    if let Some(words) = replay.and_then(|replay| replay.http.clone()) {
        return Some(Box::new(HttpSink::new(http, words, side, limit)));
    }
    Some(Box::new(HydraSink::new(http, admin?, limit)))
}

/// An HTTP client for sinks: follows no redirect, so that no credential travels to a host that the plan does not name.
///
/// # Errors
/// When TLS cannot be set up on this machine.
pub fn client(limit: Duration) -> Result<reqwest::Client, reqwest::Error> {
    // The second installation of a process fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connect = limit.min(Duration::from_secs(2));
    let none = reqwest::redirect::Policy::none();
    reqwest::Client::builder().connect_timeout(connect).timeout(limit).redirect(none).build()
}

/// Sends a request and reads its status; the body is left alone.
async fn sent(request: reqwest::RequestBuilder, limit: Duration) -> Result<u16, SinkError> {
    match request.send().await {
        Ok(response) if response.status().is_success() => Ok(response.status().as_u16()),
        Ok(response) => Err(SinkError::of_status(response.status().as_u16())),
        Err(error) if error.is_timeout() => Err(SinkError::Slow(limit)),
        Err(error) => Err(SinkError::Unreachable(without_address(error))),
    }
}

/// What went wrong, without the address: a subject in it belongs into no log.
fn without_address(error: reqwest::Error) -> String {
    let error = error.without_url();
    let (mut text, mut cause) = (error.to_string(), std::error::Error::source(&error));
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
