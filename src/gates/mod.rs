//! Probes measure, gates decide. Pure: a gate is given what was measured and answers with a verdict and its reason.

mod invariants;
mod ready;
mod soak;
mod verdict;

pub use invariants::invariants_after;
pub use ready::{SystemReading, captured, green_closed, refused_everywhere, system, window};
pub use soak::{as_good, left_alone, no_dead_letters, soaked};
pub use verdict::Verdict;
