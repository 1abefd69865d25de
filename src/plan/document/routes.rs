//! In the document's section `gateway`: what single routes are let do while clients are held.

use super::Listener;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done with the requests of one path while clients are held. Of several that fit, the most exact one counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The listener it comes in by.
    pub listener: Listener,
    /// The whole path, such as `/health/ready`, or everything below one: `/.well-known/*`. Plain text, as the engine's clients write it.
    pub path: String,
    /// What a hold does with them: `hold` or `pass`.
    #[serde(default)]
    pub policy: RoutePolicy,
    /// When they are let go after a hold, from 1 (first after revocations) to 9 (last). Left out, introspection has 2, tokens have 4 and
    /// everything else has 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub priority: Option<u8>,
}

/// What a hold does with requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoutePolicy {
    /// They wait.
    #[default]
    Hold,
    /// `GET` and `HEAD` are answered by the side that is being left; everything else waits.
    Pass,
}
