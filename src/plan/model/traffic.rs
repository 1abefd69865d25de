//! The resolved sections about clients: revocations, the systems that flip together, the gateway.

use super::{Secret, Side};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Queue and replay of revocations.
#[derive(Debug, Clone)]
pub struct Revocations {
    /// Where events are kept until proved.
    pub queue: Queue,
    /// Whose tables the replay writes.
    pub replay: Replay,
}

/// Where revocations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// A table of the control database.
    Postgres,
}

/// How a revocation takes effect on a closed green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Hydra-shaped tables: chains are killed by request id in SQL.
    Hydra,
}

/// One system that moves with the others.
#[derive(Debug, Clone)]
pub struct System {
    /// Name, unique in the plan.
    pub name: String,
    /// How it is spoken to.
    pub adapter: Adapter,
    /// What the system's own path must say answered, per side, when it is verified by effect; unchecked when empty.
    pub answers: BTreeMap<Side, String>,
}

/// How a system is spoken to.
#[derive(Debug, Clone)]
pub enum Adapter {
    /// The built-in gateway, by its control listener.
    Gateway {
        /// Base URL of the control listener.
        control: String,
    },
    /// A system that implements the participant protocol.
    Participant {
        /// Base URL; `/cutover/v1/…` is appended.
        url: String,
    },
}

impl Adapter {
    /// The base URL of the participant protocol.
    #[must_use]
    pub fn base(&self) -> &str {
        match self {
            Self::Gateway { control } => control,
            Self::Participant { url } => url,
        }
    }
}

/// The built-in gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Where it listens, as base URLs (`http://127.0.0.1:4444`).
    pub listen: Listen,
    /// Blue's engine.
    pub blue: Upstream,
    /// Green's engine.
    pub green: Upstream,
    /// Which requests are revocations.
    pub doors: Doors,
    /// File that keeps the highest epoch across a restart.
    pub state: PathBuf,
    /// Most requests held at once; the rest are refused with 503.
    pub held_requests: usize,
    /// Most bytes of held request bodies; the rest are refused with 503.
    pub held_bytes: usize,
    /// Longest a proxied request may take.
    pub request_timeout: Duration,
}

/// Listeners of the gateway.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The engine's public API.
    pub public: String,
    /// The engine's admin API.
    pub admin: String,
    /// The gateway's own API.
    pub control: String,
}

/// One side's engine.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Base URL of the public API.
    pub public: String,
    /// Base URL of the admin API.
    pub admin: String,
}

/// Which requests are revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    /// The doors of Ory Hydra, 1.x and 2.x.
    Hydra,
}

/// How green must do after the flip, compared with blue in the hour before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Soak {
    /// Most failed requests, in percentage points above blue's share.
    pub failed: f64,
    /// Most requests answered by 401 or 403, in percentage points above blue's share.
    pub forbidden: f64,
    /// Most refused refreshes of tokens, in percentage points above blue's share.
    pub refused_refreshes: f64,
    /// How many times as slow as on blue 95 of 100 answers may be.
    pub slower: f64,
    /// How far each look goes back.
    pub over: Duration,
    /// Fewest requests of which a share is taken.
    pub least: u64,
    /// Whether the traffic goes back to blue by itself when green does worse.
    pub returns: bool,
}

/// A command that cuts a side off; no shell.
#[derive(Debug, Clone)]
pub struct Isolate {
    /// Program and arguments.
    pub run: Vec<String>,
    /// Environment added for it; values are secret.
    pub env: BTreeMap<String, Secret>,
}
