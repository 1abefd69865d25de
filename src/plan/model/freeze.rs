//! The resolved section `freeze`: jobs that stand still while the traffic moves.

use super::Secret;
use std::collections::BTreeMap;
use std::time::Duration;

/// One job outside the databases.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// Name, unique in the plan.
    pub name: String,
    /// How it is told.
    pub by: FreezeBy,
    /// Bound on one command or one request.
    pub within: Duration,
}

/// How a job is told to stand still and to go on.
#[derive(Debug, Clone)]
pub enum FreezeBy {
    /// By commands, without a shell.
    Command {
        /// Freezes it.
        freeze: Vec<String>,
        /// Thaws it.
        thaw: Vec<String>,
        /// Succeeds only while it is frozen.
        verify: Option<Vec<String>>,
        /// Environment added; values are secret.
        env: BTreeMap<String, Secret>,
    },
    /// Over HTTP.
    Http {
        /// Freezes it.
        freeze: HttpRequest,
        /// Thaws it.
        thaw: HttpRequest,
        /// Succeeds only while it is frozen.
        verify: Option<HttpRequest>,
        /// Bearer token for all of them.
        bearer: Option<Secret>,
    },
}

/// One request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its method, in capitals.
    pub method: &'static str,
    /// Its URL.
    pub url: String,
}
