//! Triggers that refuse writes: green's while it is closed, and those of a sealed side.
//!
//! Owns the functions `cutover.fence` and `cutover.seal` and the statement triggers of the same names on every application table and
//! every leaf. Whether they refuse stands in the function's body, never in a row: a transaction with an old snapshot still reads the old
//! row, but always the present body. Opening replaces the body (which waits for nobody); the triggers are dropped later. May call
//! `term` and `sql`. The register changes in the same transaction by SQL that the caller hands in.

use super::sql::{literal, qualified};
use super::term::{self, Term, TermError};
use crate::plan::TableName;
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

/// All application tables and their leaves, in the one order in which everybody locks them.
pub(super) const TABLES: &str = "select c.oid, n.nspname::text as schema, c.relname::text as name
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname not in ('information_schema', 'cutover') and n.nspname !~ '^pg_'
order by n.nspname, c.relname";
/// Error code of a write that was refused.
pub const REFUSED_CODE: &str = "25006";

/// Why a refusal could not be set up, judged or lifted.
#[derive(Debug, Error)]
pub enum RefusalError {
    /// Another process took over, or our term cannot be held; nothing was changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// The register said something else; nothing was changed.
    #[error("{what}: the register was changed by another; nothing was changed here")]
    RegisterLost {
        /// What was tried.
        what: &'static str,
    },
    /// The server refused or the connection broke.
    #[error("{what}")]
    Server {
        /// What was tried.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl RefusalError {
    /// Whether our login is not allowed to do it.
    #[must_use]
    pub fn is_privilege(&self) -> bool {
        let Self::Server { source, .. } = self else { return false };
        source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
    }

    fn server(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| match source.code().map(SqlState::code) {
            Some("CUT01") => Self::RegisterLost { what },
            _ => Self::Server { what, source },
        }
    }
}

/// Which of the two refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A side that has not opened; our own login passes, to write it.
    Closed,
    /// A side that was left; nobody passes.
    Sealed,
}

/// How far a refusal stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalStanding {
    /// Nothing of it is there.
    Absent,
    /// Every application table and leaf refuses.
    Refusing,
    /// The triggers may be there, the body lets everybody pass.
    Lifted,
    /// The body refuses and these tables have no trigger that always fires.
    Partial(Vec<TableName>),
    /// A function of this name carries another run's id.
    Foreign,
}

impl Refusal {
    fn name(self) -> &'static str {
        match self {
            Self::Closed => "fence",
            Self::Sealed => "seal",
        }
    }

    fn mark(self, run: Uuid) -> String {
        let state = match self {
            Self::Closed => "closed",
            Self::Sealed => "sealed",
        };
        format!("-- cutover {state} {run}")
    }

    /// The function's definition while it refuses; `login` is the one that passes.
    pub(super) fn function_sql(self, run: Uuid, login: Option<&str>) -> String {
        let pass = login.map_or_else(String::new, |login| {
            format!("if session_user = {} then return null; end if;\n", literal(login))
        });
        let name = self.name();
        let word = if self == Self::Closed { "closed" } else { "sealed" };
        let body = format!(
            "{}\nbegin\n{pass}raise exception 'this side is {word} by cutover' using errcode = '{REFUSED_CODE}', hint = 'write through the gateway, or to the side that is served';\nend",
            self.mark(run)
        );
        format!("create or replace function cutover.{name}() returns trigger language plpgsql as {}", literal(&body))
    }

    /// The function's definition once everybody may pass; changes the catalog and waits for no writer.
    #[must_use]
    pub fn lift_sql(self, run: Uuid) -> String {
        let body = format!("-- cutover lifted {run}\nbegin return null; end");
        format!(
            "create or replace function cutover.{}() returns trigger language plpgsql as {}",
            self.name(),
            literal(&body)
        )
    }

    /// A block that puts the trigger on every application table and leaf that the catalog lists when it runs.
    pub(super) fn triggers_sql(self) -> String {
        let name = self.name();
        format!(
            "do $cutover$ declare t record; begin for t in {TABLES} loop
  if not exists (select from pg_trigger where tgrelid = t.oid and tgname = 'cutover_{name}') then
    execute format('create trigger cutover_{name} before insert or update or delete or truncate on %I.%I for each statement execute function cutover.{name}()', t.schema, t.name);
  end if;
  execute format('alter table %I.%I enable always trigger cutover_{name}', t.schema, t.name);
end loop; end $cutover$"
        )
    }

    /// Lifts the refusal and changes the register in one transaction under our term: the opening of green, or the unsealing of blue by
    /// the winner of green's register. `register_sql` must raise when it changes nothing.
    ///
    /// # Errors
    /// `RegisterLost` when the register said something else. After a `Server` error the outcome may be unknown: read the register, and try
    /// again; a second try changes nothing.
    pub async fn lift(
        self,
        client: &mut Client,
        term: &Term,
        run: Uuid,
        register_sql: &str,
    ) -> Result<(), RefusalError> {
        let what = "open the side";
        let transaction = client.transaction().await.map_err(RefusalError::server(what))?;
        term::hold(&transaction, term).await?;
        let statements = format!("set local synchronous_commit = on; {register_sql}; {}", self.lift_sql(run));
        transaction.batch_execute(&statements).await.map_err(RefusalError::server(what))?;
        transaction.commit().await.map_err(RefusalError::server(what))
    }

    /// How far the refusal stands, from the catalog; read-only.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn verify(self, client: &impl GenericClient, run: Uuid) -> Result<RefusalStanding, RefusalError> {
        let body = client
            .query_opt(
                "select p.prosrc from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'cutover' and p.proname = $1",
                &[&self.name()],
            )
            .await
            .map_err(RefusalError::server("read the fence's function"))?;
        let Some(body) = body.map(|row| row.get::<_, String>(0)) else { return Ok(RefusalStanding::Absent) };
        if !body.contains(&run.to_string()) {
            return Ok(RefusalStanding::Foreign);
        }
        if !body.contains(&self.mark(run)) {
            return Ok(RefusalStanding::Lifted);
        }
        let bare = self.tables_without_trigger(client).await?;
        Ok(if bare.is_empty() { RefusalStanding::Refusing } else { RefusalStanding::Partial(bare) })
    }

    async fn tables_without_trigger(self, client: &impl GenericClient) -> Result<Vec<TableName>, RefusalError> {
        let query = format!(
            "select l.schema, l.name from ({TABLES}) l where not exists (select from pg_trigger g
  join pg_proc p on p.oid = g.tgfoid join pg_namespace n on n.oid = p.pronamespace
  where g.tgrelid = l.oid and g.tgname = 'cutover_' || $1 and g.tgenabled = 'A' and n.nspname = 'cutover' and p.proname = $1)"
        );
        let rows = client.query(&query, &[&self.name()]).await.map_err(RefusalError::server("read the triggers"))?;
        Ok(rows.iter().map(|row| TableName { schema: row.get(0), name: row.get(1) }).collect())
    }

    /// Drops the triggers, table by table in transactions of their own, and then the function; what is absent is done. Not before
    /// the refusal is lifted or the run undone: it is the fence.
    ///
    /// # Errors
    /// When a table's lock cannot be had within `lock`: called again, it goes on.
    pub async fn remove(self, client: &mut Client, term: &Term, lock: Duration) -> Result<(), RefusalError> {
        let what = "drop the fence's triggers";
        let name = self.name();
        let query = format!(
            "select l.schema, l.name from ({TABLES}) l where exists (select from pg_trigger where tgrelid = l.oid and tgname = 'cutover_' || $1)"
        );
        let tables = client.query(&query, &[&name]).await.map_err(RefusalError::server(what))?;
        for row in tables {
            let table = qualified(row.get(0), row.get(1));
            let drop = format!("drop trigger if exists cutover_{name} on {table}");
            in_term(client, term, lock, &drop, what).await?;
        }
        in_term(client, term, lock, &format!("drop function if exists cutover.{name}()"), what).await
    }
}

async fn in_term(
    client: &mut Client,
    term: &Term,
    lock: Duration,
    statements: &str,
    what: &'static str,
) -> Result<(), RefusalError> {
    let transaction = client.transaction().await.map_err(RefusalError::server(what))?;
    let timeout = format!("set local lock_timeout = {}", lock.as_millis().max(1));
    transaction.batch_execute(&timeout).await.map_err(RefusalError::server(what))?;
    term::hold(&transaction, term).await?;
    transaction.batch_execute(statements).await.map_err(RefusalError::server(what))?;
    transaction.commit().await.map_err(RefusalError::server(what))
}

/// Closes green: from the commit on every write to an application table is refused, except by our own login. Done again after the
/// schema changed, it covers the new tables.
///
/// # Errors
/// When a writer does not end within `lock`, or the server refuses; nothing was changed then.
pub async fn close(green: &mut Client, term: &Term, run: Uuid, lock: Duration) -> Result<(), RefusalError> {
    close_and(green, term, run, lock, &[]).await
}

/// The same, and `and` in the same transaction, once every table refuses: whoever gets a right by it finds the side closed.
///
/// # Errors
/// As [`close`].
pub async fn close_and(
    green: &mut Client,
    term: &Term,
    run: Uuid,
    lock: Duration,
    and: &[String],
) -> Result<(), RefusalError> {
    let what = "close green";
    let statements = format!("{}; {}", close_sql(&*green, run).await?, and.join("; "));
    in_term(green, term, lock, &statements, what).await
}

/// Closes green within the caller's transaction, which holds the term and has made the tables.
///
/// # Errors
/// When the server refuses.
pub async fn close_within(green: &impl GenericClient, run: Uuid) -> Result<(), RefusalError> {
    let statements = close_sql(green, run).await?;
    green.batch_execute(&statements).await.map_err(RefusalError::server("close green"))
}

async fn close_sql(green: &impl GenericClient, run: Uuid) -> Result<String, RefusalError> {
    let login = green.query_one("select session_user::text", &[]).await;
    let login: String = login.map_err(RefusalError::server("close green"))?.get(0);
    Ok(format!("{}; {}", Refusal::Closed.function_sql(run, Some(&login)), Refusal::Closed.triggers_sql()))
}

/// Drops both refusals from a side that serves, or that nobody needs any more: table by table, so that no client waits for more than
/// one lock, and for none longer than `lock`. What is absent is done.
///
/// # Errors
/// When a table's lock cannot be had within `lock`: called again, it goes on.
pub async fn remove_all(client: &mut Client, term: &Term, lock: Duration) -> Result<(), RefusalError> {
    Refusal::Closed.remove(client, term, lock).await?;
    Refusal::Sealed.remove(client, term, lock).await
}

/// From sealed to closed: our own login passes again, to bring the side level with the one that is served; nobody else does. The
/// register changes in the same transaction, by `register_sql`, which must raise when it changes nothing.
///
/// # Errors
/// `RegisterLost` when the register said something else, or when a lock is not had within `lock`; nothing was changed then.
pub async fn shut(
    client: &mut Client,
    term: &Term,
    run: Uuid,
    lock: Duration,
    register_sql: &str,
) -> Result<(), RefusalError> {
    let what = "let our own login write the sealed side";
    let login: String =
        client.query_one("select session_user::text", &[]).await.map_err(RefusalError::server(what))?.get(0);
    let (closed, sealed) = (Refusal::Closed, Refusal::Sealed);
    let statements = format!(
        "set local synchronous_commit = on; {register_sql}; {}; {}; {}",
        closed.function_sql(run, Some(&login)),
        closed.triggers_sql(),
        sealed.lift_sql(run)
    );
    in_term(client, term, lock, &statements, what).await
}

/// Tables that let `role` write, found by trying: a delete of no row as that role on every table and leaf, rolled back. Empty when
/// everything is refused. Needs a superuser, because the role must be the session's own.
///
/// # Errors
/// When our login may not act as the role, or the server does not answer.
pub async fn accepting_writes(client: &mut Client, role: &str) -> Result<Vec<TableName>, RefusalError> {
    let what = "try to write as the application's role";
    let tables = client.query(TABLES, &[]).await.map_err(RefusalError::server(what))?;
    let transaction = client.transaction().await.map_err(RefusalError::server(what))?;
    let become_role = format!("set local session authorization {}; set local lock_timeout = '1s'", literal(role));
    transaction.batch_execute(&become_role).await.map_err(RefusalError::server(what))?;
    let mut accepting = Vec::new();
    for row in tables {
        let table = TableName { schema: row.get(1), name: row.get(2) };
        let delete =
            format!("savepoint cutover_try; delete from only {} where false", qualified(&table.schema, &table.name));
        let tried = transaction.batch_execute(&delete).await;
        transaction.batch_execute("rollback to savepoint cutover_try").await.map_err(RefusalError::server(what))?;
        match tried {
            Ok(()) => accepting.push(table),
            Err(error) if error.code().is_some_and(|code| code.code() == REFUSED_CODE) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            Err(source) => return Err(RefusalError::Server { what, source }),
        }
    }
    transaction.rollback().await.map_err(RefusalError::server(what))?;
    Ok(accepting)
}
