//! Refreshes that are one: concurrent and repeated requests of one credential for one token reach the engine once.
//!
//! An engine without a grace period takes the second use of a refresh token for theft and ends the session. The first request is carried to
//! its end whatever becomes of its client, those beside it get its answer, and so does one that comes again within the plan's time, also
//! when it has lost the answer in a change-over. The price: for that long the engine does not see a token used twice.

mod flights;
mod key;

use super::answer::{Body, BoxError, come_again, error, full};
use super::counters::Shared;
use super::gate::Pass;
use super::headers;
use super::overlay::{Doorway, Presented, Verdict, denied};
use super::proxy::{Proxy, not_in_time};
use super::recognize::Recognized;
use crate::plan::Coalesce;
use crate::revocations::hydra::Listener;
use bytes::Bytes;
use flights::{Flights, Landed, Lead, Seat};
use http_body_util::BodyExt;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode};
use key::{Key, Secret};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

/// Largest answer to a refresh.
const ANSWER_BYTES: usize = 256 * 1024;
/// Says that an answer was given to somebody before, or at the same time.
const SHARED: HeaderName = HeaderName::from_static("x-cutover-shared");

/// The plan's `refresh: { coalesce }` at work.
pub(super) struct Refreshes {
    flights: Arc<Flights>,
    secret: Zeroizing<Secret>,
    is_public_shared: bool,
}

impl Refreshes {
    /// By the plan's settings, under a new secret.
    pub(super) fn new(coalesce: &Coalesce) -> Self {
        Self {
            flights: Flights::new(coalesce.ttl),
            secret: Zeroizing::new(rand::random()),
            is_public_shared: coalesce.public,
        }
    }

    /// What a refresh is known by; none when it is sent by itself.
    pub(super) fn key(&self, headers: &HeaderMap, form: &[u8]) -> Option<Key> {
        key::key(&self.secret, headers, form, self.is_public_shared)
    }

    /// How many answers are kept.
    pub(super) fn kept(&self) -> usize {
        self.flights.kept()
    }

    /// Forgets answers whose time is over; without it they would be kept until the next refresh.
    pub(super) fn sweep(&self) {
        self.flights.sweep(Instant::now());
    }
}

/// A refresh on its way.
pub(super) struct Asking {
    pub(super) listener: Listener,
    pub(super) head: Parts,
    pub(super) form: Bytes,
    pub(super) recognized: Recognized,
    pub(super) until: Instant,
}

impl Proxy {
    /// Answers a refresh that may be shared. Who waits for another's answer stays in flight, so that a hold waits for all of them.
    pub(super) async fn share(
        self: &Arc<Self>,
        refreshes: &Refreshes,
        key: Key,
        asking: Asking,
        pass: Pass,
    ) -> Response<Body> {
        let client = asking.recognized.client.clone().unwrap_or_default();
        let (side, epoch, until) = (pass.side, pass.epoch, asking.until);
        let mut response = match refreshes.flights.enter(key, Instant::now()) {
            Seat::Leads(lead) => {
                self.counters.flights.add(1);
                let (proxy, told) = (Arc::clone(self), lead.follow());
                tokio::spawn(async move { proxy.lead(lead, asking, pass).await });
                return landing(told, until).await;
            }
            Seat::Follows(told) => {
                let response = landing(told, until).await;
                self.counters.shared(&client, Shared { followers: 1, replays: 0 });
                marked(response, "beside")
            }
            Seat::Replays(landed) => match self.overlay.judge(side, &tokens_of(&landed, &asking.form)).await {
                Verdict::Passes => {
                    self.counters.shared(&client, Shared { followers: 0, replays: 1 });
                    marked(given(&landed), "again")
                }
                Verdict::Denied => {
                    refreshes.flights.forget(&key);
                    self.counters.denied(Doorway::Token);
                    denied(Doorway::Token)
                }
                // To ask the engine would end the session; to answer could give out what was revoked.
                Verdict::Unknown => come_again("whether the grant was revoked cannot be found out now"),
            },
        };
        headers::stamp(response.headers_mut(), side, epoch);
        response
    }

    async fn lead(self: Arc<Self>, lead: Lead, asking: Asking, pass: Pass) {
        let Asking { listener, head, form, recognized, until } = asking;
        let response = self.forward(listener, head, full(form), recognized, pass, until).await;
        let landed = Arc::new(land(response).await);
        let is_kept = is_grant(&landed);
        if !lead.land(landed, is_kept, Instant::now()) {
            self.counters.unkept.add(1);
        }
    }
}

async fn landing(mut told: watch::Receiver<Option<Arc<Landed>>>, until: Instant) -> Response<Body> {
    match timeout_at(until, told.wait_for(Option::is_some)).await {
        Ok(Ok(landed)) => landed.as_ref().map_or_else(not_in_time, |landed| given(landed)),
        Ok(Err(_)) => error(StatusCode::BAD_GATEWAY, "server_error", "the refresh broke off"),
        Err(_) => not_in_time(),
    }
}

async fn land(response: Response<Body>) -> Landed {
    let (head, body) = response.into_parts();
    match whole(body).await {
        Ok(body) => Landed { status: head.status, headers: head.headers, body },
        Err(why) => {
            tracing::warn!(%why, "the engine's answer to a refresh broke off");
            let headers = head.headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
            let ours = headers.filter(|(name, _)| name.as_str().starts_with("x-cutover-")).collect();
            let body = br#"{"error":"server_error","error_description":"the engine's answer broke off"}"#.to_vec();
            Landed { status: StatusCode::BAD_GATEWAY, headers: ours, body: Zeroizing::new(body) }
        }
    }
}

async fn whole(mut body: Body) -> Result<Zeroizing<Vec<u8>>, BoxError> {
    let mut read = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES / 16));
    while let Some(frame) = body.frame().await {
        // Trailers are left out, as everywhere.
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > ANSWER_BYTES {
            return Err("it is larger than any answer to a refresh".into());
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

/// Only what an engine grants is kept: an error may be over when somebody comes again.
fn is_grant(landed: &Landed) -> bool {
    let kind = landed.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    landed.status == StatusCode::OK && is_json && granted(landed).is_some_and(|granted| granted.access_token.is_some())
}

#[derive(serde::Deserialize)]
struct Granted {
    access_token: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
}

fn granted(landed: &Landed) -> Option<Granted> {
    serde_json::from_slice(&landed.body).ok()
}

/// The tokens of an answer and the one it was given for: where engines delete that one, only the new ones say whose it is.
fn tokens_of(landed: &Landed, form: &[u8]) -> Presented {
    let granted = granted(landed);
    let new = granted.iter().flat_map(|granted| [&granted.access_token, &granted.refresh_token]);
    let new: Vec<&str> = new.flatten().map(|token| token.as_str()).collect();
    let old = url::form_urlencoded::parse(form).find(|(key, _)| key == "refresh_token").map(|(_, token)| token);
    Presented::tokens(new.into_iter().chain(old.as_deref()))
}

/// The answer once more, as it was, save how old it is.
fn given(landed: &Landed) -> Response<Body> {
    let mut response = Response::new(full(landed.body.to_vec()));
    *response.status_mut() = landed.status;
    *response.headers_mut() = landed.headers.clone();
    response.headers_mut().remove(header::AGE);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    if landed.status == StatusCode::OK {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn marked(mut response: Response<Body>, how: &'static str) -> Response<Body> {
    response.headers_mut().insert(SHARED, HeaderValue::from_static(how));
    response
}
