//! The document's section `prepare`: values outside the databases that are changed before the window, and set back at the end, whatever it is.

use super::{FreezeMethod, Length};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A value outside that is set before the window and set back at the end, such as how long tokens live: `http` or `command`. It is read first, and the
/// value before is kept in the journal: not for secrets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Name of the value, unique in the plan.
    pub name: String,
    /// What it is set to, absolute, in the words in which it is read: `4h0m0s` and not `4h` when that is what the service answers.
    pub value: PrepareValue,
    /// Which tokens live longer by it.
    pub tokens: PrepareTokens,
    /// How long it takes until everything behaves by it: the old life of tokens. The window must open later than that after it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_effect_after: Option<Length>,
    /// It is read and set by commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<PrepareCommand>,
    /// It is read and set over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<PrepareHttp>,
    /// Bound on one command or one request.
    #[serde(default = "default_within")]
    pub within: Length,
}

fn default_within() -> Length {
    Length("30s".to_owned())
}

/// An absolute value. `+1h` and the like are refused: set twice, they would not be what they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PrepareValue {
    /// Yes or no.
    Truth(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Which tokens live longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrepareTokens {
    /// None.
    None,
    /// Tokens that are only good when the engine is asked: a revocation ends them.
    Opaque,
    /// Access tokens that others verify by themselves (JWT): nobody can end them before they expire. Refused unless a person answers for it.
    Jwt,
}

/// Commands, each a program and its arguments, one a list item; no shell. Each must be harmless when it is repeated.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareCommand {
    /// Prints the present value as its last line.
    pub read: Vec<String>,
    /// Sets it; the argument `$value` is the value that is set, or set back.
    pub set: Vec<String>,
    /// Environment added for the commands.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Requests. Redirects are not followed; only 2xx counts as success.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareHttp {
    /// Where the present value is read.
    pub read: PrepareRead,
    /// How it is set, and set back.
    pub set: PrepareSet,
    /// A bearer token for both, such as `${ADMIN_TOKEN}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<String>,
}

/// A `GET` whose JSON holds the value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareRead {
    /// Its URL, without credentials.
    pub url: String,
    /// JSON pointer to the value, such as `/refresh_token_grant_refresh_token_lifespan`; nothing there reads as null.
    pub pointer: String,
}

/// A request with a body of JSON.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareSet {
    /// Its method.
    pub method: FreezeMethod,
    /// Its URL, without credentials.
    pub url: String,
    /// Its body; the text `$value` in it is the value that is set, or set back.
    pub body: serde_json::Value,
}
