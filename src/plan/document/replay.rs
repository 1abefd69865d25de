//! The document's section `revocations.replay`: how a revocation takes effect where nobody has executed it.

use super::{Door, Nothing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a revocation takes effect: on a closed side, and on the side that serves where its engine may not have executed it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// On a closed side: in the tables of Ory Hydra, chain by chain. On the side that serves: by Hydra's admin API, unless there is `http`.
    pub hydra: Nothing,
    /// How the engine of the side that serves is told, in place of Hydra's own admin API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ReplayHttp>,
    /// Statements that revoke beside it, wherever a revocation is executed in SQL, and questions that tell what they have left alive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<ReplaySql>,
}

/// Statements of one purpose, for either side in the words of its schema.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaySql {
    /// Name, unique among them.
    pub name: String,
    /// The doors whose revocations it is for; without it all but `client_update`, which kills nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doors: Vec<Door>,
    /// What is run and asked on blue: on the way back, and before the flip where blue's engine may not have executed a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<ReplayStatements>,
    /// What is run and asked on green, after its migrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<ReplayStatements>,
}

/// What is run and asked on one side. Each parameter is an array, all of one length: `$1` event (uuid), `$2` request, `$3` consent, `$4` session,
/// `$5` client, `$6` subject, `$7` signature (text), `$8` before (timestamptz). What the n-th elements say belongs together; many are null.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayStatements {
    /// One insert, update or delete, or a `.sql` file with one. Repeating it must do no harm.
    pub revoke: String,
    /// One select, or a `.sql` file with one, of the events (uuid) that have something alive. Without it the engine's tables alone are the proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive: Option<String>,
}

/// Requests that revoke. What has no request here is executed by chain in the tables. Redirects are not followed; only 2xx counts as success, and the
/// tables are asked afterwards.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayHttp {
    /// Base URL for blue.
    pub blue: String,
    /// Base URL for green.
    pub green: String,
    /// Headers of every request; what lets one in by `${NAME}` only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Revokes the consents of `{subject}` to `{client}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consents: Option<ReplayRequest>,
    /// Ends all login sessions of `{subject}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<ReplayRequest>,
    /// Deletes all access tokens of `{client}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_tokens: Option<ReplayRequest>,
}

/// One request; repeating it must do no harm.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Its method.
    pub method: ReplayMethod,
    /// Path and query after the base URL, such as `/users/{subject}/apps?app={client}`; values are percent-encoded.
    pub path: String,
    /// Members of a JSON body, each a text that may hold `{subject}` and `{client}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub body: BTreeMap<String, String>,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ReplayMethod {
    /// The usual one.
    Post,
    /// Sets a state.
    Put,
    /// Changes a part.
    Patch,
    /// Removes a resource.
    Delete,
}
