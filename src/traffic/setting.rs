//! A value that a service keeps, read and set over HTTP: bounded, with a bearer token, redirects not followed.

use crate::plan::{HttpRequest, Secret};
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;

/// Characters of a refusal's body that are told.
const BODY_CHARS: usize = 200;
/// Bytes of an answer that are read.
const BODY_BYTES: usize = 1 << 20;

/// Why a value was not read or not set.
#[derive(Debug, Error)]
pub enum SettingError {
    /// No answer; whether the request was heard is unknown.
    #[error("{method} {place} was not answered")]
    Silent {
        /// The request's method.
        method: &'static str,
        /// Where it went, without what may be secret.
        place: String,
        /// What the network said.
        #[source]
        source: reqwest::Error,
    },
    /// Another answer than 2xx.
    #[error("{method} {place} was answered with {status}: {body}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// Where it went.
        place: String,
        /// The status.
        status: u16,
        /// The beginning of the body, without the token.
        body: String,
    },
    /// The answer is no JSON, or too long.
    #[error("GET {place} was answered with something else than JSON of at most 1 MB")]
    Unreadable {
        /// Where it went.
        place: String,
    },
}

/// One service's value: its requests, each of which only 2xx answers as a yes.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Speaks HTTP.
    pub http: &'a reqwest::Client,
    /// Bearer token of every request.
    pub bearer: Option<&'a Secret>,
    /// Bound on one request.
    pub within: Duration,
}

impl Setting<'_> {
    /// The value at a pointer of the answer's JSON; null when nothing is there.
    ///
    /// # Errors
    /// No answer, another one than 2xx, or no JSON.
    pub async fn read(&self, request: &HttpRequest, pointer: &str) -> Result<Value, SettingError> {
        let text = self.send(request, None).await?;
        let unreadable = || SettingError::Unreadable { place: place(&request.url) };
        let body: Value = serde_json::from_str(&text).map_err(|_| unreadable())?;
        Ok(body.pointer(pointer).cloned().unwrap_or(Value::Null))
    }

    /// Sends a body of JSON.
    ///
    /// # Errors
    /// No answer, or another one than 2xx.
    pub async fn set(&self, request: &HttpRequest, body: &Value) -> Result<(), SettingError> {
        self.send(request, Some(body)).await.map(drop)
    }

    async fn send(&self, request: &HttpRequest, body: Option<&Value>) -> Result<String, SettingError> {
        let (method, place) = (request.method, place(&request.url));
        let verb = reqwest::Method::from_bytes(method.as_bytes()).unwrap_or(reqwest::Method::POST);
        let mut sending = self.http.request(verb, &request.url).timeout(self.within);
        if let Some(body) = body {
            sending = sending.json(body);
        }
        if let Some(bearer) = self.bearer {
            sending = sending.bearer_auth(bearer.expose());
        }
        let silent = |source: reqwest::Error| SettingError::Silent {
            method,
            place: place.clone(),
            source: source.without_url(),
        };
        let mut response = sending.send().await.map_err(silent)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(silent)? {
            if bytes.len() + piece.len() > BODY_BYTES {
                return Err(SettingError::Unreadable { place });
            }
            bytes.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        let body = self.bearer.map_or(text.clone(), |bearer| text.replace(bearer.expose(), "***"));
        let body = body.chars().take(BODY_CHARS).collect();
        Err(SettingError::Refused { method, place, status: status.as_u16(), body })
    }
}

/// Host and path: a query may hold what nobody else should see.
fn place(url: &str) -> String {
    url[..url.find('?').unwrap_or(url.len())].to_owned()
}
