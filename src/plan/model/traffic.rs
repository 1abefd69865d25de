//! The resolved sections about clients: revocations, the gateway, the soak.

use super::{Doors, Replay, Route, Secret};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Queue and replay of revocations.
#[derive(Debug, Clone)]
pub struct Revocations {
    /// Where events are kept until proved.
    pub queue: Queue,
    /// How one takes effect where nobody has executed it.
    pub replay: Replay,
}

/// Where revocations are kept until they have arrived in control.
#[derive(Debug, Clone)]
pub enum Queue {
    /// A table of the control database.
    Postgres,
    /// A queue of Cloudflare.
    Cloudflare(CloudflareQueue),
    /// A stream of NATS JetStream.
    Nats(NatsQueue),
}

impl Queue {
    /// Whether both name the same place, whatever lets one in there.
    #[must_use]
    pub fn is_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Postgres, Self::Postgres) => true,
            (Self::Cloudflare(one), Self::Cloudflare(two)) => {
                (&one.api, &one.account, &one.queue) == (&two.api, &two.account, &two.queue)
            }
            (Self::Nats(one), Self::Nats(two)) => (one.url.expose(), &one.stream) == (two.url.expose(), &two.stream),
            _ => false,
        }
    }
}

/// A queue of a Cloudflare account.
#[derive(Debug, Clone)]
pub struct CloudflareQueue {
    /// Base URL of the API, without a slash at its end; the token goes nowhere else.
    pub api: String,
    /// The account's id.
    pub account: String,
    /// The queue's id.
    pub queue: String,
    /// The id of the queue that its consumer has for dead letters.
    pub dead_letter_queue: String,
    /// An API token that may read and write queues.
    pub token: Secret,
}

/// A stream of a JetStream server.
#[derive(Debug, Clone)]
pub struct NatsQueue {
    /// URL of the server; may hold credentials.
    pub url: Secret,
    /// Name of the stream; the dead letters' is made from it.
    pub stream: String,
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
    /// What single paths are let do while clients are held.
    pub routes: Vec<Route>,
    /// The bearer token of those who may add revocations that come by no door; none when nobody may.
    pub revocations_token: Option<Secret>,
    /// File that keeps the highest epoch across a restart.
    pub state: PathBuf,
    /// Most requests held at once; the rest are refused with 503.
    pub held_requests: usize,
    /// Most bytes of held request bodies; the rest are refused with 503.
    pub held_bytes: usize,
    /// Longest a proxied request may take.
    pub request_timeout: Duration,
    /// Most revocations that are denied at once; further ones are refused.
    pub overlay_entries: usize,
    /// What is done about refreshes that are repeated; none when each is the engine's to judge.
    pub refresh: Option<Refresh>,
    /// Logins and consents in progress begin anew when sides change; none when they are carried.
    pub flows: Option<Flows>,
}

/// How logins and consents begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flows {
    /// The engine's public address as browsers see it, without a slash at its end.
    pub restart: String,
}

/// What is done about refreshes that are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// They reach the engine once.
    Coalesce(Coalesce),
    /// The engines of both sides bear with a token used again, for so long.
    EngineGrace(Duration),
}

impl Refresh {
    /// How long the engines bear with a refresh token used again, where that is relied on.
    #[must_use]
    pub fn engine_grace(self) -> Option<Duration> {
        match self {
            Self::Coalesce(_) => None,
            Self::EngineGrace(grace) => Some(grace),
        }
    }
}

/// How refreshes that are the same are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coalesce {
    /// How long an answer is kept for a client that comes again.
    pub ttl: Duration,
    /// Whether clients without a credential take part.
    pub public: bool,
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
