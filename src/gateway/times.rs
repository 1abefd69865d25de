//! How long answers took: a small histogram, and its 95th percentile by interpolation. Pure.

use std::time::Duration;

/// How many buckets there are.
pub(super) const BUCKETS: usize = 100;
/// The upper bound of the first bucket.
const FIRST_MS: f64 = 0.1;
/// Each bucket's upper bound is this much above the one before: a percentile is at most so far off, and the last bucket begins at 88 s.
const GROWTH: f64 = 1.15;

/// Answers of one side within one second, by how long they took. Two bytes hold what a second can bring: were it more than 65,535 answers
/// of one bucket, the rest would not count, which moves no percentile that matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times([u16; BUCKETS]);

/// Answers of many seconds.
#[derive(Debug, Clone)]
pub(super) struct Sum([u64; BUCKETS]);

impl Times {
    pub(super) const NONE: Self = Self([0; BUCKETS]);

    /// Counts one answer.
    pub(super) fn count(&mut self, took: Duration) {
        let bucket = &mut self.0[bucket_of(took)];
        *bucket = bucket.saturating_add(1);
    }
}

impl Sum {
    pub(super) const NONE: Self = Self([0; BUCKETS]);

    /// Adds the answers of one second.
    pub(super) fn add(&mut self, times: &Times) {
        for (sum, count) in self.0.iter_mut().zip(times.0) {
            *sum += u64::from(count);
        }
    }

    /// Within how many milliseconds 95 of 100 were answered; none without answers.
    pub(super) fn p95_ms(&self) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let rank = all as f64 * 0.95;
        let mut before = 0.0;
        for (index, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if before + count >= rank {
                let (lower, upper) = bounds_ms(index);
                return Some(lower + (upper - lower) * (rank - before) / count);
            }
            before += count;
        }
        None
    }
}

/// Lower and upper bound of a bucket.
fn bounds_ms(index: usize) -> (f64, f64) {
    let upper = FIRST_MS * GROWTH.powf(index as f64);
    (if index == 0 { 0.0 } else { upper / GROWTH }, upper)
}

fn bucket_of(took: Duration) -> usize {
    let steps = (took.as_secs_f64() * 1000.0 / FIRST_MS).ln() / GROWTH.ln();
    // What is shorter than the first bound has negative steps, and none at all minus infinity: both become 0.
    (steps.ceil() as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p95_ms(times_ms: impl IntoIterator<Item = f64>) -> Option<f64> {
        let (mut times, mut sum) = (Times::NONE, Sum::NONE);
        for time_ms in times_ms {
            times.count(Duration::from_secs_f64(time_ms / 1000.0));
        }
        sum.add(&times);
        sum.p95_ms()
    }

    fn assert_near(found: Option<f64>, expected: f64) {
        let found = found.expect("there were answers");
        assert!((found / expected - 1.0).abs() < 0.15, "{found} instead of {expected}");
    }

    #[test]
    fn a_percentile_is_near_the_true_one() {
        assert_near(p95_ms((1..=1000).map(f64::from)), 950.0);
        assert_near(p95_ms((1..=1000).map(|number| f64::from(number) / 100.0)), 9.5);
        assert_near(p95_ms([40.0]), 40.0);
        let few_slow = (0..100).map(|number| if number < 94 { 2.0 } else { 700.0 });
        assert_near(p95_ms(few_slow), 700.0);
        let fewer_slow = (0..100).map(|number| if number < 96 { 2.0 } else { 700.0 });
        assert_near(p95_ms(fewer_slow), 2.0);
    }

    #[test]
    fn without_answers_there_is_no_percentile() {
        assert_eq!(p95_ms([]), None);
    }

    #[test]
    fn what_no_bucket_is_made_for_goes_into_the_first_or_the_last() {
        assert_eq!((bucket_of(Duration::ZERO), bucket_of(Duration::from_nanos(1))), (0, 0));
        assert_eq!(bucket_of(Duration::from_secs(86_400)), BUCKETS - 1);
        assert!(p95_ms([0.0]).is_some_and(|found| found <= FIRST_MS));
        assert!(bounds_ms(BUCKETS - 1).0 > 80_000.0);
    }
}
