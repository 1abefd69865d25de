//! The document's sections about clients: revocations, the gateway, the soak.

use super::{DoorPattern, Doors, Length, Replay, Route, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The queue and the replay of revocations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Where revocations are kept until they are proved on green.
    pub queue: Queue,
    /// How a revocation takes effect where nobody has executed it.
    pub replay: Replay,
}

/// Where revocations are kept: `postgres`, `cloudflare` or `nats`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Queue {
    /// A table of the control database.
    Postgres(Nothing),
    /// A queue of Cloudflare, over its HTTP API.
    Cloudflare(CloudflareQueue),
    /// A stream of NATS JetStream.
    Nats(NatsQueue),
}

/// A queue of Cloudflare. Both queues and a consumer of type `http_pull` on each must be there, the first with the second as its dead-letter
/// queue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudflareQueue {
    /// Base URL of the API. The token is sent nowhere else.
    #[serde(default = "CloudflareQueue::api")]
    pub api: String,
    /// The account's id.
    pub account: String,
    /// The queue's id.
    pub queue: String,
    /// The id of the queue for dead letters.
    pub dead_letter_queue: String,
    /// An API token that may read and write queues; a reference such as `${QUEUES_TOKEN}`.
    pub token: String,
}

impl CloudflareQueue {
    fn api() -> String {
        "https://api.cloudflare.com/client/v4".to_owned()
    }
}

/// A stream of NATS JetStream, made if it is not there, with another beside it for dead letters.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsQueue {
    /// URL of the server, such as `nats://user:${NATS_PASSWORD}@queue.internal:4222`; `tls://` asks for TLS.
    pub url: String,
    /// Name of the stream: letters, digits, dashes and underscores. `cutover-` and the plan's name when left out.
    #[serde(default)]
    pub stream: Option<String>,
}

/// No settings: `{}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

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
    /// Requests of an engine with other paths that are revocations too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<DoorPattern>,
    /// What single paths are let do while clients are held. Introspection and userinfo are answered through a hold whatever stands here, and
    /// revocations leave it first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Revocations that come by no door of the engine: `POST /cutover/v1/revocations` on the control listener, and `cutover revocations add`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<AddedRevocations>,
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
    /// Most revocations that are denied at once; with more, further revocations are refused with 503. They are denied from the moment of their
    /// capture until no way back is open.
    #[serde(default = "default_overlay_entries")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub overlay_entries: u32,
    /// What is done about the same refresh token being used twice at once, or again after an answer was lost, `coalesce` or `engine_grace`;
    /// nothing when left out.
    #[serde(default)]
    pub refresh: Option<Refresh>,
    /// What becomes of logins and consents in progress when sides change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<Flows>,
}

/// What becomes of logins and consents in progress when sides change. Left out, they are carried: right where the engines of both sides keep them in
/// their tables (Hydra up to 2.1).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    /// The engine's public address as browsers see it, such as `https://auth.example.com`: a flow that began on the other side begins anew there.
    pub restart: String,
}

/// What is done about repeated refreshes: `coalesce` or `engine_grace`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// They reach the engine once, and all get its answer.
    Coalesce(Coalesce),
    /// How long the engines of both sides bear with a refresh token that is used again, by their own configuration; at most 5m. Hydra has it from
    /// 2.3.0 on.
    EngineGrace(Length),
}

/// Refreshes that are the same reach the engine once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coalesce {
    /// How long an answer is kept for a client that comes again, from 1s to 30s. For that long the engine does not see that a token is used twice.
    #[serde(default = "default_coalesce_ttl")]
    pub ttl: Length,
    /// Whether clients without a credential take part. Who has stolen such a client's token gets the kept answer too.
    #[serde(default)]
    pub public: bool,
}

fn default_coalesce_ttl() -> Length {
    Length("10s".to_owned())
}

fn default_overlay_entries() -> u32 {
    200_000
}

/// Who may add revocations that come by no door of the engine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddedRevocations {
    /// The bearer token that must be shown, such as `${REVOCATIONS_TOKEN}`; at least 16 characters.
    pub token: String,
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
