//! Capture: a publication and a logical slot on a serving side, from which the touched keys are read later.
//!
//! Owns the publication, the slot and the row `cutover.capture` on the captured side, all under one name that carries the run's
//! id. The order is the point: the publication first (a slot older than its publication wedges), the slot next, and then the wait
//! until every transaction that ran at the slot's creation has ended; only after it may a snapshot of the copy be taken, or a commit
//! in between is in neither. May call `term` and `sql`. Never reads a change: `level` does.

mod error;
mod identity;
mod pending;
mod relations;
mod retention;
mod skip;

pub use error::CaptureError;
pub use relations::{RelationState, Relations, TableNameKey};
pub use retention::{Room, WalLimits, room};

use super::pgoutput::Lsn;
use super::sql::{ident, literal, qualified};
use super::term::{self, Term};
use crate::plan::{Side, TableName};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

const CREATE: &str = "create table if not exists cutover.capture (
  singleton boolean primary key default true check (singleton),
  run uuid not null,
  slot text not null,
  nonce uuid not null,
  relations text not null,
  start_lsn pg_lsn,
  skip_lsn pg_lsn)";
const READ: &str =
    "select run, slot, nonce, relations, (start_lsn - '0/0'::pg_lsn)::bigint, (skip_lsn - '0/0'::pg_lsn)::bigint
from cutover.capture";
const NOTE: &str = "insert into cutover.capture (run, slot, nonce, relations) values ($1, $2, $3, $4)
on conflict (singleton) do update set nonce = excluded.nonce, relations = excluded.relations
where capture.run = excluded.run and capture.start_lsn is null";
const NOTE_START: &str = "update cutover.capture set start_lsn =
  (select confirmed_flush_lsn from pg_replication_slots where slot_name = $2 and database = current_database())
where run = $1 and start_lsn is null";
const SLOT: &str = "select plugin, database = current_database(), wal_status,
  (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, (pg_current_wal_lsn() - restart_lsn)::bigint, safe_wal_size
from pg_replication_slots where slot_name = $1";
const HAS_PUBLICATION: &str = "select exists (select from pg_publication where pubname = $1)";
const IDENTITY: &str = "select c.relreplident = 'f',
  coalesce((select array_agg(a.attname::text order by a.attnum) from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    where i.indrelid = c.oid and case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary else false end), '{}')
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";
/// Transactions of this server, in any database, that a new slot or its first snapshot may be waiting for.
const BLOCKERS: &str = "select format('backend %s (%s, database %s, since %s)', pid, coalesce(nullif(application_name, ''), usename), datname, xact_start)
from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
union all select format('prepared transaction %s (database %s)', gid, database) from pg_prepared_xacts
limit 5";
const PAUSE: Duration = Duration::from_millis(20);

/// A capture that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The captured side.
    pub side: Side,
    /// Name of slot and publication.
    pub name: String,
    /// Drawn at the slot's creation; the other side's progress carries it.
    pub nonce: Uuid,
    /// Where reading begins: where the slot began, or what was skipped to since.
    pub start: Lsn,
    /// The tables before the slot was made.
    pub relations: Relations,
}

/// What stands on a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureStanding {
    /// Nothing of ours.
    Absent,
    /// Begun and not finished; starting again finishes it.
    Partial,
    /// Capturing, and every older transaction has ended.
    Present(Captured),
    /// Something of our name is not ours.
    Foreign(String),
    /// It stood, and cannot deliver every change any more.
    Lost(String),
}

/// Write-ahead log that a slot keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalKept {
    /// Bytes from the slot's restart position to the end of the log.
    pub bytes: u64,
    /// PostgreSQL's word: `reserved`, `extended`, `unreserved`, `lost`.
    pub status: String,
    /// Bytes that may still be written before the server takes the log away from the slot; none when it never does.
    pub safe_bytes: Option<u64>,
}

/// The capture of one run on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// The run.
    pub run: Uuid,
    /// The side it captures: blue to keep green level, green for the way back.
    pub side: Side,
}

struct Slot {
    is_ours: bool,
    status: Option<String>,
    confirmed: Option<i64>,
    kept: Option<i64>,
    safe: Option<i64>,
}

struct Noted {
    run: Uuid,
    nonce: Uuid,
    relations: Relations,
    start: Option<i64>,
    skip: Option<i64>,
}

impl Capture {
    /// `cutover_` and the first twelve hex digits of the run; green's ends in `_back`, since both sides may live in one server, which
    /// names a slot only once.
    #[must_use]
    pub fn name(&self) -> String {
        let run = &self.run.simple().to_string()[..12];
        match self.side {
            Side::Blue => format!("cutover_{run}"),
            Side::Green => format!("cutover_{run}_back"),
        }
    }

    /// Makes publication and slot, and waits until a snapshot taken from now on misses nothing that the slot does not deliver.
    /// Finds what an earlier call has made. `bound` is for each of the two waits for older transactions.
    ///
    /// # Errors
    /// See [`CaptureError`]; called again, it goes on.
    pub async fn start(
        &self,
        client: &mut Client,
        term: &Term,
        tables: &[TableName],
        bound: Duration,
    ) -> Result<Captured, CaptureError> {
        match self.verify(client).await? {
            CaptureStanding::Present(captured) => return Ok(captured),
            CaptureStanding::Foreign(what) => return Err(CaptureError::Foreign { side: self.side, what }),
            CaptureStanding::Lost(why) => return Err(CaptureError::Lost { side: self.side, why }),
            CaptureStanding::Absent | CaptureStanding::Partial => {}
        }
        self.publish(client, term, tables).await?;
        self.create_slot(client, bound).await?;
        self.outlast_older_transactions(client, bound).await?;
        self.note_start(client, term).await?;
        match self.verify(client).await? {
            CaptureStanding::Present(captured) => Ok(captured),
            other => Err(CaptureError::Lost { side: self.side, why: format!("just made, it was found {other:?}") }),
        }
    }

    /// What stands on the side; read-only.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn verify(&self, client: &Client) -> Result<CaptureStanding, CaptureError> {
        let noted = self.noted(client).await?;
        let slot = self.slot(client).await?;
        let published = self.is_published(client).await?;
        Ok(self.judge(noted, slot, published))
    }

    fn judge(&self, noted: Option<Noted>, slot: Option<Slot>, published: bool) -> CaptureStanding {
        if let Some(noted) = noted.as_ref().filter(|noted| noted.run != self.run) {
            return CaptureStanding::Foreign(format!("run {} captures this database", noted.run));
        }
        if slot.as_ref().is_some_and(|slot| !slot.is_ours) {
            return CaptureStanding::Foreign(format!("a slot {} exists and is not ours", self.name()));
        }
        let Some(noted) = noted else {
            let nothing = slot.is_none() && !published;
            return if nothing { CaptureStanding::Absent } else { CaptureStanding::Partial };
        };
        let Some(start) = noted.start else { return CaptureStanding::Partial };
        let lost = |why: &str| CaptureStanding::Lost(why.to_owned());
        match slot {
            None => lost("the slot is gone (dropped, or blue failed over)"),
            Some(_) if !published => lost("the publication is gone"),
            Some(slot) if slot.status.as_deref() == Some("lost") => lost("the slot's write-ahead log was removed"),
            Some(slot) if slot.confirmed.unwrap_or(0) < start => lost("the slot is older than the one we made"),
            Some(_) => CaptureStanding::Present(Captured {
                side: self.side,
                name: self.name(),
                nonce: noted.nonce,
                start: noted.skip.unwrap_or(start).max(start).cast_unsigned(),
                relations: noted.relations,
            }),
        }
    }

    /// Drops slot, publication and row of this run; what is absent is done. Foreign things are left alone and reported.
    ///
    /// # Errors
    /// When the slot is in use by a process that does not end, or the server refuses.
    pub async fn stop(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        if let CaptureStanding::Foreign(what) = self.verify(client).await? {
            return Err(CaptureError::Foreign { side: self.side, what });
        }
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        transaction.commit().await.map_err(self.server("hold the term"))?;
        self.drop_slot(client).await?;
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        let statements =
            format!("drop publication if exists {}; drop table if exists cutover.capture", ident(&self.name()));
        transaction.batch_execute(&statements).await.map_err(self.server("drop the publication"))?;
        self.forget_identities(&transaction).await?;
        transaction.commit().await.map_err(self.server("drop the publication"))
    }

    /// Write-ahead log kept by the slot; none without a slot.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn wal_kept(&self, client: &impl GenericClient) -> Result<Option<WalKept>, CaptureError> {
        let slot = self.slot(client).await?;
        Ok(slot.map(|slot| WalKept {
            bytes: slot.kept.unwrap_or(0).max(0).cast_unsigned(),
            status: slot.status.unwrap_or_else(|| "lost".to_owned()),
            safe_bytes: slot.safe.map(|safe| safe.max(0).cast_unsigned()),
        }))
    }

    /// Publication and row, in one transaction, before there is a slot. A slot that was left without our finishing it is dropped.
    async fn publish(&self, client: &mut Client, term: &Term, tables: &[TableName]) -> Result<(), CaptureError> {
        self.drop_slot(client).await?;
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        transaction.batch_execute(CREATE).await.map_err(self.server("create table cutover.capture"))?;
        let relations =
            serde_json::to_string(&self.relations(&transaction, tables).await?).expect("plain text is JSON");
        let written = transaction
            .execute(NOTE, &[&self.run, &self.name(), &Uuid::new_v4(), &relations])
            .await
            .map_err(self.server("note the capture"))?;
        if written != 1 {
            return Err(CaptureError::Foreign { side: self.side, what: "another capture is noted".into() });
        }
        let mut published = Vec::new();
        for table in tables {
            published.push(self.published_table(&transaction, table).await?);
        }
        let name = ident(&self.name());
        let statements = format!(
            "drop publication if exists {name}; create publication {name} for table {} with (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
            published.join(", ")
        );
        transaction.batch_execute(&statements).await.map_err(self.server("create the publication"))?;
        transaction.commit().await.map_err(self.server("commit the publication"))
    }

    /// The table with its identity columns only: all that is read of a change are its keys.
    async fn published_table(&self, client: &impl GenericClient, table: &TableName) -> Result<String, CaptureError> {
        let row =
            client.query_opt(IDENTITY, &[&table.schema, &table.name]).await.map_err(self.server("read an identity"))?;
        let row = row.ok_or_else(|| CaptureError::NoTable { side: self.side, table: table.clone() })?;
        let (is_full, columns): (bool, Vec<String>) = (row.get(0), row.get(1));
        let name = qualified(&table.schema, &table.name);
        if is_full {
            return Ok(name);
        }
        if columns.is_empty() {
            return Err(CaptureError::NoIdentity { side: self.side, table: table.clone() });
        }
        let columns: Vec<_> = columns.iter().map(|column| ident(column)).collect();
        Ok(format!("{name} ({})", columns.join(", ")))
    }

    async fn create_slot(&self, client: &Client, bound: Duration) -> Result<(), CaptureError> {
        let create = format!("select pg_create_logical_replication_slot({}, 'pgoutput')", literal(&self.name()));
        let timeout = format!("set statement_timeout = {}", bound.as_millis());
        client.batch_execute(&timeout).await.map_err(self.server("set a time-out"))?;
        let created = client.batch_execute(&create).await;
        client.batch_execute("reset statement_timeout").await.map_err(self.server("reset a time-out"))?;
        match created {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Err(self.blocked(client, "the creation of the slot", bound).await?)
            }
            other => other.map_err(self.server("create the slot")),
        }
    }

    /// After the slot's creation, waits until every transaction that was running then has left every later snapshot.
    async fn outlast_older_transactions(&self, client: &Client, bound: Duration) -> Result<(), CaptureError> {
        let row = client.query_one("select pg_current_xact_id()::text", &[]).await;
        let barrier: String = row.map_err(self.server("draw a transaction id"))?.get(0);
        let deadline = Instant::now() + bound;
        loop {
            let passed = client
                .query_one("select pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8", &[&barrier])
                .await
                .map_err(self.server("read a snapshot"))?;
            if passed.get(0) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.blocked(client, "the first snapshot", bound).await?);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn blocked(
        &self,
        client: &Client,
        what: &'static str,
        bound: Duration,
    ) -> Result<CaptureError, CaptureError> {
        let rows = client.query(BLOCKERS, &[]).await.map_err(self.server("name the blockers"))?;
        let blockers: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let blockers = if blockers.is_empty() { "they have just ended".to_owned() } else { blockers.join("; ") };
        Ok(CaptureError::Blocked { side: self.side, what, waited_s: bound.as_secs(), blockers })
    }

    async fn note_start(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        transaction.execute(NOTE_START, &[&self.run, &self.name()]).await.map_err(self.server("note the slot"))?;
        transaction.commit().await.map_err(self.server("commit the slot's note"))
    }

    async fn drop_slot(&self, client: &Client) -> Result<(), CaptureError> {
        let drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots
            where slot_name = $1 and database = current_database() and plugin = 'pgoutput'";
        client.execute(drop, &[&self.name()]).await.map_err(self.server("drop the slot"))?;
        Ok(())
    }

    async fn noted(&self, client: &impl GenericClient) -> Result<Option<Noted>, CaptureError> {
        let row = match client.query_opt(READ, &[]).await {
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
            other => other.map_err(self.server("read cutover.capture"))?,
        };
        row.map(|row| {
            let relations: &str = row.get(3);
            let relations = serde_json::from_str(relations).map_err(|error| CaptureError::Foreign {
                side: self.side,
                what: format!("cutover.capture: {error}"),
            })?;
            Ok(Noted { run: row.get(0), nonce: row.get(2), relations, start: row.get(4), skip: row.get(5) })
        })
        .transpose()
    }

    async fn slot(&self, client: &impl GenericClient) -> Result<Option<Slot>, CaptureError> {
        let row = client.query_opt(SLOT, &[&self.name()]).await.map_err(self.server("read the slot"))?;
        Ok(row.map(|row| Slot {
            is_ours: row.get::<_, Option<&str>>(0) == Some("pgoutput") && row.get::<_, Option<bool>>(1) == Some(true),
            status: row.get(2),
            confirmed: row.get(3),
            kept: row.get(4),
            safe: row.get(5),
        }))
    }

    async fn is_published(&self, client: &impl GenericClient) -> Result<bool, CaptureError> {
        let row = client.query_one(HAS_PUBLICATION, &[&self.name()]).await.map_err(self.server("read publications"))?;
        Ok(row.get(0))
    }

    fn server(&self, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> CaptureError + use<> {
        let side = self.side;
        move |source| CaptureError::Server { side, what, source }
    }
}
