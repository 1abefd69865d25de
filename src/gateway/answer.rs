//! The gateway's own answers: refusals that say when to come again, and plain errors. Never an engine's words.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

/// Any error of a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of either kind: an engine's, streamed, or our own.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of bytes that are at hand.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An OAuth-shaped error.
pub(super) fn error(status: StatusCode, code: &str, description: &str) -> Response<Body> {
    let body = serde_json::json!({ "error": code, "error_description": description });
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 400 to a request that two servers could read in two ways; what follows it on its connection is not read either.
pub(super) fn turned_away(description: &str) -> Response<Body> {
    broken_off(StatusCode::BAD_REQUEST, description)
}

/// An error after which nothing more is read of the connection, because nobody knows where the next request would begin.
pub(super) fn broken_off(status: StatusCode, description: &str) -> Response<Body> {
    let mut response = error(status, "invalid_request", description);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Marks an answer of our own where the engine's was expected: it says nothing of what the engine did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unheard;

/// 503: nothing was done, the client may come again.
pub(super) fn come_again(description: &str) -> Response<Body> {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
