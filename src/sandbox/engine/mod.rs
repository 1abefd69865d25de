//! The stand-in OAuth engine in its two versions: tables and HTTP API shaped like those of a well-known engine, 1.x and 2.x.
//!
//! Owns its own chain of migrations and everything it says to its database, which it reaches as the application's role like any
//! engine would. Never knows that it is being migrated: it imports nothing of the product but how to connect. It signs access tokens
//! where that is asked for and no id tokens, and of cookies it knows the one by which a browser's login is remembered.

mod assertion;
mod fault;
mod http;
mod jws;
mod migrate;
mod store;
mod token;

pub use http::serve;
pub use migrate::{Migrated, migrate, prepare_wrapper};

use crate::plan::Secret;
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;

/// The engine's major version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineVersion {
    /// 1.x: four request tables, admin API without a prefix.
    V1,
    /// 2.x: flows and networks, admin API under `/admin`.
    V2,
}

impl EngineVersion {
    /// The version of a number typed by a person, `1` or `2`.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    /// What `GET /version` answers.
    #[must_use]
    pub fn full(self) -> &'static str {
        match self {
            Self::V1 => "1.11.10",
            Self::V2 => "2.2.0",
        }
    }
}

/// How an engine is served.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Which engine.
    pub version: EngineVersion,
    /// What `GET /version` answers instead, where two engines of one version stand for two.
    pub named: Option<&'static str>,
    /// Its database, with the application's role.
    pub dsn: Secret,
    /// Where the public API listens.
    pub public: SocketAddr,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// Base URL by which clients know the engine, the same on both sides: the gateway's public address, without a slash at the end.
    pub issuer: String,
    /// Where the browser is sent with `login_challenge`.
    pub login_url: String,
    /// Where the browser is sent with `consent_challenge`.
    pub consent_url: String,
    /// The system secret that signs tokens, the same on both sides.
    pub secret: Secret,
    /// Most connections to the database.
    pub connections: usize,
    /// How long tokens live.
    pub lives: TokenLives,
    /// What access tokens are for clients that do not say it themselves.
    pub access_tokens: AccessTokens,
}

/// What an access token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessTokens {
    /// Random bytes, which only the engine knows.
    Opaque,
    /// Signed text, which others can verify by themselves.
    Jwt,
}

/// How long tokens live.
#[derive(Debug, Clone, Copy)]
pub struct TokenLives {
    /// Access tokens.
    pub access: Duration,
    /// Refresh tokens.
    pub refresh: Duration,
    /// Authorization codes.
    pub code: Duration,
}

impl Default for TokenLives {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { access: hour, refresh: 720 * hour, code: Duration::from_secs(600) }
    }
}

/// Why an engine could not be migrated or served.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The database cannot be reached.
    #[error("reach the engine's database: nothing was changed")]
    Connect(#[source] crate::database::client::ConnectError),
    /// The database's URL cannot be read.
    #[error("read the engine's database URL")]
    Url(#[source] tokio_postgres::Error),
    /// A migration failed; it was rolled back, those before it stand.
    #[error(
        "apply migration {version}: it was rolled back, the ones before it stand; run it again when the cause is gone"
    )]
    Migration {
        /// Which one, or `schema_migration` for the list itself.
        version: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A port cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The pool of connections cannot be made.
    #[error("make a pool of connections")]
    Pool(#[source] deadpool_postgres::BuildError),
    /// A file could not be written.
    #[error("write {path}")]
    Write {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
