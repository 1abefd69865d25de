//! Records, the pure fold to the state of a run, and the lease. Knows no steps.

mod error;
mod lease;
mod record;
mod run_log;
mod schema;
mod state;
mod store;

pub use crate::database::term::{Term, TermError};
pub use error::{JournalError, LeaseHolder};
pub use lease::{Claim, Lease};
pub use record::{Entry, Kind, Log, MemoryLog, Record};
pub use run_log::RunLog;
pub use schema::embedded_migrations;
pub use state::{Corruption, Phase, RunState, StepPhase, StepState};
pub use store::{Journal, RunInfo, Stored, end_by_hand};
