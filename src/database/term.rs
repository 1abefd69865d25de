//! The term row: who may act. One row in each of control, blue and green; the highest term of all wins.
//!
//! Every effect inside a database takes that database's row `for share` until its commit ([`hold`]); whoever takes over raises
//! the row in every database before its first act ([`raise`]), waits for the holders, and so fences every older process.
//! Called by `journal`, `steps`, `traffic` and the hands. Never decides which side serves: that is the register.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, Transaction};
use uuid::Uuid;

/// Creates our schema and the empty term table.
const CREATE: &str = "create schema if not exists cutover;
create table if not exists cutover.term (
  singleton boolean primary key default true check (singleton),
  term bigint not null check (term > 0),
  nonce uuid not null)";
const WRITE: &str = "insert into cutover.term (term, nonce) values ($1, $2)
on conflict (singleton) do update set term = excluded.term, nonce = excluded.nonce
where term.term < excluded.term or (term.term = excluded.term and term.nonce = excluded.nonce)";
const READ: &str = "select term, nonce from cutover.term";
const HOLD: &str = "select term, nonce from cutover.term for share";
const EXISTS: &str = "select to_regclass('cutover.term') is not null";
/// How often a raise starts over because another raised meanwhile.
const RAISES: u32 = 5;
/// How long a raise waits for those who hold a row in the older term.
const HOLDERS_PATIENCE: Duration = Duration::from_secs(30);
/// Bound on the whole of a raise, when a server says nothing at all.
const RAISED_WITHIN: Duration = Duration::from_secs(45);
/// What a raise waits at a time, before it looks at who keeps it.
const LOCK_TIMEOUT: &str = "5s";
const LOCK_TIMEOUT_NOW: &str = "select current_setting('lock_timeout')";
const SET_LOCK_TIMEOUT: &str = "select set_config('lock_timeout', $1, false)";
/// Sessions that have touched the row in a transaction that lasts.
const HOLDERS: &str = "select a.pid, format('backend %s (%s, in a transaction since %s)', a.pid, a.state, a.xact_start)
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'relation' and l.relation = 'cutover.term'::regclass and l.granted
  and l.database = (select oid from pg_database where datname = current_database())
  and l.mode in ('RowShareLock', 'RowExclusiveLock') and a.pid <> pg_backend_pid() order by a.pid";
/// Those of them, of our own role, whose process says nothing: it stands still, or its machine is gone. What they began is rolled back, and a commit that is under
/// way is no idle session.
const END_IDLE: &str = "select pg_terminate_backend(pid) from pg_stat_activity
where pid = any($1) and usename = session_user and state in ('idle in transaction', 'idle in transaction (aborted)')
  and state_change < clock_timestamp() - $2::text::interval";

/// A right to act: a number that only grows, and a nonce that tells two holders of one number apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The number.
    pub term: i64,
    /// Drawn anew at each raise.
    pub nonce: Uuid,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, &self.nonce.simple().to_string()[..8])
    }
}

/// Why a term could not be held, read or raised.
#[derive(Debug, Error)]
pub enum TermError {
    /// Another process has taken over since; nothing was changed, and this process must stop.
    #[error("act in term {ours}: another process has taken over in term {found}; this one changes nothing more")]
    Superseded {
        /// The term we hold.
        ours: Term,
        /// The term that stands in the database.
        found: Term,
    },
    /// The database has no term row: our schema was removed, or never installed.
    #[error("act in term {ours}: the database has no term row (schema cutover was removed or never installed)")]
    Missing {
        /// The term we hold.
        ours: Term,
    },
    /// Those who act in the older term do not come to an end; whether a raise was written is unknown, and harmless.
    #[error(
        "raise the term row: transactions of the older term have held it for {waited_s} s: {}; wait for them, or end them there \
         (select pg_terminate_backend(PID)), then run the same command again",
        holders.join(", ")
    )]
    Busy {
        /// How long we waited, in seconds.
        waited_s: u64,
        /// Who holds it, in words that name the backend.
        holders: Vec<String>,
    },
    /// A server says nothing; whether a raise was written is unknown, and harmless.
    #[error(
        "raise the term row: a server has said nothing for {waited_s} s; see to it, then run the same command again"
    )]
    Silent {
        /// How long we waited, in seconds.
        waited_s: u64,
    },
    /// The server refused or the connection broke; whether a raise was written is unknown, and harmless.
    #[error("{what} the term row")]
    Server {
        /// What was tried.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl TermError {
    /// Whether another process has taken over.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::Superseded { .. })
    }

    fn server(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Server { what, source }
    }
}

/// Creates the term table in a database and writes `term` into it, unless a higher one stands there.
///
/// # Errors
/// `Superseded` when the database holds a higher term; `Server` otherwise.
pub async fn install(client: &impl GenericClient, term: &Term) -> Result<(), TermError> {
    client.batch_execute(CREATE).await.map_err(TermError::server("create"))?;
    write(client, term).await
}

/// The term that stands in a database, or none when there is no table or no row.
///
/// # Errors
/// When the server does not answer.
pub async fn read(client: &impl GenericClient) -> Result<Option<Term>, TermError> {
    let exists: bool = client.query_one(EXISTS, &[]).await.map_err(TermError::server("look for"))?.get(0);
    if !exists {
        return Ok(None);
    }
    let row = match client.query_opt(READ, &[]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
        other => other.map_err(TermError::server("read"))?,
    };
    Ok(row.map(|row| Term { term: row.get(0), nonce: row.get(1) }))
}

/// Holds our term until the end of `transaction`: nobody can take over while it lasts, and it fails if somebody has.
///
/// In a repeatable read transaction call it on a snapshot taken after the take-over could have happened, or accept a
/// serialization failure (40001) as the answer.
///
/// # Errors
/// `Superseded` when another term stands; `Missing` without a row; `Server` otherwise.
pub async fn hold(transaction: &Transaction<'_>, term: &Term) -> Result<(), TermError> {
    let row = transaction.query_opt(HOLD, &[]).await.map_err(TermError::server("hold"))?;
    let row = row.ok_or(TermError::Missing { ours: *term })?;
    let found = Term { term: row.get(0), nonce: row.get(1) };
    if found == *term { Ok(()) } else { Err(TermError::Superseded { ours: *term, found }) }
}

/// Takes over: writes the highest term of all databases plus one, with a fresh nonce, into `control` first and then into each of
/// `sides` that has a term row. Waits for those who hold a row, up to half a minute; a session that holds one and has said nothing for some
/// seconds is ended, since its process stands still or is gone and could keep everybody from taking over for ever.
///
/// Control's row is created when it is missing; a side without the row is skipped (a fresh run: step `claim-sides` installs it).
///
/// # Errors
/// `Superseded` when others keep raising meanwhile; `Busy` when holders do not end; `Silent` or `Server` when a database does not answer: then this process has no term.
pub async fn raise(control: &Client, sides: &[&Client]) -> Result<Term, TermError> {
    let mut last = None;
    for _ in 0..RAISES {
        let (next, claimed) = next_term(control, sides).await?;
        let silent = |_| TermError::Silent { waited_s: RAISED_WITHIN.as_secs() };
        match timeout(RAISED_WITHIN, write_all(control, &claimed, &next)).await.map_err(silent)? {
            Err(error) if error.is_superseded() => last = Some(error),
            other => return other.map(|()| next),
        }
    }
    Err(last.expect("a raise that did not return was superseded"))
}

async fn next_term<'a>(control: &Client, sides: &[&'a Client]) -> Result<(Term, Vec<&'a Client>), TermError> {
    let mut highest = read(control).await?.map_or(0, |term| term.term);
    let mut claimed = Vec::new();
    for side in sides {
        if let Some(term) = read(*side).await? {
            highest = highest.max(term.term);
            claimed.push(*side);
        }
    }
    Ok((Term { term: highest + 1, nonce: Uuid::new_v4() }, claimed))
}

async fn write_all(control: &Client, sides: &[&Client], next: &Term) -> Result<(), TermError> {
    control.batch_execute(CREATE).await.map_err(TermError::server("create"))?;
    let until = Instant::now() + HOLDERS_PATIENCE;
    for client in [control].iter().chain(sides) {
        let before = client.query_one(LOCK_TIMEOUT_NOW, &[]).await.map_err(TermError::server("wait for"))?;
        let before: String = before.get(0);
        set_lock_timeout(client, LOCK_TIMEOUT).await?;
        let written = write_past_holders(client, next, until).await;
        let restored = set_lock_timeout(client, &before).await;
        // Why it was not written says more than that the connection went with it.
        written.and(restored)?;
    }
    Ok(())
}

async fn set_lock_timeout(client: &Client, to: &str) -> Result<(), TermError> {
    client.execute(SET_LOCK_TIMEOUT, &[&to]).await.map_err(TermError::server("wait for")).map(drop)
}

async fn write_past_holders(client: &Client, next: &Term, until: Instant) -> Result<(), TermError> {
    loop {
        match write(client, next).await {
            Err(TermError::Server { source, .. }) if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            other => return other,
        }
        let rows = client.query(HOLDERS, &[]).await.map_err(TermError::server("see who holds"))?;
        if Instant::now() >= until {
            let holders = rows.iter().map(|row| row.get(1)).collect();
            return Err(TermError::Busy { waited_s: HOLDERS_PATIENCE.as_secs(), holders });
        }
        let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        client.query(END_IDLE, &[&pids, &LOCK_TIMEOUT]).await.map_err(TermError::server("end who holds"))?;
    }
}

async fn write(client: &impl GenericClient, term: &Term) -> Result<(), TermError> {
    let written = client.execute(WRITE, &[&term.term, &term.nonce]).await.map_err(TermError::server("write"))?;
    if written == 1 {
        return Ok(());
    }
    let found = read(client).await?.ok_or(TermError::Missing { ours: *term })?;
    Err(TermError::Superseded { ours: *term, found })
}
