//! The gateway's own answers: refusals that say when to come again, and plain errors. Never an engine's words.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
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

/// 503: nothing was done, the client may come again.
pub(super) fn come_again(description: &str) -> Response<Body> {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
