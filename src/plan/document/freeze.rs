//! The document's section `freeze`: jobs outside the databases that must stand still while the traffic moves.

use super::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A cleanup job or reconciler that is frozen before the flip and thawed at the end: `command` or `http`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Name of the job, unique in the plan.
    pub name: String,
    /// It is frozen and thawed by commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<FreezeCommand>,
    /// It is frozen and thawed over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<FreezeHttp>,
    /// Bound on one command or one request.
    #[serde(default = "default_within")]
    pub within: Length,
}

fn default_within() -> Length {
    Length("30s".to_owned())
}

/// Commands, each a program and its arguments, one a list item; no shell. Each must be harmless when it is repeated.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeCommand {
    /// Freezes the job; succeeds only when it stands still.
    pub freeze: Vec<String>,
    /// Thaws it.
    pub thaw: Vec<String>,
    /// Succeeds only while the job is frozen; asked again right before the flip.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<String>,
    /// Environment added for the commands.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Requests; each must be harmless when it is repeated. Redirects are not followed; only 2xx counts as success.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeHttp {
    /// Freezes the job; succeeds only when it stands still.
    pub freeze: FreezeRequest,
    /// Thaws it.
    pub thaw: FreezeRequest,
    /// Succeeds only while the job is frozen; asked again right before the flip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<FreezeRequest>,
    /// A bearer token for all of them, such as `${JANITOR_TOKEN}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<String>,
}

/// One request without a body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Its method.
    pub method: FreezeMethod,
    /// Its URL, without credentials.
    pub url: String,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum FreezeMethod {
    /// For `verify`.
    Get,
    /// The usual one.
    Post,
    /// Sets a state.
    Put,
    /// Changes a part.
    Patch,
    /// Removes a resource.
    Delete,
}

impl FreezeMethod {
    /// Its word in a request.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}
