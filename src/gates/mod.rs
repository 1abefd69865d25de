//! Probes measure, gates decide. A gate is pure: it is given what was measured and answers with a verdict and its reason.

mod engine_grace;
mod invariants;
mod probe;
pub mod probes;
mod ready;
mod soak;
mod verdict;

pub use engine_grace::engine_grace;
pub use invariants::invariants_after;
pub use probe::{Finding, Probe, Reading, probed};
pub use ready::{SystemReading, captured, green_closed, refused_everywhere, system, window, witness};
pub use soak::{as_good, blue_sealed, clients_as_good, dependants_as_good, left_alone, no_dead_letters, soaked};
pub use verdict::Verdict;

/// An error with its causes, in one line.
fn said(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
