//! What the database that serves lacks of a plan's folders of migrations, file by file, and what lint says of it at real sizes; reads only.

use super::engine_folder;
use super::migrate::MigrateError;
use super::migrations::lint::{Finding, Linter, Phase, is_in_the_way};
use super::migrations::{Folder, Kind, MigrationFile, Problem, live};
use super::sql::qualified;
use crate::plan::{Migration, MigrationSource, TableName};
use std::collections::BTreeSet;
use thiserror::Error;
use tokio_postgres::{Client, GenericClient};

const IS_THERE: &str = "select pg_catalog.to_regclass($1::text) is not null";
/// A gate that holds nobody up.
const SESSION: &str = "set default_transaction_read_only = on; set statement_timeout = '60s'; set lock_timeout = '2s'";

/// Why nobody can tell; nothing was touched.
#[derive(Debug, Error)]
pub enum PendingError {
    /// A folder or a history could not be read.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A file holds SQL that is not understood.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Broken(Vec<Problem>),
    /// The server refused.
    #[error("{act}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// What lint says of the files that a database lacks.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Files that were judged.
    pub files: u64,
    /// What would keep clients waiting, or what nobody can tell, before the flip.
    pub in_the_way: Vec<Finding>,
    /// The same of what contracts the schema, after the soak.
    pub later: Vec<Finding>,
}

/// Where refinery keeps what was applied in place, when the plan does not say: its own place, since our schema goes.
#[must_use]
pub fn usual_history() -> TableName {
    TableName { schema: "public".to_owned(), name: "refinery_schema_history".to_owned() }
}

/// The files of one entry in place that the database lacks, in order.
///
/// # Errors
/// When the folder or the history cannot be read.
pub async fn pending(client: &Client, migration: &Migration) -> Result<Vec<MigrationFile>, MigrateError> {
    pending_in(client, migration, &usual_history()).await
}

/// The same, where refinery keeps its history in `usual` unless the plan says otherwise.
///
/// # Errors
/// When the folder or the history cannot be read.
pub async fn pending_in(
    client: &Client,
    migration: &Migration,
    usual: &TableName,
) -> Result<Vec<MigrationFile>, MigrateError> {
    match &migration.source {
        MigrationSource::Engine { folder, versions } => {
            let files: Vec<MigrationFile> = Folder::read_as(folder, Kind::Engine)?.files().cloned().collect();
            let applied = versions_of(client, versions).await?;
            let missing = engine_folder::missing(&files, applied);
            Ok(missing.into_iter().map(|at| files[at].clone()).collect())
        }
        MigrationSource::Refinery { folder, history } => {
            let folder = Folder::read_as(folder, Kind::Refinery)?;
            let applied = versions_of(client, history.as_ref().unwrap_or(usual)).await?;
            Ok(unlisted(folder.files().cloned().collect(), &applied))
        }
        MigrationSource::Command { .. } => Ok(Vec::new()),
    }
}

/// The files of a folder that no plan names which a database lacks by the engine's own table, or by refinery's where refinery keeps it itself.
///
/// # Errors
/// When the history cannot be read.
pub async fn lacking(client: &Client, folder: Folder) -> Result<Vec<MigrationFile>, MigrateError> {
    let files: Vec<MigrationFile> = folder.versions.into_iter().map(|version| version.up).collect();
    match folder.kind {
        Kind::Engine => {
            let table = TableName { schema: "public".to_owned(), name: "schema_migration".to_owned() };
            let missing = engine_folder::missing(&files, versions_of(client, &table).await?);
            Ok(missing.into_iter().map(|at| files[at].clone()).collect())
        }
        Kind::Refinery => Ok(unlisted(files, &versions_of(client, &usual_history()).await?)),
    }
}

/// The files whose number is not among refinery's.
fn unlisted(files: Vec<MigrationFile>, applied: &BTreeSet<String>) -> Vec<MigrationFile> {
    let number =
        |version: &str| version.parse::<i64>().map_or_else(|_| version.to_owned(), |number| number.to_string());
    files.into_iter().filter(|file| !applied.contains(&number(&file.version))).collect()
}

async fn versions_of(client: &impl GenericClient, table: &TableName) -> Result<BTreeSet<String>, MigrateError> {
    let failed = || MigrateError::server("read which migrations were applied");
    let table = qualified(&table.schema, &table.name);
    if !client.query_one(IS_THERE, &[&table]).await.map_err(failed())?.get::<_, bool>(0) {
        return Ok(BTreeSet::new());
    }
    let rows = client.query(&format!("select version::text from {table}"), &[]).await.map_err(failed())?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Makes a session one that only looks, and that waits for nobody.
pub(crate) async fn look(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(SESSION).await
}

/// Judges what `client`'s database lacks of the plan's folders, as clients of it would feel it.
///
/// # Errors
/// When something cannot be read or is no SQL that is understood.
pub async fn lint(client: &Client, migrations: &[Migration]) -> Result<Judged, PendingError> {
    let failed = |source| PendingError::Server { act: "read what blue holds", source };
    look(client).await.map_err(failed)?;
    let mut linter = Linter::new(live::read(client).await.map_err(failed)?, Phase::Live);
    let (mut judged, mut broken) = (Judged::default(), Vec::new());
    for migration in migrations {
        for file in pending(client, migration).await? {
            judged.files += 1;
            let found = match linter.file(&file) {
                Ok(found) => found,
                Err(problem) => {
                    broken.push(problem);
                    continue;
                }
            };
            let found = found.into_iter().filter(|one| is_in_the_way(one, Phase::Live));
            if migration.contract { judged.later.extend(found) } else { judged.in_the_way.extend(found) }
        }
    }
    if broken.is_empty() { Ok(judged) } else { Err(PendingError::Broken(broken)) }
}
