//! How often callers were let in and turned away on each side, second by second for an hour: what an internal system tells of itself.

use crate::plan::Side;
use crate::traffic::figures::{Answers, Figures, LONGEST_S};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// The counts of one process.
pub(super) struct Turned {
    started: Instant,
    seconds: Mutex<VecDeque<Second>>,
}

/// One second of both sides: callers, and those turned away.
#[derive(Default)]
struct Second {
    second: u64,
    blue: (u64, u64),
    green: (u64, u64),
}

impl Turned {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), seconds: Mutex::default() }
    }

    fn now_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Counts one caller.
    pub(super) fn count(&self, side: Side, is_turned_away: bool) {
        let now = self.now_s();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        while seconds.front().is_some_and(|oldest| oldest.second + LONGEST_S <= now) {
            seconds.pop_front();
        }
        if seconds.back().is_none_or(|newest| newest.second < now) {
            seconds.push_back(Second { second: now, ..Second::default() });
        }
        let Some(newest) = seconds.back_mut() else { return };
        let counts = match side {
            Side::Blue => &mut newest.blue,
            Side::Green => &mut newest.green,
        };
        *counts = (counts.0 + 1, counts.1 + u64::from(is_turned_away));
    }

    /// What was counted within the last `seconds`.
    pub(super) fn last(&self, seconds: u64) -> Figures {
        let (now, back) = (self.now_s(), seconds.min(LONGEST_S));
        let kept = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let within = kept.iter().filter(|one| one.second >= (now + 1).saturating_sub(back));
        let sum = |counts: &dyn Fn(&Second) -> (u64, u64)| {
            let (requests, forbidden) =
                within.clone().map(counts).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            Answers { requests, forbidden, ..Answers::default() }
        };
        let (blue, green) = (sum(&|one| one.blue), sum(&|one| one.green));
        Figures { seconds: back.min(now), blue, green, ..Figures::default() }
    }
}
