//! How a statement asks for its locks: shortly, again after a pause that grows and varies, and not for ever.
//!
//! A waiting lock stops everyone behind it, so what is bounded is each wait, their number, and the time of all together.

use crate::plan::Live;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Where nobody else writes a short wait is for politeness alone.
const CLOSED_LOCK: Duration = Duration::from_millis(500);
/// How often a transaction is cut off for those whom it keeps waiting; what it does is not done faster the next time.
pub(super) const CUTS: u32 = 3;

/// The bounds on one statement, or one file that is one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Longest wait for one lock.
    pub lock_timeout: Duration,
    /// How often it is tried.
    pub tries: u32,
    /// How long it is tried, pauses and all.
    pub bound: Duration,
    /// How long others may wait for what it holds before it is cut off; nothing when nobody else uses the database.
    pub block: Option<Duration>,
}

impl Pace {
    /// For a database that no client uses: only the time counts.
    #[must_use]
    pub fn closed(bound: Duration) -> Self {
        Self { lock_timeout: CLOSED_LOCK, tries: u32::MAX, bound, block: None }
    }

    /// For a database that serves.
    #[must_use]
    pub fn live(live: &Live) -> Self {
        let Live { lock_timeout, tries, bound, block } = *live;
        Self { lock_timeout, tries, bound, block: Some(block) }
    }

    /// As a session's setting.
    pub(super) fn setting(&self) -> String {
        format!("set lock_timeout = {}", self.lock_timeout.as_millis().max(1))
    }
}

/// Whether the refusal passes when others end.
pub(super) fn is_lock(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| codes.contains(code))
}

/// The tries of one statement, within its pace.
#[derive(Debug)]
pub(super) struct Tries {
    begun: Instant,
    end: Instant,
    left: u32,
    next: Duration,
    /// How often it was cut off for those whom it kept waiting.
    pub(super) cuts: u32,
}

impl Tries {
    pub(super) fn new(pace: &Pace) -> Self {
        let begun = Instant::now();
        let left = pace.tries.saturating_sub(1);
        Self { begun, end: begun + pace.bound, left, next: FIRST_PAUSE, cuts: 0 }
    }

    /// One attempt and no more.
    pub(super) fn none() -> Self {
        Self::new(&Pace { tries: 1, ..Pace::closed(CLOSED_LOCK) })
    }

    /// How long it has been tried.
    pub(super) fn waited(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long it may still be tried.
    pub(super) fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Sleeps until the next attempt; false when there is none.
    pub(super) async fn pause(&mut self) -> bool {
        if self.left == 0 || self.remaining().is_zero() {
            return false;
        }
        self.left -= 1;
        sleep(self.next.mul_f64(rand::random_range(0.5..1.5))).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_as_many_tries_as_the_pace_says_and_no_longer_than_it_says() {
        let pace = Pace { tries: 3, ..Pace::closed(Duration::from_secs(3600)) };
        let mut tries = Tries::new(&pace);
        assert!(tries.pause().await && tries.pause().await, "the second and the third");
        assert!(!tries.pause().await, "there is no fourth");

        let mut tries = Tries::new(&Pace::closed(Duration::from_secs(60)));
        let mut count = 0;
        while tries.pause().await {
            count += 1;
        }
        assert!((12..60).contains(&count), "pauses grow to seconds: {count}");
        assert!(tries.waited() < Duration::from_secs(70), "{:?}", tries.waited());
    }
}
