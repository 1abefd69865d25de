//! The gate that every request passes: open to one side, held, or closed. Counts what is in flight.
//!
//! Knows no registers and no orders; the participant turns it. A request that was let through carries a [`Pass`] until its answer
//! is complete.

use super::routes::Manner;
use super::waiting::{Bounds, Place, Waiting};
use crate::plan::Side;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

/// Held requests leave in this many steps, or more when few are held.
const STEPS: usize = 5;
const STEP_PAUSE: Duration = Duration::from_millis(10);
/// Fewest requests of one step.
const STEP_LEAST: usize = 32;
/// How much longer than its hold a request waits, while it is settled who serves.
pub(super) const AFTER_HOLD: Duration = Duration::from_millis(750);

/// Why a request was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The queue of held requests is full.
    Full,
    /// Which side serves is not settled.
    Unsettled,
}

/// The right of one request to go to one side; in flight until dropped.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    /// Which side.
    pub(super) side: Side,
    /// The epoch at which that side serves.
    pub(super) epoch: i64,
    is_frozen: bool,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        let count = if self.is_frozen { &mut inner.frozen } else { &mut inner.in_flight };
        *count -= 1;
        if *count == 0 {
            drop(inner);
            self.gate.idle.notify_waiters();
        }
    }
}

/// One that waits at a held gate; its place is another's when it is dropped, whether it was let go, refused or left.
struct Held<'a> {
    gate: &'a Gate,
    place: Place,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.leave(self.place);
    }
}

/// The gate.
pub(super) struct Gate {
    inner: Mutex<Inner>,
    idle: Notify,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

type Tell = oneshot::Sender<Result<Pass, Refusal>>;

struct Inner {
    mode: Mode,
    side: Side,
    epoch: i64,
    /// Requests let through and not answered.
    in_flight: u64,
    /// Requests let through during a hold: introspection, and what the plan passes.
    frozen: u64,
    waiting: Waiting<Tell>,
    hold_until: Instant,
    /// Grows with every turn, so that an older release stops.
    turn: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Held; introspection and what the plan passes are still answered from the side being left.
    Held,
    /// Held, and turned to the other side or over without word; nothing passes but [`Gate::glance`].
    Turned,
    Closed,
}

impl Gate {
    /// A gate that is closed until somebody knows a side.
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        let inner = Inner {
            mode: Mode::Closed,
            side: Side::Blue,
            epoch: 0,
            in_flight: 0,
            frozen: 0,
            waiting: Waiting::new(bounds),
            hold_until: Instant::now(),
            turn: 0,
        };
        Arc::new(Self { inner: Mutex::new(inner), idle: Notify::new() })
    }

    /// Lets a request through, now or when the hold ends. Dropped meanwhile, as when its client has gone, it gives up its place.
    pub(super) async fn enter(self: &Arc<Self>, manner: Manner, body_bytes: u64) -> Result<Pass, Refusal> {
        let (told, _held) = {
            let mut inner = self.lock();
            match inner.mode {
                Mode::Open => return Ok(self.pass(&mut inner, false)),
                // A process that slept past its hold finds requests before its own word that the hold is over.
                Mode::Held if manner.passes_hold && Instant::now() < inner.hold_until => {
                    return Ok(self.pass(&mut inner, true));
                }
                Mode::Held | Mode::Turned => {
                    let (tell, told) = oneshot::channel();
                    let place = inner.waiting.push(manner.lane, body_bytes, tell).ok_or(Refusal::Full)?;
                    (told, Held { gate: self, place })
                }
                Mode::Closed => return Err(Refusal::Unsettled),
            }
        };
        self.wait(told).await
    }

    /// Lets a question through that changes nothing and tells nothing of a token, also while everything else is held: the systems
    /// verify on their own path, before the release, which engine answers there.
    pub(super) fn glance(self: &Arc<Self>) -> Result<Pass, Refusal> {
        let mut inner = self.lock();
        match inner.mode {
            Mode::Open => Ok(self.pass(&mut inner, false)),
            Mode::Held | Mode::Turned => Ok(self.pass(&mut inner, true)),
            Mode::Closed => Err(Refusal::Unsettled),
        }
    }

    async fn wait(&self, mut told: oneshot::Receiver<Result<Pass, Refusal>>) -> Result<Pass, Refusal> {
        loop {
            let until = self.lock().hold_until + AFTER_HOLD;
            tokio::select! {
                answer = &mut told => return answer.unwrap_or(Err(Refusal::Unsettled)),
                () = sleep_until(until) => {
                    // A switch may have prolonged the hold meanwhile.
                    if self.lock().hold_until + AFTER_HOLD <= Instant::now() {
                        return Err(Refusal::Unsettled);
                    }
                }
            }
        }
    }

    fn pass(self: &Arc<Self>, inner: &mut Inner, is_frozen: bool) -> Pass {
        let count = if is_frozen { &mut inner.frozen } else { &mut inner.in_flight };
        *count += 1;
        Pass { gate: Arc::clone(self), side: inner.side, epoch: inner.epoch, is_frozen }
    }

    /// Starts to hold, until `until` unless something else is said before.
    pub(super) fn hold(&self, until: Instant) {
        self.turn(Mode::Held, |inner| inner.hold_until = until);
    }

    /// Holds also what passed, turned to the side that will be released.
    pub(super) fn turn_away(&self, side: Side, until: Instant) {
        self.turn(Mode::Turned, |inner| {
            inner.side = side;
            inner.hold_until = until;
        });
    }

    /// Holds also what passed: the hold is over, and who serves is being settled.
    pub(super) fn hold_all(&self) {
        self.turn(Mode::Turned, |_| {});
    }

    /// Opens to a side and lets the held requests go to it, the most urgent first, spread over a few steps.
    pub(super) fn release(self: &Arc<Self>, side: Side, epoch: i64) {
        let turn = self.turn(Mode::Open, |inner| {
            inner.side = side;
            inner.epoch = epoch;
        });
        let step = self.lock().waiting.len().div_ceil(STEPS).max(STEP_LEAST);
        if self.let_go(turn, step) {
            let gate = Arc::clone(self);
            tokio::spawn(async move {
                loop {
                    sleep(STEP_PAUSE).await;
                    if !gate.let_go(turn, step) {
                        break;
                    }
                }
            });
        }
    }

    /// Lets one step of held requests go; false when none is left or the gate was turned since.
    fn let_go(self: &Arc<Self>, turn: u64, step: usize) -> bool {
        let mut inner = self.lock();
        if inner.turn != turn {
            return false;
        }
        let taken = inner.waiting.take_step(step);
        let passes: Vec<Pass> = taken.iter().map(|_| self.pass(&mut inner, false)).collect();
        let is_more = inner.waiting.len() > 0;
        // A pass that nobody takes is dropped by the channel, and dropping it takes the lock.
        drop(inner);
        for (tell, pass) in taken.into_iter().zip(passes) {
            let _ = tell.send(Ok(pass));
        }
        is_more
    }

    /// Refuses everything, also what is held.
    pub(super) fn close(&self) {
        self.turn(Mode::Closed, |_| {});
        let taken = self.lock().waiting.take(usize::MAX);
        for tell in taken {
            let _ = tell.send(Err(Refusal::Unsettled));
        }
    }

    /// Waits until nothing is in flight, for at most until `until`; gives how many still are.
    pub(super) async fn drained(&self, until: Instant) -> u64 {
        self.count_down(until, |inner| inner.in_flight).await
    }

    /// Waits until nothing that was let through during the hold is unanswered.
    pub(super) async fn thawed(&self, until: Instant) -> u64 {
        self.count_down(until, |inner| inner.frozen).await
    }

    async fn count_down(&self, until: Instant, count: impl Fn(&Inner) -> u64) -> u64 {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let left = count(&self.lock());
            if left == 0 {
                return 0;
            }
            tokio::select! {
                () = notified => {}
                () = sleep_until(until) => return count(&self.lock()),
            }
        }
    }

    /// How many requests are in flight.
    pub(super) fn in_flight(&self) -> u64 {
        self.lock().in_flight
    }

    /// Whether everything is refused.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().mode == Mode::Closed
    }

    /// How many requests are held.
    pub(super) fn held(&self) -> usize {
        self.lock().waiting.len()
    }

    fn turn(&self, mode: Mode, change: impl FnOnce(&mut Inner)) -> u64 {
        let mut inner = self.lock();
        inner.mode = mode;
        inner.turn += 1;
        change(&mut inner);
        inner.turn
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocations::hydra::Class;

    #[tokio::test]
    async fn a_glance_passes_through_a_hold_to_the_side_turned_to() {
        let bounds = Bounds { requests: 10, bytes: 1000 };
        let gate = Gate::new(bounds);
        assert_eq!(gate.glance().err(), Some(Refusal::Unsettled));
        gate.release(Side::Blue, 1);
        let until = Instant::now() + Duration::from_secs(5);
        gate.hold(until);
        assert_eq!(gate.glance().map(|pass| pass.side).ok(), Some(Side::Blue));
        gate.turn_away(Side::Green, until);
        assert_eq!(gate.glance().map(|pass| pass.side).ok(), Some(Side::Green));
        assert_eq!(gate.drained(Instant::now()).await, 0, "a glance is no work in flight");
    }

    #[tokio::test]
    async fn what_passes_a_hold_keeps_the_gate_from_turning_and_waits_once_it_has() {
        let gate = Gate::new(Bounds { requests: 10, bytes: 1000 });
        gate.release(Side::Blue, 1);
        let until = Instant::now() + Duration::from_secs(5);
        gate.hold(until);
        let manner = Manner { passes_hold: true, ..Manner::of(Class::Other) };
        let passed = gate.enter(manner, 0).await.expect("it passes");
        assert_eq!((passed.side, gate.drained(Instant::now()).await), (Side::Blue, 0));
        assert_eq!(gate.thawed(Instant::now()).await, 1, "it is under way");
        gate.turn_away(Side::Green, until);
        let waits = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(manner, 0).await.map(|pass| pass.side) }
        });
        while gate.held() == 0 {
            tokio::task::yield_now().await;
        }
        drop(passed);
        assert_eq!(gate.thawed(Instant::now()).await, 0);
        gate.release(Side::Green, 2);
        assert_eq!(waits.await.expect("no panic"), Ok(Side::Green));
    }

    #[tokio::test]
    async fn once_a_hold_is_over_nothing_passes_before_it_is_settled() {
        let gate = Gate::new(Bounds { requests: 10, bytes: 1000 });
        gate.release(Side::Blue, 1);
        gate.hold(Instant::now() + Duration::from_secs(5));
        let manner = Manner { passes_hold: true, ..Manner::of(Class::Other) };
        drop(gate.enter(manner, 0).await.expect("it passes"));
        gate.hold_all();
        let waits = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(manner, 0).await.map(|pass| (pass.side, pass.epoch)) }
        });
        while gate.held() == 0 {
            tokio::task::yield_now().await;
        }
        gate.release(Side::Blue, 2);
        assert_eq!(waits.await.expect("no panic"), Ok((Side::Blue, 2)));
    }
}
