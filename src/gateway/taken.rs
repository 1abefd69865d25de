//! A client's connection that gives up when its client takes nothing of what it is sent.
//!
//! While a socket is full nobody asks the answer for its next piece, so no bound on the answer itself would be looked at: the request would
//! stay in flight for as long as its client pleases, and no hold could drain.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection with the longest time for which nothing can be written to it.
pub(super) struct Taken<S> {
    stream: S,
    limit: Duration,
    /// While something waits to be written.
    until: Option<Pin<Box<Sleep>>>,
}

/// Pieces up to this many bytes in all are sent as one: that costs the system less than a list of them.
const SMALL: usize = 1024;

/// The pieces as one, when they are small.
fn joined<'a>(pieces: &[IoSlice<'_>], into: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        into.get_mut(end..end + piece.len())?.copy_from_slice(piece);
        end += piece.len();
    }
    Some(&into[..end])
}

impl<S: AsyncWrite + Unpin> Taken<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, until: None }
    }

    fn within<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.until = None;
            return polled;
        }
        let limit = self.limit;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut small = [0; SMALL];
        let polled = match joined(pieces, &mut small) {
            Some(whole) => Pin::new(&mut self.stream).poll_write(context, whole),
            None => Pin::new(&mut self.stream).poll_write_vectored(context, pieces),
        };
        self.within(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.within(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_something_now_and_then_is_waited_for() {
        let (near, mut far) = duplex(4);
        let mut near = Taken::new(near, Duration::from_secs(10));
        let writing = tokio::spawn(async move { near.write_all(b"twelve bytes").await });
        for _ in 0..3 {
            sleep(Duration::from_secs(9)).await;
            far.read_exact(&mut [0; 4]).await.expect("some of it");
        }
        assert!(writing.await.expect("no panic").is_ok());
    }

    #[test]
    fn only_small_pieces_are_sent_as_one() {
        let (head, body, large) = (IoSlice::new(b"head "), IoSlice::new(b"body"), [0; SMALL]);
        let mut into = [0; SMALL];
        assert_eq!(joined(&[head, body], &mut into), Some(b"head body".as_slice()));
        assert_eq!(joined(&[head, IoSlice::new(&large)], &mut into), None);
        assert_eq!(joined(&[IoSlice::new(&large)], &mut into).map(<[u8]>::len), Some(SMALL));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, _far) = duplex(4);
        let mut near = Taken::new(near, Duration::from_secs(10));
        let error = near.write_all(b"twelve bytes").await.expect_err("nobody takes them");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
