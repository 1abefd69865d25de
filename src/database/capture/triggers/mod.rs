//! A log of touched keys that triggers write, where logical decoding is not to be had.
//!
//! Owns the table `cutover.touched`, one function `cutover.touch_…` and the triggers `cutover_touch_…` of each captured table. No barrier
//! of transaction ids is needed as behind a slot: a trigger is created under `share row exclusive`, which is had only when every
//! writer of the table has ended and left every later snapshot, also one whose commit waits for a standby; and whoever writes later
//! fires it. So the first snapshot sees what the log does not have, and the log has the rest.

mod judge;
mod let_go;
mod patience;
mod sql;

pub(in crate::database) use let_go::let_go;
pub(in crate::database) use sql::NONCE_RELATION;

use self::judge::Found;
use super::note::Noted;
use super::{Capture, CaptureError, CaptureStanding, Captured, Kept, TableNameKey};
use crate::database::sql::literal;
use crate::database::term::{self, Term};
use crate::plan::{CaptureMethod, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, GenericClient};

/// How a table is logged: by its replica identity, as a slot would name its rows. With `full`, by all columns.
const TABLE: &str = "select c.oid, c.relkind = 'p' or exists (select from pg_inherits where inhrelid = c.oid),
  c.relkind <> 'p' and exists (select from pg_inherits where inhparent = c.oid),
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    and (c.relreplident = 'f' or exists (select from pg_index i where i.indrelid = c.oid and a.attnum = any(i.indkey)
      and case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary else false end)) order by a.attnum)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";
/// A failed-over server has another timeline, a restored one another position or identifier as well.
const SERVER: &str = "select format('%s/%s', (select system_identifier from pg_control_system()), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))";
const NOTE_START: &str =
    "update cutover.capture set start_lsn = pg_current_wal_lsn(), server = $2 where run = $1 and start_lsn is null";
const SIZE: &str = "select coalesce(pg_total_relation_size(to_regclass('cutover.touched')), 0)";
/// Longest wait for whoever holds a table, when the triggers are dropped.
const STOP_BOUND: Duration = Duration::from_secs(60);

/// How one captured table is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedTable {
    /// Its oid, by which the log names it.
    pub oid: u32,
    /// The columns of a logged key, in order.
    pub key: Vec<String>,
    /// Whether its triggers fire for each row: transition tables do not see what is written through a parent or into a partition.
    pub each_row: bool,
}

/// How each captured table is logged, by `schema.name`.
pub type Logged = BTreeMap<TableNameKey, LoggedTable>;

impl Capture {
    pub(super) async fn start_log(
        &self,
        client: &mut Client,
        term: &Term,
        tables: &[TableName],
        bound: Duration,
    ) -> Result<(), CaptureError> {
        let mut logged = Logged::new();
        for table in tables {
            logged.insert(table.to_string(), self.logged_table(client, table).await?);
        }
        self.make_log(client, term, tables, &logged).await?;
        let until = Instant::now() + bound;
        for table in tables {
            let statements = sql::triggers(table, &logged[&table.to_string()]);
            self.patiently(client, term, table, &statements, until).await?;
        }
        let server = self.server_identity(client).await?;
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        transaction.execute(NOTE_START, &[&self.run, &server]).await.map_err(self.server("note the trigger log"))?;
        transaction.commit().await.map_err(self.server("note the trigger log"))
    }

    async fn logged_table(&self, client: &impl GenericClient, table: &TableName) -> Result<LoggedTable, CaptureError> {
        let (side, table) = (self.side, table.clone());
        let row = client.query_opt(TABLE, &[&table.schema, &table.name]).await.map_err(self.server("read a table"))?;
        let Some(row) = row else { return Err(CaptureError::NoTable { side, table }) };
        let key: Vec<String> = row.get(3);
        match (row.get(2), key.is_empty()) {
            (true, _) => Err(CaptureError::Inherited { side, table }),
            (_, true) => Err(CaptureError::NoIdentity { side, table }),
            _ => Ok(LoggedTable { oid: row.get(0), key, each_row: row.get(1) }),
        }
    }

    /// The note, the table and the functions, before there is a trigger that needs them.
    async fn make_log(
        &self,
        client: &mut Client,
        term: &Term,
        tables: &[TableName],
        logged: &Logged,
    ) -> Result<(), CaptureError> {
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        let nonce = self.note(&transaction, tables, logged).await?;
        let mut statements = sql::log(nonce);
        logged.values().for_each(|table| statements.push_str(&sql::function(self.run, table)));
        transaction.batch_execute(&statements).await.map_err(self.server("create table cutover.touched"))?;
        transaction.commit().await.map_err(self.server("create table cutover.touched"))
    }

    async fn server_identity(&self, client: &impl GenericClient) -> Result<String, CaptureError> {
        let row = client.query_one(SERVER, &[]).await.map_err(self.server("ask for the server's timeline"))?;
        Ok(row.get(0))
    }

    pub(super) async fn log_standing(
        &self,
        client: &impl GenericClient,
        noted: Option<Noted>,
    ) -> Result<CaptureStanding, CaptureError> {
        let oids = noted.iter().flat_map(|noted| noted.logged.values().map(|table| table.oid)).collect();
        let found = Found::read(client, oids).await.map_err(self.server("look at the trigger log"))?;
        let Some(noted) = noted else {
            return Ok(match found.of_another_run(self.run) {
                Some(what) => CaptureStanding::Foreign(what),
                None if found.is_nothing() => CaptureStanding::Absent,
                None => CaptureStanding::Partial,
            });
        };
        if noted.start.is_none() {
            return Ok(CaptureStanding::Partial);
        }
        let now = self.server_identity(client).await?;
        if noted.server.as_ref() != Some(&now) {
            let was = noted.server.unwrap_or_default();
            let why =
                format!("{} was restored or failed over (its system and timeline were {was}, are {now})", self.side);
            return Ok(CaptureStanding::Lost(why));
        }
        if let Err(why) = judge::whole(self.run, &noted.logged, &found) {
            return Ok(CaptureStanding::Lost(why));
        }
        if !self.holds_nonce(client, &noted).await? {
            return Ok(CaptureStanding::Lost("the log cutover.touched was emptied or made anew".to_owned()));
        }
        Ok(CaptureStanding::Present(Captured {
            side: self.side,
            method: CaptureMethod::Triggers,
            name: self.name(),
            nonce: noted.nonce,
            start: noted.first_mark.cast_unsigned(),
            relations: noted.relations,
            logged: noted.logged,
        }))
    }

    async fn holds_nonce(&self, client: &impl GenericClient, noted: &Noted) -> Result<bool, CaptureError> {
        let row = client.query_one(sql::HAS_NONCE, &[&noted.nonce.to_string()]).await;
        Ok(row.map_err(self.server("read cutover.touched"))?.get(0))
    }

    pub(super) async fn stop_log(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        self.drop_triggers(client, term).await?;
        let whole = TableName { schema: "cutover".to_owned(), name: "touched".to_owned() };
        self.patiently(client, term, &whole, &sql::drop_log(self.run), Instant::now() + STOP_BOUND).await
    }

    /// Drops this run's triggers and empties the log, so that neither costs any more: the capture is lost from then on.
    pub(super) async fn give_log_up(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        self.drop_triggers(client, term).await?;
        let whole = TableName { schema: "cutover".to_owned(), name: "touched".to_owned() };
        self.patiently(client, term, &whole, "truncate cutover.touched", Instant::now() + STOP_BOUND).await
    }

    async fn drop_triggers(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        let until = Instant::now() + STOP_BOUND;
        let mark = sql::mark(self.run);
        let rows = client.query(sql::TRIGGERED, &[&mark]).await.map_err(self.server("read the triggers"))?;
        for row in rows {
            let table = TableName { schema: row.get(0), name: row.get(1) };
            let statements = sql::drop_triggers(&table, &row.get::<_, Vec<String>>(2));
            self.patiently(client, term, &table, &statements, until).await?;
        }
        Ok(())
    }

    pub(super) async fn log_kept(&self, client: &impl GenericClient) -> Result<Kept, CaptureError> {
        let lost = match self.verify(client).await? {
            CaptureStanding::Present(_) => None,
            CaptureStanding::Lost(why) | CaptureStanding::Foreign(why) => Some(why),
            CaptureStanding::Absent | CaptureStanding::Partial => Some("the trigger log is gone".to_owned()),
        };
        let size: i64 = client.query_one(SIZE, &[]).await.map_err(self.server("measure cutover.touched"))?.get(0);
        Ok(Kept { method: CaptureMethod::Triggers, bytes: size.max(0).cast_unsigned(), lost, safe_bytes: None })
    }

    /// Lets go what was logged before a side opened; see [`Capture::skip_to`].
    pub(super) async fn skip_log(&self, client: &Client, lsn: i64, seen: &str) -> Result<(), CaptureError> {
        let skip = format!(
            "update cutover.capture set skip_lsn = '0/0'::pg_lsn + {lsn}, mark = mark + 1, first_mark = mark + 1
where run = {} and coalesce(skip_lsn, '0/0') < '0/0'::pg_lsn + {lsn}",
            literal(&self.run.to_string())
        );
        let_go(client, seen).await.map_err(self.server("let go what was logged before"))?;
        client.batch_execute(&skip).await.map_err(self.server("note what was skipped"))
    }
}
