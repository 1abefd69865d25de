//! What the engine keeps: its pool of connections and the words in which the two versions' statements differ.
//!
//! Columns are always listed by name. `tokens` is one shape for both versions; logins and consents are four tables in `requests`
//! and one in `flows`.

pub(super) mod assertions;
pub(super) mod clients;
pub(super) mod flows;
pub(super) mod grants;
pub(super) mod keys;
pub(super) mod lifespans;
pub(super) mod requests;
pub(super) mod sessions;
pub(super) mod tokens;

use super::fault::Fault;
use super::{EngineError, EngineOptions, EngineVersion};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;

const WAIT: Duration = Duration::from_secs(30);
/// Bounds on what a statement may do to the database; a fence or a lock is waited for this long and then answered with 503.
const SETTINGS: &str = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s";

/// Connections opened at a time; more would only keep each other from being done before they give up.
const OPENING: usize = 4;
const WARM_AGAIN: Duration = Duration::from_secs(1);

/// The engine's database.
pub(super) struct Store {
    pool: Pool,
    opening: Semaphore,
    /// Which statements it speaks.
    pub(super) version: EngineVersion,
}

impl Store {
    /// Prepares the pool; connects to nothing yet.
    pub(super) fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let mut config: tokio_postgres::Config = options.dsn.expose().parse().map_err(EngineError::Url)?;
        config.application_name("stand-in engine").connect_timeout(WAIT).options(SETTINGS);
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(options.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .build()
            .map_err(EngineError::Pool)?;
        Ok(Self { pool, opening: Semaphore::new(OPENING), version: options.version })
    }

    /// A connection of the pool.
    pub(super) async fn connection(&self) -> Result<Object, Fault> {
        let status = self.pool.status();
        if status.available > 0 || status.size >= status.max_size {
            return Ok(self.pool.get().await?);
        }
        let turn = tokio::time::timeout(WAIT, self.opening.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Fault::Unavailable("no connection could be opened in time".into()));
        };
        Ok(self.pool.get().await?)
    }

    /// Fills the pool before anybody asks for it, so that a side that opens under load has its connections; waits for a database that
    /// is not there yet.
    pub(super) async fn warm(&self) {
        let mut held = Vec::new();
        while self.pool.status().size < self.pool.status().max_size {
            match self.pool.get().await {
                Ok(connection) => held.push(connection),
                Err(_) => tokio::time::sleep(WARM_AGAIN).await,
            }
            if self.pool.status().waiting > 0 {
                // Somebody needs them now, and will open what is left.
                return;
            }
        }
    }

    /// Whether the database answers and has been migrated.
    pub(super) async fn ready(&self) -> Result<(), Fault> {
        let question = match self.version {
            EngineVersion::V1 => "select pk from hydra_client limit 1",
            EngineVersion::V2 => "select pk_deprecated, nid from hydra_client limit 1",
        };
        self.connection().await?.query(question, &[]).await?;
        Ok(())
    }
}

/// The network of version 2: there is exactly one, and its id is asked each time rather than remembered across a migration.
const NETWORK: &str = "(select id from networks)";

/// Words that version 2 adds to a statement.
impl EngineVersion {
    /// After the last column of an insert.
    pub(super) fn nid_column(self) -> &'static str {
        if self == Self::V2 { ", nid" } else { "" }
    }

    /// After the last value of an insert.
    pub(super) fn nid_value(self) -> String {
        if self == Self::V2 { format!(", {NETWORK}") } else { String::new() }
    }

    /// After the last condition on a table (or on `alias.`).
    pub(super) fn nid_filter(self, alias: &str) -> String {
        if self == Self::V2 { format!(" and {alias}nid = {NETWORK}") } else { String::new() }
    }

    /// A list parameter (`text[]`) as the column holds it.
    pub(super) fn list_in(self, parameter: &str) -> String {
        match self {
            Self::V1 => format!("array_to_string({parameter}::text[], '|')"),
            Self::V2 => format!("to_jsonb({parameter}::text[])"),
        }
    }

    /// A list column as `text[]`.
    pub(super) fn list_out(self, column: &str) -> String {
        match self {
            Self::V1 => format!("string_to_array({column}, '|')"),
            Self::V2 => format!("array(select jsonb_array_elements_text({column}))"),
        }
    }
}
