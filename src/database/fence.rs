//! The fence on the side being left: one transaction, held open, that locks every application table and leaf against writers.
//!
//! Owns that transaction, its lease and its end. Having the locks proves that writers are gone. The lease is the server's own
//! (`idle_in_transaction_session_timeout` and `statement_timeout`, set to what remains of the hold): when this process pauses or
//! dies, the server ends the transaction, waiting writers go on, nothing is left behind, and no clock is compared. Sealing puts the
//! always-refusing triggers, changes the register and commits in one message: that commit is the decision. May call `term`,
//! `refusal`, `client`. Never concludes from a lost answer: that is [`Sealing::Unknown`], resolved by writing to the register.

use super::client::{self, ConnectError};
use super::refusal::{Refusal, TABLES};
use super::sql::{literal, qualified};
use super::term::{Term, TermError};
use crate::plan::{Secret, Side, TableName};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, GenericClient, Row};
use uuid::Uuid;

/// Raised by the seal when tables came or went under the fence.
const TABLES_CHANGED_CODE: &str = "CUT02";
const HOLD_TERM: &str = "select term, nonce from cutover.term for share";
const WRITERS: &str = "select format('backend %s (%s, %s, in a transaction since %s)', a.pid, coalesce(nullif(a.application_name, ''), a.usename), a.state, a.xact_start)
from pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid()
  and exists (select from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace
    where l.pid = a.pid and l.granted and n.nspname !~ '^pg_' and c.relkind in ('r', 'p')
      and l.mode not in ('AccessShareLock', 'RowShareLock'))
order by a.xact_start limit 5";
const HOLDERS: &str = "select format('vacuum of %s by backend %s', relid::regclass, pid) from pg_stat_progress_vacuum where datname = current_database()
union all select format('%s of %s by backend %s', command, relid::regclass, pid) from pg_stat_progress_create_index where datname = current_database()
union all select format('%s of %s by backend %s', command, relid::regclass, pid) from pg_stat_progress_cluster where datname = current_database()
union all select format('prepared transaction %s', gid) from pg_prepared_xacts where database = current_database()
union all select format('subscription %s, whose rows pass statement triggers', s.subname) from pg_subscription s
  join pg_database d on d.oid = s.subdbid where s.subenabled and d.datname = current_database()";
const TERMINATE: &str = "select pg_terminate_backend(pid) from pg_stat_activity
where pid = $1 and application_name = $2 and datname = current_database() and usename = session_user";
const IS_ALIVE: &str = "select exists (select from pg_stat_activity where pid = $1 and application_name = $2)";
const PAUSE: Duration = Duration::from_millis(20);

/// Why a fence could not be taken or is no longer held; the side is open to writers again.
#[derive(Debug, Error)]
pub enum FenceError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process took over, or our term cannot be held.
    #[error("{0}")]
    Term(#[from] TermError),
    /// Writers did not end in time.
    #[error("fence {tables} tables: writers did not end within {waited_ms} ms ({writers}); the side serves on")]
    Writers {
        /// How many tables had to be locked.
        tables: usize,
        /// How long it tried.
        waited_ms: u128,
        /// Who they were.
        writers: String,
    },
    /// The server ended the fence, or its time is over.
    #[error("the fence is gone: {why}; the side serves on")]
    Lost {
        /// Why.
        why: String,
    },
    /// The server refused.
    #[error("{what}")]
    Server {
        /// What was tried.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl FenceError {
    fn server(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Server { what, source }
    }
}

/// What a fence may take, from what remains of the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The whole life of the fence, locks included.
    pub hold: Duration,
    /// Of it, the longest to try for the locks.
    pub locks: Duration,
    /// One wait for a lock; also when a deadlock is looked for, and autovacuum asked to leave, is well below it.
    pub attempt: Duration,
}

/// A direct connection whose backend is known and that has not fenced yet: write its pid to the register first.
#[derive(Debug)]
pub struct Unfenced {
    client: Client,
    pid: i32,
    run: Uuid,
}

/// The locks are held: no writer is left, and none starts.
#[derive(Debug)]
#[must_use = "a fence that is dropped is rolled back"]
pub struct Fence {
    client: Client,
    run: Uuid,
    tables: Vec<Fenced>,
    deadline: Instant,
    /// Backend that holds the fence.
    pid: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fenced {
    oid: u32,
    table: TableName,
}

/// How a seal ended.
#[derive(Debug)]
pub enum Sealing {
    /// Committed: the side is left.
    Sealed,
    /// The server said that it was not committed: the side serves on.
    Lost {
        /// Why.
        why: String,
    },
    /// No answer: resolve it by writing to the register, never by reading.
    Unknown {
        /// What happened to the answer.
        why: String,
    },
}

/// The application name of a run's fence.
#[must_use]
pub fn application_name(run: Uuid) -> String {
    format!("cutover_fence_{}", &run.simple().to_string()[..12])
}

impl Unfenced {
    /// Connects directly to the side that is to be left.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(url: &Secret, side: Side, run: Uuid) -> Result<Self, FenceError> {
        let client = client::connect(url, side.as_str()).await?;
        let name = format!("set application_name = {}", literal(&application_name(run)));
        client.batch_execute(&name).await.map_err(FenceError::server("name the fence's session"))?;
        let row = client.query_one("select pg_backend_pid()", &[]).await;
        let pid = row.map_err(FenceError::server("ask for the fence's backend"))?.get(0);
        Ok(Self { client, pid, run })
    }

    /// The backend that will hold the fence, for `fence_pid` of the register.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes the locks, in tries that give way to writers that would deadlock, until `budget.locks` is over.
    ///
    /// # Errors
    /// `Writers` with their names when they do not end; nothing is locked then.
    pub async fn take(self, term: &Term, budget: Budget) -> Result<Fence, FenceError> {
        let begun = Instant::now();
        let deadline = begun + budget.hold;
        loop {
            let error = match self.attempt(term, budget, deadline).await {
                Ok(Some(tables)) => {
                    return Ok(Fence { client: self.client, run: self.run, tables, deadline, pid: self.pid });
                }
                Ok(None) => None,
                Err(FenceError::Server { source, .. }) if gives_way(&source) => Some(source),
                Err(error) => return Err(error),
            };
            let writers = self.writers().await;
            self.client.batch_execute("rollback").await.map_err(FenceError::server("roll the fence back"))?;
            if begun.elapsed() >= budget.locks {
                tracing::debug!(?error, "no fence");
                let writers = writers.unwrap_or_else(|| "unknown".to_owned());
                let tables = self.tables().await?.len();
                return Err(FenceError::Writers { tables, waited_ms: begun.elapsed().as_millis(), writers });
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(1..10))).await;
        }
    }

    /// One try: none when tables came or went while it locked.
    async fn attempt(&self, term: &Term, budget: Budget, deadline: Instant) -> Result<Option<Vec<Fenced>>, FenceError> {
        let what = "begin the fence";
        let begin = format!("begin isolation level read committed; {}", settings(deadline, budget.attempt));
        self.client.batch_execute(&begin).await.map_err(FenceError::server(what))?;
        self.hold_term(term).await?;
        let tables = self.tables().await?;
        if let Some(lock) = lock_sql(&tables) {
            self.client.batch_execute(&lock).await.map_err(FenceError::server("lock the tables"))?;
        }
        let unchanged = self.tables().await? == tables;
        Ok(unchanged.then_some(tables))
    }

    async fn hold_term(&self, term: &Term) -> Result<(), FenceError> {
        let row = self.client.query_opt(HOLD_TERM, &[]).await.map_err(FenceError::server("hold the term row"))?;
        let row = row.ok_or(TermError::Missing { ours: *term })?;
        let found = Term { term: row.get(0), nonce: row.get(1) };
        if found == *term { Ok(()) } else { Err(TermError::Superseded { ours: *term, found }.into()) }
    }

    async fn tables(&self) -> Result<Vec<Fenced>, FenceError> {
        let rows = self.client.query(TABLES, &[]).await.map_err(FenceError::server("list the tables"))?;
        Ok(rows.iter().map(fenced).collect())
    }

    /// Who writes just now; asked in the failed transaction's place, so only a hint.
    async fn writers(&self) -> Option<String> {
        self.client.batch_execute("rollback").await.ok()?;
        let rows = self.client.query(WRITERS, &[]).await.ok()?;
        let writers: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Some(if writers.is_empty() { "they have just ended".to_owned() } else { writers.join("; ") })
    }
}

fn fenced(row: &Row) -> Fenced {
    Fenced { oid: row.get(0), table: TableName { schema: row.get(1), name: row.get(2) } }
}

fn gives_way(error: &tokio_postgres::Error) -> bool {
    [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED].map(Some).contains(&error.code())
}

fn remaining_ms(deadline: Instant) -> u128 {
    deadline.saturating_duration_since(Instant::now()).as_millis().max(1)
}

/// The lease and the bounds, for the transaction alone. Looking for deadlocks early makes autovacuum leave early, and us, not a writer,
/// the one that gives way; it needs a privilege and is left out without it.
fn settings(deadline: Instant, attempt: Duration) -> String {
    let (hold_ms, lock_ms) = (remaining_ms(deadline), attempt.as_millis().clamp(1, remaining_ms(deadline)));
    let deadlock_ms = (lock_ms / 4).clamp(1, 50);
    format!(
        "set local lock_timeout = {lock_ms}; {}; set local synchronous_commit = on;
select set_config('deadlock_timeout', '{deadlock_ms}', true) where has_parameter_privilege('deadlock_timeout', 'set');
select set_config('transaction_timeout', '{hold_ms}', true) where current_setting('server_version_num')::int >= 170000",
        lease(hold_ms)
    )
}

fn lease(hold_ms: u128) -> String {
    format!("set local statement_timeout = {hold_ms}; set local idle_in_transaction_session_timeout = {hold_ms}")
}

fn lock_sql(tables: &[Fenced]) -> Option<String> {
    let names: Vec<_> = tables.iter().map(|fenced| qualified(&fenced.table.schema, &fenced.table.name)).collect();
    (!names.is_empty()).then(|| format!("lock table {} in share row exclusive mode", names.join(", ")))
}

impl Fence {
    /// The backend that holds it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How many tables and leaves it locks.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Asks the server whether the fence is still held, and shortens its lease to what remains; true once means true at that moment only.
    ///
    /// # Errors
    /// `Lost` when the server has ended it or its time is over.
    pub async fn still_held(&self) -> Result<(), FenceError> {
        if Instant::now() >= self.deadline {
            return Err(FenceError::Lost { why: "its time is over".to_owned() });
        }
        let lease = lease(remaining_ms(self.deadline));
        let asked = tokio::time::timeout_at(self.deadline, self.client.batch_execute(&lease)).await;
        match asked {
            Err(_) => Err(FenceError::Lost { why: "the server did not answer within its time".to_owned() }),
            Ok(Err(error)) => Err(FenceError::Lost { why: words(&error) }),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Decides: refusing triggers on all tables, the register's change, and the commit, in one message. `register_sql` must raise when it
    /// changes nothing.
    ///
    /// From the moment of this call the time is the server's: the answer is awaited until the fence's time is over, and a commit that
    /// waits for its standbys is not cut short.
    pub async fn seal(self, register_sql: &str) -> Sealing {
        if Instant::now() >= self.deadline {
            return Sealing::Lost { why: "the fence's time was over before the decision".to_owned() };
        }
        let message = self.seal_sql(register_sql);
        match tokio::time::timeout_at(self.deadline, self.client.batch_execute(&message)).await {
            Ok(Ok(())) => Sealing::Sealed,
            Ok(Err(error)) if is_definite(&error) => Sealing::Lost { why: words(&error) },
            Ok(Err(error)) => Sealing::Unknown { why: words(&error) },
            Err(_) => Sealing::Unknown { why: "no answer within the fence's time".to_owned() },
        }
    }

    fn seal_sql(&self, register_sql: &str) -> String {
        let oids: Vec<_> = self.tables.iter().map(|fenced| fenced.oid.to_string()).collect();
        format!(
            "{}; {};
do $cutover$ begin if (select coalesce(array_agg(l.oid order by l.oid), '{{}}') from ({TABLES}) l)
  is distinct from (select coalesce(array_agg(o order by o), '{{}}') from unnest('{{{}}}'::oid[]) o) then
  raise exception 'tables were created or dropped under the fence' using errcode = '{TABLES_CHANGED_CODE}'; end if; end $cutover$;
{};
{register_sql};
set local statement_timeout = 0;
commit",
            lease(remaining_ms(self.deadline)),
            Refusal::Sealed.function_sql(self.run, None),
            oids.join(","),
            Refusal::Sealed.triggers_sql(),
        )
    }

    /// Lets the writers go on: nothing was changed.
    ///
    /// # Errors
    /// When the server does not answer; it ends the transaction by itself then.
    pub async fn release(self) -> Result<(), FenceError> {
        self.client.batch_execute("rollback").await.map_err(FenceError::server("roll the fence back"))
    }
}

/// Whether the server itself said that the transaction failed. A session that the server ends (FATAL) may have committed just before.
fn is_definite(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| error.parsed_severity() == Some(Severity::Error))
}

fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Ends the fence of a process that is gone, if backend `pid` still is the fence of this run, and waits until it has ended.
/// True when no such fence is left. What it did last may have been the decision: read the register afterwards by recovering it.
///
/// # Errors
/// When the server does not answer.
pub async fn terminate_fence(
    client: &impl GenericClient,
    run: Uuid,
    pid: i32,
    bound: Duration,
) -> Result<bool, FenceError> {
    let what = "end an abandoned fence";
    let (name, deadline) = (application_name(run), Instant::now() + bound);
    client.execute(TERMINATE, &[&pid, &name]).await.map_err(FenceError::server(what))?;
    loop {
        let alive: bool = client.query_one(IS_ALIVE, &[&pid, &name]).await.map_err(FenceError::server(what))?.get(0);
        if !alive || Instant::now() >= deadline {
            return Ok(!alive);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What would hold the fence off for long, each named: vacuums, index builds, rewrites, prepared transactions; and what would write
/// past a seal: enabled subscriptions. Empty means go.
///
/// # Errors
/// When the server does not answer.
pub async fn lock_holders(client: &impl GenericClient) -> Result<Vec<String>, FenceError> {
    let rows = client.query(HOLDERS, &[]).await.map_err(FenceError::server("look for what holds locks"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
