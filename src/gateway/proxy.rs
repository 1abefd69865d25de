//! One request through the gateway: through the gate, past the doors, to the engine of the side, and its answer back.
//!
//! Bodies are streamed both ways, save a revocation's form (read to find the chain), those in which tokens are presented (`recognize`) and
//! small answers (read whole, so that the request is over when the engine is done, however slow the client reads). No POST
//! is ever sent twice.

use super::ahead::Ahead;
use super::answer::{self, Body, BoxError, Unheard, come_again, error, full};
use super::capture::Capture;
use super::counters::Counters;
use super::figures::{Asked, Question, Tallies};
use super::flows::{Flows, take_cookie};
use super::form::{self, FORM_BYTES, Form};
use super::gate::{Gate, Pass, Refusal};
use super::headers::{self, Peer};
use super::log::Logged;
use super::overlay::{Doorway, Overlay, Verdict, denied};
use super::recognize::{Recognized, recognized};
use super::refresh::{Asking, Refreshes};
use super::routes::Routes;
use super::upstream::{Upstreams, chain_of};
use crate::revocations::doors::{Doors, InForm, Reading};
use crate::revocations::hydra::{self, Class, Knock, Listener};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// Largest body of a request.
const BODY_BYTES: usize = 8 * 1024 * 1024;
/// Answers up to this size are read whole before they are passed on.
const SMALL_ANSWER_BYTES: u64 = 64 * 1024;

/// The path on which an engine says who it is; answered through a hold, so that a system can verify its own path.
const VERSION: &str = "/version";

/// Everything a request needs; all but the upstreams is shared by the threads of a gateway.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) gate: Arc<Gate>,
    pub(super) doors: Doors,
    pub(super) routes: Routes,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) capture: Arc<Capture>,
    pub(super) tallies: Arc<Tallies>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) refreshes: Option<Arc<Refreshes>>,
    pub(super) flows: Option<Arc<Flows>>,
    pub(super) counters: Arc<Counters>,
    pub(super) request_timeout: Duration,
}

/// An answer under way: a box, so that a connection that asks nothing keeps no room for a request.
pub(super) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Proxy {
    /// Answers one request of one listener.
    ///
    /// A revocation is begun at once and runs to its end even when its client has gone by then: what has come whole is carried out, and what
    /// is queued is also executed. The library drops a request whose client has gone, without looking at it again.
    pub(super) fn answer(self: Arc<Self>, listener: Listener, peer: Peer, request: Request<Incoming>) -> Answer {
        let reading = self.doors.read(listener, request.method(), request.uri().path(), request.uri().query());
        let is_revocation = !matches!(reading, Reading::Passes | Reading::Unclear(_));
        let answer = async move { self.look_at(listener, &peer, reading, request).await };
        if !is_revocation {
            return Box::pin(answer);
        }
        let task = tokio::spawn(answer);
        Box::pin(async {
            task.await.unwrap_or_else(|failed| {
                tracing::error!(%failed, "a revocation's task failed");
                come_again("the revocation could not be carried out")
            })
        })
    }

    async fn look_at(
        self: &Arc<Self>,
        listener: Listener,
        peer: &Peer,
        reading: Reading,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if let Some(refused) = objection(&request) {
            return refused;
        }
        let length = headers::declared_length(request.headers());
        let (mut head, body) = request.into_parts();
        let mut body = Ahead::of(body);
        let class = match &reading {
            Reading::Passes => hydra::class(listener, &head.method, head.uri.path()),
            Reading::Unclear(why) => return error(StatusCode::BAD_REQUEST, "invalid_request", why),
            Reading::Knocks(_) | Reading::Narrowed(..) | Reading::InForm(_) => Class::Revocation,
        };
        let manner = self.routes.manner(listener, &head.method, head.uri.path(), class);
        headers::strip(&mut head.headers);
        if self.flows.is_some() {
            take_cookie(&mut head);
        }
        headers::add_client(&mut head.headers, peer);
        let entered = if asks_version(&head) {
            self.gate.glance()
        } else {
            tokio::select! {
                biased;
                entered = self.gate.enter(manner, length.unwrap_or(FORM_BYTES as u64)) => entered,
                _ = body.read() => return answer::turned_away("the request's body broke off"),
            }
        };
        match entered {
            Ok(pass) => {
                let side = pass.side;
                let logged = Logged::of(&head, peer.address, &pass);
                let response = self.pass_on(listener, reading, head, body, class, pass).await;
                self.counters.answered(side, class, response.status());
                logged.inspect(|logged| logged.answered(response.status()));
                response
            }
            Err(Refusal::Full) => {
                self.counters.refused_full.add(1);
                come_again("too many requests are waiting for a change-over")
            }
            Err(Refusal::Unsettled) => {
                self.counters.refused_unsettled.add(1);
                come_again("which engine serves is not settled yet")
            }
        }
    }

    async fn pass_on(
        self: &Arc<Self>,
        listener: Listener,
        reading: Reading,
        head: Parts,
        body: Ahead,
        class: Class,
        pass: Pass,
    ) -> Response<Body> {
        let until = Instant::now() + self.request_timeout;
        if reading == Reading::Passes {
            let doorway = Doorway::of(listener, class);
            if let Some(flows) = self.flows.as_ref().filter(|flows| flows.concern(listener, &head)) {
                return Box::pin(self.ask_in_flow(flows, (listener, doorway), head, body, pass, until)).await;
            }
            return self.ask(listener, doorway, head, body, pass, until).await;
        }
        Box::pin(self.revoke(listener, reading, head, body, pass, until)).await
    }

    /// Passes on what is no revocation, unless it presents what was revoked.
    pub(super) async fn ask(
        self: &Arc<Self>,
        listener: Listener,
        doorway: Option<Doorway>,
        head: Parts,
        body: Ahead,
        pass: Pass,
        until: Instant,
    ) -> Response<Body> {
        let stamped = |mut response: Response<Body>| {
            headers::stamp(response.headers_mut(), pass.side, pass.epoch);
            response
        };
        let (mut known, body) = match recognized(doorway, &head, body, until, !self.overlay.is_empty()).await {
            Ok(recognized) => recognized,
            Err(response) => return stamped(*response),
        };
        if let Some((doorway, presented)) = known.presented.take()
            && self.overlay.judge(pass.side, &presented).await == Verdict::Denied
        {
            self.counters.denied(doorway);
            return stamped(denied(doorway));
        }
        if let (Some(refreshes), Some(form)) = (&self.refreshes, known.refresh.take())
            && let Some(key) = refreshes.key(&head.headers, &form)
        {
            let asking = Asking { listener, head, form, recognized: known, until };
            return Box::pin(self.share(refreshes, key, asking, pass)).await;
        }
        self.forward(listener, head, body, known, pass, until).await
    }

    async fn revoke(
        self: &Arc<Self>,
        listener: Listener,
        reading: Reading,
        mut head: Parts,
        body: Ahead,
        pass: Pass,
        until: Instant,
    ) -> Response<Body> {
        let done = self.doors.done(listener, &head.method, head.uri.path());
        let read = match reading {
            Reading::Knocks(knock) => Ok((knock, streamed(body))),
            Reading::Narrowed(knock, query) => {
                headers::ask_only(&mut head.uri, &query);
                Ok((knock, streamed(body)))
            }
            Reading::InForm(form) => read_form(&form, &head, body, until).await,
            Reading::Passes | Reading::Unclear(_) => return self.ask(listener, None, head, body, pass, until).await,
        };
        let (knock, body) = match read {
            Ok(read) => read,
            Err(response) => return *response,
        };
        let receipt = match self.capture.take(&knock, &pass, headers::actor(&head.headers)).await {
            Ok((receipt, _)) => receipt,
            Err(failed) => {
                tracing::warn!(error = %chain_of(&failed), door = knock.door().as_str(), "revocation refused");
                return come_again("the revocation could not be recorded; nothing was revoked");
            }
        };
        let response = self.forward(listener, head, body, Recognized::of(Question::Other), pass, until).await;
        // Our own answers say nothing of what the engine did, and neither does any 5xx.
        if response.extensions().get::<Unheard>().is_none() {
            self.capture.settle(receipt, knock.door(), done, response.status()).await;
        }
        response
    }

    pub(super) async fn forward(
        &self,
        listener: Listener,
        head: Parts,
        body: Body,
        recognized: Recognized,
        pass: Pass,
        until: Instant,
    ) -> Response<Body> {
        let (side, epoch) = (pass.side, pass.epoch);
        let (mut asked, body) = Asked::now(&self.tallies, side, recognized.question, body);
        asked.by(recognized.client);
        let mut response = match timeout_at(until, self.upstreams.send(side, listener, head, body)).await {
            Ok(Ok(response)) => self.bring_back(response, pass, asked, until).await,
            Ok(Err(failed)) => {
                asked.broke();
                unheard(not_sent_whole(&asked, &failed).unwrap_or_else(|| {
                    tracing::warn!(error = %chain_of(&failed), %side, "the engine did not answer");
                    error(StatusCode::BAD_GATEWAY, "server_error", "the engine did not answer")
                }))
            }
            Err(_) => {
                asked.broke();
                unheard(if asked.awaits_client() { not_sent_in_time() } else { not_in_time() })
            }
        };
        headers::stamp(response.headers_mut(), side, epoch);
        response
    }

    async fn bring_back(
        &self,
        response: Response<Incoming>,
        pass: Pass,
        mut asked: Asked,
        until: Instant,
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        asked.answered(head.status);
        headers::strip(&mut head.headers);
        if headers::declared_length(&head.headers).is_none_or(|bytes| bytes > SMALL_ANSWER_BYTES) {
            let rest = Rest { body, asked, _pass: pass, until: Box::pin(sleep_until(until)) };
            return Response::from_parts(head, Body::streamed(rest));
        }
        match timeout_at(until, body.collect()).await {
            Ok(Ok(whole)) => Response::from_parts(head, full(whole.to_bytes())),
            Ok(Err(failed)) => {
                asked.broke();
                tracing::warn!(error = %chain_of(&failed), "the engine's answer broke off");
                unheard(error(StatusCode::BAD_GATEWAY, "server_error", "the engine's answer broke off"))
            }
            Err(_) => {
                asked.broke();
                unheard(error(StatusCode::GATEWAY_TIMEOUT, "server_error", "the engine did not finish in time"))
            }
        }
    }
}

/// Why a request is not looked at any further.
fn objection(request: &Request<Incoming>) -> Option<Response<Body>> {
    let headers = request.headers();
    if *request.method() == Method::CONNECT {
        return Some(answer::broken_off(StatusCode::METHOD_NOT_ALLOWED, "this is no way to anywhere else"));
    }
    if headers::is_ambiguous(headers) {
        return Some(answer::turned_away("the request gives its length twice"));
    }
    if headers::is_coded(headers) {
        return Some(answer::turned_away("the request's body comes in another coding than chunked"));
    }
    if headers::names_no_path(request.uri()) {
        return Some(answer::turned_away("the request names no path"));
    }
    if headers::names_two_hosts(request.uri(), headers) {
        return Some(answer::turned_away("the request names two hosts"));
    }
    let is_large = headers::declared_length(headers).is_some_and(|bytes| bytes > BODY_BYTES as u64);
    is_large.then(too_large)
}

fn too_large() -> Response<Body> {
    answer::broken_off(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large")
}

/// What a client is told whose body the engine did not get whole; none when that was not the client's doing.
fn not_sent_whole(asked: &Asked, failed: &(dyn std::error::Error + 'static)) -> Option<Response<Body>> {
    if !asked.is_broken_off() {
        return None;
    }
    let mut causes = std::iter::successors(Some(failed), |cause| cause.source());
    let is_large = causes.any(|cause| cause.is::<LengthLimitError>());
    Some(if is_large { too_large() } else { answer::turned_away("the request's body broke off") })
}

fn unheard(mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().insert(Unheard);
    response
}

/// 408: the client did not send the whole of its request in time.
pub(super) fn not_sent_in_time() -> Response<Body> {
    answer::broken_off(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")
}

pub(super) fn asks_version(head: &Parts) -> bool {
    head.method == Method::GET && head.uri.path() == VERSION
}

pub(super) fn not_in_time() -> Response<Body> {
    error(StatusCode::GATEWAY_TIMEOUT, "server_error", "the engine did not answer in time")
}

pub(super) fn streamed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Body::streamed(Limited::new(body, BODY_BYTES))
}

/// Reads a revocation's form. Anything but one plain form that says once what is revoked is refused: what cannot be read cannot be captured.
async fn read_form(
    meant: &InForm,
    head: &Parts,
    body: Ahead,
    until: Instant,
) -> Result<(Knock, Body), Box<Response<Body>>> {
    let refuse = |status, why: &str| Err(Box::new(error(status, "invalid_request", why)));
    if !form::is_plain(head) {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a revocation is a plain form (application/x-www-form-urlencoded)",
        );
    }
    let bytes = match form::read(body, until).await {
        Form::Whole(bytes) => bytes,
        Form::Unread(_) => return refuse(StatusCode::BAD_REQUEST, "the form is too large or broke off"),
        Form::Late => return Err(Box::new(not_sent_in_time())),
    };
    match meant.knock(&bytes) {
        Ok(knock) => Ok((knock, full(bytes))),
        Err(why) => refuse(StatusCode::BAD_REQUEST, why),
    }
}

/// The rest of an answer: in flight until its end, and no longer than its request may take.
struct Rest {
    body: Incoming,
    asked: Asked,
    _pass: Pass,
    until: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Rest {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                let late = self.until.as_mut().poll(context);
                late.map(|()| Some(Err("the answer took longer than a request may".into())))
            }
        };
        if let Poll::Ready(Some(Err(_))) = polled {
            self.asked.broke();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
