//! Latencies counted in classes that are at most 1.6 % wide: any number of requests in 16 KB. Pure.

/// Classes of each power of two.
const CLASSES: u64 = 64;
/// Powers of two above the first `CLASSES` microseconds, up to about 19 hours.
const POWERS: u64 = 30;
const ALL: usize = (CLASSES * (POWERS + 1)) as usize;

/// Counts by latency.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    worst_us: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; ALL], total: 0, worst_us: 0 }
    }

    pub(super) fn add(&mut self, us: u64) {
        self.total += 1;
        self.worst_us = self.worst_us.max(us);
        if let Some(count) = self.counts.get_mut(class(us)) {
            *count += 1;
        }
    }

    /// Takes over what another one has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.worst_us = self.worst_us.max(other.worst_us);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn worst_us(&self) -> u64 {
        self.worst_us
    }

    /// The least latency that this many of a thousand do not exceed; none when nothing was counted.
    pub(super) fn per_mille(&self, of_1000: u64) -> Option<u64> {
        let wanted = (self.total * of_1000).div_ceil(1000).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return Some(upper_us(at as u64).min(self.worst_us));
            }
        }
        None
    }
}

/// Below `CLASSES` each microsecond is a class; above, each power of two has `CLASSES` of equal width.
fn class(us: u64) -> usize {
    if us < CLASSES {
        return usize::try_from(us).unwrap_or(0);
    }
    let power = u64::from(us.ilog2()) - u64::from(CLASSES.ilog2());
    let within = (us >> power) - CLASSES;
    usize::try_from(CLASSES * (power + 1) + within).unwrap_or(ALL - 1).min(ALL - 1)
}

/// Largest latency of a class.
fn upper_us(class: u64) -> u64 {
    if class < CLASSES {
        return class;
    }
    let (power, within) = (class / CLASSES - 1, class % CLASSES);
    ((CLASSES + within + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_told_within_two_per_cent() {
        for us in (0..2_000).chain((1..26).map(|power| (3u64 << power) + 1)) {
            let mut one = Histogram::new();
            one.add(us);
            let told = upper_us(class(us) as u64);
            assert!(told >= us && told - us <= us / 50, "{us} is told as {told}");
            assert_eq!(one.per_mille(500), Some(us), "one that is alone is told as it is");
        }
    }

    #[test]
    fn percentiles_count_all_and_the_worst_is_exact() {
        let (mut first, mut second) = (Histogram::new(), Histogram::new());
        (1..=900).for_each(|_| first.add(1_000));
        (1..=99).for_each(|_| second.add(50_000));
        second.add(1_234_567);
        first.merge(&second);
        assert_eq!((first.total(), first.worst_us()), (1000, 1_234_567));
        assert!(first.per_mille(500).is_some_and(|us| (1_000..1_020).contains(&us)));
        assert!(first.per_mille(990).is_some_and(|us| (50_000..51_000).contains(&us)));
        assert_eq!(first.per_mille(1000), Some(1_234_567));
        assert_eq!(Histogram::new().per_mille(500), None);
    }
}
