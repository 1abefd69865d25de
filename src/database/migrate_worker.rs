//! The connection through which refinery applies migrations: each file in one transaction with its history row and our term held.
//!
//! Owns retries for locks and the sentence an error carries. Files that must run outside a transaction go to `concurrent`.

use super::attend::{Seen, Watch, attend};
use super::client::LOOKS_FOR_US;
use super::concurrent;
use super::measured::{Before, FLUSH, Locks};
use super::migrate::{Applied, MigrateError};
use super::migrations::split::Statement;
use super::migrations::{Batching, Directive, MigrationFile, directives};
use super::sql::ident;
use super::term::{Term, hold};
use super::tries::{CUTS, Pace, Tries, is_lock};
use refinery::Migration;
use refinery_core::AsyncMigrate;
use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use thiserror::Error;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What each file starts from, whatever the one before it has set.
const SESSION: &str = "reset all; set statement_timeout = 0";
/// Without an owner: our login may be called as our schema is, and `"$user"` would put what is created into that schema.
const NOT_OUR_SCHEMA: &str = r#"select pg_catalog.set_config('search_path',
  pg_catalog.regexp_replace(pg_catalog.current_setting('search_path'), '"\$user"\s*,?\s*', ''), false)"#;
/// The guard keeps the term held, idle, as long as a statement takes.
const GUARD: &str = "set idle_in_transaction_session_timeout = 0";
const CREATE: &str = "create schema if not exists cutover;
create table if not exists cutover.migration_statement (
  file text not null,
  statement text not null,
  begun_at timestamptz not null default now(),
  done_at timestamptz,
  primary key (file, statement));
alter table cutover.migration_statement add column if not exists position text[]";
/// One migration of a folder.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Its name, for people.
    pub(super) name: String,
    /// Its text.
    pub(super) sql: String,
    /// Its statements.
    pub(super) statements: Vec<Statement>,
    /// How each of them runs in pieces, where its author says so.
    pub(super) batches: Vec<Option<Batching>>,
    /// Its name among the notes of all folders.
    pub(super) noted_as: String,
    /// Whether they run one by one, outside a transaction.
    is_alone: bool,
    is_applied: bool,
}

impl File {
    /// Takes a file of `source`.
    pub(super) fn new(source: &str, file: &MigrationFile) -> Self {
        let name = file.name.strip_suffix(".sql").unwrap_or(&file.name).to_owned();
        let (sql, statements) = (file.text.clone(), file.statements.clone());
        let noted_as = format!("{source}/{name}");
        let batches: Vec<Option<Batching>> = statements.iter().map(|statement| batching(&sql, statement)).collect();
        let is_alone = file.is_alone || batches.iter().any(Option::is_some);
        Self { name, sql, statements, batches, noted_as, is_alone, is_applied: false }
    }

    fn summary(&self) -> String {
        self.statements.first().map(Statement::summary).unwrap_or_default()
    }
}

/// What a statement's author says about its pieces. What is not understood was refused when the folder was read.
fn batching(text: &str, statement: &Statement) -> Option<Batching> {
    let said = directives(text, statement).ok()?;
    said.into_iter().find_map(|(_, one)| match one {
        Directive::Batch(batching) => Some(batching),
        _ => None,
    })
}

/// What applies files, one after the other; refinery migrates through it.
pub(super) struct Worker<'a> {
    /// Changes the schema.
    pub(super) client: Client,
    /// Its backend.
    pub(super) pid: i32,
    /// Holds the runners' lock, and our term while `client` is outside a transaction.
    pub(super) guard: Client,
    /// Looks on.
    pub(super) watcher: Client,
    pub(super) term: Term,
    pub(super) files: Vec<File>,
    /// The role that runs the statements.
    pub(super) owner: Option<&'a str>,
    /// How long each statement may wait, and keep others waiting.
    pub(super) pace: Pace,
    pub(super) tell: &'a (dyn Fn(&str) + Sync),
    pub(super) applied: Applied,
    /// What the transactions of the file under way held.
    pub(super) locks: Locks,
    /// Why it stopped; refinery's own error keeps only the words.
    pub(super) failure: Option<MigrateError>,
}

/// Stands for the failure that the worker keeps.
#[derive(Debug, Error)]
#[error("stopped")]
pub(super) struct Stopped;

impl AsyncTransaction for Worker<'_> {
    type Error = Stopped;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(&'a mut self, queries: T) -> Result<usize, Stopped> {
        let queries: Vec<&str> = queries.collect();
        match self.run(&queries).await {
            Ok(()) => Ok(queries.len()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(Stopped)
            }
        }
    }
}

impl AsyncQuery<Vec<Migration>> for Worker<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Stopped> {
        AsyncQuery::query(&mut self.client, query).await.map_err(|source| {
            self.failure = Some(MigrateError::Server { act: "read the history of migrations", source });
            Stopped
        })
    }
}

impl AsyncMigrate for Worker<'_> {}

impl Worker<'_> {
    /// Sets up the guard's session and the table of statements that were begun.
    pub(super) async fn prepare(&mut self) -> Result<(), MigrateError> {
        self.guard.batch_execute(GUARD).await.map_err(MigrateError::server("set up a session"))?;
        self.run(&[CREATE]).await
    }

    /// Refinery hands over either its own statements, or a file's text and then its history row.
    async fn run(&mut self, queries: &[&str]) -> Result<(), MigrateError> {
        let file =
            self.files.iter().position(|file| !file.is_applied && Some(file.sql.as_str()) == queries.first().copied());
        match (queries, file) {
            ([_, history], Some(at)) => self.apply(at, history).await,
            _ => self.own(queries).await,
        }
    }

    /// Runs what is ours alone, in one transaction.
    pub(super) async fn own(&mut self, queries: &[&str]) -> Result<(), MigrateError> {
        let transaction = self.client.transaction().await.map_err(MigrateError::server("prepare migrations"))?;
        hold(&transaction, &self.term).await?;
        for query in queries {
            transaction.batch_execute(query).await.map_err(MigrateError::server("prepare migrations"))?;
        }
        transaction.commit().await.map_err(MigrateError::server("prepare migrations"))
    }

    /// Applies one file, with `history` in the same transaction or after its last statement.
    pub(super) async fn apply(&mut self, at: usize, history: &str) -> Result<(), MigrateError> {
        let file = self.files[at].clone();
        let how = if file.is_alone { "one by one, outside a transaction" } else { "in one transaction" };
        (self.tell)(&format!("{}: {} statements {how}", file.name, file.statements.len()));
        let measuring = MigrateError::server("measure what a migration does");
        let before = Before::read(&self.watcher).await.map_err(measuring)?;
        self.locks = Locks::default();
        self.begin_session().await?;
        if file.is_alone {
            concurrent::apply(self, &file, history).await?;
        } else {
            self.transaction(&file.name, &file.summary(), &file.sql, history).await?;
        }
        self.files[at].is_applied = true;
        self.applied.applied += 1;
        let measured = before.after(&self.watcher, &file.name, &self.locks).await;
        self.applied.files.push(measured.map_err(MigrateError::server("measure what a migration did"))?);
        Ok(())
    }

    async fn begin_session(&mut self) -> Result<(), MigrateError> {
        let rest = if self.owner.is_some() { "" } else { NOT_OUR_SCHEMA };
        let session = format!("{SESSION}; {LOOKS_FOR_US}; {}; {rest}", self.pace.setting());
        self.client.batch_execute(&session).await.map_err(MigrateError::server("set up a session"))
    }

    /// Runs `sql` as the owner and then `mark` as ourselves in one transaction, again and again while locks are not to be had.
    pub(super) async fn transaction(
        &mut self,
        file: &str,
        summary: &str,
        sql: &str,
        mark: &str,
    ) -> Result<(), MigrateError> {
        let mut tries = Tries::new(&self.pace);
        loop {
            let mut seen = Seen::default();
            let attempted = self.attempt(file, sql, mark, &mut seen).await;
            self.locks.merge(&seen.locks);
            let error = match attempted {
                Ok(()) => return Ok(()),
                Err(Attempt::Other(error)) => return Err(error),
                Err(Attempt::Refused(error)) => error,
            };
            self.bear(&mut tries, file, summary, &seen, error).await?;
        }
    }

    async fn attempt(&mut self, file: &str, sql: &str, mark: &str, seen: &mut Seen) -> Result<(), Attempt> {
        let (block, lock_timeout) = (self.pace.block, self.pace.lock_timeout);
        let watch = Watch { watcher: &self.watcher, pid: self.pid, file, block, lock_timeout, tell: self.tell };
        let role = self.owner.map(|owner| format!("set local role {}", ident(owner))).unwrap_or_default();
        let (client, term, pid) = (&mut self.client, &self.term, self.pid);
        let mut held = Locks::default();
        let work = async {
            let transaction = client.transaction().await.map_err(Attempt::Refused)?;
            hold(&transaction, term).await.map_err(|error| Attempt::Other(error.into()))?;
            for part in [role.as_str(), sql] {
                transaction.batch_execute(part).await.map_err(Attempt::Refused)?;
            }
            held.sample(&transaction, pid).await.map_err(Attempt::Refused)?;
            for part in ["reset role", mark, FLUSH] {
                transaction.batch_execute(part).await.map_err(Attempt::Refused)?;
            }
            transaction.commit().await.map_err(Attempt::Refused)
        };
        let done = attend(&watch, seen, work).await;
        if done.is_ok() {
            seen.locks.merge(&held);
        }
        done
    }

    /// Pauses after a lock was not to be had, as long as the pace allows; any other refusal is the end.
    pub(super) async fn bear(
        &mut self,
        tries: &mut Tries,
        file: &str,
        summary: &str,
        seen: &Seen,
        source: tokio_postgres::Error,
    ) -> Result<(), MigrateError> {
        let (file, statement) = (file.to_owned(), summary.to_owned());
        let cut = seen.cut.filter(|_| source.code() == Some(&SqlState::QUERY_CANCELED));
        if cut.is_none() && !is_lock(&source) {
            return Err(MigrateError::Statement { file, statement, source });
        }
        // Cut off while it waited itself, it was only one in a queue: the next time that may be shorter.
        if let Some(kept) = cut.filter(|_| seen.blockers.is_empty()) {
            tries.cuts += 1;
            if tries.cuts >= CUTS {
                let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
                return Err(MigrateError::Blocks { file, statement, kept_ms, cuts: tries.cuts });
            }
        }
        let nobody = "nobody any more when one looked";
        let blockers = if seen.blockers.is_empty() { nobody } else { &seen.blockers }.to_owned();
        if !tries.pause().await {
            return Err(MigrateError::Locked { file, statement, waited_s: tries.waited().as_secs(), blockers });
        }
        (self.tell)(&format!("{file}: no lock yet (in the way: {blockers}), trying again: {statement}"));
        Ok(())
    }
}

enum Attempt {
    Refused(tokio_postgres::Error),
    Other(MigrateError),
}
