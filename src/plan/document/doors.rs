//! The doors through which revocations come, and in the document's section `gateway` how requests at them look.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Through which door a revocation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// A token was revoked, and with it its chain.
    Token,
    /// Consents of a subject (to one client or all) were withdrawn.
    Consent,
    /// Login sessions were ended by an administrator.
    LoginSession,
    /// All access tokens of a client were deleted.
    ClientTokens,
    /// A client was deleted.
    ClientDelete,
    /// A client was changed: its secret, its state, its owner.
    ClientUpdate,
    /// A user logged out.
    Logout,
}

impl Door {
    /// Those through which something dies; a changed client kills nothing by itself.
    pub const KILLING: [Self; 6] =
        [Self::Token, Self::Consent, Self::LoginSession, Self::ClientTokens, Self::ClientDelete, Self::Logout];

    /// The word under which the queue keeps it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Consent => "consent",
            Self::LoginSession => "login_session",
            Self::ClientTokens => "client_tokens",
            Self::ClientDelete => "client_delete",
            Self::ClientUpdate => "client_update",
            Self::Logout => "logout",
        }
    }
}

impl std::str::FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "token" => Self::Token,
            "consent" => Self::Consent,
            "login_session" => Self::LoginSession,
            "client_tokens" => Self::ClientTokens,
            "client_delete" => Self::ClientDelete,
            "client_update" => Self::ClientUpdate,
            "logout" => Self::Logout,
            other => return Err(format!("{other:?} is no door")),
        })
    }
}

/// A listener of the gateway that requests come in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Listener {
    /// The engine's public API.
    Public,
    /// The engine's admin API.
    Admin,
}

/// Which requests are revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Doors {
    /// Those of Ory Hydra, 1.x and 2.x, and those of `patterns` beside them.
    Hydra,
    /// Those of `patterns` alone.
    Patterns,
}

/// A kind of request that is a revocation. Whom it means stands in its path, its query or its form; what it revokes is looked up in the engine's tables.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoorPattern {
    /// What it revokes.
    pub door: Door,
    /// The listener it comes in by.
    pub listener: Listener,
    /// Its methods.
    pub methods: Vec<DoorMethod>,
    /// Its path, such as `/users/{subject}/apps/{client}`: each segment is plain text or one of the names in braces.
    pub path: String,
    /// Parameters of the query that say whom it means.
    #[serde(default, skip_serializing_if = "DoorPlaces::is_empty")]
    pub query: DoorPlaces,
    /// Fields of its form (application/x-www-form-urlencoded) that say it.
    #[serde(default, skip_serializing_if = "DoorPlaces::is_empty")]
    pub form: DoorPlaces,
    /// Statuses beside 2xx by which the engine says that it has revoked, or that nothing was left of it, such as 303 after a form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<u16>,
}

/// What a revocation names, each by the parameter that holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DoorPlaces {
    /// The token; in a form only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// A consent's challenge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
    /// A login session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A logout's verifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifier: Option<String>,
}

impl DoorPlaces {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A method of HTTP that can revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DoorMethod {
    /// As of a link that a user follows.
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
