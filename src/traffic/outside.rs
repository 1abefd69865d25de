//! Requests to what is outside every lockstep, a job that is told or a value that is read and set: bounded, with a bearer token, redirects not
//! followed.

use crate::plan::{HttpRequest, Secret};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;

/// Characters of a refusal's body that are told.
const BODY_CHARS: usize = 200;
/// Bytes of an answer that are read for a value.
const BODY_BYTES: usize = 1 << 20;

/// Why a job did not do what it was told, or a value was not read or not set.
#[derive(Debug, Error)]
pub enum OutsideError {
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

/// One service outside: only 2xx is a yes of it.
#[derive(Debug)]
pub struct Outside<'a> {
    /// Speaks HTTP.
    pub http: &'a reqwest::Client,
    /// Bearer token of every request.
    pub bearer: Option<&'a Secret>,
    /// Bound on one request.
    pub within: Duration,
}

impl Outside<'_> {
    /// Tells a job, without a body; what it answers beside yes or no is not read.
    ///
    /// # Errors
    /// No answer, or another one than 2xx.
    pub async fn tell(&self, request: &HttpRequest) -> Result<(), OutsideError> {
        let response = self.send(request, None).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // The status alone says no: a body that breaks off changes nothing.
        Err(self.refused(request, status, response.text().await.unwrap_or_default()))
    }

    /// The value at a pointer of the answer's JSON; null when nothing is there.
    ///
    /// # Errors
    /// No answer, another one than 2xx, or no JSON.
    pub async fn read(&self, request: &HttpRequest, pointer: &str) -> Result<Value, OutsideError> {
        let text = self.ask(request, None).await?;
        let unreadable = || OutsideError::Unreadable { place: place(request) };
        let body: Value = serde_json::from_str(&text).map_err(|_| unreadable())?;
        Ok(body.pointer(pointer).cloned().unwrap_or(Value::Null))
    }

    /// Sends a body of JSON.
    ///
    /// # Errors
    /// No answer, another one than 2xx, or one that is too long.
    pub async fn set(&self, request: &HttpRequest, body: &Value) -> Result<(), OutsideError> {
        self.ask(request, Some(body)).await.map(drop)
    }

    async fn ask(&self, request: &HttpRequest, body: Option<&Value>) -> Result<String, OutsideError> {
        let mut response = self.send(request, body).await?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| silent(request, error))? {
            if bytes.len() + piece.len() > BODY_BYTES {
                return Err(OutsideError::Unreadable { place: place(request) });
            }
            bytes.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.is_success() { Ok(text) } else { Err(self.refused(request, status, text)) }
    }

    async fn send(&self, request: &HttpRequest, body: Option<&Value>) -> Result<Response, OutsideError> {
        let verb = reqwest::Method::from_bytes(request.method.as_bytes()).unwrap_or(reqwest::Method::POST);
        let mut sending = self.http.request(verb, &request.url).timeout(self.within);
        if let Some(body) = body {
            sending = sending.json(body);
        }
        if let Some(bearer) = self.bearer {
            sending = sending.bearer_auth(bearer.expose());
        }
        sending.send().await.map_err(|error| silent(request, error))
    }

    fn refused(&self, request: &HttpRequest, status: StatusCode, mut text: String) -> OutsideError {
        if let Some(bearer) = self.bearer {
            text = text.replace(bearer.expose(), "***");
        }
        let body = text.chars().take(BODY_CHARS).collect();
        OutsideError::Refused { method: request.method, place: place(request), status: status.as_u16(), body }
    }
}

fn silent(request: &HttpRequest, error: reqwest::Error) -> OutsideError {
    OutsideError::Silent { method: request.method, place: place(request), source: error.without_url() }
}

/// Host and path: a query may hold what nobody else should see.
fn place(request: &HttpRequest) -> String {
    request.url[..request.url.find('?').unwrap_or(request.url.len())].to_owned()
}
