//! The prober as an HTTP client: one request, timed, with what came back.
//!
//! Owns time-outs and the headers that name side and epoch. Never retries and never judges.

use super::words::{Call, Kind, Reply};
use crate::plan::Side;
use crate::sandbox::http;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A request that takes longer has failed; longer than any hold that a plan would allow.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the clients' requests go.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    /// The gateway's public listener.
    pub(crate) public: String,
    /// The gateway's admin listener.
    pub(crate) admin: String,
    /// The gateway's own listener.
    pub(crate) control: String,
    /// The developer dashboard.
    pub(crate) dashboard: String,
    /// The authorization service.
    pub(crate) authorization: String,
}

/// A client of everything.
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) doors: Doors,
    origin: Instant,
    epoch: AtomicI64,
    /// Whether admin paths begin with `/admin`; learned from redirects, as a resource server's configuration would be.
    prefixed: AtomicBool,
}

impl Client {
    pub(super) fn new(doors: Doors) -> Self {
        let (epoch, prefixed) = (AtomicI64::new(0), AtomicBool::new(false));
        Self { http: http::client(), doors, origin: Instant::now(), epoch, prefixed }
    }

    /// Microseconds since the prober's start.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Sends one request and waits for its whole answer.
    pub(super) async fn call(&self, kind: Kind, request: RequestBuilder) -> Call {
        let (start_us, epoch_at_start) = (self.now_us(), self.epoch.load(Ordering::SeqCst));
        let sent = request.timeout(TIMEOUT).send().await;
        let (reply, side, epoch) = match sent {
            Err(error) => (Reply::Lost(reason(&error)), None, None),
            Ok(answer) => {
                let (side, epoch) = named(&answer);
                (whole(answer).await, side, epoch)
            }
        };
        if let Some(epoch) = epoch {
            self.epoch.fetch_max(epoch, Ordering::SeqCst);
        }
        Call { kind, start_us, end_us: self.now_us(), reply, side, epoch, epoch_at_start }
    }

    /// Asks whether a token is active, as a resource server does.
    pub(super) async fn introspect(&self, token: &str) -> Call {
        let ask = |url: String| self.http.post(url).form(&[("token", token)]);
        self.admin(Kind::Introspect, "/oauth2/introspect", ask).await
    }

    /// Sends a request to the admin listener; follows a redirect to the other path style and remembers it.
    pub(super) async fn admin(&self, kind: Kind, path: &str, request: impl Fn(String) -> RequestBuilder) -> Call {
        let prefixed = self.prefixed.load(Ordering::Relaxed);
        let at = |prefixed: bool| format!("{}{}{path}", self.doors.admin, if prefixed { "/admin" } else { "" });
        let first = self.call(kind, request(at(prefixed))).await;
        if !matches!(first.status(), Some(307 | 308 | 404)) {
            return first;
        }
        let second = self.call(kind, request(at(!prefixed))).await;
        if second.success().is_some() {
            self.prefixed.store(!prefixed, Ordering::Relaxed);
        }
        Call { start_us: first.start_us, epoch_at_start: first.epoch_at_start, ..second }
    }
}

/// The side and epoch that the answer names.
fn named(answer: &Response) -> (Option<Side>, Option<i64>) {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let side = header("x-cutover-side").and_then(|side| side.parse().ok());
    (side, header("x-cutover-epoch").and_then(|epoch| epoch.parse().ok()))
}

async fn whole(answer: Response) -> Reply {
    let status = answer.status().as_u16();
    let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
    let redirect = location.map(|location| json!({ "redirect_to": location }));
    match (answer.bytes().await, redirect) {
        (Ok(_), Some(body)) => Reply::Answered { status, body },
        (Ok(bytes), None) => Reply::Answered { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) },
        (Err(error), _) => Reply::Lost(reason(&error)),
    }
}

/// The error with its causes, without the URL: a URL may hold a subject.
fn reason(error: &reqwest::Error) -> String {
    let mut words = if error.is_timeout() { "time-out".to_owned() } else { "connection".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    words
}
