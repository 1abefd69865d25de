//! One request through the gateway: through the gate, past the doors, to the engine of the side, and its answer back.
//!
//! Bodies are streamed both ways, save a token revocation's (read to find the chain), a token request's (read to see whether it is a
//! refresh) and small answers (read whole, so that the request is over when the engine is done, however slow the client reads). No POST
//! is ever sent twice.

use super::answer::{Body, BoxError, come_again, error, full};
use super::capture::Capture;
use super::clients;
use super::figures::{Asked, Question, Tallies};
use super::form::{self, FORM_BYTES, Form};
use super::gate::{Gate, Pass, Refusal};
use super::headers;
use super::upstream::{Upstreams, chain_of};
use crate::revocations::hydra::{self, Class, Knock, Listener, Reading};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use std::net::IpAddr;
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

/// Everything a request needs.
pub(super) struct Proxy {
    gate: Arc<Gate>,
    upstreams: Arc<Upstreams>,
    capture: Arc<Capture>,
    tallies: Arc<Tallies>,
    request_timeout: Duration,
}

impl Proxy {
    pub(super) fn new(
        gate: Arc<Gate>,
        upstreams: Arc<Upstreams>,
        capture: Arc<Capture>,
        tallies: Arc<Tallies>,
        request_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { gate, upstreams, capture, tallies, request_timeout })
    }

    /// Answers one request of one listener.
    pub(super) async fn answer(
        self: &Arc<Self>,
        listener: Listener,
        client: IpAddr,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if headers::is_ambiguous(request.headers()) {
            return error(StatusCode::BAD_REQUEST, "invalid_request", "the request gives its length twice");
        }
        let length = headers::declared_length(request.headers());
        if length.is_some_and(|bytes| bytes > BODY_BYTES as u64) {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the request's body is too large");
        }
        let (mut head, body) = request.into_parts();
        let query = head.uri.query();
        let reading = hydra::read(listener, &head.method, head.uri.path(), query);
        let class = if reading == Reading::Passes {
            hydra::class(listener, &head.method, head.uri.path(), query)
        } else {
            Class::Revocation
        };
        headers::strip_hop_by_hop(&mut head.headers);
        headers::strip_ours(&mut head.headers);
        headers::add_client(&mut head.headers, client);
        let entered = if asks_version(&head) {
            self.gate.glance()
        } else {
            self.gate.enter(class, length.unwrap_or(FORM_BYTES as u64)).await
        };
        match entered {
            Ok(pass) => self.pass_on(listener, reading, head, body, pass).await,
            Err(Refusal::Full) => come_again("too many requests are waiting for a change-over"),
            Err(Refusal::Unsettled) => come_again("which engine serves is not settled yet"),
        }
    }

    async fn pass_on(
        self: &Arc<Self>,
        listener: Listener,
        reading: Reading,
        head: Parts,
        body: Incoming,
        pass: Pass,
    ) -> Response<Body> {
        let until = Instant::now() + self.request_timeout;
        if reading == Reading::Passes {
            return self.ask(listener, head, body, pass, until).await;
        }
        // A revocation runs to its end even when its client goes away: what is queued must also be executed.
        let proxy = Arc::clone(self);
        let task = tokio::spawn(async move { proxy.revoke(listener, reading, head, body, pass, until).await });
        task.await.unwrap_or_else(|failed| {
            tracing::error!(%failed, "a revocation's task failed");
            come_again("the revocation could not be carried out")
        })
    }

    /// Passes on what is no revocation.
    async fn ask(&self, listener: Listener, head: Parts, body: Incoming, pass: Pass, until: Instant) -> Response<Body> {
        match recognized(listener, &head, body, until).await {
            Some((asked, body)) => self.forward(listener, head, body, asked, pass, until).await,
            None => {
                let mut response = not_in_time();
                headers::stamp(response.headers_mut(), pass.side, pass.epoch);
                response
            }
        }
    }

    async fn revoke(
        &self,
        listener: Listener,
        reading: Reading,
        head: Parts,
        body: Incoming,
        pass: Pass,
        until: Instant,
    ) -> Response<Body> {
        let read = match reading {
            Reading::Knocks(knock) => Ok((knock, streamed(body))),
            Reading::TokenInBody => read_token(&head, body, until).await,
            Reading::Passes => return self.ask(listener, head, body, pass, until).await,
        };
        let (knock, body) = match read {
            Ok(read) => read,
            Err(response) => return *response,
        };
        let receipt = match self.capture.take(&knock, &pass).await {
            Ok(receipt) => receipt,
            Err(failed) => {
                tracing::warn!(error = %chain_of(&failed), door = knock.door().as_str(), "revocation refused");
                return come_again("the revocation could not be recorded; nothing was revoked");
            }
        };
        let response = self.forward(listener, head, body, Recognized::of(Question::Other), pass, until).await;
        // Our own 502 and 504 say nothing of what the engine did, and neither does any other 5xx.
        self.capture.settle(receipt, knock.door(), response.status()).await;
        response
    }

    async fn forward(
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
                tracing::warn!(error = %chain_of(&failed), %side, "the engine did not answer");
                error(StatusCode::BAD_GATEWAY, "server_error", "the engine did not answer")
            }
            Err(_) => {
                asked.broke();
                not_in_time()
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
        headers::strip_hop_by_hop(&mut head.headers);
        if headers::declared_length(&head.headers).is_none_or(|bytes| bytes > SMALL_ANSWER_BYTES) {
            let rest = Rest { body, asked, _pass: pass, until: Box::pin(sleep_until(until)) };
            return Response::from_parts(head, rest.boxed_unsync());
        }
        match timeout_at(until, body.collect()).await {
            Ok(Ok(whole)) => Response::from_parts(head, full(whole.to_bytes())),
            Ok(Err(failed)) => {
                asked.broke();
                tracing::warn!(error = %chain_of(&failed), "the engine's answer broke off");
                error(StatusCode::BAD_GATEWAY, "server_error", "the engine's answer broke off")
            }
            Err(_) => {
                asked.broke();
                error(StatusCode::GATEWAY_TIMEOUT, "server_error", "the engine did not finish in time")
            }
        }
    }
}

fn asks_version(head: &Parts) -> bool {
    head.method == Method::GET && head.uri.path() == VERSION
}

fn not_in_time() -> Response<Body> {
    error(StatusCode::GATEWAY_TIMEOUT, "server_error", "the engine did not answer in time")
}

fn streamed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Limited::new(body, BODY_BYTES).boxed_unsync()
}

/// What is known of a request before it is passed on.
struct Recognized {
    question: Question,
    /// Who says to refresh; whether they are is the engine's word.
    client: Option<String>,
}

impl Recognized {
    fn of(question: Question) -> Self {
        Self { question, client: None }
    }
}

/// What is asked, and the body to pass on, as it came. Whether it is a refresh is seen where a token request has a plain form of usual
/// size; none when that form did not arrive in time.
async fn recognized(listener: Listener, head: &Parts, body: Incoming, until: Instant) -> Option<(Recognized, Body)> {
    let is_token = hydra::is_token_endpoint(listener, &head.method, head.uri.path());
    if !is_token || !form::is_plain(head) || form::is_declared_large(head) {
        let question = if asks_version(head) { Question::Version } else { Question::Other };
        return Some((Recognized::of(question), streamed(body)));
    }
    match form::read(body, until).await {
        Form::Whole(bytes) if hydra::is_refresh(&bytes) => {
            let client = clients::named(&head.headers, &bytes);
            Some((Recognized { question: Question::Refresh, client }, full(bytes)))
        }
        Form::Whole(bytes) => Some((Recognized::of(Question::Other), full(bytes))),
        Form::Unread(body) => Some((Recognized::of(Question::Other), streamed(body))),
        Form::Late => None,
    }
}

/// Reads a token revocation's form. Anything but one plain form with one token is refused: what cannot be read cannot be captured.
async fn read_token(head: &Parts, body: Incoming, until: Instant) -> Result<(Knock, Body), Box<Response<Body>>> {
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
        Form::Late => return refuse(StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time"),
    };
    match hydra::token_of(&bytes) {
        Ok(token) => Ok((Knock::Token { signatures: hydra::signature_forms(&token) }, full(bytes))),
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
