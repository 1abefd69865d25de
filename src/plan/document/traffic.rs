//! The document's sections about clients: revocations, the systems that flip together, the gateway.

use super::{Length, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The queue and the replay of revocations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Where revocations are kept until they are proved on green.
    pub queue: Queue,
    /// How a revocation takes effect on green while it is closed.
    pub replay: Replay,
}

/// Where revocations are kept: `postgres`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Queue {
    /// A table of the control database.
    Postgres(Nothing),
}

/// How a revocation takes effect on green: `hydra`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Replay {
    /// In the tables of Ory Hydra, chain by chain.
    Hydra(Nothing),
}

/// No settings: `{}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// One system that flips with the others; it has either `gateway` or `participant`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Name of the system, unique in the plan.
    pub name: String,
    /// It stands behind the built-in gateway, which holds its clients.
    #[serde(default)]
    pub gateway: Option<GatewayAdapter>,
    /// It implements the participant protocol (`POST /cutover/v1/{prepare,hold,switch,verify,release}`) and can hold by itself.
    #[serde(default)]
    pub participant: Option<ParticipantAdapter>,
    /// What the system's own path must answer on each side when it is verified by effect.
    #[serde(default)]
    pub answers: Answers,
}

/// A system behind the built-in gateway.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayAdapter {
    /// Base URL of the gateway's control listener.
    pub control: String,
}

/// A system that implements the participant protocol.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParticipantAdapter {
    /// Base URL; `/cutover/v1/…` is appended.
    pub url: String,
}

/// What a system must answer on each side.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// On blue, such as the engine's version.
    pub blue: Option<String>,
    /// On green, such as the engine's version.
    pub green: Option<String>,
}

/// The built-in gateway: the entrance of the engine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Where it listens.
    pub listen: Listen,
    /// Blue's engine.
    pub blue: Upstream,
    /// Green's engine.
    pub green: Upstream,
    /// Which requests are revocations.
    pub doors: Doors,
    /// File that keeps the highest epoch across a restart, relative to the plan.
    #[serde(default = "default_state")]
    pub state: String,
    /// Most requests held at once; the rest are refused with 503.
    #[serde(default = "default_held_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub held_requests: u32,
    /// Most bytes of held request bodies; the rest are refused with 503.
    #[serde(default = "default_held_bytes")]
    pub held_bytes: Size,
    /// Longest that a proxied request may take.
    #[serde(default = "default_request_timeout")]
    pub request_timeout: Length,
}

fn default_state() -> String {
    "gateway-state.json".to_owned()
}

fn default_held_requests() -> u32 {
    10_000
}

fn default_held_bytes() -> Size {
    Size("64MB".to_owned())
}

fn default_request_timeout() -> Length {
    Length("30s".to_owned())
}

/// Listeners of the gateway, as base URLs such as `http://127.0.0.1:4444`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// For the engine's public API.
    pub public: String,
    /// For the engine's admin API.
    pub admin: String,
    /// For the gateway's own API.
    pub control: String,
}

/// One side's engine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Base URL of the public API.
    pub public: String,
    /// Base URL of the admin API.
    pub admin: String,
}

/// Which requests are revocations.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Doors {
    /// Those of Ory Hydra, 1.x and 2.x.
    Hydra,
}

/// How green must do after the flip. Shares are compared with blue's in the hour before it, as the gateway saw both.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Soak {
    /// Most requests that may fail (5xx, or no answer in time), in percentage points above blue's share.
    pub failed: f64,
    /// Most requests that may be answered by 401 or 403, to the engine and to each system that counts, in percentage points above blue's share;
    /// 5 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbidden: Option<f64>,
    /// Most refreshes of tokens that may be refused, of all clients and of each, in percentage points above blue's share.
    pub refused_refreshes: f64,
    /// How many times as slow as on blue 95 of 100 answers may be, from 1; less than 50 ms more is never too slow.
    pub slower: f64,
    /// How far each look goes back.
    pub over: Length,
    /// Fewest requests of which a share is taken; with fewer on green in the whole soak, or on blue before, nothing can be told.
    pub least: u64,
    /// What happens when green does worse than that: `stay` or `return`.
    pub when_worse: WhenWorse,
}

impl Default for Soak {
    fn default() -> Self {
        Self {
            failed: 1.0,
            forbidden: None,
            refused_refreshes: 2.0,
            slower: 3.0,
            over: Length("1m".to_owned()),
            least: 50,
            when_worse: WhenWorse::Stay,
        }
    }
}

/// What happens when green does worse than the soak allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenWorse {
    /// A person decides.
    #[default]
    Stay,
    /// The traffic goes back to blue by itself.
    Return,
}

/// A command that cuts a side off.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Isolate {
    /// Program and arguments, one a list item; no shell. It succeeds only when no client can reach green's database or engine any more.
    pub run: Vec<String>,
    /// Environment added for the command.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}
