//! A prober that stands alone: requests at a fixed rate beside any flip, and what clients felt of it, without a word from the tool that flips.
//!
//! Owns its clock, its counts and its pictures. Knows no plan, no register and no journal: the only witness is what was answered.

mod chart;
mod histogram;
mod load;
mod seen;
mod sides;
mod timeline;

pub use chart::{line, svg};
pub use load::probe;
pub use seen::{Asked, Seen, TargetSeen};
pub use sides::{Change, SideSeen};
pub use timeline::Bin;

use std::time::Duration;
use thiserror::Error;

/// What is asked, how often, and what counts as a failure.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Whom; each gets `rate` requests a second.
    pub targets: Vec<Target>,
    /// Requests a second to each target.
    pub rate: u32,
    /// How long; until it is stopped when left out.
    pub length: Option<Duration>,
    /// After which a request has failed.
    pub timeout: Duration,
    /// The answer's header that names who answered.
    pub side_header: String,
    /// Where a body of JSON names who answered, as a pointer such as `/version`; instead of the header.
    pub side_pointer: Option<String>,
    /// Statuses that are right; every one below 500 when empty.
    pub expected: Vec<u16>,
}

/// One URL that is asked by `GET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the report.
    pub name: String,
    /// Its URL.
    pub url: String,
}

/// One second of all targets, while it goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    /// Seconds since the start.
    pub at_s: u64,
    /// Requests ended so far.
    pub requests: u64,
    /// Requests failed so far.
    pub failed: u64,
    /// Worst latency within the second just gone, in milliseconds.
    pub worst_ms: f64,
}

/// Why nothing could be asked.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No HTTP client on this machine.
    #[error("set up an HTTP client")]
    Client(#[from] reqwest::Error),
}

/// Milliseconds with two digits after the point.
#[expect(clippy::cast_precision_loss, reason = "a latency is far below 2^52 microseconds")]
fn ms(us: u64) -> f64 {
    (us as f64 / 10.0).round() / 100.0
}
