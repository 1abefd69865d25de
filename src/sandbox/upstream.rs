//! How the internal systems reach the engine: through the gateway, in the path style of their own side.
//!
//! Owns path prefixes and time-outs. Never chooses a side: the caller's pass through its participant's gate says which.

use super::http;
use crate::plan::Side;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;

/// Longest wait for the engine; the dashboard's own clients wait longer.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Why the engine's answer cannot be used.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    /// No answer.
    #[error("{what}: the engine did not answer: {source}")]
    Lost {
        /// What was asked.
        what: &'static str,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is no success.
    #[error("{what}: the engine answered {status}")]
    Status {
        /// What was asked.
        what: &'static str,
        /// Its status.
        status: u16,
        /// Its body.
        body: Value,
    },
    /// A success that is not understood.
    #[error("{what}: the engine's answer lacks {lacks}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What is missing.
        lacks: &'static str,
    },
}

/// The engine behind the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    http: reqwest::Client,
    public: String,
    admin: String,
    is_in_place: bool,
}

impl Upstream {
    pub(crate) fn new(public: &str, admin: &str, is_in_place: bool) -> Self {
        Self { http: http::client(), public: public.to_owned(), admin: admin.to_owned(), is_in_place }
    }

    /// The base URL of the admin listener.
    pub(crate) fn admin_base(&self) -> &str {
        &self.admin
    }

    /// A request to the admin API; blue's paths have no prefix, green's begin with `/admin`, unless both engines speak one version.
    pub(crate) fn admin(&self, side: Side, method: Method, path: &str) -> RequestBuilder {
        let prefix = match side {
            Side::Blue => "",
            Side::Green if self.is_in_place => "",
            Side::Green => "/admin",
        };
        self.http.request(method, format!("{}{prefix}{path}", self.admin)).timeout(TIMEOUT)
    }

    /// A browser's request to the public API.
    pub(crate) fn browse(&self, path_and_query: &str) -> RequestBuilder {
        self.http.get(format!("{}{path_and_query}", self.public)).timeout(TIMEOUT)
    }
}

/// Sends and takes the answer's JSON; an empty body is null.
pub(crate) async fn json_of(what: &'static str, request: RequestBuilder) -> Result<Value, UpstreamError> {
    let answer = request.send().await.map_err(|source| UpstreamError::Lost { what, source })?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|source| UpstreamError::Lost { what, source })?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(body);
    }
    Err(UpstreamError::Status { what, status: status.as_u16(), body })
}

/// Sends as a browser and takes where it is sent next, with the answer for its cookies.
pub(crate) async fn redirect_of(
    what: &'static str,
    request: RequestBuilder,
) -> Result<(url::Url, Response), UpstreamError> {
    let answer = request.send().await.map_err(|source| UpstreamError::Lost { what, source })?;
    let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
    let location = location.and_then(|location| url::Url::parse(location).ok());
    match location {
        Some(location) => Ok((location, answer)),
        None => {
            let status = answer.status().as_u16();
            let body = answer.json().await.unwrap_or(Value::Null);
            Err(UpstreamError::Status { what, status, body })
        }
    }
}
