//! What happened when, in a bounded number of pieces that double in length when they are full. Pure.

use super::ms;
use serde::Serialize;

/// Length of a piece at first, in microseconds.
const FIRST_US: u64 = 100_000;
/// Pieces that are kept.
const BINS_MAX: usize = 600;

/// One piece of time; requests are counted where they ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bin {
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub failed: u64,
    /// Worst latency, in milliseconds.
    pub worst_ms: f64,
    /// Who answered last, by the answers' own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
}

/// The pieces from the start on.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    bins: Vec<Bin>,
    bin_us: u64,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self { bins: Vec::new(), bin_us: FIRST_US }
    }

    /// Length of a piece, in milliseconds.
    pub(super) fn bin_ms(&self) -> u64 {
        self.bin_us / 1000
    }

    pub(super) fn bins(&self) -> &[Bin] {
        &self.bins
    }

    pub(super) fn add(&mut self, end_us: u64, latency_us: u64, is_failed: bool, side: Option<&str>) {
        while end_us / self.bin_us >= BINS_MAX as u64 {
            self.halve();
        }
        let at = usize::try_from(end_us / self.bin_us).unwrap_or(BINS_MAX - 1);
        if self.bins.len() <= at {
            self.bins.resize(at + 1, Bin::default());
        }
        let Some(bin) = self.bins.get_mut(at) else { return };
        bin.requests += 1;
        bin.failed += u64::from(is_failed);
        bin.worst_ms = bin.worst_ms.max(ms(latency_us));
        if bin.side.as_deref() != side && side.is_some() {
            bin.side = side.map(str::to_owned);
        }
    }

    /// Two pieces become one.
    fn halve(&mut self) {
        self.bins = self.bins.chunks(2).map(joined).collect();
        self.bin_us *= 2;
    }
}

/// Pieces that follow one another, as one.
pub(super) fn joined(bins: &[Bin]) -> Bin {
    let mut all = Bin::default();
    for bin in bins {
        all.requests += bin.requests;
        all.failed += bin.failed;
        all.worst_ms = all.worst_ms.max(bin.worst_ms);
        all.side = bin.side.clone().or(all.side);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_fit_into_the_same_pieces_and_nothing_is_lost() {
        let mut timeline = Timeline::new();
        for at in 0..10_000u64 {
            timeline.add(at * 17_000_000, at, at % 1000 == 0, Some(if at < 5_000 { "blue" } else { "green" }));
        }
        assert!(timeline.bins().len() <= BINS_MAX);
        let all = joined(timeline.bins());
        assert_eq!((all.requests, all.failed, all.worst_ms), (10_000, 10, 10.0));
        assert_eq!((all.side.as_deref(), timeline.bins()[0].side.as_deref()), (Some("green"), Some("blue")));
    }
}
