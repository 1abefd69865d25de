//! The body of a request that is held: read ahead, as far as the queue counts it, so that it is seen when its client goes.
//!
//! The library looks for the end of a connection only once it has the body before it.

use super::waiting::BODY_COUNTS_BYTES;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A request's body, of which a part may be at hand.
pub(super) struct Ahead {
    read: VecDeque<Bytes>,
    /// Bytes at hand.
    bytes: u64,
    rest: Incoming,
}

impl Ahead {
    /// A body of which nothing was read.
    pub(super) fn of(rest: Incoming) -> Self {
        Self { read: VecDeque::new(), bytes: 0, rest }
    }

    /// Reads ahead; comes back only when the body breaks off.
    pub(super) async fn read(&mut self) -> hyper::Error {
        while self.bytes < BODY_COUNTS_BYTES {
            match self.rest.frame().await {
                None => break,
                Some(Err(broken)) => return broken,
                // Trailers are left out, as everywhere.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.bytes += data.len() as u64;
                        self.read.push_back(data);
                    }
                }
            }
        }
        std::future::pending().await
    }
}

impl Body for Ahead {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Some(data) = self.read.pop_front() {
            self.bytes -= data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(self.bytes + rest.lower());
        if let Some(upper) = rest.upper() {
            whole.set_upper(self.bytes + upper);
        }
        whole
    }
}
