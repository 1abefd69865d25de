//! What a probe has seen: counts, latencies, sides and a timeline, from one answer after the other. Pure.

use super::histogram::Histogram;
use super::sides::{Change, SideSeen, Sides};
use super::timeline::{Bin, Timeline};
use super::{Probe, ms};
use serde::Serialize;
use std::collections::BTreeMap;

/// Kinds of failures that are told apart.
const REASONS_MAX: usize = 50;

/// How one request ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// Which target.
    pub(super) target: usize,
    /// When it was due, in microseconds since the start.
    pub(super) due_us: u64,
    /// When it was sent.
    pub(super) sent_us: u64,
    /// When its answer, or the wait for it, had ended.
    pub(super) end_us: u64,
    /// Who answered, when the answer says so.
    pub(super) side: Option<String>,
    /// What went wrong.
    pub(super) failure: Option<String>,
}

/// Counts of one target.
#[derive(Debug, Clone)]
struct Counts {
    latencies: Histogram,
    failed: u64,
    not_sent: u64,
    /// Who answered this target, for what was held there: systems are let go one after the other.
    sides: Sides,
}

/// Everything that was seen so far; its size does not grow with time.
#[derive(Debug, Clone)]
pub(super) struct Record {
    targets: Vec<Counts>,
    sides: Sides,
    timeline: Timeline,
    held: Histogram,
    reasons: BTreeMap<String, u64>,
    lately_us: u64,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
    /// How the requests to all targets went.
    #[serde(flatten)]
    pub asked: Asked,
    /// Answers of a side to requests that were sent before it had answered anything: what a hold kept waiting.
    pub held: u64,
    /// Median latency that a hold added to them, beyond the target's own median, in milliseconds.
    pub hold_ms_p50: Option<f64>,
    /// 99 of 100 waited no longer.
    pub hold_ms_p99: Option<f64>,
    /// The longest.
    pub hold_ms_max: Option<f64>,
    /// Longest time in which two sides answered.
    pub mixed_side_ms: f64,
    /// Who answered.
    pub sides: Vec<SideSeen>,
    /// How often the side changed.
    pub changed: u64,
    /// The first thousand changes.
    pub changes: Vec<Change>,
    /// Answers that named no side.
    pub unnamed: u64,
    /// Each target by itself.
    pub targets: Vec<TargetSeen>,
    /// Failures by what went wrong.
    pub reasons: BTreeMap<String, u64>,
    /// Length of a piece of the timeline, in milliseconds.
    pub bin_ms: u64,
    /// What happened when.
    pub timeline: Vec<Bin>,
}

/// The report of one target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetSeen {
    /// Its name.
    pub name: String,
    /// How the requests to it went.
    #[serde(flatten)]
    pub asked: Asked,
}

/// How requests went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// Requests that ended.
    pub requests: u64,
    /// Of these timed out, reset, or answered otherwise than they must be.
    pub failed: u64,
    /// Requests that were due and not sent, because too many were outstanding: nobody knows what they would have met.
    pub not_sent: u64,
    /// Median latency from the moment a request was due, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<f64>,
    /// The longest, failed ones included.
    pub worst_ms: Option<f64>,
}

impl Asked {
    fn of(latencies: &Histogram, failed: u64, not_sent: u64) -> Self {
        let [p50_ms, p99_ms, worst_ms] = three(latencies);
        Self { requests: latencies.total(), failed, not_sent, p50_ms, p99_ms, worst_ms }
    }
}

impl Seen {
    /// Whether nothing failed, nothing was left out, and never two sides answered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let asked = &self.asked;
        asked.requests > 0 && asked.failed == 0 && asked.not_sent == 0 && self.mixed_side_ms == 0.0
    }
}

impl Record {
    pub(super) fn new(targets: usize) -> Self {
        let counts = Counts { latencies: Histogram::new(), failed: 0, not_sent: 0, sides: Sides::default() };
        Self {
            targets: vec![counts; targets],
            sides: Sides::default(),
            timeline: Timeline::new(),
            held: Histogram::new(),
            reasons: BTreeMap::new(),
            lately_us: 0,
        }
    }

    pub(super) fn add(&mut self, ended: &Ended) {
        let latency_us = ended.end_us.saturating_sub(ended.due_us);
        self.lately_us = self.lately_us.max(latency_us);
        if let Some(counts) = self.targets.get_mut(ended.target) {
            counts.latencies.add(latency_us);
            counts.failed += u64::from(ended.failure.is_some());
        }
        match &ended.failure {
            None => self.answered(ended, latency_us),
            Some(why) => self.failed_because(why),
        }
        self.timeline.add(ended.end_us, latency_us, ended.failure.is_some(), ended.side.as_deref());
    }

    fn answered(&mut self, ended: &Ended, latency_us: u64) {
        let side = ended.side.as_deref();
        self.sides.answer(ended.sent_us, ended.end_us, side);
        let Some(counts) = self.targets.get_mut(ended.target) else { return };
        if counts.sides.answer(ended.sent_us, ended.end_us, side) {
            let usual = counts.latencies.per_mille(500).unwrap_or(0);
            self.held.add(latency_us.saturating_sub(usual));
        }
    }

    fn failed_because(&mut self, why: &str) {
        let why = if self.reasons.contains_key(why) || self.reasons.len() < REASONS_MAX { why } else { "other" };
        *self.reasons.entry(why.to_owned()).or_default() += 1;
    }

    pub(super) fn not_sent(&mut self, target: usize) {
        if let Some(counts) = self.targets.get_mut(target) {
            counts.not_sent += 1;
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.targets.iter().map(|target| target.latencies.total()).sum()
    }

    pub(super) fn failed(&self) -> u64 {
        self.targets.iter().map(|target| target.failed).sum()
    }

    /// Worst latency since this was asked last.
    pub(super) fn worst_lately_ms(&mut self) -> f64 {
        ms(std::mem::take(&mut self.lately_us))
    }

    pub(super) fn seen(&self, probe: &Probe, seconds: f64) -> Seen {
        let mut all = Histogram::new();
        self.targets.iter().for_each(|target| all.merge(&target.latencies));
        let not_sent = self.targets.iter().map(|target| target.not_sent).sum();
        let [hold_ms_p50, hold_ms_p99, hold_ms_max] = three(&self.held);
        Seen {
            held: self.held.total(),
            hold_ms_p50,
            hold_ms_p99,
            hold_ms_max,
            seconds: (seconds * 1000.0).round() / 1000.0,
            asked: Asked::of(&all, self.failed(), not_sent),
            mixed_side_ms: self.sides.mixed_ms(),
            sides: self.sides.seen(),
            changed: self.sides.changed(),
            changes: self.sides.changes(),
            unnamed: self.sides.unnamed(),
            targets: probe
                .targets
                .iter()
                .zip(&self.targets)
                .map(|(target, counts)| one(&target.name, counts))
                .collect(),
            reasons: self.reasons.clone(),
            bin_ms: self.timeline.bin_ms(),
            timeline: self.timeline.bins().to_vec(),
        }
    }
}

/// Median, what 99 of 100 do not exceed, and the most, in milliseconds.
fn three(of: &Histogram) -> [Option<f64>; 3] {
    let worst = (of.total() > 0).then(|| ms(of.worst_us()));
    [of.per_mille(500).map(ms), of.per_mille(990).map(ms), worst]
}

fn one(name: &str, counts: &Counts) -> TargetSeen {
    TargetSeen { name: name.to_owned(), asked: Asked::of(&counts.latencies, counts.failed, counts.not_sent) }
}
