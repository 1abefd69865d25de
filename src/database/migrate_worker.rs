//! The connection through which refinery applies migrations: each file in one transaction with its history row and our term held.
//!
//! Owns retries for locks and the sentence an error carries. Files that must run outside a transaction go to `concurrent`.

use super::concurrent;
use super::migrate::{Applied, MigrateError};
use super::migrations::split::{Manner, Statement, split};
use super::sql::ident;
use super::term::{Term, hold};
use refinery::Migration;
use refinery_core::AsyncMigrate;
use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// A line of its own in a file whose statements run one by one outside a transaction.
const MARKER: &str = "-- cutover: no-transaction";
/// What each file starts from, whatever the one before it has set. A waiting lock stops everyone behind it, hence the short wait.
const SESSION: &str = "reset all; set statement_timeout = 0; set lock_timeout = '500ms'";
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
  primary key (file, statement))";
const BLOCKERS: &str = "select format('backend %s (%s, %s since %s)', a.pid, coalesce(nullif(a.application_name, ''), a.usename), a.state, a.xact_start)
  from pg_catalog.pg_stat_activity a
 where a.datname = current_database() and a.pid <> pg_backend_pid() and a.xact_start is not null
   and exists (select from pg_catalog.pg_locks l
                 join pg_catalog.pg_class c on c.oid = l.relation
                 join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                where l.pid = a.pid and l.granted and n.nspname <> 'cutover' and n.nspname not like 'pg\\_%')
 order by a.xact_start limit 5";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One migration of the folder.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// As refinery knows it.
    pub(super) migration: Migration,
    /// Its statements.
    pub(super) statements: Vec<Statement>,
    /// Its name among the notes of all folders.
    pub(super) noted_as: String,
    /// Whether they run one by one, outside a transaction.
    is_alone: bool,
    is_applied: bool,
}

impl File {
    /// Looks at the text of a migration of `source`; answers what is wrong with it.
    pub(super) fn new(source: &str, migration: Migration, sql: &str) -> Result<Self, String> {
        let statements = split(sql);
        let mut is_alone = sql.lines().any(|line| line.trim() == MARKER);
        for statement in &statements {
            match statement.manner() {
                Manner::Refused(why) => return Err(format!("{why}: {}", statement.summary())),
                Manner::Index(_) => is_alone = true,
                Manner::Alone | Manner::Transaction => {}
            }
        }
        let noted_as = format!("{source}/{migration}");
        Ok(Self { migration, statements, noted_as, is_alone, is_applied: false })
    }

    fn summary(&self) -> String {
        self.statements.first().map(Statement::summary).unwrap_or_default()
    }
}

/// What refinery migrates through.
pub(super) struct Worker<'a> {
    /// Changes the schema.
    pub(super) client: Client,
    /// Holds the runners' lock, and our term while `client` is outside a transaction.
    pub(super) guard: Client,
    /// Looks on.
    pub(super) watcher: Client,
    pub(super) term: Term,
    pub(super) files: Vec<File>,
    /// The role that runs the statements.
    pub(super) owner: Option<&'a str>,
    pub(super) patience: Duration,
    pub(super) tell: &'a (dyn Fn(&str) + Sync),
    pub(super) applied: Applied,
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
            self.files.iter().position(|file| !file.is_applied && file.migration.sql() == queries.first().copied());
        match (queries, file) {
            ([_, history], Some(at)) => self.apply(at, history).await,
            _ => self.own(queries).await,
        }
    }

    async fn own(&mut self, queries: &[&str]) -> Result<(), MigrateError> {
        let transaction = self.client.transaction().await.map_err(MigrateError::server("prepare migrations"))?;
        hold(&transaction, &self.term).await?;
        for query in queries {
            transaction.batch_execute(query).await.map_err(MigrateError::server("prepare migrations"))?;
        }
        transaction.commit().await.map_err(MigrateError::server("prepare migrations"))
    }

    async fn apply(&mut self, at: usize, history: &str) -> Result<(), MigrateError> {
        let file = self.files[at].clone();
        let how = if file.is_alone { "one by one, outside a transaction" } else { "in one transaction" };
        (self.tell)(&format!("{}: {} statements {how}", file.migration, file.statements.len()));
        let session = if self.owner.is_some() { SESSION.to_owned() } else { format!("{SESSION}; {NOT_OUR_SCHEMA}") };
        self.client.batch_execute(&session).await.map_err(MigrateError::server("set up a session"))?;
        if file.is_alone {
            concurrent::apply(self, &file, history).await?;
        } else {
            let sql = file.migration.sql().expect("refinery handed its text over").to_owned();
            self.transaction(&file.migration.to_string(), &file.summary(), &sql, history).await?;
        }
        self.files[at].is_applied = true;
        self.applied.applied += 1;
        Ok(())
    }

    /// Runs `sql` as the owner and then `mark` as ourselves in one transaction, again and again while locks are not to be had.
    pub(super) async fn transaction(
        &mut self,
        file: &str,
        summary: &str,
        sql: &str,
        mark: &str,
    ) -> Result<(), MigrateError> {
        let mut tries = Tries::new(self.patience);
        loop {
            let error = match self.attempt(sql, mark).await {
                Ok(()) => return Ok(()),
                Err(Attempt::Other(error)) => return Err(error),
                Err(Attempt::Refused(error)) => error,
            };
            self.bear(&mut tries, file, summary, error).await?;
        }
    }

    async fn attempt(&mut self, sql: &str, mark: &str) -> Result<(), Attempt> {
        let role = self.owner.map(|owner| format!("set local role {}", ident(owner)));
        let transaction = self.client.transaction().await.map_err(Attempt::Refused)?;
        hold(&transaction, &self.term).await.map_err(|error| Attempt::Other(error.into()))?;
        for part in [role.as_deref().unwrap_or_default(), sql, "reset role", mark] {
            transaction.batch_execute(part).await.map_err(Attempt::Refused)?;
        }
        transaction.commit().await.map_err(Attempt::Refused)
    }

    /// Pauses after a lock was not to be had, as long as patience lasts; any other refusal is the end.
    pub(super) async fn bear(
        &mut self,
        tries: &mut Tries,
        file: &str,
        summary: &str,
        source: tokio_postgres::Error,
    ) -> Result<(), MigrateError> {
        let (file, statement) = (file.to_owned(), summary.to_owned());
        if !is_lock(&source) {
            return Err(MigrateError::Statement { file, statement, source });
        }
        let blockers = self.blockers().await?;
        if !tries.pause().await {
            return Err(MigrateError::Locked { file, statement, waited_s: self.patience.as_secs(), blockers });
        }
        (self.tell)(&format!("{file}: no lock yet (in the way: {blockers}), trying again: {statement}"));
        Ok(())
    }

    async fn blockers(&self) -> Result<String, MigrateError> {
        let rows = self.watcher.query(BLOCKERS, &[]).await.map_err(MigrateError::server("look who holds locks"))?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok(if names.is_empty() { "nobody any more".to_owned() } else { names.join(", ") })
    }
}

enum Attempt {
    Refused(tokio_postgres::Error),
    Other(MigrateError),
}

/// Whether the refusal passes when others end.
pub(super) fn is_lock(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Pauses that double and vary, within a bound.
pub(super) struct Tries {
    end: Instant,
    next: Duration,
}

impl Tries {
    pub(super) fn new(patience: Duration) -> Self {
        Self { end: Instant::now() + patience, next: FIRST_PAUSE }
    }

    /// Sleeps until the next attempt; false when there is none.
    pub(super) async fn pause(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        sleep(self.next.mul_f64(rand::random_range(0.5..1.5))).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}
