//! How fast a step goes and how long it will take. Pure: the caller says what time it is.

use std::time::Duration;
use tokio::time::Instant;

/// Samples closer together than this are one sample.
const SAMPLE: Duration = Duration::from_millis(200);
/// How far back the rate looks, roughly.
const MEMORY_S: f64 = 5.0;

/// The smoothed rate of one step.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    at: Instant,
    done: u64,
    rate: Option<f64>,
}

impl Pace {
    /// A step that begins now with `done` behind it.
    pub(super) fn new(now: Instant, done: u64) -> Self {
        Self { at: now, done, rate: None }
    }

    /// Takes a sample. Fewer done than before means that the step counts something new: the rate starts over.
    pub(super) fn take(&mut self, now: Instant, done: u64) {
        if done < self.done {
            *self = Self::new(now, done);
            return;
        }
        let passed = now.saturating_duration_since(self.at);
        if passed < SAMPLE {
            return;
        }
        let sample = (done - self.done) as f64 / passed.as_secs_f64();
        let weight = 1.0 - (-passed.as_secs_f64() / MEMORY_S).exp();
        let rate = self.rate.map_or(sample, |rate| rate + weight * (sample - rate));
        *self = Self { at: now, done, rate: Some(rate) };
    }

    /// What is done a second, once it can be told.
    pub(super) fn per_second(&self) -> Option<u64> {
        self.rate.map(|rate| rate.round() as u64).filter(|rate| *rate > 0)
    }

    /// How long until `total` is done, at this rate.
    pub(super) fn left(&self, done: u64, total: u64) -> Option<Duration> {
        let rate = self.rate.filter(|rate| *rate >= 0.5)?;
        let left = Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate).ok()?;
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_pace_finds_a_steady_rate_and_the_time_left() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, 0);
        assert_eq!(pace.per_second(), None);
        for second in 1..=10 {
            pace.take(begun + Duration::from_secs(second), second * 1_000);
        }
        assert_eq!(pace.per_second(), Some(1_000));
        assert_eq!(pace.left(10_000, 30_000), Some(Duration::from_secs(20)));
        assert_eq!(pace.left(30_000, 30_000), None);
    }

    #[test]
    fn report_pace_follows_a_change_and_starts_over_on_a_new_count() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, 0);
        pace.take(begun + Duration::from_secs(1), 1_000);
        for second in 2..=40 {
            pace.take(begun + Duration::from_secs(second), 1_000 + (second - 1) * 10);
        }
        assert!(pace.per_second().is_some_and(|rate| rate < 15), "{pace:?}");
        pace.take(begun + Duration::from_secs(41), 5);
        assert_eq!(pace.per_second(), None);
    }
}
