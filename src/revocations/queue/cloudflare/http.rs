//! Speaking to the API: the token goes to the configured host and to nobody else, redirects are not followed, a request that comes too
//! soon is repeated when the service says so, and no call outlasts its bound.

use super::NAME;
use crate::plan::{CloudflareQueue as Settings, Secret};
use crate::revocations::error::RevocationError;
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Largest answer read: a full pull, as base64.
const ANSWER_BYTES: usize = 32 << 20;
/// Wait after a 429 that does not say how long, and between tries after an answer that leaves it open.
const PAUSE: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(200);

/// The API of one account.
pub(super) struct Api {
    http: Result<reqwest::Client, String>,
    base: String,
    token: Secret,
    limit: Duration,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    #[serde(default)]
    errors: Vec<Value>,
    #[serde(default)]
    result: Value,
}

/// Why one try was in vain.
struct Vain {
    why: String,
    is_undone: bool,
    /// When it may be tried again.
    after: Option<Duration>,
}

impl Api {
    pub(super) fn new(settings: &Settings, limit: Duration) -> Self {
        // A second installation of a process is refused, and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(limit).build();
        let base = format!("{}/accounts/{}/queues", settings.api, settings.account);
        Self { http: http.map_err(|error| error.to_string()), base, token: settings.token.clone(), limit }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        act: &'static str,
        queue: &str,
        path: &str,
        body: &Value,
    ) -> Result<T, RevocationError> {
        self.call(act, Method::POST, &format!("{}/{queue}/{path}", self.base), Some(body)).await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, act: &'static str, queue: &str) -> Result<T, RevocationError> {
        self.call(act, Method::GET, &format!("{}/{queue}", self.base), None).await
    }

    /// Tries until it is done, refused, or the bound is over. Repeating is harmless: publishing twice is at least once.
    async fn call<T: DeserializeOwned>(
        &self,
        act: &'static str,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<T, RevocationError> {
        let end = Instant::now() + self.limit;
        let mut is_undone = true;
        loop {
            let tried = timeout_at(end, self.once(method.clone(), url, body)).await;
            let late = |_| Err(Vain { why: "it did not answer in time".to_owned(), is_undone: false, after: None });
            let vain = match tried.unwrap_or_else(late) {
                Ok(result) => {
                    let read = serde_json::from_value(result);
                    return read.map_err(|error| {
                        let why = format!("its answer cannot be understood: {error}");
                        RevocationError::Queue { queue: NAME, act, why, is_undone: false }
                    });
                }
                Err(vain) => vain,
            };
            is_undone &= vain.is_undone;
            match vain.after {
                Some(after) if Instant::now() + after < end => sleep(after).await,
                _ => return Err(RevocationError::Queue { queue: NAME, act, why: vain.why, is_undone }),
            }
        }
    }

    async fn once(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Value, Vain> {
        let undone = |why: String| Vain { why, is_undone: true, after: None };
        let http = self.http.as_ref().map_err(|why| undone(why.clone()))?;
        let mut request = http.request(method, url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            let is_undone = error.is_connect() || error.is_builder();
            let why = if is_undone { "it cannot be reached" } else { "the connection was lost" };
            Vain { why: why.to_owned(), is_undone, after: Some(AGAIN) }
        })?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let after = retry_after(&response).unwrap_or(PAUSE);
            let why = format!("too many requests; it says to come again after {} s", after.as_secs());
            return Err(Vain { why, is_undone: true, after: Some(after) });
        }
        if status.is_redirection() {
            return Err(undone(format!(
                "it answered {status}; redirects are not followed, the token is for this host"
            )));
        }
        if status.is_server_error() {
            let why = format!("it answered {status}");
            return Err(Vain { why, is_undone: false, after: Some(AGAIN) });
        }
        let bytes = read(response).await?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| Vain {
            why: format!("it answered {status} and no JSON of its API"),
            is_undone: status.is_client_error(),
            after: None,
        })?;
        if status.is_success() && answer.success {
            return Ok(answer.result);
        }
        let said: Vec<String> = answer.errors.iter().map(ToString::to_string).collect();
        Err(undone(format!("it answered {status}: {}", said.join("; "))))
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn read(mut response: Response) -> Result<Vec<u8>, Vain> {
    let mut bytes = Vec::new();
    let broken = |why: &str| Vain { why: why.to_owned(), is_undone: false, after: None };
    while let Some(chunk) = response.chunk().await.map_err(|_| broken("its answer broke off"))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES {
            return Err(broken("its answer is larger than any that it should give"));
        }
    }
    Ok(bytes)
}
