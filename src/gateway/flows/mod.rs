//! Logins and consents in progress when sides change: each is finished on the side where it began, or begins anew where people are served.
//!
//! From Hydra 2.2 on a flow lives encrypted in its challenge and in cookies, so that another side's engine can do nothing with it, and a side
//! that was left is sealed. So the gateway remembers which challenge began where. When a screen asks the wrong side about one, it is told
//! what an engine says of a challenge that is over: go back to the request that it began with. When a browser comes back with the answer of
//! a screen, a cookie says where its flow began, and it is sent to its own request without that answer. The client notices a second
//! login and nothing else, since everything it had asked for stands in that request.
//!
//! Only the side counts, not its epoch. A flow of blue that is answered after a flip and a way back is at home again: blue was sealed
//! meanwhile and has kept its rows, and from 2.2 on they do not even matter. While one side serves nothing is changed.
//!
//! There is no loop: what is sent anywhere carries no answer of a screen, so that the engine gives it a new challenge, of the side that
//! serves; and our cookie is set with it, or was taken back before. There is no open redirect either: the address is the plan's, and what
//! follows it a request that an engine has answered with a challenge, or the browser's own.

mod cookie;
mod memory;
mod reading;

pub(super) use cookie::take as take_cookie;

use super::ahead::Ahead;
use super::answer::{Body, full};
use super::form;
use super::gate::Pass;
use super::headers;
use super::overlay::Doorway;
use super::proxy::Proxy;
use crate::plan::{self, Side};
use crate::revocations::hydra::Listener;
use cookie::{Attributes, Began};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use memory::Memory;
use reading::{AUTHORIZE, began_with, challenge_in, is_near, is_return, question};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// How long a flow is known: as long as Hydra lets a login wait (`ttl.login_consent_request`).
const LIFE: Duration = Duration::from_secs(30 * 60);

/// The plan's `flows: { restart }` at work.
pub(super) struct Flows {
    /// The address before every path, as browsers see it; without a slash at its end.
    restart: String,
    cookie: Attributes,
    memory: Memory,
}

/// A request that is sent back to its beginning.
enum Restart {
    /// Of a browser.
    Browser(Response<Body>),
    /// Of a screen.
    Screen(Response<Body>),
}

/// A browser's visit to the authorize endpoint, which may begin a flow or go on with one.
struct Visit {
    side: Side,
    epoch: i64,
    /// Its request, for the flow to begin with anew; none when it stands in a body that is not read.
    request: Option<String>,
}

impl Flows {
    /// By the plan's settings; nothing is known yet.
    pub(super) fn new(flows: &plan::Flows) -> Self {
        let before = Url::parse(&flows.restart).map(|url| url.path().trim_end_matches('/').to_owned());
        let path = format!("{}{AUTHORIZE}", before.unwrap_or_default());
        let cookie = Attributes { path, is_secure: flows.restart.starts_with("https:") };
        Self { restart: flows.restart.clone(), cookie, memory: Memory::new() }
    }

    /// Whether a request could be a part of a flow.
    pub(super) fn concern(&self, listener: Listener, head: &Parts) -> bool {
        is_near(listener, head.uri.path())
    }

    /// How many challenges are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.memory.len()
    }

    /// Forgets what is too old; without it that would be kept until the next flow.
    pub(super) fn sweep(&self) {
        self.memory.sweep(Instant::now());
    }

    fn restarted(&self, listener: Listener, head: &Parts, side: Side) -> Option<Restart> {
        match listener {
            Listener::Public => self.browser(head, side).map(Restart::Browser),
            Listener::Admin => self.screen(head, side).map(Restart::Screen),
        }
    }

    /// 303 to the browser that comes back with an answer for another side.
    fn browser(&self, head: &Parts, side: Side) -> Option<Response<Body>> {
        let Began(began) = head.extensions.get::<Began>()?;
        if *began == side || !is_return(head) {
            return None;
        }
        let location = HeaderValue::from_str(&format!("{}{}", self.restart, began_with(head))).ok()?;
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(LOCATION, location);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.cookie.forget(response.headers_mut());
        Some(response)
    }

    /// To a screen that asks about another side's challenge: where its browser is to go. 410 is what an engine says of a challenge that is
    /// over, and 200 what it says when it takes an answer; screens know both.
    fn screen(&self, head: &Parts, side: Side) -> Option<Response<Body>> {
        let question = question(head)?;
        let begun = self.memory.find(&question.challenge, Instant::now()).filter(|begun| begun.side != side)?;
        let body = serde_json::json!({ "redirect_to": format!("{}{}", self.restart, begun.request) });
        let mut response = Response::new(full(body.to_string()));
        *response.status_mut() = if question.is_answer { StatusCode::OK } else { StatusCode::GONE };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Whoever keeps answers may keep a 410, and the challenge is good again after a way back.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    /// Remembers what an engine has answered a visit by, and has the browser remember it.
    fn began(&self, visit: &Visit, response: &mut Response<Body>) {
        let Some(challenge) = challenge_in(response.status(), response.headers()) else { return };
        if let Some(request) = &visit.request {
            self.memory.learn(&challenge, visit.side, request, Instant::now());
        }
        self.cookie.set(response.headers_mut(), visit.side, visit.epoch);
    }
}

impl Visit {
    /// A flow that a form begins is known by its cookie alone.
    fn of(listener: Listener, head: &Parts, pass: &Pass) -> Option<Self> {
        let is_get = head.method == Method::GET;
        let is_visit = listener == Listener::Public && (is_get || head.method == Method::POST);
        let request = is_get.then(|| began_with(head));
        is_visit.then_some(Self { side: pass.side, epoch: pass.epoch, request })
    }
}

impl Proxy {
    /// Passes on a part of a flow, unless its flow began on another side.
    pub(super) async fn ask_in_flow(
        self: &Arc<Self>,
        flows: &Flows,
        (listener, doorway): (Listener, Option<Doorway>),
        head: Parts,
        body: Ahead,
        pass: Pass,
        until: Instant,
    ) -> Response<Body> {
        let Some(restart) = flows.restarted(listener, &head, pass.side) else {
            let visit = Visit::of(listener, &head, &pass);
            let mut response = self.ask(listener, doorway, head, body, pass, until).await;
            if let Some(visit) = visit {
                flows.began(&visit, &mut response);
            }
            return response;
        };
        let mut response = match restart {
            Restart::Browser(response) => {
                self.counters.restarted_browsers.add(1);
                response
            }
            Restart::Screen(response) => {
                self.counters.restarted_screens.add(1);
                // A screen that has not been heard to the end would take its connection for broken.
                let _ = form::read(body, until).await;
                response
            }
        };
        headers::stamp(response.headers_mut(), pass.side, pass.epoch);
        response
    }
}
