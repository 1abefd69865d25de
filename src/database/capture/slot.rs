//! A publication and a logical slot, from which touched keys are read later.
//!
//! The order is the point: the publication first (a slot older than its publication wedges), the slot next, and then the wait until
//! every transaction that ran at the slot's creation has ended; only after it may a snapshot of the copy be taken, or a commit in
//! between is in neither.

use super::note::Noted;
use super::{Capture, CaptureError, CaptureStanding, Captured, Kept, Logged};
use crate::database::sql::{ident, literal, qualified};
use crate::database::term::{self, Term};
use crate::plan::{CaptureMethod, TableName};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

const NOTE_START: &str = "update cutover.capture set start_lsn =
  (select confirmed_flush_lsn from pg_replication_slots where slot_name = $2 and database = current_database())
where run = $1 and start_lsn is null";
const SLOT: &str = "select plugin, database = current_database(), wal_status,
  (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, (pg_current_wal_lsn() - restart_lsn)::bigint, safe_wal_size
from pg_replication_slots where slot_name = $1";
const HAS_PUBLICATION: &str = "select exists (select from pg_publication where pubname = $1)";
pub(super) const IDENTITY: &str = "select c.relreplident = 'f',
  coalesce((select array_agg(a.attname::text order by a.attnum) from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    where i.indrelid = c.oid and case c.relreplident when 'i' then i.indisreplident when 'd' then i.indisprimary else false end), '{}')
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";
const PAUSE: Duration = Duration::from_millis(20);

struct Slot {
    is_ours: bool,
    status: Option<String>,
    confirmed: Option<i64>,
    kept: Option<i64>,
    safe: Option<i64>,
}

impl Capture {
    pub(super) async fn start_slot(
        &self,
        client: &mut Client,
        term: &Term,
        tables: &[TableName],
        bound: Duration,
    ) -> Result<(), CaptureError> {
        self.publish(client, term, tables).await?;
        self.create_slot(client, bound).await?;
        self.outlast_older_transactions(client, bound).await?;
        self.note_start(client, term).await
    }

    pub(super) async fn slot_standing(
        &self,
        client: &impl GenericClient,
        noted: Option<Noted>,
    ) -> Result<CaptureStanding, CaptureError> {
        let slot = self.slot(client).await?;
        let row = client.query_one(HAS_PUBLICATION, &[&self.name()]).await.map_err(self.server("read publications"))?;
        Ok(self.judge_slot(noted, slot, row.get(0)))
    }

    fn judge_slot(&self, noted: Option<Noted>, slot: Option<Slot>, published: bool) -> CaptureStanding {
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
                method: CaptureMethod::Slot,
                name: self.name(),
                nonce: noted.nonce,
                start: noted.skip.unwrap_or(start).max(start).cast_unsigned(),
                relations: noted.relations,
                logged: Logged::new(),
            }),
        }
    }

    pub(super) async fn stop_slot(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        self.give_slot_up(client, term).await?;
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        let drop = format!("drop publication if exists {}", ident(&self.name()));
        transaction.batch_execute(&drop).await.map_err(self.server("drop the publication"))?;
        transaction.commit().await.map_err(self.server("drop the publication"))
    }

    /// Drops the slot and nothing else, so that the log is free at once.
    pub(super) async fn give_slot_up(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        transaction.commit().await.map_err(self.server("hold the term"))?;
        self.drop_slot(client).await
    }

    pub(super) async fn slot_kept(&self, client: &impl GenericClient) -> Result<Kept, CaptureError> {
        let slot = self.slot(client).await?;
        let lost = match slot.as_ref().map(|slot| slot.status.as_deref()) {
            None => Some("the slot is gone"),
            Some(None | Some("lost")) => {
                Some("the server has removed the log that the slot needed (max_slot_wal_keep_size)")
            }
            Some(Some(_)) => None,
        };
        Ok(Kept {
            method: CaptureMethod::Slot,
            bytes: slot.as_ref().and_then(|slot| slot.kept).unwrap_or(0).max(0).cast_unsigned(),
            lost: lost.map(str::to_owned),
            safe_bytes: slot.and_then(|slot| slot.safe).map(|safe| safe.max(0).cast_unsigned()),
        })
    }

    /// Publication and row, in one transaction, before there is a slot. A slot that was left without our finishing it is dropped.
    async fn publish(&self, client: &mut Client, term: &Term, tables: &[TableName]) -> Result<(), CaptureError> {
        self.drop_slot(client).await?;
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        self.note(&transaction, tables, &Logged::new()).await?;
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
}
