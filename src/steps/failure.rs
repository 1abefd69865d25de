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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::copy::CopyError;
    use crate::database::indexes::IndexError;
    use crate::database::level::LevelError;
    use crate::database::term::{Term, TermError};
    use uuid::Uuid;

    fn superseded() -> TermError {
        let [ours, found] = [1, 2].map(|term| Term { term, nonce: Uuid::nil() });
        TermError::Superseded { ours, found }
    }

    #[test]
    fn whoever_was_superseded_is_locked_however_deep_it_was_told() {
        let kinds = [
            fail("copy", CopyError::Term(superseded())).kind,
            fail("copy", CopyError::Indexes(IndexError::Term(superseded()))).kind,
            fail("level", LevelError::Term(superseded())).kind,
            fail("act", superseded()).kind,
        ];
        assert_eq!(kinds, [FailureKind::Locked; 4]);
        let missing = TermError::Missing { ours: Term { term: 1, nonce: Uuid::nil() } };
        assert_eq!(fail("copy", CopyError::Term(missing)).kind, FailureKind::Failed);
        let why = fail("copy", CopyError::Term(superseded())).why();
        assert_eq!(why.matches("taken over").count(), 1, "{why}");
    }
}
