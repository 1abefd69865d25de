//! The resolved section `revocations.replay`.

use super::{Secret, Side, Sql};
use crate::plan::document::Door;
use std::collections::{BTreeMap, BTreeSet};

/// How a revocation takes effect where nobody has executed it: on a closed side always in Hydra-shaped tables, by request id in SQL.
#[derive(Debug, Clone)]
pub struct Replay {
    /// How the engine of the side that serves is told, in place of Hydra's admin API.
    pub http: Option<ReplayHttp>,
    /// Statements that revoke beside it.
    pub sql: Vec<ReplaySql>,
}

/// Statements of one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySql {
    /// Name, unique among them.
    pub name: String,
    /// The doors it is for.
    pub doors: BTreeSet<Door>,
    /// On blue.
    pub blue: Option<ReplayStatements>,
    /// On green.
    pub green: Option<ReplayStatements>,
}

impl ReplaySql {
    /// What is run and asked on a side.
    #[must_use]
    pub fn on(&self, side: Side) -> Option<&ReplayStatements> {
        match side {
            Side::Blue => self.blue.as_ref(),
            Side::Green => self.green.as_ref(),
        }
    }
}

/// What is run and asked on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayStatements {
    /// One insert, update or delete.
    pub revoke: Sql,
    /// Which events have something alive.
    pub alive: Option<Sql>,
    /// Every name in both, tables among them.
    pub names: BTreeSet<String>,
    /// Those of them that are called.
    pub calls: BTreeSet<String>,
}

impl ReplayStatements {
    /// What the parameters of both are, in their order; the first is an array of uuid, the last of timestamptz, the others of text.
    pub const PARAMETERS: [&'static str; 8] =
        ["event", "request", "consent", "session", "client", "subject", "signature", "before"];
}

/// Requests that revoke, for an engine with an API of its own.
#[derive(Debug, Clone)]
pub struct ReplayHttp {
    /// Base URL for blue.
    pub blue: String,
    /// Base URL for green.
    pub green: String,
    /// Headers of every request.
    pub headers: BTreeMap<String, Secret>,
    /// Revokes the consents of a subject to a client.
    pub consents: Option<ReplayRequest>,
    /// Ends all login sessions of a subject.
    pub sessions: Option<ReplayRequest>,
    /// Deletes all access tokens of a client.
    pub client_tokens: Option<ReplayRequest>,
}

impl ReplayHttp {
    /// The base URL for a side.
    #[must_use]
    pub fn base(&self, side: Side) -> &str {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRequest {
    /// Its method, in capitals.
    pub method: &'static str,
    /// Path and query after the base URL.
    pub path: Vec<ReplayPiece>,
    /// Members of a JSON body; without any there is no body.
    pub body: BTreeMap<String, Vec<ReplayPiece>>,
}

/// A piece of a text with values in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayPiece {
    /// As it stands.
    Text(String),
    /// The subject.
    Subject,
    /// The client.
    Client,
}
