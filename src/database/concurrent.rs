//! A migration that runs outside a transaction: statement by statement, each noted, indexes built concurrently and found valid.
//!
//! What was begun is noted before and what is done after, or with it where the statement allows a transaction; a repetition goes on
//! behind the last one done. An index that was left invalid is dropped concurrently and built anew. Called by `migrate_worker`.

use super::migrate::MigrateError;
use super::migrate_worker::{File, Tries, Worker, is_lock};
use super::migrations::split::{ConcurrentIndex, Manner, Statement};
use super::sql::{ident, literal, qualified};
use super::term::hold;
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::Client;

/// A concurrent build queues no one behind it, so it may wait longer for each of those before it.
const PATIENT: &str = "set lock_timeout = '10s'";
const IMPATIENT: &str = "reset role; set lock_timeout = '500ms'";
/// The driver leaves the portal of its last query open, and with it a snapshot, for which a concurrent build would wait.
const LET_GO: &str = "select";
const NOTED: &str = "select done_at is not null from cutover.migration_statement where file = $1 and statement = $2";
const INDEX: &str = "
select n.nspname, x.indisvalid,
       exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = i.oid)
  from pg_catalog.pg_class i
  join pg_catalog.pg_index x on x.indexrelid = i.oid
  join pg_catalog.pg_namespace n on n.oid = i.relnamespace
 where i.relkind = 'i' and i.relname = $1
   and i.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = pg_catalog.to_regclass($2::text))";
const PROGRESS: &str = "
select format('%s%s%s', phase, case when blocks_total > 0 then format(', %s %%', blocks_done * 100 / blocks_total) else '' end,
         case when current_locker_pid > 0 then format(', waiting for backend %s', current_locker_pid) else '' end)
  from pg_catalog.pg_stat_progress_create_index where datname = current_database()
 order by pid limit 1";
const PROGRESS_POLL: Duration = Duration::from_secs(1);

/// A statement in its file, and the notes about it.
struct Work<'a> {
    file: String,
    /// The file's name among the notes of all folders.
    noted_as: &'a str,
    statement: &'a Statement,
    summary: String,
    /// Its text and how often that came before in the file, hashed: an edited file does not count other statements as done.
    key: String,
}

impl<'a> Work<'a> {
    fn new(file: &'a File, at: usize) -> Self {
        let statement = &file.statements[at];
        let before = file.statements[..at].iter().filter(|other| other.text == statement.text).count();
        let key = hex::encode(Sha256::digest(format!("{before}:{}", statement.text)));
        Self {
            file: file.migration.to_string(),
            noted_as: &file.noted_as,
            statement,
            summary: statement.summary(),
            key,
        }
    }

    fn begin(&self) -> String {
        self.note("null) on conflict do nothing")
    }

    fn done(&self) -> String {
        self.note("now()) on conflict (file, statement) do update set done_at = now()")
    }

    fn note(&self, end: &str) -> String {
        let (file, key) = (literal(self.noted_as), literal(&self.key));
        format!("insert into cutover.migration_statement (file, statement, done_at) values ({file}, {key}, {end}")
    }

    fn forget(&self) -> String {
        let (file, key) = (literal(self.noted_as), literal(&self.key));
        format!("delete from cutover.migration_statement where file = {file} and statement = {key}")
    }

    fn refused(&self, source: tokio_postgres::Error) -> MigrateError {
        MigrateError::Statement { file: self.file.clone(), statement: self.summary.clone(), source }
    }
}

/// Runs a file's statements one by one and then writes its history row.
pub(super) async fn apply(worker: &mut Worker<'_>, file: &File, history: &str) -> Result<(), MigrateError> {
    let total = file.statements.len();
    for at in 0..total {
        let work = Work::new(file, at);
        let noted = worker.client.query_opt(NOTED, &[&work.noted_as, &work.key]).await;
        let noted = noted.map_err(MigrateError::server("read the notes about a migration"))?.map(|row| row.get(0));
        let place = format!("{}: {} of {total}", work.file, at + 1);
        if noted == Some(true) {
            (worker.tell)(&format!("{place}: done before: {}", work.summary));
            continue;
        }
        (worker.tell)(&format!("{place}: {}", work.summary));
        step(worker, &work, noted.is_some()).await?;
    }
    let name = file.migration.to_string();
    let forget =
        format!("{history};\ndelete from cutover.migration_statement where file = {}", literal(&file.noted_as));
    worker.transaction(&name, "its history row", "", &forget).await
}

async fn step(worker: &mut Worker<'_>, work: &Work<'_>, was_begun: bool) -> Result<(), MigrateError> {
    let manner = work.statement.manner();
    if manner == Manner::Transaction {
        return worker.transaction(&work.file, &work.summary, &work.statement.text, &work.done()).await;
    }
    worker.transaction(&work.file, &work.summary, "", &work.begin()).await?;
    let result = match &manner {
        Manner::Index(index) => build(worker, work, index, was_begun).await,
        _ => patiently(worker, work).await,
    };
    if let Err(MigrateError::Statement { source, .. }) = &result
        && source.as_db_error().is_some()
    {
        // The server said no: nothing is under way that a repetition would have to look for.
        worker.transaction(&work.file, &work.summary, "", &work.forget()).await?;
    }
    result?;
    worker.transaction(&work.file, &work.summary, "", &work.done()).await
}

/// Runs the statement alone, again and again while locks are not to be had.
async fn patiently(worker: &mut Worker<'_>, work: &Work<'_>) -> Result<(), MigrateError> {
    let mut tries = Tries::new(worker.patience);
    while let Err(error) = alone(worker, work, &work.statement.text).await? {
        worker.bear(&mut tries, &work.file, &work.summary, error).await?;
    }
    Ok(())
}

/// Sends one statement outside a transaction, our term held meanwhile by the guard, and tells how far an index build is.
async fn alone(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    sql: &str,
) -> Result<Result<(), tokio_postgres::Error>, MigrateError> {
    let session = MigrateError::server("set up a session");
    let role = worker.owner.map(|owner| format!("set role {};", ident(owner))).unwrap_or_default();
    worker.client.batch_execute(&format!("{role} {PATIENT}")).await.map_err(session)?;
    let lost = MigrateError::server("hold the term for a statement");
    let holding = worker.guard.transaction().await.map_err(lost)?;
    hold(&holding, &worker.term).await?;
    holding.batch_execute(LET_GO).await.map_err(MigrateError::server("hold the term for a statement"))?;
    let result = tokio::select! {
        result = worker.client.batch_execute(sql) => result,
        never = watch(&worker.watcher, worker.tell, &work.file) => match never {},
    };
    holding.commit().await.map_err(MigrateError::server("hold the term for a statement"))?;
    if result.as_ref().is_err_and(|error| error.as_db_error().is_none()) {
        return Ok(result);
    }
    worker.client.batch_execute(IMPATIENT).await.map_err(MigrateError::server("set up a session"))?;
    Ok(result)
}

/// On a connection of its own: a snapshot of the guard's transaction would be waited for by the build.
async fn watch(watcher: &Client, tell: &(dyn Fn(&str) + Sync), file: &str) -> Infallible {
    let mut last = String::new();
    loop {
        sleep(PROGRESS_POLL).await;
        if let Ok(Some(row)) = watcher.query_opt(PROGRESS, &[]).await {
            let now: String = row.get(0);
            if now != last {
                tell(&format!("{file}: {now}"));
                last = now;
            }
        }
    }
}

/// What stands under the name of an index.
struct Standing {
    schema: String,
    is_valid: bool,
    is_being_built: bool,
}

async fn find(worker: &Worker<'_>, index: &ConcurrentIndex) -> Result<Option<Standing>, MigrateError> {
    let table = match &index.table {
        (Some(schema), name) => qualified(schema, name),
        (None, name) => ident(name),
    };
    let failed = MigrateError::server("look for an index");
    let row = worker.client.query_opt(INDEX, &[&index.name, &table]).await.map_err(failed)?;
    Ok(row.map(|row| Standing { schema: row.get(0), is_valid: row.get(1), is_being_built: row.get(2) }))
}

/// Builds an index until it is valid; what an earlier attempt left invalid is dropped first.
async fn build(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    index: &ConcurrentIndex,
    was_begun: bool,
) -> Result<(), MigrateError> {
    let mut tries = Tries::new(worker.patience);
    loop {
        match find(worker, index).await? {
            Some(standing) if standing.is_valid && was_begun => return Ok(()),
            Some(standing) if standing.is_being_built => {
                if !tries.pause().await {
                    return Err(MigrateError::Busy { waited_s: worker.patience.as_secs() });
                }
                continue;
            }
            Some(standing) if !standing.is_valid => drop_leftover(worker, work, index, &standing, &mut tries).await?,
            _ => {}
        }
        match alone(worker, work, &work.statement.text).await? {
            Ok(()) => break,
            Err(error) if is_lock(&error) => worker.bear(&mut tries, &work.file, &work.summary, error).await?,
            Err(error) => {
                clear(worker, work, index, &error).await;
                return Err(work.refused(error));
            }
        }
    }
    let is_valid = find(worker, index).await?.is_some_and(|standing| standing.is_valid);
    if !is_valid {
        return Err(MigrateError::InvalidIndex { file: work.file.clone(), index: index.name.clone() });
    }
    worker.applied.indexes_concurrent += 1;
    Ok(())
}

async fn drop_leftover(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    index: &ConcurrentIndex,
    standing: &Standing,
    tries: &mut Tries,
) -> Result<(), MigrateError> {
    let name = qualified(&standing.schema, &index.name);
    (worker.tell)(&format!("{}: index {} was left invalid; dropping it", work.file, index.name));
    let sql = format!("drop index concurrently if exists {name}");
    while let Err(error) = alone(worker, work, &sql).await? {
        worker.bear(tries, &work.file, &sql, error).await?;
    }
    Ok(())
}

/// After a refused build: an invalid index would cost every write, so it goes now if it can; else the next run drops it.
async fn clear(worker: &mut Worker<'_>, work: &Work<'_>, index: &ConcurrentIndex, error: &tokio_postgres::Error) {
    if error.as_db_error().is_none() {
        return;
    }
    let mut tries = Tries::new(Duration::ZERO);
    let dropped = match find(worker, index).await {
        Ok(Some(standing)) if !standing.is_valid => drop_leftover(worker, work, index, &standing, &mut tries).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = dropped {
        (worker.tell)(&format!("{}: index {} stays invalid until the next run: {error}", work.file, index.name));
    }
}
