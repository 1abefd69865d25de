//! Order, retry, deadline, resume and undo of steps. Knows no PostgreSQL.

mod context;
mod error;
mod event;
mod outcome;
mod run;
mod runbook;
mod session;
mod step;
mod stop;
mod unwind;

pub use context::{Context, Facts};
pub use error::{Effect, FailureKind, Remedy, StepError, chain};
pub use event::{Event, Events, Stamped, StopPoint};
pub use outcome::{Halt, Outcome, RunPhase, Survey};
pub use run::{Engine, Waiver};
pub use runbook::{Runbook, RunbookError};
pub use step::{Limits, Receipt, Reversal, Standing, Step, StepId};
pub use stop::{Stop, Stopper};
