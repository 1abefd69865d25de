//! Who is in the way of a session, whom it keeps waiting, and what both are told of: never a value out of a query.
//!
//! Asked on a connection of its own, while the session waits: afterwards nobody can tell.

use super::migrations::shape::masked;
use std::fmt;
use std::time::Duration;
use tokio_postgres::Client;

/// Who a session waits for; a prepared transaction has no backend.
const IN_THE_WAY: &str = "
select b.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
       coalesce(extract(epoch from clock_timestamp() - a.query_start), 0)::float8,
       coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::float8, coalesce(a.query, '')
  from (select distinct unnest(pg_catalog.pg_blocking_pids($1))) b (pid)
  left join pg_catalog.pg_stat_activity a on a.pid = b.pid
 order by a.xact_start nulls first limit 5";
/// Who waits for it as clients do, for a table or a row, and for how long already. Of those who wait the first are asked after: each answer costs
/// the server a look at all its locks. `waitstart` is empty for the first moment of a wait.
const KEPT_WAITING: &str = "
select count(*), coalesce(max(extract(epoch from clock_timestamp() - w.waitstart)), 0)::float8
  from (select l.pid, l.waitstart from pg_catalog.pg_locks l
         where not l.granted and l.pid <> $1
           and (l.mode in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock') or l.locktype in ('transactionid', 'tuple'))
         order by l.waitstart limit 20) w
 where $1 = any (pg_catalog.pg_blocking_pids(w.pid))";
/// Characters of a query that are shown.
const SHOWN: usize = 120;

/// A session that is in the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocker {
    /// Its backend; 0 for a prepared transaction.
    pub pid: i32,
    /// Its role.
    pub user: String,
    /// What it calls itself.
    pub application: String,
    /// `active`, `idle in transaction` and so on.
    pub state: String,
    /// How long ago its query began, in seconds.
    pub query_s: f64,
    /// How long ago its transaction began, in seconds.
    pub transaction_s: f64,
    /// Its query, cut short, with `?` for every value.
    pub query: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return write!(f, "a prepared transaction (see pg_prepared_xacts)");
        }
        let Self { pid, user, application, state, query_s, transaction_s, query } = self;
        write!(f, "backend {pid} of {user}")?;
        if !application.is_empty() {
            write!(f, " ({application})")?;
        }
        write!(f, ", {state}, transaction {transaction_s:.1} s old, query {query_s:.1} s: {query}")
    }
}

/// Who is in the way of `pid` now, five at most.
///
/// # Errors
/// When the server does not answer.
pub async fn in_the_way(client: &Client, pid: i32) -> Result<Vec<Blocker>, tokio_postgres::Error> {
    let rows = client.query(IN_THE_WAY, &[&pid]).await?;
    let one = |row: &tokio_postgres::Row| Blocker {
        pid: row.get(0),
        user: row.get(1),
        application: row.get(2),
        state: row.get(3),
        query_s: row.get(4),
        transaction_s: row.get(5),
        query: shown(row.get(6)),
    };
    Ok(rows.iter().map(one).collect())
}

/// How many clients wait for what `pid` holds or waits for, twenty at most, and how long the longest has.
///
/// # Errors
/// When the server does not answer.
pub async fn kept_waiting(client: &Client, pid: i32) -> Result<(i64, Duration), tokio_postgres::Error> {
    let row = client.query_one(KEPT_WAITING, &[&pid]).await?;
    Ok((row.get(0), Duration::from_secs_f64(row.get::<_, f64>(1).max(0.0))))
}

fn shown(query: &str) -> String {
    let query = masked(query);
    if query.chars().count() <= SHOWN { query } else { query.chars().take(SHOWN - 1).chain(['…']).collect() }
}
