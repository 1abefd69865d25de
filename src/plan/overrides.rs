//! `--set key=value`: a budget or copy setting changed for one call. Owns which keys may change so; the digest stays what was approved.

use super::model::Plan;
use super::resolve::{parse_length, parse_size};
use super::sections::automatic_workers;

/// Keys that `--set` may change.
pub const OVERRIDABLE: [&str; 15] = [
    "window.opens",
    "window.closes",
    "window.hold",
    "window.write_gap",
    "window.level",
    "window.copy",
    "window.migrate",
    "window.invariants",
    "window.soak",
    "window.wal_keep",
    "window.wal_drop",
    "copy.workers",
    "copy.throttle.rate",
    "copy.throttle.replica_lag",
    "copy.throttle.snapshot",
];

/// Why a value could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The key is no budget and no copy setting.
    #[error("{key} cannot be set for one call; only budgets and copy settings can: {}", OVERRIDABLE.join(", "))]
    NotOverridable {
        /// As typed.
        key: String,
    },
    /// The value has the wrong form.
    #[error("{key} must be {wanted}")]
    NotAValue {
        /// The key.
        key: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// The values do not fit together.
    #[error("{message}")]
    Conflict {
        /// Which, and what to do.
        message: &'static str,
    },
}

const LENGTH: &str = "a length of time above zero, such as 250ms, 2s or 30m";
const TIME: &str = "a point in time with its zone, such as 2026-12-02T02:00:00Z";

impl Plan {
    /// Changes budgets and copy settings; whether they fit together is judged after the last.
    ///
    /// # Errors
    /// When a key may not change, a value has the wrong form, or the result does not fit together; the plan is unchanged then.
    pub fn apply_sets<'s>(&mut self, sets: impl IntoIterator<Item = (&'s str, &'s str)>) -> Result<(), SetError> {
        let mut changed = self.clone();
        for (key, value) in sets {
            set_one(&mut changed, key, value.trim())?;
        }
        let window = &changed.window;
        if window.write_gap > window.hold {
            let message = "window.write_gap is longer than window.hold: set both, the write gap lies inside the hold";
            return Err(SetError::Conflict { message });
        }
        if window.opens.zip(window.closes).is_some_and(|(opens, closes)| closes <= opens) {
            return Err(SetError::Conflict { message: "window.closes is not after window.opens" });
        }
        if window.wal_drop_bytes.is_some_and(|drop| drop <= window.wal_keep_bytes) {
            return Err(SetError::Conflict { message: "window.wal_drop is not above window.wal_keep" });
        }
        *self = changed;
        Ok(())
    }
}

fn set_one(plan: &mut Plan, key: &str, value: &str) -> Result<(), SetError> {
    let wrong = |wanted| SetError::NotAValue { key: key.to_owned(), wanted };
    let length = || parse_length(value).ok_or_else(|| wrong(LENGTH));
    let time = || value.parse().map(Some).map_err(|_| wrong(TIME));
    match key {
        "window.opens" => plan.window.opens = time()?,
        "window.closes" => plan.window.closes = time()?,
        "window.hold" => plan.window.hold = length()?,
        "window.write_gap" => plan.window.write_gap = length()?,
        "window.level" => plan.window.level = length()?,
        "window.copy" => plan.window.copy = length()?,
        "window.migrate" => plan.window.migrate = length()?,
        "window.invariants" => plan.window.invariants = length()?,
        "window.soak" => plan.window.soak = length()?,
        "window.wal_keep" => {
            plan.window.wal_keep_bytes = parse_size(value).ok_or_else(|| wrong("a size above zero, such as 10GB"))?;
        }
        "window.wal_drop" => {
            let size = parse_size(value).ok_or_else(|| wrong("a size above zero, such as 20GB"))?;
            plan.window.wal_drop_bytes = Some(size);
        }
        "copy.workers" => {
            let count = if value == "auto" { Some(automatic_workers()) } else { value.parse().ok() };
            let count = count.filter(|count| (1..=64).contains(count));
            plan.copy.workers = count.ok_or_else(|| wrong("a number from 1 to 64, or auto"))?;
        }
        "copy.throttle.rate" => {
            let rate = parse_size(value).ok_or_else(|| wrong("a size above zero in a second, such as 50MB"))?;
            plan.copy.throttle.rate_bytes = Some(rate);
        }
        "copy.throttle.replica_lag" => plan.copy.throttle.replica_lag = Some(length()?),
        "copy.throttle.snapshot" => plan.copy.throttle.snapshot = length()?,
        _ => return Err(SetError::NotOverridable { key: key.to_owned() }),
    }
    Ok(())
}
