//! The threads that speak with clients: one for each core, with the connections that it was given and connections to engines of its own.
//!
//! A request and its question to an engine stay on one thread, so that nobody is woken on another core for either: that costs more than all
//! else that is done for a small request. One task accepts, and hands each connection to the thread that has the fewest.

use super::error::GatewayError;
use super::headers::Peer;
use super::proxy::Proxy;
use super::taken::Taken;
use crate::revocations::hydra::Listener;
use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

const HEAD_BYTES: usize = 64 * 1024;
/// Most connections of one listener; the next wait to be accepted.
const CONNECTIONS: usize = 16_384;

/// Longest waits for a client.
#[derive(Clone, Copy)]
pub(super) struct Waits {
    pub(super) head: Duration,
    pub(super) taking: Duration,
}

/// How many threads there will be.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// All threads.
pub(super) struct Workers {
    all: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
    /// No thread ends before all may: what one of them has opened, such as a connection to control, others use.
    close: watch::Sender<bool>,
}

struct Worker {
    given: mpsc::UnboundedSender<Given>,
    connections: Arc<AtomicUsize>,
}

/// A connection that was accepted.
struct Given {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    listener: Listener,
    _permit: OwnedSemaphorePermit,
}

impl Workers {
    /// Starts a thread for each proxy. They end their connections once `ended` is true, and themselves with [`Self::close`].
    pub(super) fn start(
        proxies: Vec<Arc<Proxy>>,
        waits: Waits,
        ended: &watch::Receiver<bool>,
    ) -> Result<Self, GatewayError> {
        let failed = |error: std::io::Error| GatewayError::Failed(format!("start a thread: {error}"));
        let (close, closed) = watch::channel(false);
        let mut workers = Self { all: Vec::new(), threads: Vec::new(), close };
        for proxy in proxies {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
            let (given, taken) = mpsc::unbounded_channel();
            let connections = Arc::new(AtomicUsize::new(0));
            let work = Work { proxy, waits, ended: ended.clone(), connections: Arc::clone(&connections) };
            let closed = closed.clone();
            let thread = thread::Builder::new().name("gateway".to_owned());
            let thread = thread.spawn(move || work.run(runtime, taken, closed)).map_err(failed)?;
            workers.all.push(Worker { given, connections });
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Accepts the connections of one listener until the end.
    pub(super) async fn accept(&self, socket: TcpListener, listener: Listener, ended: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut end = pin!(until_true(ended));
        loop {
            let accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await.map_err(std::io::Error::other)?;
                let (stream, peer) = socket.accept().await?;
                Ok::<_, std::io::Error>(Given { stream: stream.into_std()?, peer, listener, _permit: permit })
            };
            tokio::select! {
                () = &mut end => break,
                accepted = accepted => match accepted {
                    Ok(given) => self.give(given),
                    Err(error) => {
                        tracing::warn!(%error, "accept a connection");
                        sleep(Duration::from_millis(10)).await;
                    }
                },
            }
        }
    }

    fn give(&self, given: Given) {
        let worker = self.all.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        let Some(worker) = worker else { return };
        worker.connections.fetch_add(1, Ordering::Relaxed);
        if worker.given.send(given).is_err() {
            tracing::error!("a thread of the gateway has ended; a connection is dropped");
        }
    }

    /// Waits until no connection is left.
    pub(super) async fn idle(&self) {
        for worker in &self.all {
            while worker.connections.load(Ordering::Relaxed) > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Ends the threads; what is still under way there breaks off.
    pub(super) async fn close(self) {
        // No receiver left means that all have ended.
        let _ = self.close.send(true);
        let join = || self.threads.into_iter().for_each(|thread| drop(thread.join()));
        if tokio::task::spawn_blocking(join).await.is_err() {
            tracing::error!("the threads of the gateway were not waited for");
        }
    }
}

/// What one thread needs.
struct Work {
    proxy: Arc<Proxy>,
    waits: Waits,
    ended: watch::Receiver<bool>,
    connections: Arc<AtomicUsize>,
}

impl Work {
    fn run(self, runtime: Runtime, mut taken: mpsc::UnboundedReceiver<Given>, closed: watch::Receiver<bool>) {
        runtime.block_on(async {
            let mut closed = pin!(until_true(closed));
            tokio::spawn(Arc::clone(&self.proxy.upstreams).sweep());
            let mut conversations = JoinSet::new();
            loop {
                tokio::select! {
                    () = &mut closed => break,
                    Some(_) = conversations.join_next(), if !conversations.is_empty() => {
                        self.connections.fetch_sub(1, Ordering::Relaxed);
                    }
                    Some(given) = taken.recv() => {
                        conversations.spawn(converse(given, Arc::clone(&self.proxy), self.waits, self.ended.clone()));
                    }
                }
            }
        });
        // Not by its drop, which would wait without a bound for whatever still looks up a name.
        runtime.shutdown_background();
    }
}

pub(super) async fn until_true(mut told: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end as well.
    let _ = told.wait_for(|told| *told).await;
}

async fn converse(given: Given, proxy: Arc<Proxy>, waits: Waits, ended: watch::Receiver<bool>) {
    let Given { stream, peer, listener, _permit } = given;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "take a connection"),
    };
    let _ = stream.set_nodelay(true);
    let peer = Peer::new(peer.ip());
    let service = service_fn(move |request| {
        let answer = Arc::clone(&proxy).answer(listener, peer.clone(), request);
        answer.map(Ok::<_, Infallible>)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(waits.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Taken::new(stream, waits.taking)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => log_end(result),
        () = until_true(ended) => {
            connection.as_mut().graceful_shutdown();
            log_end(connection.await);
        }
    }
}

fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection ended");
    }
}
