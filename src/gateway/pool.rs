//! Connections to one address of an engine, each kept for the next request when it is free again.
//!
//! A pool belongs to one thread, and the connection used last is used next: it is the least likely to have been closed meanwhile.

use super::answer::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// One that was idle for longer is not used again: engines and proxies usually keep them for longer than this, but not much.
pub(super) const IDLE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(2);

/// Why a request has no answer.
#[derive(Debug, Error)]
pub(super) enum SendError {
    /// Nobody took a connection: the engine has not heard of the request.
    #[error("connect to {to}")]
    Connect {
        /// Where.
        to: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The connection broke under the request: the engine may have heard of it.
    #[error("send a request and read its answer")]
    Broke(#[source] hyper::Error),
}

/// The connections to one address.
pub(super) struct Pool {
    /// Host and port.
    to: String,
    host: HeaderValue,
    kept: Mutex<Vec<Kept>>,
}

/// A connection that has answered. It may still be at the body of its answer.
struct Kept {
    connection: SendRequest<Body>,
    since: Instant,
}

impl Pool {
    /// To this host and port; `host` is what a request says that names none.
    pub(super) fn new(to: String, host: HeaderValue) -> Self {
        Self { to, host, kept: Mutex::new(Vec::new()) }
    }

    /// Sends a request, whose target is a path and query alone, by a connection that is free or by a new one. It leaves a second time only when
    /// it never left: a kept connection was found closed.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        loop {
            let free = self.free();
            let is_kept = free.is_some();
            let connection = match free {
                Some(connection) => connection,
                // A box: most requests find a connection, and should not be as large as those that make one.
                None => Box::pin(self.connect()).await?,
            };
            match self.send_by(connection, request).await {
                Ok(response) => return Ok(response),
                Err((Some(unsent), _)) if is_kept => request = unsent,
                Err((_, error)) => return Err(SendError::Broke(error)),
            }
        }
    }

    /// Gives the request back when it never left.
    async fn send_by(
        &self,
        mut connection: SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, (Option<Request<Body>>, hyper::Error)> {
        match connection.try_send_request(request).await {
            Ok(response) => {
                self.lock().push(Kept { connection, since: Instant::now() });
                Ok(response)
            }
            Err(mut failed) => Err((failed.take_message(), failed.into_error())),
        }
    }

    /// The free connection that was used last.
    fn free(&self) -> Option<SendRequest<Body>> {
        let mut kept = self.lock();
        drop_old(&mut kept);
        let mut place = kept.len();
        while place > 0 {
            place -= 1;
            if kept[place].connection.is_closed() {
                kept.remove(place);
            } else if kept[place].connection.is_ready() {
                return Some(kept.remove(place).connection);
            }
        }
        None
    }

    /// Closes those that were idle for too long: after a flip nobody asks the engine that was left.
    pub(super) fn sweep(&self) {
        drop_old(&mut self.lock());
    }

    async fn connect(&self) -> Result<SendRequest<Body>, SendError> {
        let failed = |source| SendError::Connect { to: self.to.clone(), source };
        let connected = timeout(CONNECT, TcpStream::connect(&self.to)).await;
        let stream = connected.map_err(|late| failed(late.into()))?.map_err(failed)?;
        // Without it small requests wait for acknowledgements; the connection works all the same.
        let _ = stream.set_nodelay(true);
        // One piece for each message: most are small, and to send a list of pieces costs the system more.
        let made = http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await;
        let (connection, driver) = made.map_err(SendError::Broke)?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to an engine ended");
            }
        });
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest are first: each is put back behind the others.
fn drop_old(kept: &mut Vec<Kept>) {
    let old = kept.iter().take_while(|kept| kept.since.elapsed() > IDLE).count();
    kept.drain(..old);
}

#[cfg(test)]
mod tests {
    use super::super::answer::full;
    use super::*;
    use http_body_util::BodyExt as _;
    use hyper::Method;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What an engine does with the requests of one connection.
    #[derive(Clone, Copy, PartialEq)]
    enum Manner {
        Answers,
        /// Closes after its first answer, as one that was idle for too long.
        ClosesAfterOne,
        /// Takes the second request and goes away.
        DropsTheSecond,
    }

    /// An engine, and how many connections and requests it has seen, and connections that its client has closed.
    async fn engine(manner: Manner) -> (Pool, Arc<[AtomicUsize; 3]>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let seen = Arc::new([const { AtomicUsize::new(0) }; 3]);
        let counts = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counts[0].fetch_add(1, Ordering::SeqCst);
                let counts = Arc::clone(&counts);
                tokio::spawn(async move {
                    let (mut served, mut read) = (0, [0; 4096]);
                    while stream.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {
                        counts[1].fetch_add(1, Ordering::SeqCst);
                        if manner == Manner::DropsTheSecond && served == 1 {
                            return;
                        }
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("sent");
                        served += 1;
                        if manner == Manner::ClosesAfterOne {
                            return;
                        }
                    }
                    counts[2].fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        (Pool::new(address, HeaderValue::from_static("engine")), seen)
    }

    async fn post(pool: &Pool) -> Result<(), SendError> {
        let request =
            Request::builder().method(Method::POST).uri("/oauth2/token").body(full("a=b")).expect("a request");
        let answer = pool.send(request).await?;
        assert_eq!(answer.into_body().collect().await.map_err(SendError::Broke)?.to_bytes(), "ok");
        // The connection finds out by itself, on this same thread, what became of it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    fn counted(seen: &[AtomicUsize; 3]) -> (usize, usize) {
        (seen[0].load(Ordering::SeqCst), seen[1].load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn gateway_pool_sends_one_request_after_the_other_by_one_connection() {
        let (pool, seen) = engine(Manner::Answers).await;
        for _ in 0..3 {
            post(&pool).await.expect("answered");
        }
        assert_eq!(counted(&seen), (1, 3));
    }

    #[tokio::test]
    async fn gateway_pool_closes_what_nobody_has_used_for_long() {
        let (pool, seen) = engine(Manner::Answers).await;
        post(&pool).await.expect("answered");
        pool.sweep();
        post(&pool).await.expect("answered");
        assert_eq!(counted(&seen), (1, 2), "one that was just used is kept");
        tokio::time::pause();
        tokio::time::advance(IDLE + Duration::from_secs(1)).await;
        tokio::time::resume();
        pool.sweep();
        let closed = async {
            while seen[2].load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(CONNECT, closed).await.expect("the engine sees it closed");
    }

    #[tokio::test]
    async fn gateway_pool_takes_a_new_connection_when_the_kept_one_was_closed() {
        let (pool, seen) = engine(Manner::ClosesAfterOne).await;
        for _ in 0..3 {
            post(&pool).await.expect("answered");
        }
        assert_eq!(counted(&seen), (3, 3), "none was sent twice");
    }

    #[tokio::test]
    async fn gateway_pool_never_sends_again_what_may_have_been_heard() {
        let (pool, seen) = engine(Manner::DropsTheSecond).await;
        post(&pool).await.expect("answered");
        assert!(matches!(post(&pool).await, Err(SendError::Broke(_))));
        assert_eq!(counted(&seen), (1, 2));
    }

    #[tokio::test]
    async fn gateway_pool_says_that_nobody_was_reached() {
        let (pool, _) = engine(Manner::Answers).await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
        let pool = Pool { to: nobody.to_string(), ..pool };
        assert!(matches!(post(&pool).await, Err(SendError::Connect { .. })));
    }
}
