//! Refreshes under way and, for a short while, their answers. In memory alone, bounded in number and bytes, overwritten when forgotten.

use super::key::Key;
use hyper::{HeaderMap, StatusCode};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Most answers that are kept.
const MOST: usize = 10_000;
/// Most bytes of their bodies.
const MOST_BYTES: usize = 32 << 20;

/// The answer of an engine to a refresh.
pub(super) struct Landed {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// What somebody is who asks for a refresh.
pub(super) enum Seat {
    /// The first: asks the engine.
    Leads(Lead),
    /// Waits for the first one's answer.
    Follows(watch::Receiver<Option<Arc<Landed>>>),
    /// Comes again for an answer that was given.
    Replays(Arc<Landed>),
}

/// All flights of a gateway.
pub(super) struct Flights {
    life: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    under_way: HashMap<Key, watch::Receiver<Option<Arc<Landed>>>>,
    kept: HashMap<Key, Arc<Landed>>,
    /// When kept answers are forgotten, the oldest first.
    ends: VecDeque<(Instant, Key)>,
    bytes: usize,
}

impl Flights {
    /// Answers are kept for `life`.
    pub(super) fn new(life: Duration) -> Arc<Self> {
        Arc::new(Self { life, inner: Mutex::default() })
    }

    /// Takes a seat.
    pub(super) fn enter(self: &Arc<Self>, key: Key, now: Instant) -> Seat {
        let mut inner = self.lock();
        inner.forget_old(now);
        if let Some(landed) = inner.kept.get(&key) {
            return Seat::Replays(Arc::clone(landed));
        }
        if let Some(follower) = inner.under_way.get(&key) {
            return Seat::Follows(follower.clone());
        }
        let (tell, told) = watch::channel(None);
        inner.under_way.insert(key, told);
        Seat::Leads(Lead { flights: Arc::clone(self), key, tell })
    }

    /// Forgets an answer, so that the next who asks is judged by the engine.
    pub(super) fn forget(&self, key: &Key) {
        let mut inner = self.lock();
        inner.forget(key);
        inner.ends.retain(|(_, ended)| ended != key);
    }

    /// Forgets answers whose time is over.
    pub(super) fn sweep(&self, now: Instant) {
        self.lock().forget_old(now);
    }

    /// How many answers are kept.
    pub(super) fn kept(&self) -> usize {
        self.lock().kept.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, key: &Key) {
        if let Some(landed) = self.kept.remove(key) {
            self.bytes -= landed.body.len();
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((end, key)) = self.ends.front().copied() {
            if now < end {
                break;
            }
            self.ends.pop_front();
            self.forget(&key);
        }
    }
}

/// The right and the duty to ask the engine once. Dropped without an answer, its followers learn that there is none.
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: Key,
    tell: watch::Sender<Option<Arc<Landed>>>,
}

impl Lead {
    /// Where its own client waits: like everybody else, so that it may go away.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Arc<Landed>>> {
        self.tell.subscribe()
    }

    /// Gives the answer to all who wait, and keeps it for those who come again if `is_kept`. False when there was no room to keep it.
    pub(super) fn land(self, landed: Arc<Landed>, is_kept: bool, now: Instant) -> bool {
        let mut inner = self.flights.lock();
        let bytes = landed.body.len();
        inner.forget_old(now);
        let is_room = inner.kept.len() < MOST && inner.bytes + bytes <= MOST_BYTES;
        if is_kept && is_room {
            inner.bytes += bytes;
            inner.kept.insert(self.key, Arc::clone(&landed));
            inner.ends.push_back((now + self.flights.life, self.key));
        }
        drop(inner);
        self.tell.send_replace(Some(landed));
        !is_kept || is_room
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.lock().under_way.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::key;
    use super::*;

    fn some_key(token: &str) -> Key {
        let form = format!("grant_type=refresh_token&client_id=a&refresh_token={token}");
        key(&[0; 32], &HeaderMap::new(), form.as_bytes(), true).expect("a key")
    }

    fn landed(bytes: usize) -> Arc<Landed> {
        let body = Zeroizing::new(vec![b'x'; bytes]);
        Arc::new(Landed { status: StatusCode::OK, headers: HeaderMap::new(), body })
    }

    fn lead(flights: &Arc<Flights>, token: &str, now: Instant) -> Lead {
        match flights.enter(some_key(token), now) {
            Seat::Leads(lead) => lead,
            _ => panic!("somebody else leads {token}"),
        }
    }

    #[test]
    fn one_leads_the_others_follow_and_those_who_come_again_find_the_answer_for_a_while() {
        let (flights, now) = (Flights::new(Duration::from_secs(10)), Instant::now());
        let first = lead(&flights, "t1", now);
        let Seat::Follows(follower) = flights.enter(some_key("t1"), now) else { panic!("the second leads too") };
        drop(lead(&flights, "t2", now));
        assert!(first.land(landed(5), true, now));
        assert_eq!(follower.borrow().as_ref().map(|landed| landed.body.len()), Some(5));
        assert!(matches!(flights.enter(some_key("t1"), now + Duration::from_secs(9)), Seat::Replays(_)));
        flights.sweep(now + Duration::from_secs(10));
        assert_eq!(flights.kept(), 0, "its time is over");
        drop(lead(&flights, "t1", now));
    }

    #[test]
    fn what_is_not_kept_is_told_to_those_who_wait_alone() {
        let (flights, now) = (Flights::new(Duration::from_secs(10)), Instant::now());
        let first = lead(&flights, "t1", now);
        let Seat::Follows(follower) = flights.enter(some_key("t1"), now) else { panic!("the second leads too") };
        assert!(first.land(landed(5), false, now));
        assert!(follower.borrow().is_some());
        drop(lead(&flights, "t1", now));
    }

    #[test]
    fn an_answer_can_be_forgotten_and_a_leader_that_dies_leaves_nothing() {
        let (flights, now) = (Flights::new(Duration::from_secs(10)), Instant::now());
        assert!(lead(&flights, "t1", now).land(landed(5), true, now));
        flights.forget(&some_key("t1"));
        let dying = lead(&flights, "t1", now);
        let Seat::Follows(follower) = flights.enter(some_key("t1"), now) else { panic!("the second leads too") };
        drop(dying);
        assert!(follower.has_changed().is_err(), "no answer will come");
        drop(lead(&flights, "t1", now));
    }

    #[test]
    fn the_memory_is_bounded_in_bytes_and_number() {
        let (flights, now) = (Flights::new(Duration::from_secs(10)), Instant::now());
        assert!(lead(&flights, "big", now).land(landed(MOST_BYTES), true, now));
        assert!(!lead(&flights, "t1", now).land(landed(1), true, now), "no room, and it is said");
        flights.forget(&some_key("big"));
        for number in 0..MOST {
            assert!(lead(&flights, &number.to_string(), now).land(landed(1), true, now));
        }
        assert!(!lead(&flights, "t1", now).land(landed(1), true, now));
    }
}
