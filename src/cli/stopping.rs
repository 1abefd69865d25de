//! What asks a verb at work to park: SIGINT, SIGTERM, and `cutover pause` from any machine.
//!
//! Only asks, however often: the engine and the steps decide where it is safe, and a flip that is decided is finished. From
//! [`listen`] on no such signal ends this process by itself; `kill -9` does, and the next run copes.

use crate::engine::{Stop, Stopper};
use crate::journal::Lease;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

/// Listens until the task is aborted.
pub(super) fn listen(lease: &Lease) -> (Stop, JoinHandle<()>) {
    let (stopper, stop) = Stop::channel();
    let (interrupt, terminate) = (caught(SignalKind::interrupt()), caught(SignalKind::terminate()));
    let listening = tokio::spawn(pass_on(stopper, interrupt, terminate, lease.pause_asked()));
    (stop, listening)
}

async fn pass_on(
    stopper: Stopper,
    mut interrupt: Option<Signal>,
    mut terminate: Option<Signal>,
    pause: impl Future<Output = String>,
) {
    let mut pause = std::pin::pin!(async { format!("cutover pause ({})", pause.await) });
    let mut is_paused = false;
    loop {
        let by = tokio::select! {
            () = next(&mut interrupt) => "SIGINT".to_owned(),
            () = next(&mut terminate) => "SIGTERM".to_owned(),
            by = &mut pause, if !is_paused => {
                is_paused = true;
                by
            }
        };
        stopper.ask(by);
    }
}

fn caught(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::warn!(%error, "a signal cannot be caught; it ends this process")).ok()
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
