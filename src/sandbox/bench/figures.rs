//! Figures of a bench: medians, ratios, goals, and the last line of JSON. Pure.

use super::{BenchOptions, MEMORY_MB};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What must be reached against a peer: its time over ours is at least this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Goal {
    /// The peer.
    pub(super) peer: &'static str,
    /// The least ratio.
    pub(super) at_least: f64,
}

/// Measurements of one contestant.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Measured {
    /// Seconds, one for each repetition.
    pub(super) seconds: Vec<f64>,
    /// Seconds of each stage of each repetition, by the stage's name, in the order in which they were first seen.
    stages: Vec<(String, Vec<f64>)>,
    /// Highest memory, in kibibytes; of ours alone.
    pub(super) peak_kb: u64,
}

impl Measured {
    /// Takes one repetition.
    pub(super) fn add(&mut self, seconds: f64, stages: Vec<(String, f64)>, peak_kb: u64) {
        self.seconds.push(seconds);
        self.peak_kb = self.peak_kb.max(peak_kb);
        for (name, took) in stages {
            match self.stages.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => all.push(took),
                None => self.stages.push((name, vec![took])),
            }
        }
    }

    /// The middle of its times.
    pub(super) fn median(&self) -> Option<f64> {
        median(&self.seconds)
    }

    /// The middle of each stage.
    pub(super) fn stages(&self) -> Value {
        let stages = self.stages.iter().filter_map(|(name, all)| Some((name.clone(), json!(rounded(median(all)?)))));
        Value::Object(stages.collect())
    }
}

/// The middle value; of an even number the mean of both in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Three digits after the point.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// By which power of the size the time grows.
pub(super) fn exponent(sizes: (f64, f64), seconds: (f64, f64)) -> Option<f64> {
    let exponent = (seconds.1 / seconds.0).ln() / (sizes.1 / sizes.0).ln();
    exponent.is_finite().then_some(exponent)
}

/// Everything that was measured, ready to be judged.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Rows of every table of blue together.
    pub(super) rows_total: i64,
    /// Bytes of blue.
    pub(super) bytes: u64,
    /// Ours.
    pub(super) ours: Measured,
    /// The peers, by name.
    pub(super) peers: BTreeMap<&'static str, Measured>,
    /// Why a peer was not measured, by name.
    pub(super) not_measured: BTreeMap<&'static str, &'static str>,
    /// Ratios that are not simply the quotient of both medians.
    pub(super) ratios: BTreeMap<&'static str, f64>,
    /// Versions of everything that took part.
    pub(super) versions: Value,
    /// The exponent of time, when it was asked for.
    pub(super) exponent: Option<f64>,
    /// Goals that no ratio tells: what was not reached, in words.
    pub(super) not_reached: Vec<String>,
    /// Further words of the last line.
    pub(super) more: Map<String, Value>,
}

impl Figures {
    fn ratio(&self, peer: &'static str) -> Option<f64> {
        let quotient = || Some(self.peers.get(peer)?.median()? / self.ours.median()?);
        self.ratios.get(peer).copied().or_else(quotient)
    }

    fn memory_mb(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "kibibytes of memory need no more than 52 bits")]
        let mebibytes = self.ours.peak_kb as f64 / 1024.0;
        mebibytes
    }

    /// What was not reached, in words.
    fn short(&self, goals: &[Goal]) -> Vec<String> {
        let mut short = self.not_reached.clone();
        for goal in goals {
            match self.ratio(goal.peer) {
                Some(ratio) if ratio >= goal.at_least => {}
                Some(ratio) => short.push(format!("{}: {ratio:.2}, wanted at least {:.2}", goal.peer, goal.at_least)),
                None => short.push(format!("{}: not measured", goal.peer)),
            }
        }
        if self.memory_mb() > MEMORY_MB {
            short.push(format!("memory: {:.0} MB, wanted at most {MEMORY_MB:.0}", self.memory_mb()));
        }
        short
    }

    /// The last line.
    pub(super) fn line(self, options: &BenchOptions, goals: &[Goal]) -> Value {
        let names: Vec<&'static str> = self.peers.keys().chain(self.not_measured.keys()).copied().collect();
        let of = |value: fn(&Self, &'static str) -> Value| -> Value {
            Value::Object(names.iter().map(|name| ((*name).to_owned(), value(&self, name))).collect())
        };
        let seconds = |all: &Self, name| json!(all.peers.get(name).and_then(Measured::median).map(rounded));
        let ratio = |all: &Self, name| json!(all.ratio(name).map(rounded));
        let mut stages = json!({ "ours": self.ours.stages() });
        for (name, measured) in &self.peers {
            stages[*name] = measured.stages();
        }
        let short = self.short(goals);
        let mut line = json!({
            "event": "summary", "bench": options.kind.word(), "rows": options.rows, "rows_total": self.rows_total,
            "bytes": self.bytes, "repetitions": options.repetitions, "ours_s": self.ours.median().map(rounded),
            "peers_s": of(seconds), "ratio": of(ratio), "tool_rss_mb": rounded(self.memory_mb()),
            "pass": if options.quick { Value::Null } else { json!(short.is_empty()) },
            "not_reached": short, "not_measured": self.not_measured, "versions": self.versions, "stages": stages,
        });
        if options.quick {
            line["not_reached"] = Value::Null;
        }
        if options.scale {
            line["exponent"] = json!(self.exponent.map(rounded));
        }
        for (word, value) in self.more {
            line[word] = value;
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use std::path::PathBuf;

    fn options(quick: bool) -> BenchOptions {
        BenchOptions {
            kind: Kind::Carry,
            rows: 100,
            repetitions: 3,
            quick,
            scale: false,
            dir: PathBuf::new(),
            program: PathBuf::new(),
            postgres: None,
        }
    }

    fn measured(seconds: &[f64], peak_kb: u64) -> Measured {
        let mut measured = Measured::default();
        seconds.iter().for_each(|seconds| measured.add(*seconds, vec![("rows".to_owned(), *seconds / 2.0)], peak_kb));
        measured
    }

    fn result(peer: &[f64], peak_kb: u64) -> Figures {
        Figures {
            ours: measured(&[3.0, 1.0, 2.0], peak_kb),
            peers: BTreeMap::from([("plain_copy", measured(peer, 0))]),
            ..Figures::default()
        }
    }

    const GOALS: [Goal; 1] = [Goal { peer: "plain_copy", at_least: 1.0 }];

    #[test]
    fn the_middle_counts() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_above_one_means_that_ours_is_faster() {
        let line = result(&[5.0, 4.0, 3.0], 1024).line(&options(false), &GOALS);
        assert_eq!((&line["ours_s"], &line["peers_s"]["plain_copy"]), (&json!(2.0), &json!(4.0)), "{line}");
        assert_eq!((&line["ratio"]["plain_copy"], &line["pass"]), (&json!(2.0), &json!(true)), "{line}");
        assert_eq!((&line["stages"]["ours"]["rows"], &line["tool_rss_mb"]), (&json!(1.0), &json!(1.0)), "{line}");
    }

    #[test]
    fn what_is_slower_or_missing_or_large_does_not_pass_and_quick_judges_nothing() {
        let line = result(&[1.0], 1024).line(&options(false), &GOALS);
        assert_eq!(line["pass"], false, "{line}");
        assert!(line["not_reached"][0].as_str().is_some_and(|word| word.starts_with("plain_copy: 0.50")), "{line}");
        assert_eq!(result(&[4.0], 200 * 1024).line(&options(false), &GOALS)["pass"], false);
        let missing = Figures { not_measured: BTreeMap::from([("pgcopydb", "not installed")]), ..result(&[4.0], 1) };
        let line = missing.line(&options(false), &[Goal { peer: "pgcopydb", at_least: 1.1 }]);
        assert_eq!((&line["peers_s"]["pgcopydb"], &line["pass"]), (&Value::Null, &json!(false)), "{line}");
        assert_eq!(result(&[1.0], 1024).line(&options(true), &GOALS)["pass"], Value::Null);
    }

    #[test]
    fn time_that_grows_with_the_size_has_exponent_one() {
        let exponent = exponent((100.0, 1000.0), (2.0, 20.0)).expect("a number");
        assert!((exponent - 1.0).abs() < 1e-9);
        assert_eq!(super::exponent((100.0, 100.0), (2.0, 2.0)), None);
    }
}
