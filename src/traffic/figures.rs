//! What a gateway has seen of its clients lately: the words of `GET {control}/cutover/v1/figures?seconds=N`, and their sum over
//! several gateways. Judges nothing: that is `gates::soak`.

use crate::plan::Side;
use serde::{Deserialize, Serialize};

/// The longest time that a gateway looks back; `soak.over` of a plan may not be longer.
pub const LONGEST_S: u64 = 3600;

/// What was answered on each side within the last `seconds`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// How far back it looks: as asked, at most [`LONGEST_S`], and no further than the gateway's own start.
    pub seconds: u64,
    /// What blue's engine was asked.
    pub blue: Answers,
    /// What green's engine was asked.
    pub green: Answers,
    /// Refreshes on blue by client; at most [`CLIENTS`] of them, those who refresh most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blue_clients: Vec<Refreshes>,
    /// Refreshes on green by client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub green_clients: Vec<Refreshes>,
}

/// Most clients that a gateway counts by name, and tells of.
pub const CLIENTS: usize = 100;

/// How one client's requests for a new token by a refresh token were answered by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshes {
    /// The client's id.
    pub client: String,
    /// All of them.
    pub refreshes: u64,
    /// Of these: refused with 4xx.
    pub refused: u64,
}

impl Refreshes {
    /// Refused ones among them.
    #[must_use]
    pub fn refused(&self) -> Share {
        Share { part: self.refused, whole: self.refreshes }
    }

    /// The sum of several gateways' lists.
    #[must_use]
    pub fn sum(lists: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut sum = std::collections::BTreeMap::<String, (u64, u64)>::new();
        for one in lists {
            let counts = sum.entry(one.client).or_default();
            *counts = (counts.0 + one.refreshes, counts.1 + one.refused);
        }
        sum.into_iter().map(|(client, (refreshes, refused))| Self { client, refreshes, refused }).collect()
    }
}

/// Requests that an engine was asked and that have ended. What the gateway itself refused, because it was held too long or did not know a side,
/// is not the engine's and is not counted; neither is a question for the version.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Answers {
    /// All of them.
    pub requests: u64,
    /// Of these: answered with 5xx, not at all, or not in time.
    pub failed: u64,
    /// Of these: answered with 401 or 403.
    #[serde(default)]
    pub forbidden: u64,
    /// Requests for a new token by a refresh token, answered by the engine at all.
    pub refreshes: u64,
    /// Of these: refused with 4xx.
    pub refused_refreshes: u64,
    /// 95 of 100 were answered within so many milliseconds, from the sending to the engine to the end of its answer; none without requests.
    pub p95_ms: Option<f64>,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Those of the kind asked for.
    pub part: u64,
    /// All of them.
    pub whole: u64,
}

impl Share {
    /// In per cent; 0 of nothing.
    #[must_use]
    pub fn percent(self) -> f64 {
        if self.whole == 0 { 0.0 } else { self.part as f64 * 100.0 / self.whole as f64 }
    }
}

impl Figures {
    /// One side's refreshes by client.
    #[must_use]
    pub fn clients_of(&self, side: Side) -> &[Refreshes] {
        match side {
            Side::Blue => &self.blue_clients,
            Side::Green => &self.green_clients,
        }
    }

    /// One side's.
    #[must_use]
    pub fn of(&self, side: Side) -> &Answers {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

impl Answers {
    /// Failed ones among all requests.
    #[must_use]
    pub fn failed(&self) -> Share {
        Share { part: self.failed, whole: self.requests }
    }

    /// Those answered with 401 or 403 among all requests.
    #[must_use]
    pub fn forbidden(&self) -> Share {
        Share { part: self.forbidden, whole: self.requests }
    }

    /// Refused ones among the refreshes.
    #[must_use]
    pub fn refused(&self) -> Share {
        Share { part: self.refused_refreshes, whole: self.refreshes }
    }

    /// Of several gateways: counts added, the slowest one's time.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let slowest = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        Self {
            requests: self.requests + other.requests,
            failed: self.failed + other.failed,
            forbidden: self.forbidden + other.forbidden,
            refreshes: self.refreshes + other.refreshes,
            refused_refreshes: self.refused_refreshes + other.refused_refreshes,
            p95_ms: slowest(self.p95_ms, other.p95_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_gateways_are_as_slow_as_the_slowest() {
        let one = Answers { requests: 2, failed: 1, p95_ms: Some(5.0), ..Answers::default() };
        let other = Answers { requests: 3, forbidden: 2, refreshes: 1, p95_ms: Some(7.0), ..Answers::default() };
        let both =
            Answers { requests: 5, failed: 1, forbidden: 2, refreshes: 1, refused_refreshes: 0, p95_ms: Some(7.0) };
        assert_eq!(one.and(other), both);
        assert_eq!(one.and(Answers::default()).p95_ms, Some(5.0));
    }

    #[test]
    fn clients_of_several_gateways_are_added_up_by_name() {
        let of = |client: &str, refreshes, refused| Refreshes { client: client.into(), refreshes, refused };
        assert_eq!(Refreshes::sum([of("b", 1, 1), of("a", 2, 0), of("b", 3, 1)]), [of("a", 2, 0), of("b", 4, 2)]);
    }

    #[test]
    fn a_gateway_of_before_tells_less() {
        let said = r#"{"seconds":1,"blue":{"requests":1,"failed":0,"refreshes":0,"refused_refreshes":0,"p95_ms":null},
            "green":{"requests":0,"failed":0,"refreshes":0,"refused_refreshes":0,"p95_ms":null}}"#;
        let figures: Figures = serde_json::from_str(said).expect("figures");
        assert_eq!((figures.blue.forbidden, figures.green_clients.len()), (0, 0));
    }
}
