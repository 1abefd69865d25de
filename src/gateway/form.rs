//! The form of a request, read whole where something must be known of it before it is passed on.

use super::ahead::Ahead;
use super::answer::{Body, BoxError};
use super::headers;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use hyper::header;
use hyper::http::request::Parts;
use tokio::time::{Instant, timeout_at};

/// Largest form that is read.
pub(super) const FORM_BYTES: usize = 64 * 1024;

/// What came of reading a form.
pub(super) enum Form {
    /// All of it.
    Whole(Bytes),
    /// It is too large or broke off: the body as if nothing had been read of it.
    Unread(Body),
    /// It did not arrive in time.
    Late,
}

/// Whether the head promises a form that can be read: of the right type, in no encoding.
pub(super) fn is_plain(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_form = kind.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    is_form && !head.headers.contains_key(header::CONTENT_ENCODING)
}

/// Whether the head says that the form is larger than what is read.
pub(super) fn is_declared_large(head: &Parts) -> bool {
    headers::declared_length(&head.headers).is_some_and(|bytes| bytes > FORM_BYTES as u64)
}

/// Reads a form.
pub(super) async fn read(mut body: Ahead, until: Instant) -> Form {
    let mut read = BytesMut::new();
    loop {
        let frame = match timeout_at(until, body.frame()).await {
            Err(_) => return Form::Late,
            Ok(None) => return Form::Whole(read.freeze()),
            Ok(Some(Err(broken))) => return Form::Unread(joined(read, Some(broken.into()), body)),
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers are left out, as everywhere.
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > FORM_BYTES {
            return Form::Unread(joined(read, None, body));
        }
    }
}

/// What was read, what went wrong if anything did, and what is still to come.
fn joined(read: BytesMut, broken: Option<BoxError>, rest: Ahead) -> Body {
    let before = [Some(Ok(Frame::data(read.freeze()))), broken.map(Err)];
    let before = stream::iter(before.into_iter().flatten());
    Body::streamed(StreamBody::new(before.chain(BodyStream::new(rest).map(|frame| frame.map_err(Into::into)))))
}
