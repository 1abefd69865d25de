//! What is known of a request before it is passed on: what it asks, who asks, and which tokens it presents.
//!
//! Forms are read where something hangs on them: token requests always, introspection and userinfo while anything is denied.

use super::ahead::Ahead;
use super::answer::{Body, error, full};
use super::clients;
use super::figures::Question;
use super::form::{self, Form};
use super::overlay::{Doorway, Presented, is_hidden};
use super::proxy::{asks_version, not_sent_in_time, streamed};
use crate::revocations::hydra;
use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::time::Instant;

/// What is known of a request.
pub(super) struct Recognized {
    pub(super) question: Question,
    /// Who says to refresh; whether they are is the engine's word.
    pub(super) client: Option<String>,
    /// The tokens it presents, where they are looked at.
    pub(super) presented: Option<(Doorway, Presented)>,
    /// The whole form of a refresh.
    pub(super) refresh: Option<Bytes>,
}

impl Recognized {
    pub(super) fn of(question: Question) -> Self {
        Self { question, client: None, presented: None, refresh: None }
    }
}

/// What is asked, and the body to pass on, as it came. While anything is denied (`is_judged`) a request whose tokens cannot be seen is
/// refused where an engine might see them.
pub(super) async fn recognized(
    doorway: Option<Doorway>,
    head: &Parts,
    body: Ahead,
    until: Instant,
    is_judged: bool,
) -> Result<(Recognized, Body), Box<Response<Body>>> {
    let Some(doorway) = doorway.filter(|doorway| is_judged || *doorway == Doorway::Token) else {
        let question = if asks_version(head) { Question::Version } else { Question::Other };
        return Ok((Recognized::of(question), streamed(body)));
    };
    if head.method == Method::GET || !form::is_plain(head) || form::is_declared_large(head) {
        let is_large = form::is_plain(head) && form::is_declared_large(head);
        if is_judged && (is_hidden(head) || is_large) {
            return Err(Box::new(unseen()));
        }
        return seen(doorway, head, b"", streamed(body), is_judged);
    }
    match form::read(body, until).await {
        Form::Whole(bytes) => {
            let (mut recognized, body) = seen(doorway, head, &bytes, full(bytes.clone()), is_judged)?;
            if doorway == Doorway::Token && hydra::is_refresh(&bytes) {
                recognized.question = Question::Refresh;
                recognized.client = clients::named(&head.headers, &bytes);
                recognized.refresh = Some(bytes);
            }
            Ok((recognized, body))
        }
        Form::Unread(_) if is_judged => Err(Box::new(unseen())),
        Form::Unread(body) => Ok((Recognized::of(Question::Other), streamed(body))),
        Form::Late => Err(Box::new(not_sent_in_time())),
    }
}

fn seen(
    doorway: Doorway,
    head: &Parts,
    form: &[u8],
    body: Body,
    is_judged: bool,
) -> Result<(Recognized, Body), Box<Response<Body>>> {
    let mut recognized = Recognized::of(Question::Other);
    if is_judged {
        let presented = Presented::at(doorway, head, form).ok_or_else(|| Box::new(unseen()))?;
        recognized.presented = Some((doorway, presented));
    }
    Ok((recognized, body))
}

/// Revocations are denied, and whether this one's tokens are among them cannot be seen.
fn unseen() -> Response<Body> {
    let why = "tokens are presented in one plain form of usual size (application/x-www-form-urlencoded)";
    error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", why)
}
