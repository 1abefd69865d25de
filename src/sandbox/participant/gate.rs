//! The gate in front of a participant's work: open to a side, held, or refusing.
//!
//! Owns the count of work in flight and of those who wait. Never decides which side is served.

use crate::plan::Side;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Most requests that wait at a held gate; the rest are refused.
const WAITING_MAX: usize = 4_000;
/// Longest a request waits at a held gate, whatever the hold's own end.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The gate refuses: answer 503 with Retry-After.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open(Side),
    Held,
    Refusing,
}

#[derive(Debug)]
struct Count {
    mode: Mode,
    in_flight: u64,
    waiting: usize,
}

/// The gate; cheap to clone.
#[derive(Clone)]
pub(super) struct Gate {
    count: Arc<Mutex<Count>>,
    changed: Arc<watch::Sender<()>>,
}

/// Work under way; dropping it ends the work.
pub(crate) struct Pass {
    gate: Gate,
    /// The side this work is done on.
    pub(crate) side: Side,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.with(|count| count.in_flight -= 1);
        self.gate.changed.send_replace(());
    }
}

impl Gate {
    fn new(mode: Mode) -> Self {
        let count = Count { mode, in_flight: 0, waiting: 0 };
        Self { count: Arc::new(Mutex::new(count)), changed: Arc::new(watch::Sender::new(())) }
    }

    pub(super) fn open(side: Side) -> Self {
        Self::new(Mode::Open(side))
    }

    pub(super) fn refusing() -> Self {
        Self::new(Mode::Refusing)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Count) -> T) -> T {
        act(&mut self.count.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, mode: Mode) {
        self.with(|count| count.mode = mode);
        self.changed.send_replace(());
    }

    pub(super) fn hold(&self) {
        self.set(Mode::Held);
    }

    pub(super) fn refuse(&self) {
        self.set(Mode::Refusing);
    }

    pub(super) fn serve(&self, side: Side) {
        self.set(Mode::Open(side));
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.with(|count| count.in_flight)
    }

    /// Waits until nothing is in flight; the caller bounds it.
    pub(super) async fn idle(&self) {
        let mut changed = self.changed.subscribe();
        while self.in_flight() > 0 {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits for the gate to open; a refusing gate answers at once.
    pub(super) async fn enter(&self) -> Result<Pass, Refused> {
        let mut changed = self.changed.subscribe();
        if let Some(answer) = self.try_enter() {
            return answer;
        }
        let _waiting = Waiting::join(self).ok_or(Refused)?;
        let opened = async {
            loop {
                changed.changed().await.map_err(|_| Refused)?;
                if let Some(answer) = self.try_enter() {
                    return answer;
                }
            }
        };
        tokio::time::timeout(WAIT_MAX, opened).await.unwrap_or(Err(Refused))
    }

    fn try_enter(&self) -> Option<Result<Pass, Refused>> {
        self.with(|count| match count.mode {
            Mode::Held => None,
            Mode::Refusing => Some(Err(Refused)),
            Mode::Open(side) => {
                count.in_flight += 1;
                Some(Ok(Pass { gate: self.clone(), side }))
            }
        })
    }
}

/// One who waits at the gate; leaves the count when dropped, also when the client went away.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn join(gate: &'a Gate) -> Option<Self> {
        let joined = gate.with(|count| {
            let room = count.waiting < WAITING_MAX;
            count.waiting += usize::from(room);
            room
        });
        joined.then_some(Self(gate))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.with(|count| count.waiting -= 1);
    }
}
