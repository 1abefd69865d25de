//! How a verb ends: one word in the summary, one code for the shell (design: exit codes are the contract of scripts).

use crate::engine::{FailureKind, Halt, chain};
use std::process::ExitCode;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// What was asked happened.
    Done,
    /// It did not work; blue is live.
    Failed,
    /// Arguments or the plan's text.
    Usage,
    /// A gate or a check said no.
    Refused,
    /// Another run holds the lease.
    Locked,
    /// The plan or the schema is not what it was.
    Changed,
    /// Stopped earlier than asked; a person must decide.
    Parked,
    /// It went back by itself; blue is live.
    Returned,
    /// A person is needed now.
    Stuck,
    /// It did not work; green is live.
    FailedOnGreen,
}

impl Ending {
    /// The word of the summary's `outcome`.
    #[must_use]
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Locked => "locked",
            Self::Changed => "changed",
            Self::Parked => "parked",
            Self::Returned => "returned",
            Self::Stuck => "stuck",
            Self::FailedOnGreen => "failed_on_green",
        }
    }

    /// The code for the shell.
    #[must_use]
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Locked => 4,
            Self::Changed => 5,
            Self::Parked => 6,
            Self::Returned => 7,
            Self::Stuck => 8,
            Self::FailedOnGreen => 9,
        }
    }
}

impl From<FailureKind> for Ending {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Failed => Self::Failed,
            FailureKind::Refused => Self::Refused,
            FailureKind::Locked => Self::Locked,
            FailureKind::Changed => Self::Changed,
            FailureKind::Parked => Self::Parked,
            FailureKind::Returned => Self::Returned,
            FailureKind::Stuck => Self::Stuck,
            FailureKind::FailedOnGreen => Self::FailedOnGreen,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending.code())
    }
}

/// Why a verb did not do what it was asked, ready for a person.
#[derive(Debug, Clone)]
pub(super) struct CommandError {
    /// How the verb ends.
    pub(super) ending: Ending,
    /// What was tried, on what, and what the world said.
    pub(super) why: String,
    /// The next safe command or act.
    pub(super) next: String,
}

impl CommandError {
    /// An error that ends the verb.
    #[must_use]
    pub(super) fn new(ending: Ending, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { ending, why: why.into(), next: next.into() }
    }

    /// A failure of the world before anything was changed.
    #[must_use]
    pub(super) fn failed(what: &str, error: &dyn std::error::Error, next: impl Into<String>) -> Self {
        Self::new(Ending::Failed, format!("{what}: {}", chain(error)), next)
    }
}

impl From<Halt> for CommandError {
    fn from(halt: Halt) -> Self {
        let why = halt.step.map_or_else(|| halt.why.clone(), |step| format!("step {step}: {}", halt.why));
        Self::new(halt.kind.into(), why, halt.hint)
    }
}
