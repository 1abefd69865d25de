//! How large the next batch on a live table may be, from how long the last one took. Pure.

use std::time::Duration;

/// Most by which a batch may grow over the one before; shrinking has no bound.
const GROWTH: u32 = 2;

/// The size of batches, tuned to a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// How long a batch should take.
    target: Duration,
    /// Most rows of a batch.
    most: u32,
    rows: u32,
}

impl Tuning {
    /// Batches that should take `target`, of `first` rows to begin with and of `most` at most.
    #[must_use]
    pub fn new(target: Duration, first: u32, most: u32) -> Self {
        let most = most.max(1);
        Self { target, most, rows: first.clamp(1, most) }
    }

    /// Rows that the next batch looks at.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// A batch of [`rows`](Self::rows) rows took so long.
    pub fn took(&mut self, time: Duration) {
        let share = self.target.as_secs_f64() / time.as_secs_f64().max(1e-6);
        let wanted = f64::from(self.rows) * share;
        let grown = self.rows.saturating_mul(GROWTH).min(self.most);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a number of rows")]
        let rows = wanted.clamp(1.0, f64::from(grown)) as u32;
        self.rows = rows;
    }

    /// A batch could not be had in its time at all: the next one is much smaller.
    pub fn failed(&mut self) {
        self.rows = (self.rows / 4).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_slowly_and_shrinks_at_once() {
        let ms = Duration::from_millis;
        let mut tuning = Tuning::new(ms(200), 100, 1000);
        tuning.took(ms(1));
        assert_eq!(tuning.rows(), 200, "at most twice as many");
        tuning.took(ms(100));
        assert_eq!(tuning.rows(), 400);
        tuning.took(ms(2000));
        assert_eq!(tuning.rows(), 40, "ten times too slow is a tenth");
        tuning.took(ms(200));
        assert_eq!(tuning.rows(), 40);
        for _ in 0..20 {
            tuning.took(ms(1));
        }
        assert_eq!(tuning.rows(), 1000, "no more than the most");
        tuning.failed();
        assert_eq!(tuning.rows(), 250);
        tuning.took(Duration::from_secs(3600));
        assert_eq!(tuning.rows(), 1, "never none");
        assert_eq!(Tuning::new(ms(1), 0, 0).rows(), 1);
    }
}
