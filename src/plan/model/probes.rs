//! The resolved section `probes`: questions to the engine and to what depends on it.

use super::super::document::{Accepts, Flow, When};
use super::{Secret, Side, Upstream};
use std::collections::BTreeMap;
use std::time::Duration;

/// One probe.
#[derive(Debug, Clone)]
pub enum Probe {
    /// The engine's flows.
    Oauth(Box<OauthProbe>),
    /// One request.
    Http(HttpProbe),
}

impl Probe {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Oauth(oauth) => &oauth.name,
            Self::Http(http) => &http.name,
        }
    }
}

/// Flows of OAuth on both sides.
#[derive(Debug, Clone)]
pub struct OauthProbe {
    /// Name, unique in the plan.
    pub name: String,
    /// Blue's engine.
    pub blue: Upstream,
    /// Green's engine.
    pub green: Upstream,
    /// What is tried, each once.
    pub flows: Vec<Flow>,
    /// Scopes that are asked for.
    pub scope: String,
    /// A client of the user's.
    pub client: Option<ProbeClient>,
    /// How long a refresh token may be used again on blue.
    pub grace_blue: Option<Duration>,
    /// How long a refresh token may be used again on green.
    pub grace_green: Option<Duration>,
    /// Bound on one call.
    pub timeout: Duration,
    /// How often the flows are tried during the soak.
    pub every: Duration,
    /// Whose tokens are good on the other side.
    pub accepts: Accepts,
    /// Members of the discovery document that may differ.
    pub may_differ: Vec<String>,
    /// Under which secret the canaries' tokens are kept; none without canaries.
    pub canaries: Option<Secret>,
}

impl OauthProbe {
    /// One side's engine.
    #[must_use]
    pub fn engine(&self, side: Side) -> &Upstream {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }

    /// How long a refresh token may be used again there.
    #[must_use]
    pub fn grace(&self, side: Side) -> Option<Duration> {
        match side {
            Side::Blue => self.grace_blue,
            Side::Green => self.grace_green,
        }
    }
}

/// A client of the user's.
#[derive(Debug, Clone)]
pub struct ProbeClient {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// One of its addresses to send people back to.
    pub redirect_uri: Option<String>,
}

/// One request, and what must be answered.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    /// Name, unique in the plan.
    pub name: String,
    /// The whole address.
    pub url: String,
    /// `GET` or `HEAD`.
    pub method: &'static str,
    /// Headers.
    pub headers: BTreeMap<String, Secret>,
    /// The status that must be answered.
    pub status: u16,
    /// A text that the answer must hold.
    pub body_contains: Option<String>,
    /// When it is asked.
    pub when: Vec<When>,
    /// Bound on one call.
    pub timeout: Duration,
}
