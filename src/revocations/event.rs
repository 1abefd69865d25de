//! The event: one revocation as captured, with the identity of what it kills. Pure; never holds a token.

pub use crate::plan::Door;
use crate::plan::Side;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What became of the request on the live side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Queued; whether the engine executed it is not known (yet). Treated as executed once its time is over.
    Captured,
    /// The engine executed it.
    Executed,
    /// The engine refused it (not authenticated, not allowed); it is never replayed.
    Refused,
}

impl Outcome {
    /// The word under which the queue keeps it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Executed => "executed",
            Self::Refused => "refused",
        }
    }
}

/// What the lookup on one side said when the event was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The side knows something the revocation kills.
    Found,
    /// The side was asked and knows nothing of it.
    Unknown,
    /// The side has no such tables yet.
    NoTables,
    /// The side could not be asked; absence there proves nothing.
    Unreachable,
}

impl Seen {
    /// The word under which the queue keeps it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Unknown => "unknown",
            Self::NoTables => "no_tables",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What a revocation kills, as identities that outlive a refresh and mean the same on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chain {
    /// Request ids: every access and refresh token of a grant carries the same one.
    pub requests: BTreeSet<String>,
    /// Consent challenges.
    pub consents: BTreeSet<String>,
    /// Login session ids.
    pub sessions: BTreeSet<String>,
    /// Client ids.
    pub clients: BTreeSet<String>,
    /// The subject named in the request or found with the chain; for people.
    pub subject: Option<String>,
    /// The forms under which an engine may have stored the presented token's signature (never the token). Kept even when the chain
    /// was found, so that a side that could not be asked then can be asked later.
    pub signatures: Vec<String>,
    /// For whole-client doors: tokens requested up to this time (the database's own, as text) are meant, later grants are not.
    pub until: Option<String>,
    /// When the chain was looked up, by the clock of the side that served: a grant that is younger is not meant.
    pub at: Option<jiff::Timestamp>,
}

impl Chain {
    /// Adds what the other side knew.
    pub fn merge(&mut self, other: Self) {
        self.requests.extend(other.requests);
        self.consents.extend(other.consents);
        self.sessions.extend(other.sessions);
        self.clients.extend(other.clients);
        self.subject = self.subject.take().or(other.subject);
        for signature in other.signatures {
            if !self.signatures.contains(&signature) {
                self.signatures.push(signature);
            }
        }
        self.until = self.until.take().max(other.until);
        self.at = self.at.take().or(other.at);
    }

    /// Whether a lookup found anything to kill.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !(self.requests.is_empty() && self.consents.is_empty() && self.sessions.is_empty() && self.clients.is_empty())
    }
}

/// A revocation before the queue has given it a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its door.
    pub door: Door,
    /// What it kills.
    pub chain: Chain,
    /// The side that serves.
    pub live: Side,
    /// The epoch at which it serves.
    pub epoch: i64,
    /// What blue knew.
    pub blue: Seen,
    /// What green knew.
    pub green: Seen,
}

impl Captured {
    /// What `side` knew.
    #[must_use]
    pub fn seen_on(&self, side: Side) -> Seen {
        match side {
            Side::Blue => self.blue,
            Side::Green => self.green,
        }
    }
}

/// A revocation in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its identity.
    pub id: Uuid,
    /// Which incarnation of which gateway captured it.
    pub incarnation: Uuid,
    /// Its number there, contiguous from 1.
    pub seq: i64,
    /// When, by the control database's clock.
    pub captured_at: jiff::Timestamp,
    /// What was captured.
    pub what: Captured,
    /// What became of it.
    pub outcome: Outcome,
}

impl Event {
    /// What was granted after this moment is not meant. By the clock of the side that served, where it was asked.
    #[must_use]
    pub fn before(&self) -> jiff::Timestamp {
        self.what.chain.at.unwrap_or(self.captured_at)
    }
}
