//! The body of a request on its way to an engine, watched: whether it is the client who is being waited for.
//!
//! A client that sends slowly, breaks off or falls silent makes a request fail without any fault of the engine's.

use super::answer::{Body, BoxError};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

/// Whether an upload has not come to its end because of its client; never where it is at hand.
#[derive(Debug, Clone, Default)]
pub(super) struct Awaited(Option<Arc<AtomicU8>>);

const NOBODY: u8 = 0;
const CLIENT: u8 = 1;
const BROKEN: u8 = 2;

impl Awaited {
    /// Its next piece has not come, or it has broken off.
    pub(super) fn is_client(&self) -> bool {
        self.whom() != NOBODY
    }

    /// It has broken off, or sent what nobody takes.
    pub(super) fn is_broken(&self) -> bool {
        self.whom() == BROKEN
    }

    fn whom(&self) -> u8 {
        self.0.as_ref().map_or(NOBODY, |whom| whom.load(Ordering::Relaxed))
    }
}

/// The same body, watched when it is still to come.
pub(super) fn watched(body: Body) -> (Awaited, Body) {
    match body {
        Body::Whole(body) => (Awaited::default(), Body::Whole(body)),
        Body::Streamed(body) => {
            let whom = Arc::new(AtomicU8::new(NOBODY));
            (Awaited(Some(Arc::clone(&whom))), Body::streamed(Upload { body, whom }))
        }
    }
}

/// A body that notes who is being waited for.
struct Upload {
    body: UnsyncBoxBody<Bytes, BoxError>,
    whom: Arc<AtomicU8>,
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let whom = match &polled {
            Poll::Ready(None | Some(Ok(_))) => NOBODY,
            Poll::Ready(Some(Err(_))) => BROKEN,
            Poll::Pending => CLIENT,
        };
        self.whom.store(whom, Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    fn piece() -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data(Bytes::from_static(b"piece")))
    }

    #[tokio::test]
    async fn the_client_is_waited_for_while_its_next_piece_has_not_come() {
        let pieces = stream::iter([piece()]).chain(stream::pending());
        let (awaited, mut upload) = watched(Body::streamed(StreamBody::new(pieces)));
        assert!(!awaited.is_client(), "nobody has asked it for anything yet");
        assert!(upload.frame().await.is_some_and(|piece| piece.is_ok()));
        assert!(!awaited.is_client(), "the engine has not asked for more");
        assert!(upload.frame().now_or_never().is_none());
        assert!(awaited.is_client() && !awaited.is_broken());
    }

    #[tokio::test]
    async fn after_its_last_piece_the_engine_is_waited_for() {
        let late = stream::once(async {
            tokio::task::yield_now().await;
            piece()
        });
        let (awaited, mut upload) = watched(Body::streamed(StreamBody::new(Box::pin(late))));
        assert!(upload.frame().now_or_never().is_none() && awaited.is_client());
        assert!(upload.frame().await.is_some() && upload.frame().await.is_none());
        assert!(!awaited.is_client());
    }

    #[tokio::test]
    async fn a_client_that_breaks_off_is_to_blame() {
        let broken = stream::iter([Err::<Frame<Bytes>, BoxError>("broke off".into())]);
        let (awaited, mut upload) = watched(Body::streamed(StreamBody::new(broken)));
        assert!(upload.frame().await.is_some_and(|piece| piece.is_err()));
        assert!(awaited.is_client() && awaited.is_broken());
    }
}
