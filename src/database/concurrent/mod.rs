//! A migration that runs outside a transaction: statement by statement, each noted, indexes built concurrently and found valid.
//!
//! What was begun is noted before and what is done after, or with it where the statement allows a transaction; a repetition goes on
//! behind the last one done. An index that was left invalid is dropped concurrently and built anew. Called by `migrate_worker`.

mod backfill;
mod duplicates;
mod index;
mod leftovers;
mod partitioned;

use super::attend::{Seen, Watch, attend};
use super::migrate::MigrateError;
use super::migrate_worker::{File, Worker};
use super::migrations::Batching;
use super::migrations::split::{Manner, Statement};
use super::sql::{ident, literal};
use super::term::hold;
use super::tries::Tries;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Shortest wait of a statement that queues no one behind it.
const SHORTEST: Duration = Duration::from_secs(1);
/// The driver leaves the portal of its last query open, and with it a snapshot, for which a concurrent build would wait.
const LET_GO: &str = "select";
const NOTED: &str = "select done_at is not null from cutover.migration_statement where file = $1 and statement = $2";
/// A statement in its file, and the notes about it.
struct Work<'a> {
    file: String,
    /// The file's name among the notes of all folders.
    noted_as: &'a str,
    statement: &'a Statement,
    summary: String,
    /// How it runs in pieces, when its author says so.
    batching: Option<&'a Batching>,
    /// Its text and how often that came before in the file, hashed: an edited file does not count other statements as done.
    key: String,
}

impl<'a> Work<'a> {
    fn new(file: &'a File, at: usize) -> Self {
        let statement = &file.statements[at];
        let before = file.statements[..at].iter().filter(|other| other.text == statement.text).count();
        let key = hex::encode(Sha256::digest(format!("{before}:{}", statement.text)));
        let (summary, batching) = (statement.summary(), file.batches[at].as_ref());
        Self { file: file.name.clone(), noted_as: &file.noted_as, statement, summary, batching, key }
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
    let forget =
        format!("{history};\ndelete from cutover.migration_statement where file = {}", literal(&file.noted_as));
    worker.transaction(&file.name, "its history row", "", &forget).await
}

async fn step(worker: &mut Worker<'_>, work: &Work<'_>, was_begun: bool) -> Result<(), MigrateError> {
    if let Some(batching) = work.batching {
        return backfill::run(worker, work, batching).await;
    }
    let manner = work.statement.manner();
    if manner == Manner::Transaction {
        return worker.transaction(&work.file, &work.summary, &work.statement.text, &work.done()).await;
    }
    worker.transaction(&work.file, &work.summary, "", &work.begin()).await?;
    let result = match &manner {
        Manner::Index(index) => index::build(worker, work, index, was_begun).await,
        _ => patiently(worker, work, was_begun).await,
    };
    if let Err(MigrateError::Statement { source, .. } | MigrateError::Duplicates { source, .. }) = &result
        && source.as_db_error().is_some()
    {
        // The server said no: nothing is under way that a repetition would have to look for.
        worker.transaction(&work.file, &work.summary, "", &work.forget()).await?;
    }
    result?;
    worker.transaction(&work.file, &work.summary, "", &work.done()).await
}

/// Runs the statement alone, again and again while locks are not to be had. `was_begun` when an attempt before this process may have
/// done it or half of it.
async fn patiently(worker: &mut Worker<'_>, work: &Work<'_>, was_begun: bool) -> Result<(), MigrateError> {
    let mut tries = Tries::new(&worker.pace);
    let (mut is_again, mut gone_is_done) = (was_begun, was_begun);
    let mut text = work.statement.text.clone();
    loop {
        if is_again {
            leftovers::clear(worker, work, &mut tries).await?;
        }
        let (result, seen) = alone(worker, work, &text, &tries).await?;
        let Err(error) = result else { return Ok(()) };
        if gone_is_done && is_gone(work.statement, &error) {
            return Ok(());
        }
        if let Some(rest) = rest_of_detach(work.statement, &text, &error) {
            (worker.tell)(&format!("{}: half done before, now its rest: {rest}", work.file));
            (text, is_again, gone_is_done) = (rest, true, true);
            continue;
        }
        worker.bear(&mut tries, &work.file, &work.summary, &seen, error).await?;
        (is_again, gone_is_done) = (true, gone_is_done || work.statement.has("concurrently"));
    }
}

/// Whether an index that had begun to be dropped is dropped, or a partition that had begun to be detached is none any more.
fn is_gone(statement: &Statement, error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) if statement.begins(&["drop", "index"]) => *code == SqlState::UNDEFINED_OBJECT,
        Some(code) => is_detach(statement) && *code == SqlState::UNDEFINED_TABLE,
        None => false,
    }
}

fn is_detach(statement: &Statement) -> bool {
    statement.begins(&["alter", "table"]) && statement.has("detach") && statement.has("concurrently")
}

/// What finishes a detachment that was cut off between its two transactions: the server takes no other statement for that partition then
/// (PostgreSQL, ALTER TABLE, "DETACH PARTITION … FINALIZE").
fn rest_of_detach(statement: &Statement, sent: &str, error: &tokio_postgres::Error) -> Option<String> {
    let is_half_done = error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    if !is_half_done || !is_detach(statement) || sent != statement.text {
        return None;
    }
    let (before, last) = sent.split_at(sent.len().checked_sub("concurrently".len())?);
    last.eq_ignore_ascii_case("concurrently").then(|| format!("{before}finalize"))
}

/// Sends one statement outside a transaction, our term held meanwhile by the guard, and looks on.
async fn alone(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    sql: &str,
    tries: &Tries,
) -> Result<(Result<(), tokio_postgres::Error>, Seen), MigrateError> {
    let session = MigrateError::server("set up a session");
    let role = worker.owner.map(|owner| format!("set role {};", ident(owner))).unwrap_or_default();
    // What runs concurrently queues no client behind it, so it may wait longer: each failure costs the whole of its work.
    let queues_nobody = work.statement.has("concurrently");
    let lock_timeout = if queues_nobody { (tries.remaining() / 2).max(SHORTEST) } else { worker.pace.lock_timeout };
    let setting = format!("{role} set lock_timeout = {}", lock_timeout.as_millis());
    worker.client.batch_execute(&setting).await.map_err(session)?;
    let lost = MigrateError::server("hold the term for a statement");
    let holding = worker.guard.transaction().await.map_err(lost)?;
    hold(&holding, &worker.term).await?;
    holding.batch_execute(LET_GO).await.map_err(MigrateError::server("hold the term for a statement"))?;
    let block = worker.pace.block.filter(|_| !queues_nobody);
    let (pid, file, tell) = (worker.pid, work.file.as_str(), worker.tell);
    let watch = Watch { watcher: &worker.watcher, pid, file, block, lock_timeout, tell };
    let mut seen = Seen::default();
    let result = attend(&watch, &mut seen, worker.client.batch_execute(sql)).await;
    holding.commit().await.map_err(MigrateError::server("hold the term for a statement"))?;
    worker.locks.merge(&seen.locks);
    if result.as_ref().is_err_and(|error| error.as_db_error().is_none()) {
        return Ok((result, seen));
    }
    let back = format!("reset role; {}", worker.pace.setting());
    worker.client.batch_execute(&back).await.map_err(MigrateError::server("set up a session"))?;
    Ok((result, seen))
}
