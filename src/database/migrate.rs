//! Schema migrations of the side to come: a folder of refinery files, and what the engine's own migrations left.
//!
//! Owns the folder's rules, the lock against a second runner and the history table. Discovery, names, checksums and history are
//! refinery's; how a file runs is `migrate_worker`'s, and `concurrent`'s when it must run outside a transaction.

pub use super::command::command;
pub use super::engine_folder::engine_folder;

use super::client::{ConnectError, connect};
use super::measured::Locks;
pub use super::measured::{Beside, Measured};
use super::migrate_worker::{File, Worker};
use super::migrations::{Folder, Kind, MigrationFile, SourceError};
use super::sql::qualified;
use super::term::{Term, TermError, hold};
pub use super::tries::Pace;
use crate::plan::{Secret, TableName};
use refinery::{Migration, Runner};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, GenericClient};

const IS_THERE: &str = "select pg_catalog.to_regclass($1::text) is not null";
/// Serialises runners. A waiting `pg_advisory_lock` holds a snapshot for which a concurrent index build waits: poll instead.
const LOCK: &str = "select pg_catalog.pg_try_advisory_lock(7166758745047626083)";
/// Held by the session that changes the schema, so that a statement whose process died is waited for too.
const WORKER_LOCK: &str = "select pg_catalog.pg_try_advisory_lock(7166758745047626084)";
/// Statements of a file that run one by one are noted under `source/file`.
const FORGET_NOTES: &str =
    "delete from cutover.migration_statement where pg_catalog.starts_with(file, $1::text || '/')";
const FORGET_PINS: &str = "delete from cutover.migration_pin where source = $1";
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Why migrations did not run to their end. What was applied before stays and is not applied again.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process has taken over; nothing more is changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// The folder cannot be taken as it is; nothing was changed.
    #[error(transparent)]
    Folder(#[from] SourceError),
    /// Something in the folder is no migration that can run; nothing was changed.
    #[error("read migrations from {folder}: {file}: {why}; nothing was changed")]
    Stray {
        /// The folder.
        folder: PathBuf,
        /// What was found.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The history does not fit the folder; nothing was changed.
    #[error("apply migrations: {what}; nothing was changed")]
    History {
        /// What does not fit.
        what: String,
    },
    /// Another runner is at work.
    #[error("apply migrations: another runner has been at work for {waited_s} s; wait for it and run again")]
    Busy {
        /// How long we waited.
        waited_s: u64,
    },
    /// Locks were not to be had; the statement had no effect.
    #[error(
        "apply {file}: no lock within {waited_s} s for: {statement} (in the way: {blockers}); run again when they ended"
    )]
    Locked {
        /// The migration.
        file: String,
        /// The statement, or the file's first.
        statement: String,
        /// How long it was tried.
        waited_s: u64,
        /// Who was in the way.
        blockers: String,
    },
    /// It kept others waiting for too long, again and again; nothing of the statement was done.
    #[error(
        "apply {file}: it was cut off {cuts} times because clients waited for it, at last for {kept_ms} ms; nothing of it was changed: {statement} (write it in a form that does not block, or allow more in `live.block`)"
    )]
    Blocks {
        /// The migration.
        file: String,
        /// The statement, or the file's first.
        statement: String,
        /// How long the first of them had waited.
        kept_ms: u64,
        /// How often.
        cuts: u32,
    },
    /// The server refused a statement.
    #[error("apply {file}: {statement}")]
    Statement {
        /// The migration.
        file: String,
        /// The statement, or the file's first.
        statement: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Rows are in the way of a unique index; nothing of it is left.
    #[error(
        "apply {file}: {statement}: rows have one key: {rows}; take them apart (`cleanup`, or by hand) and run again"
    )]
    Duplicates {
        /// The migration.
        file: String,
        /// The statement.
        statement: String,
        /// The first keys, how often each is there, and which rows hold it.
        rows: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A statement cannot run in pieces as its author wants it; nothing of it was done.
    #[error("apply {file}: `-- cutover: batch` above: {statement}: {why}; nothing of it was changed")]
    Unbatched {
        /// The migration.
        file: String,
        /// The statement.
        statement: String,
        /// Why not.
        why: String,
    },
    /// An index was built and cannot be used.
    #[error("apply {file}: index {index} is not valid after it was built; run again, which drops and builds it anew")]
    InvalidIndex {
        /// The migration.
        file: String,
        /// The index.
        index: String,
    },
    /// The server refused something around the migrations.
    #[error("{act}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A command could not be started or waited for.
    #[error("run {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A command failed; what it did until then stays.
    #[error("run {program}: {status}; it said: {}", tail(last))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines, secrets masked.
        last: Vec<String>,
    },
    /// A command did not end in time and was killed with all it had started; what it did until then stays.
    #[error("run {program}: not done within {deadline_s} s, killed; it said: {}", tail(last))]
    Deadline {
        /// The program.
        program: String,
        /// The deadline.
        deadline_s: u64,
        /// Its last lines, secrets masked.
        last: Vec<String>,
    },
}

impl MigrateError {
    pub(super) fn server(act: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Server { act, source }
    }
}

fn tail(last: &[String]) -> String {
    let from = last.len().saturating_sub(5);
    if last.is_empty() { "nothing".to_owned() } else { last[from..].join(" | ") }
}

/// What a run of a folder did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Files applied now.
    pub applied: u64,
    /// Indexes built concurrently now.
    pub indexes_concurrent: u64,
    /// What each of them did, in order.
    pub files: Vec<Measured>,
}

/// A folder of refinery files, with the name of its entry in the plan: each has a history of its own.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The entry's name.
    pub name: &'a str,
    /// The folder.
    pub folder: &'a Path,
    /// Refinery's history, when it is to outlive our schema.
    pub history: Option<&'a TableName>,
}

impl Source<'_> {
    /// Refinery's history of this folder. Names in plans are short enough for the whole to be no longer than a name may be.
    #[must_use]
    pub fn history(&self) -> TableName {
        self.history.cloned().unwrap_or_else(|| TableName {
            schema: "cutover".to_owned(),
            name: format!("migration_history_{}", self.name),
        })
    }

    /// The same, quoted.
    fn quoted_history(&self) -> String {
        let TableName { schema, name } = self.history();
        qualified(&schema, &name)
    }
}

/// Where files are applied, by whose right, as whom, how fast, and who hears of it.
#[derive(Clone, Copy)]
pub struct Apply<'a> {
    /// The database.
    pub url: &'a Secret,
    /// Its name in messages: `blue` or `green`.
    pub side: &'a str,
    /// Our right to act there.
    pub term: &'a Term,
    /// The role that runs the statements and so owns what they create; without it our own login.
    pub owner: Option<&'a str>,
    /// How long each statement may wait, and keep others waiting. Another runner is waited for as long.
    pub pace: Pace,
    /// Hears of each file and statement.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

/// Applies what is missing of a folder of refinery files, in order of version, and tells of each file and statement.
///
/// A file runs in one transaction with its history row and our term held, unless it says `-- cutover: no-transaction` on a line of
/// its own or builds an index concurrently: then its statements run one by one, and a repetition goes on where it stopped.
///
/// # Errors
/// When the folder holds something that would be skipped, the history does not fit, another process took over, or the server
/// refuses. Repeating it is safe.
pub async fn refinery_folder(apply: &Apply<'_>, source: Source<'_>) -> Result<Applied, MigrateError> {
    let (migrations, files) = load(source)?.into_iter().unzip::<_, _, Vec<Migration>, Vec<File>>();
    let mut worker = worker(apply, files).await?;
    let mut runner = Runner::new(&migrations);
    runner.set_migration_table_name(source.quoted_history());
    match runner.run_async(&mut worker).await {
        Ok(_) => Ok(worker.applied),
        Err(error) => Err(worker.failure.take().unwrap_or_else(|| history(&error))),
    }
}

/// The only runner at work on a database.
pub(super) async fn worker<'a>(apply: &Apply<'a>, files: Vec<File>) -> Result<Worker<'a>, MigrateError> {
    let Apply { url, side, owner, pace, tell, .. } = *apply;
    let guard = connect(url, side).await?;
    wait_for(&guard, LOCK, pace.bound).await?;
    let client = connect(url, side).await?;
    wait_for(&client, WORKER_LOCK, pace.bound).await?;
    let watcher = connect(url, side).await?;
    let pid = client.query_one("select pg_catalog.pg_backend_pid()", &[]).await;
    let pid = pid.map_err(MigrateError::server("set up a session"))?.get(0);
    let (applied, failure, locks, term) = (Applied::default(), None, Locks::default(), *apply.term);
    let mut worker = Worker { client, pid, guard, watcher, term, files, owner, pace, tell, applied, locks, failure };
    worker.prepare().await?;
    Ok(worker)
}

fn history(error: &refinery::Error) -> MigrateError {
    use refinery::error::Kind;
    let what = match error.kind() {
        Kind::MissingVersion(migration) if migration.applied_on().is_none() => {
            format!("{migration} is new, but later versions were applied already; give it a higher version")
        }
        Kind::MissingVersion(migration) => format!("{migration} was applied, but is no longer in the folder"),
        Kind::DivergentVersion(applied, file) => {
            format!("{file} differs from {applied} as it was applied; restore its text and add a new file")
        }
        other => other.to_string(),
    };
    MigrateError::History { what }
}

async fn wait_for(client: &Client, lock: &str, patience: Duration) -> Result<(), MigrateError> {
    let end = Instant::now() + patience;
    loop {
        let row = client.query_one(lock, &[]).await.map_err(MigrateError::server("lock the migrations"))?;
        if row.get(0) {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(MigrateError::Busy { waited_s: patience.as_secs() });
        }
        sleep(LOCK_POLL).await;
    }
}

/// Reads the folder; every file in it must be a migration.
fn load(source: Source<'_>) -> Result<Vec<(Migration, File)>, MigrateError> {
    let folder = Folder::read_as(source.folder, Kind::Refinery)?;
    let take = |file: &MigrationFile| {
        let stray =
            |why: String| MigrateError::Stray { folder: source.folder.to_owned(), file: file.name.clone(), why };
        let taken = File::new(source.name, file);
        let migration = Migration::unapplied(&taken.name, &file.text).map_err(|error| stray(error.to_string()))?;
        Ok((migration, taken))
    };
    folder.files().map(take).collect()
}

/// Forgets what was applied of a source, for a green that was emptied.
///
/// # Errors
/// When another process took over or the server refuses; nothing was changed.
pub async fn forget(green: &mut Client, term: &Term, source: Source<'_>) -> Result<(), MigrateError> {
    let failed = || MigrateError::server("forget what was migrated");
    let notes_stand = is_there(green, "cutover.migration_statement").await?;
    let pins_stand = is_there(green, "cutover.migration_pin").await?;
    let transaction = green.transaction().await.map_err(failed())?;
    hold(&transaction, term).await?;
    transaction.batch_execute(&format!("drop table if exists {}", source.quoted_history())).await.map_err(failed())?;
    if pins_stand {
        transaction.execute(FORGET_PINS, &[&source.name]).await.map_err(failed())?;
    }
    if notes_stand {
        transaction.execute(FORGET_NOTES, &[&source.name]).await.map_err(failed())?;
    }
    transaction.commit().await.map_err(failed())
}

async fn is_there(client: &impl GenericClient, table: &str) -> Result<bool, MigrateError> {
    Ok(client.query_one(IS_THERE, &[&table]).await.map_err(MigrateError::server("look for a table"))?.get(0))
}

/// How many versions the engine's own migrations have noted (`public.schema_migration`), or nothing without that table.
///
/// # Errors
/// When the server refuses.
pub async fn engine_versions(client: &impl GenericClient) -> Result<Option<u64>, MigrateError> {
    let table = TableName { schema: "public".to_owned(), name: "schema_migration".to_owned() };
    if !is_there(client, &table.to_string()).await? {
        return Ok(None);
    }
    let count = format!("select count(*) from {}", super::sql::qualified(&table.schema, &table.name));
    let row = client.query_one(&count, &[]).await.map_err(MigrateError::server("count the engine's versions"))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).ok())
}
