//! Where the time of a hold goes: milliseconds by phase, as clients wait them.

use serde_json::{Map, Value};
use tokio::time::Instant;

/// A clock that is read at the end of each phase.
pub(super) struct Laps {
    since: Instant,
    ms: Map<String, Value>,
}

impl Laps {
    /// Begins now.
    pub(super) fn begin() -> Self {
        Self { since: Instant::now(), ms: Map::new() }
    }

    /// Ends a phase; one that is made again is added up.
    pub(super) fn ended(&mut self, phase: &str) {
        let now = Instant::now();
        let before = self.ms.get(phase).and_then(Value::as_f64).unwrap_or_default();
        let ms = before + now.duration_since(self.since).as_secs_f64() * 1000.0;
        self.ms.insert(phase.to_owned(), ((ms * 10.0).round() / 10.0).into());
        self.since = now;
    }

    /// Milliseconds by phase, in their order.
    pub(super) fn told(&self) -> Value {
        Value::Object(self.ms.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_phase_lasts_from_the_end_of_the_one_before() {
        let mut laps = Laps::begin();
        for (phase, ms) in [("hold", 20), ("level", 30), ("hold", 5)] {
            tokio::time::advance(Duration::from_millis(ms)).await;
            laps.ended(phase);
        }
        assert_eq!(laps.told().to_string(), r#"{"hold":25.0,"level":30.0}"#);
    }
}
