//! The gateway's own answers: refusals that say when to come again, and plain errors. Never an engine's words.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Any error of a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of a request or an answer.
pub(super) enum Body {
    /// All of it is at hand.
    Whole(Full<Bytes>),
    /// It comes piece by piece.
    Streamed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// One that comes piece by piece, unless there is nothing to come.
    pub(super) fn streamed<B>(body: B) -> Self
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_end_stream() {
            return full(Bytes::new());
        }
        Self::Streamed(body.map_err(Into::into).boxed_unsync())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Streamed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// A body of bytes that are at hand.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::Whole(Full::new(bytes.into()))
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
