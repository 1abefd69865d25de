//! The engine's chain of migrations: what is missing is found by set difference with `schema_migration` and applied in order of number.
//!
//! Each file runs in one transaction with its row. Never drops what it does not know.

use super::{EngineError, EngineVersion};
use crate::database::client;
use crate::plan::Secret;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio_postgres::Client;

/// One file of the chain.
struct File {
    since: EngineVersion,
    name: &'static str,
    sql: &'static str,
}

macro_rules! engine_file {
    ($since:expr, $name:literal) => {
        File {
            since: $since,
            name: $name,
            sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/engine/", $name, ".up.sql")),
        }
    };
}

const CHAIN: &[File] = &[
    engine_file!(EngineVersion::V2, "20150101000001_networks"),
    engine_file!(EngineVersion::V1, "20180101000001_clients_and_keys"),
    engine_file!(EngineVersion::V1, "20180101000002_sessions_and_requests"),
    engine_file!(EngineVersion::V1, "20180101000003_tokens"),
    engine_file!(EngineVersion::V2, "20211019000001_flow"),
    engine_file!(EngineVersion::V2, "20211019000002_tokens_follow_flows"),
    engine_file!(EngineVersion::V2, "20211019000003_flow_indexes"),
    engine_file!(EngineVersion::V2, "20220210000001_network_of_clients_and_keys"),
    engine_file!(EngineVersion::V2, "20220210000002_network_of_sessions"),
    engine_file!(EngineVersion::V2, "20220210000003_network_of_access"),
    engine_file!(EngineVersion::V2, "20220210000004_network_of_refresh"),
    engine_file!(EngineVersion::V2, "20220210000005_network_of_code"),
    engine_file!(EngineVersion::V2, "20220210000006_network_of_oidc"),
    engine_file!(EngineVersion::V2, "20220210000007_network_of_pkce"),
    engine_file!(EngineVersion::V2, "20220513000001_client_lists"),
    engine_file!(EngineVersion::V2, "20220513000002_flow_lists"),
    engine_file!(EngineVersion::V2, "20221109000001_flow_state_check"),
];

const TRACKING: &str = "create table if not exists schema_migration (
    version varchar(48) primary key, version_self integer not null default 0)";

impl File {
    /// The digits before the name.
    fn version(&self) -> &'static str {
        self.name.split_once('_').map_or(self.name, |(digits, _)| digits)
    }
}

/// What a call of [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Files applied by this call, in order.
    pub applied: Vec<&'static str>,
    /// Files that had been applied before.
    pub before: usize,
}

/// Brings the database of `dsn` to the schema of `version`.
///
/// # Errors
/// When the database cannot be reached or a file fails; files applied before it stand.
pub async fn migrate(dsn: &Secret, version: EngineVersion) -> Result<Migrated, EngineError> {
    let mut client = client::connect(dsn, "the engine's database").await.map_err(EngineError::Connect)?;
    let known = known(&client).await.map_err(|source| failed("schema_migration", source))?;
    let mut migrated = Migrated { applied: Vec::new(), before: known.len() };
    for file in CHAIN.iter().filter(|file| file.since <= version && !known.contains(file.version())) {
        apply(&mut client, file).await.map_err(|source| failed(file.name, source))?;
        tracing::info!(file = file.name, "applied");
        migrated.applied.push(file.name);
    }
    Ok(migrated)
}

fn failed(version: &str, source: tokio_postgres::Error) -> EngineError {
    EngineError::Migration { version: version.to_owned(), source }
}

async fn known(client: &Client) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    client.batch_execute(TRACKING).await?;
    let rows = client.query("select version from schema_migration", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn apply(client: &mut Client, file: &File) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(file.sql).await?;
    transaction.execute("insert into schema_migration (version) values ($1)", &[&file.version()]).await?;
    transaction.commit().await
}

/// Writes an executable at `path` that answers `migrate sql -e --yes` (database from `DSN`) and `serve all` as the real engine's
/// program would, by calling `binary` (`cutover`) with its hidden verb for `version`.
///
/// # Errors
/// When the file cannot be written.
pub fn prepare_wrapper(path: &Path, binary: &Path, version: EngineVersion) -> Result<(), EngineError> {
    let number = if version == EngineVersion::V1 { 1 } else { 2 };
    let binary = binary.display().to_string().replace('\'', "'\\''");
    let text = format!("#!/bin/sh\nexec '{binary}' sandbox part engine --version {number} \"$@\"\n");
    let fail = |source| EngineError::Write { path: path.display().to_string(), source };
    std::fs::write(path, text).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(fail)
}
