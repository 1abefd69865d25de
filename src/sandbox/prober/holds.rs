//! The judge of latency: what one switch of the traffic, there or back, added to the requests it held. Pure.

use super::words::{FlipSeen, Kind, Span, Switch};
use super::writers::Gap;
use std::collections::BTreeMap;

/// Calls that ended this long before a gap are its baseline.
const BASELINE_MARGIN_US: u64 = 500_000;
/// How many calls of a kind make its baseline.
const BASELINE_CALLS: usize = 2_000;

/// What clients felt of one switch, and how many requests it held.
pub(super) fn felt(calls: &[Span], gap: Gap) -> Switch {
    let mut added: Vec<u64> = added_us(calls, gap);
    added.sort_unstable();
    let felt = FlipSeen {
        hold_ms_p50: percentile(&added, 50).map(ms),
        hold_ms_p99: percentile(&added, 99).map(ms),
        hold_ms_max: added.last().copied().map(ms),
        write_gap_ms: Some(ms(gap.first_us - gap.last_us)),
    };
    Switch { to: gap.to, held: added.len() as u64, felt }
}

/// Latency added to each request that was waiting when the other side opened or until the first client was let through there.
fn added_us(calls: &[Span], gap: Gap) -> Vec<u64> {
    let base = baseline(calls, gap.last_us.saturating_sub(BASELINE_MARGIN_US));
    let released_us = first_release(calls, gap);
    let held = calls.iter().filter(|call| call.start_us < released_us && call.end_us >= gap.first_us);
    held.map(|call| {
        let usual = base.get(&call.kind).copied().unwrap_or(0);
        (call.end_us - call.start_us).saturating_sub(usual)
    })
    .collect()
}

/// When the first write through the gateway was answered after the gap.
fn first_release(calls: &[Span], gap: Gap) -> u64 {
    let after = calls.iter().filter(|call| call.acked_write && call.end_us >= gap.first_us);
    after.map(|call| call.end_us).min().unwrap_or(gap.first_us)
}

/// Median latency of each kind among the calls that ended before `until_us`.
fn baseline(calls: &[Span], until_us: u64) -> BTreeMap<Kind, u64> {
    let mut by_kind: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
    for call in calls.iter().rev().filter(|call| call.end_us <= until_us) {
        let latencies = by_kind.entry(call.kind).or_default();
        if latencies.len() < BASELINE_CALLS {
            latencies.push(call.end_us - call.start_us);
        }
    }
    let median = |mut latencies: Vec<u64>| {
        latencies.sort_unstable();
        latencies[latencies.len() / 2]
    };
    by_kind.into_iter().map(|(kind, latencies)| (kind, median(latencies))).collect()
}

fn percentile(sorted: &[u64], per_cent: usize) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((sorted.len() * per_cent).div_ceil(100).saturating_sub(1).min(last)).copied()
}

/// Milliseconds with one digit after the point.
#[expect(clippy::cast_precision_loss, reason = "a latency is far below 2^52 microseconds")]
fn ms(us: u64) -> f64 {
    (us as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Side;

    fn span(start_ms: u64, end_ms: u64, side: Side) -> Span {
        Span {
            kind: Kind::Issue,
            start_us: start_ms * 1000,
            end_us: end_ms * 1000,
            side: Some(side),
            acked_write: true,
        }
    }

    #[test]
    fn only_held_requests_count_and_only_what_was_added() {
        let mut calls: Vec<Span> = (0..100).map(|at| span(at * 10, at * 10 + 5, Side::Blue)).collect();
        calls.push(span(2000, 2405, Side::Green));
        calls.push(span(2100, 2410, Side::Green));
        calls.push(span(2600, 2605, Side::Green));
        let there = felt(&calls, Gap { to: Side::Green, last_us: 2_050_000, first_us: 2_390_000 });
        assert_eq!((there.to, there.held), (Side::Green, 2));
        assert_eq!(there.felt.hold_ms_max, Some(400.0));
        assert_eq!(there.felt.hold_ms_p50, Some(305.0));
        assert_eq!(there.felt.write_gap_ms, Some(340.0));

        // The way back has its own hold and gap: nothing of the flip is in them.
        calls.extend((300..400).map(|at| span(at * 10, at * 10 + 5, Side::Green)));
        calls.push(span(5000, 5105, Side::Blue));
        let back = felt(&calls, Gap { to: Side::Blue, last_us: 4_990_000, first_us: 5_100_000 });
        assert_eq!((back.to, back.held), (Side::Blue, 1));
        assert_eq!((back.felt.hold_ms_max, back.felt.write_gap_ms), (Some(100.0), Some(110.0)));
    }
}
