//! The document's section `systems`: what flips together, and how each of them is spoken to.

use super::Isolate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One system that flips with the others; it has exactly one of `gateway`, `participant`, `command`, `haproxy` and `nginx`.
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
    /// It is told by programs, one an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandAdapter>,
    /// An HAProxy that chooses its backend by a map. It cannot hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub haproxy: Option<HaproxyAdapter>,
    /// An nginx that asks a gateway's gate before each request (`auth_request`). The gateway holds for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nginx: Option<NginxAdapter>,
    /// Name of the system that holds for this one, which cannot hold by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// What the system's own path must answer on each side when it is verified by effect.
    #[serde(default)]
    pub answers: Answers,
}

/// A system behind the built-in gateway, or behind several that move as one: either `control` or `controls`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayAdapter {
    /// Base URL of the gateway's control listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Several gateways: the name of each (`cutover gateway PLAN --name NAME`) and the base URL of its control listener. The system stands only
    /// where all of them do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub controls: BTreeMap<String, String>,
    /// Before the hold, a gateway of several that does not answer is counted out once this command has cut it off; it is named by
    /// `CUTOVER_GATEWAY`. Left out, a gateway that does not answer blocks the flip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_out: Option<Isolate>,
}

/// A system that implements the participant protocol.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParticipantAdapter {
    /// Base URL; `/cutover/v1/…` is appended.
    pub url: String,
}

/// Programs, each with its arguments, one a list item; no shell. Each must be harmless when it is repeated, exits with 0 when it is done and with 75
/// when that is not possible yet; anything else is a refusal. The order is on its standard input, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandAdapter {
    /// Whether the move is possible; the system serves on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<String>,
    /// Starts no new work until `release`, and refuses by itself after `CUTOVER_DEADLINE_MS`. A system without it cannot hold, and needs `behind`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hold: Vec<String>,
    /// Succeeds when nothing is in flight (75: not yet) and, where there is a `hold`, while it is held.
    pub drain: Vec<String>,
    /// Turns to the side in `CUTOVER_SIDE`, still held.
    pub switch: Vec<String>,
    /// Sends a real request on the system's own path; its first line on standard output says who answered.
    pub verify: Vec<String>,
    /// Serves the side in `CUTOVER_SIDE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<String>,
    /// Instead of `release`, when it is released to the side that it has never left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
    /// Environment added for all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// An HAProxy whose `use_backend` looks a key up in a map. Systems that share its socket and map are switched in one transaction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaproxyAdapter {
    /// Its runtime API at `level admin`: `unix:/run/haproxy.sock` or `tcp:HOST:PORT`.
    pub socket: String,
    /// The map as HAProxy's configuration names it.
    pub map: String,
    /// The file of the map where this program can write it, when it is another path; a reload of HAProxy reads the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The key of this system in the map.
    pub key: String,
    /// The backend of each side, which is the value of the key.
    pub backends: Backends,
    /// How it is seen by effect which side answers.
    pub verify: AnsweredAt,
}

/// Names of backends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backends {
    /// Blue's.
    pub blue: String,
    /// Green's.
    pub green: String,
}

/// An nginx whose locations ask the gate of the gateway that it stands behind.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NginxAdapter {
    /// How it is seen by effect which side answers.
    pub verify: AnsweredAt,
}

/// A request through the system's own path whose answer names the side that answered.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnsweredAt {
    /// What is asked, by GET; only 2xx is an answer.
    pub url: String,
    /// The header of the answer that says who answered; left out, the first line of its body does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
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
