//! The document's section `probes`: questions to the engine and to what depends on it, as its clients ask them.

use super::{Length, Upstream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One probe: `oauth` or `http`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// The engine, as its clients, its users and its administrators use it.
    Oauth(Box<OauthProbe>),
    /// One request, and what must be answered.
    Http(HttpProbe),
}

/// Probes of Ory Hydra, 1.x and 2.x: flows of OAuth on both sides, with clients and users made for it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthProbe {
    /// Name, unique in the plan.
    pub name: String,
    /// Base URL of the public API of green's engine itself, not of a gateway.
    pub public: String,
    /// Base URL of the admin API of green's engine; whether it lies under `/admin` is found out.
    pub admin: String,
    /// Blue's engine; that of `gateway.blue` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<Upstream>,
    /// What is tried.
    pub flows: Vec<Flow>,
    /// Scopes that the flows ask for; a refresh token comes with `offline_access`.
    #[serde(default = "scope")]
    pub scope: String,
    /// A client of yours, where the admin API may not be used to make one; without it each probe makes its own and removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ProbeClient>,
    /// How long a refresh token may be used again, by engine; `gateway.refresh.engine_grace` when left out. Without both using one again ends its
    /// whole chain.
    #[serde(default, skip_serializing_if = "Grace::is_none")]
    pub grace: Grace,
    /// Bound on one call.
    #[serde(default = "timeout")]
    pub timeout: Length,
    /// How often the flows are tried during the soak.
    #[serde(default = "every")]
    pub every: Length,
    /// Whose tokens are good on the other side.
    #[serde(default)]
    pub accepts: Accepts,
    /// Members of the discovery document that may differ between the sides. The issuer never may.
    #[serde(default)]
    pub may_differ: Vec<String>,
    /// Grants that are made on blue before the copy and watched to the end; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries: Option<Canaries>,
}

/// One thing that clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// The discovery document: nothing that blue offers is missing. Reads only.
    Discovery,
    /// The public keys: every key of blue's is there. Reads only.
    Keys,
    /// Tokens are introspected as what they are, and an unknown one is not active.
    Introspect,
    /// A client's own token, and a wrong secret.
    ClientCredentials,
    /// A user's grant by code and PKCE (S256), a wrong verifier, and a code that is used twice.
    CodePkce,
    /// A refresh gives tokens of the same user.
    Refresh,
    /// A refresh token is used again, inside the grace period and after it.
    Reuse,
    /// A revoked token is dead, a stranger revokes nothing, and an unknown token is no error.
    Revoke,
}

/// How long a refresh token may be used again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grace {
    /// On blue; Hydra has it from 2.3.0 on.
    pub blue: Option<Length>,
    /// On green; Hydra has it from 2.3.0 on.
    pub green: Option<Length>,
}

impl Grace {
    fn is_none(&self) -> bool {
        self.blue.is_none() && self.green.is_none()
    }
}

/// A client of yours.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeClient {
    /// Its id, the same on both sides.
    pub id: String,
    /// Its secret, by `${NAME}` only.
    pub secret: String,
    /// One of its addresses to send people back to; needed for everything but `client_credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
}

/// Whose tokens are good on the other side.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Accepts {
    /// What blue has issued is active on green.
    pub blue_tokens_on_green: bool,
    /// What green has issued is active on blue.
    pub green_tokens_on_blue: bool,
}

impl Default for Accepts {
    fn default() -> Self {
        Self { blue_tokens_on_green: true, green_tokens_on_blue: false }
    }
}

/// Grants that are made on blue before the copy.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canaries {
    /// The secret under which their tokens are kept in the journal, encrypted: by `${NAME}` only, at least 32 characters.
    pub key: String,
}

/// One request, and what must be answered.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// Name, unique in the plan.
    pub name: String,
    /// The whole address.
    pub url: String,
    /// The method.
    #[serde(default)]
    pub method: Method,
    /// Headers; secrets by `${NAME}` only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The status that must be answered.
    #[serde(default = "ok")]
    #[schemars(range(min = 100, max = 599))]
    pub status: u16,
    /// A text that the answer must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// When it is asked.
    #[serde(default = "start_and_soak")]
    pub when: Vec<When>,
    /// Bound on one call.
    #[serde(default = "timeout")]
    pub timeout: Length,
}

/// A method that changes nothing by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Method {
    /// `GET`.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// `HEAD`.
    #[serde(rename = "HEAD")]
    Head,
}

/// When a probe is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Before anything is touched, while blue serves: what fails then was broken before.
    Start,
    /// Before the flip: of a green that is closed.
    Before,
    /// After the flip, as long as the soak lasts.
    Soak,
}

fn scope() -> String {
    "openid offline_access".to_owned()
}

fn timeout() -> Length {
    Length("5s".to_owned())
}

fn every() -> Length {
    Length("30s".to_owned())
}

fn ok() -> u16 {
    200
}

fn start_and_soak() -> Vec<When> {
    vec![When::Start, When::Soak]
}
