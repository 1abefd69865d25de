//! Which questions (challenges) engines have asked lately, on which side each, and the request that it began with. In memory alone, bounded in
//! number, bytes and time; the oldest are forgotten first.
//!
//! A forgotten one costs a user the engine's own error page, and only when it began before a flip and is answered after it. Of a challenge
//! only a digest is kept: whoever has it may answer for the user.

use super::LIFE;
use crate::plan::Side;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Most challenges: two for each login, so that some 28 logins a second are remembered for half an hour.
const MOST: usize = 100_000;
/// Most bytes, with what it takes to find them.
const MOST_BYTES: usize = 64 << 20;
/// What one takes beside its request: two keys, two ends, a side and the tables' spare room.
const EACH_BYTES: usize = 192;
/// The longest request that is kept.
const REQUEST_BYTES: usize = 8 * 1024;

type Key = [u8; 32];

/// A challenge that an engine has given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begun {
    /// The side whose engine it was.
    pub(super) side: Side,
    /// Path and query of the request that began the flow, without what engines have added to it.
    pub(super) request: Arc<str>,
}

/// All of them.
pub(super) struct Memory {
    inner: Mutex<Inner>,
    most: usize,
    most_bytes: usize,
}

#[derive(Default)]
struct Inner {
    begun: HashMap<Key, Begun>,
    /// When each is forgotten, the oldest first.
    ends: VecDeque<(Instant, Key)>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self::bounded(MOST, MOST_BYTES)
    }

    fn bounded(most: usize, most_bytes: usize) -> Self {
        Self { inner: Mutex::default(), most, most_bytes }
    }

    /// Remembers a challenge. One that is known already stays as it is: an engine never gives one out twice.
    pub(super) fn learn(&self, challenge: &str, side: Side, request: &str, now: Instant) {
        if request.len() > REQUEST_BYTES {
            return;
        }
        let key = key(challenge);
        let mut inner = self.lock();
        inner.forget_old(now);
        if inner.begun.contains_key(&key) {
            return;
        }
        inner.bytes += EACH_BYTES + request.len();
        inner.begun.insert(key, Begun { side, request: request.into() });
        inner.ends.push_back((now + LIFE, key));
        while inner.begun.len() > self.most || inner.bytes > self.most_bytes {
            inner.forget_oldest();
        }
    }

    /// Where a challenge began, if that is remembered.
    pub(super) fn find(&self, challenge: &str, now: Instant) -> Option<Begun> {
        let mut inner = self.lock();
        inner.forget_old(now);
        inner.begun.get(&key(challenge)).cloned()
    }

    /// Forgets those whose time is over.
    pub(super) fn sweep(&self, now: Instant) {
        self.lock().forget_old(now);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.lock().begun.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_old(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.ends.pop_front() else { return };
        if let Some(begun) = self.begun.remove(&key) {
            self.bytes -= EACH_BYTES + begun.request.len();
        }
    }
}

fn key(challenge: &str) -> Key {
    Sha256::digest(challenge.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_challenge_is_remembered_for_half_an_hour() {
        let (memory, now) = (Memory::new(), Instant::now());
        memory.learn("one", Side::Blue, "/oauth2/auth?a=1", now);
        memory.learn("one", Side::Green, "/oauth2/auth?a=2", now);
        let begun = Begun { side: Side::Blue, request: "/oauth2/auth?a=1".into() };
        assert_eq!(memory.find("one", now + Duration::from_secs(1799)), Some(begun));
        assert_eq!(memory.find("two", now), None);
        assert_eq!(memory.find("one", now + Duration::from_secs(1800)), None);
        assert_eq!(memory.len(), 0);
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let now = Instant::now();
        for memory in [Memory::bounded(3, usize::MAX), Memory::bounded(usize::MAX, 3 * (EACH_BYTES + 100))] {
            for name in ["a", "b", "c", "d"] {
                memory.learn(name, Side::Blue, &"x".repeat(100), now);
            }
            let known = ["a", "b", "c", "d"].map(|name| memory.find(name, now).is_some());
            assert_eq!((known, memory.len()), ([false, true, true, true], 3));
        }
        let memory = Memory::new();
        memory.learn("long", Side::Blue, &"x".repeat(REQUEST_BYTES + 1), now);
        assert_eq!(memory.len(), 0, "one alone does not push out all others");
        memory.learn("a", Side::Blue, "/", now);
        memory.sweep(now + LIFE);
        let inner = memory.lock();
        assert_eq!((inner.begun.len(), inner.bytes, inner.ends.len()), (0, 0, 0));
    }
}
