//! A step's failure: whether the world changed, what to do about it, and the next safe command. Owns no policy of any hand.

use super::step::StepId;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Whether a failed act changed the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Certainly not.
    NotApplied,
    /// Certainly, at least in part.
    Applied,
    /// The answer was lost; `verify` is asked before anything else.
    Unknown,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// It may pass by itself: try again within the step's limits.
    Retry,
    /// Trying again will not help.
    Stop,
    /// A person must decide; the run parks.
    Ask,
}

/// How an act of a run ended, as exit codes and summaries say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It did not work; blue is live.
    Failed,
    /// A gate, a check or an invariant said no.
    Refused,
    /// Another process has taken over the run, or holds the lease.
    Locked,
    /// The plan or the schema is not what it was.
    Changed,
    /// Stopped earlier than asked; a person must decide, or asked for the stop.
    Parked,
    /// The step went back by itself; blue is live.
    Returned,
    /// Neither forward nor back is safe: a person is needed now.
    Stuck,
    /// It did not work; green is live.
    FailedOnGreen,
}

/// A step's failure.
#[derive(Debug)]
pub struct StepError {
    /// The step; set by the engine.
    pub step: Option<StepId>,
    /// How the run's verb ends if this is the last word.
    pub kind: FailureKind,
    /// Whether the world changed.
    pub effect: Effect,
    /// What to do about it.
    pub remedy: Remedy,
    /// What was tried, on what, in words.
    pub what: String,
    /// The next safe command or act; empty means: run the same command again.
    pub hint: String,
    /// What the world said.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl StepError {
    /// A failure of `kind` whose effect is unknown and for which trying again will not help, until said otherwise.
    #[must_use]
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        let (effect, remedy) = (Effect::Unknown, Remedy::Stop);
        Self { step: None, kind, effect, remedy, what: what.into(), hint: String::new(), source: None }
    }

    /// The world said no, or nothing; what became of the effect is unknown.
    #[must_use]
    pub fn failed(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(FailureKind::Failed, what) }
    }

    /// A gate or a check said no; nothing was changed.
    #[must_use]
    pub fn refused(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, why).effect(Effect::NotApplied).hint(hint)
    }

    /// Stopped at a safe point, because it was asked to or because a person must decide; running again continues.
    #[must_use]
    pub fn parked(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(FailureKind::Parked, why).remedy(Remedy::Ask).hint(hint)
    }

    /// The step went back by itself and nothing of it is left.
    #[must_use]
    pub fn returned(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(FailureKind::Returned, why).effect(Effect::NotApplied).hint(hint)
    }

    /// Neither forward nor back is safe.
    #[must_use]
    pub fn stuck(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(FailureKind::Stuck, why).hint(hint)
    }

    /// The act took longer than its bound; its effect is unknown.
    #[must_use]
    pub(super) fn late(what: &str, deadline: Duration) -> Self {
        let bound = humantime::format_duration(deadline);
        Self::new(FailureKind::Failed, format!("{what} did not end within {bound}")).remedy(Remedy::Retry)
    }

    /// Says whether the world changed.
    #[must_use]
    pub fn effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: Remedy) -> Self {
        Self { remedy, ..self }
    }

    /// Nothing was changed and it may pass by itself.
    #[must_use]
    pub fn retry(self) -> Self {
        self.effect(Effect::NotApplied).remedy(Remedy::Retry)
    }

    /// Says the next safe command or act.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// What was tried and what the world said about it, down to the first cause, in one line.
    #[must_use]
    pub fn why(&self) -> String {
        with_causes(self.what.clone(), self.source.as_deref().map(|source| source as &(dyn Error + 'static)))
    }
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    with_causes(error.to_string(), error.source())
}

/// A cause that an outer error has told already is not told again.
fn with_causes(mut text: String, mut cause: Option<&(dyn Error + 'static)>) -> String {
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "step {step}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
