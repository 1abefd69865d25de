//! Locks on tables that the application is using: asked for shortly, given up, and asked for again.
//!
//! Whoever wants to write waits behind a lock that is asked for and not had, so each try is short, and pauses are longer than tries and
//! not alike, so that a busy table gets on in between.

use crate::database::capture::{Capture, CaptureError};
use crate::database::sql::qualified;
use crate::database::term::{self, Term};
use crate::plan::TableName;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Longest that the application waits behind one try. Looking for a deadlock early makes autovacuum leave early, and us, not a writer, the
/// one that gives way; it needs a privilege and is left out without it.
const SETTINGS: &str = "set local lock_timeout = 200; set local statement_timeout = 5000;
select set_config('deadlock_timeout', '50', true) where has_parameter_privilege('deadlock_timeout', 'set')";
const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 2000;
const HOLDERS: &str = "select format('backend %s (%s, in a transaction since %s)', a.pid, coalesce(nullif(a.application_name, ''), a.usename), a.xact_start)
from pg_stat_activity a where a.pid <> pg_backend_pid() and exists (select from pg_locks l where l.pid = a.pid and l.granted
  and l.database = (select oid from pg_database where datname = current_database()) and l.relation = to_regclass($1))
union all select format('prepared transaction %s (database %s)', gid, database) from pg_prepared_xacts limit 5";

impl Capture {
    /// Does it in one transaction under our term, again and again until whoever holds the table lets us.
    pub(super) async fn patiently(
        &self,
        client: &mut Client,
        term: &Term,
        table: &TableName,
        statements: &str,
        until: Instant,
    ) -> Result<(), CaptureError> {
        let (begun, mut pause_ms) = (Instant::now(), FIRST_PAUSE_MS);
        loop {
            match self.once(client, term, statements).await {
                Err(CaptureError::Server { source, .. }) if gives_way(&source) => {}
                done => return done,
            }
            if Instant::now() >= until {
                return Err(self.held(client, table, begun.elapsed()).await?);
            }
            let pause_now_ms = rand::random_range(pause_ms / 2..pause_ms * 3 / 2);
            tokio::time::sleep(Duration::from_millis(pause_now_ms)).await;
            pause_ms = (pause_ms * 2).min(LONGEST_PAUSE_MS);
        }
    }

    async fn once(&self, client: &mut Client, term: &Term, statements: &str) -> Result<(), CaptureError> {
        let what = "set up or take down the trigger log";
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        transaction.batch_execute(SETTINGS).await.map_err(self.server("set time-outs"))?;
        term::hold(&transaction, term).await?;
        transaction.batch_execute(statements).await.map_err(self.server(what))?;
        transaction.commit().await.map_err(self.server(what))
    }

    async fn held(&self, client: &Client, table: &TableName, waited: Duration) -> Result<CaptureError, CaptureError> {
        let name = qualified(&table.schema, &table.name);
        let rows = client.query(HOLDERS, &[&name]).await.map_err(self.server("name who holds a table"))?;
        let holders: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let blockers = if holders.is_empty() { "they have just ended".to_owned() } else { holders.join("; ") };
        let what = format!("the lock of {table}");
        Ok(CaptureError::Blocked { side: self.side, what, waited_s: waited.as_secs(), blockers })
    }
}

fn gives_way(error: &tokio_postgres::Error) -> bool {
    let codes = [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED, &SqlState::QUERY_CANCELED];
    codes.map(Some).contains(&error.code())
}
