//! From a hand's error to a step's: one place that says what it means for the run.

use crate::engine::{FailureKind, StepError};
use std::error::Error;

/// A hand failed at `what`; whether the world changed is unknown until `verify` is asked.
pub(super) fn fail(what: impl Into<String>, error: impl Error + Send + Sync + 'static) -> StepError {
    let kind = if is_superseded(&error) { FailureKind::Locked } else { FailureKind::Failed };
    StepError { kind, ..StepError::failed(what, error) }
}

/// Whether another process has taken over, anywhere in the chain of causes.
fn is_superseded(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<crate::database::term::TermError>().is_some_and(|term| term.is_superseded()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error with its causes, in one line.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
