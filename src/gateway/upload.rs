//! The body of a request on its way to an engine, watched: whether it is the client who is being waited for.
//!
//! A client that sends slowly, breaks off or falls silent makes a request fail without any fault of the engine's.

use super::answer::{Body, BoxError};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

/// Whether an upload has not come to its end because of its client.
#[derive(Debug, Clone, Default)]
pub(super) struct Awaited(Arc<AtomicU8>);

const NOBODY: u8 = 0;
const CLIENT: u8 = 1;
const BROKEN: u8 = 2;

impl Awaited {
    /// Its next piece has not come, or it has broken off.
    pub(super) fn is_client(&self) -> bool {
        self.0.load(Ordering::Relaxed) != NOBODY
    }

    /// It has broken off, or sent what nobody takes.
    pub(super) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed) == BROKEN
    }
}

/// A body that notes who is being waited for.
pub(super) struct Upload {
    body: Body,
    awaited: Awaited,
}

impl Upload {
    pub(super) fn new(body: Body, awaited: Awaited) -> Self {
        Self { body, awaited }
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let awaited = match &polled {
            Poll::Ready(None | Some(Ok(_))) => NOBODY,
            Poll::Ready(Some(Err(_))) => BROKEN,
            Poll::Pending => CLIENT,
        };
        self.awaited.0.store(awaited, Ordering::Relaxed);
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
        let awaited = Awaited::default();
        let pieces = stream::iter([piece()]).chain(stream::pending());
        let mut upload = Upload::new(StreamBody::new(pieces).boxed_unsync(), awaited.clone());
        assert!(!awaited.is_client(), "nobody has asked it for anything yet");
        assert!(upload.frame().await.is_some_and(|piece| piece.is_ok()));
        assert!(!awaited.is_client(), "the engine has not asked for more");
        assert!(upload.frame().now_or_never().is_none());
        assert!(awaited.is_client() && !awaited.is_broken());
    }

    #[tokio::test]
    async fn after_its_last_piece_the_engine_is_waited_for() {
        let awaited = Awaited::default();
        let late = stream::once(async {
            tokio::task::yield_now().await;
            piece()
        });
        let mut upload = Upload::new(StreamBody::new(Box::pin(late)).boxed_unsync(), awaited.clone());
        assert!(upload.frame().now_or_never().is_none() && awaited.is_client());
        assert!(upload.frame().await.is_some() && upload.frame().await.is_none());
        assert!(!awaited.is_client());
    }

    #[tokio::test]
    async fn a_client_that_breaks_off_is_to_blame() {
        let broken = stream::iter([Err::<Frame<Bytes>, BoxError>("broke off".into())]);
        let awaited = Awaited::default();
        let mut upload = Upload::new(StreamBody::new(broken).boxed_unsync(), awaited.clone());
        assert!(upload.frame().await.is_some_and(|piece| piece.is_err()));
        assert!(awaited.is_client() && awaited.is_broken());
    }
}
