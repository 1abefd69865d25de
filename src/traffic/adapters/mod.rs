//! How each kind of system is spoken to. Both kinds speak the participant protocol; a gateway is also a resolver. Jobs that are frozen are told by
//! plain requests.

mod job;
mod participant;

pub use job::{JobError, tell_job};
pub use participant::{AdapterError, Participant};
