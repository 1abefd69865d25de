//! What can go wrong with the journal, said so that the next command is known. Owns no connection.

use super::state::Corruption;
use crate::database::client::ConnectError;
use crate::database::term::TermError;
use std::fmt;
use thiserror::Error;
use uuid::Uuid;

/// Who holds the lease, as far as the control database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The lease's id, to be named by `--take-over`.
    pub lease: Uuid,
    /// The plan it was taken for.
    pub plan: String,
    /// The process, as it named itself (`user@host pid 123`).
    pub holder: String,
    /// Seconds since it was taken.
    pub age_s: i64,
    /// Seconds since it was last renewed.
    pub silent_s: i64,
}

impl fmt::Display for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lease {} of plan {:?}, held by {} for {} s, renewed {} s ago",
            self.lease, self.plan, self.holder, self.age_s, self.silent_s
        )
    }
}

/// Why the journal did not do what was asked. A failed append means that the record is not in the journal, except for
/// `Server`, where that is unknown.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The control database cannot be reached; nothing was changed.
    #[error("open the journal")]
    Connect(#[from] ConnectError),
    /// Our tables cannot be created or are not those of this version; nothing was changed.
    #[error("create or check the journal's tables")]
    Schema(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another process creates the tables and does not come to an end.
    #[error("create the journal's tables: another process has been creating them for {waited_s} s")]
    SchemaBusy {
        /// How long we waited, in seconds.
        waited_s: u64,
    },
    /// Another run holds the lease; nothing was changed.
    #[error("take the lease: {0}")]
    Locked(LeaseHolder),
    /// Another process took over; this one must stop, and nothing was written.
    #[error("write to the journal")]
    Term(#[from] TermError),
    /// The plan is not the one the run was started with; nothing was changed.
    #[error("continue run {run}: it was started under digest {was}, the plan's digest is now {now}")]
    Changed {
        /// The run.
        run: Uuid,
        /// The digest in the journal's header.
        was: String,
        /// The digest of the plan as it is now.
        now: String,
    },
    /// A run of this plan is not finished; nothing was changed.
    #[error("begin a run: run {run} of this plan is not finished")]
    Unfinished {
        /// The unfinished run.
        run: Uuid,
    },
    /// The journal is damaged; nothing was changed.
    #[error("read the journal: {0}")]
    Corrupt(#[from] Corruption),
    /// The server refused or the connection broke.
    #[error("{what} in the control database")]
    Server {
        /// What was tried.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The log was closed on purpose (a dry run's end, a simulated crash).
    #[error("write to the journal: it is closed")]
    Closed,
}

impl JournalError {
    /// Whether another process has taken over the run.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::Term(term) if term.is_superseded())
    }

    /// What to do next, in one line.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Locked(holder) => format!(
                "if that process is gone, take over by naming its lease: cutover run PLAN --take-over {}",
                holder.lease
            ),
            Self::Term(_) => "nothing to do here: see the other process, or cutover status PLAN".to_owned(),
            Self::Changed { .. } => {
                "restore the plan the run was started with, or go back first: cutover rollback PLAN".to_owned()
            }
            Self::Unfinished { .. } => {
                "continue it with cutover run PLAN, or go back: cutover rollback PLAN".to_owned()
            }
            Self::Corrupt(_) => {
                "do not run or roll back; the place, and the way out by hand: cutover journal check PLAN".to_owned()
            }
            _ => "see that the control database answers, then run the same command again".to_owned(),
        }
    }

    pub(super) fn server(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Server { what, source }
    }
}
