//! Probes measure, gates decide. Pure: a gate is given what was measured and answers with a verdict and its reason.

mod ready;
mod verdict;

pub use ready::{SystemReading, green_closed, log_kept, refused_everywhere, system, window};
pub use verdict::Verdict;
