//! What a probe is: it asks the world and gives readings; the gate over them is pure. No reading holds a token or a secret.

use super::Verdict;
use crate::plan::When;
use serde::Serialize;

/// What one question was answered by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "finding", content = "why")]
pub enum Finding {
    /// As it should be.
    Held,
    /// Not as it should be, and how.
    Broken(String),
    /// There was no answer.
    Silent(String),
}

/// One question of one probe, with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// The probe's name.
    pub probe: String,
    /// What was asked, such as `code_pkce` or `canary revoked`.
    pub question: String,
    /// The answer.
    #[serde(flatten)]
    pub finding: Finding,
}

impl Reading {
    /// A reading.
    #[must_use]
    pub fn new(probe: &str, question: impl Into<String>, finding: Finding) -> Self {
        Self { probe: probe.to_owned(), question: question.into(), finding }
    }

    /// Whether it is as it should be.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.finding == Finding::Held
    }

    fn verdict(&self) -> Verdict {
        let said = |why: &str| format!("probe {}, {}: {why}", self.probe, self.question);
        match &self.finding {
            Finding::Held => Verdict::Go,
            Finding::Broken(why) => Verdict::NoGo(said(why)),
            Finding::Silent(why) => Verdict::Unclear(said(why)),
        }
    }
}

/// Something that can be asked at certain moments of a run.
pub trait Probe {
    /// Asks what belongs to this moment: nothing when nothing does. Leaves nothing behind, and says so when it could not.
    fn ask(&self, when: When) -> impl Future<Output = Vec<Reading>> + Send;
}

/// Whether every question was answered as it should be.
#[must_use]
pub fn probed(readings: &[Reading]) -> Verdict {
    Verdict::all(readings.iter().map(Reading::verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_over_probes_name_each_that_did_not_hold() {
        let reading = |question: &str, finding| Reading::new("hydra", question, finding);
        let held = reading("keys", Finding::Held);
        let silent = reading("discovery", Finding::Silent("late".into()));
        let broken = reading("refresh", Finding::Broken("answered 400".into()));
        assert_eq!(probed(&[]), Verdict::Go);
        assert_eq!(probed(std::slice::from_ref(&held)), Verdict::Go);
        assert_eq!(probed(&[held, silent.clone()]), Verdict::Unclear("probe hydra, discovery: late".into()));
        let both = "probe hydra, discovery: late; probe hydra, refresh: answered 400";
        assert_eq!(probed(&[silent, broken]), Verdict::NoGo(both.into()));
    }
}
