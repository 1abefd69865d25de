//! A logical slot as the list of changes: a marker in the log, the changes before it, the slot's position.
//!
//! Its restart position is kept near the end of the log, since every call of the slot reads from there. It only follows the server's
//! notes of who is running, which are written every fifteen seconds; making a logical slot writes three of them at once, also one that
//! is dropped in the next statement. It waits for every writer under way, so it is bounded, and never done while clients are held.

use super::{At, Ended, Mark, Near, Page};
use crate::database::capture::Captured;
use crate::database::changes::{ChangeReader, MARKER_PREFIX};
use crate::database::level::LevelError;
use crate::database::pgoutput::Lsn;
use crate::database::sql::literal;
use crate::plan::Side;
use futures_util::TryStreamExt;
use std::pin::Pin;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, RowStream};
use uuid::Uuid;

const SLOT: &str = "select (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, wal_status = 'lost',
  (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
from pg_replication_slots where slot_name = $1 and database = current_database() and plugin = 'pgoutput'";
const MARK: &str = "select pg_logical_emit_message(true, $1, $2::text)";
const PEEK: &str = "select data from pg_logical_slot_peek_binary_changes($1, null, null, variadic $2::text[])";
const ADVANCE: &str = "select pg_replication_slot_advance($1, '0/0'::pg_lsn + $2::bigint::numeric)";
const BEHIND: &str = "select (pg_current_wal_lsn() - ('0/0'::pg_lsn + $1::bigint::numeric))::bigint";
const TRAIL: &str =
    "select coalesce((pg_current_wal_lsn() - restart_lsn)::bigint, 0) from pg_replication_slots where slot_name = $1";
/// A shorter trail is read in a few milliseconds.
const LEAST_TRAIL: i64 = 1 << 20;
/// Longest wait for writers under way; behind one that stays open for long the position cannot move anyway.
const PATIENCE: Duration = Duration::from_millis(250);

/// One slot.
pub(in crate::database::level) struct SlotList {
    side: Side,
    name: String,
}

/// The slot's changes, as they come.
pub(in crate::database::level) struct SlotReading<'a> {
    side: Side,
    list: Pin<Box<RowStream>>,
    reader: ChangeReader<'a>,
    page_keys: usize,
}

impl SlotList {
    pub(super) fn of(captured: &Captured) -> Self {
        Self { side: captured.side, name: captured.name.clone() }
    }

    fn on_source(&self, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> LevelError + use<> {
        LevelError::on(self.side, what)
    }

    /// The slot must not stand beyond what the target has stored, and the source must not have gone back behind it.
    pub(super) async fn require(&self, client: &Client, position: Lsn) -> Result<(), LevelError> {
        let row = client.query_opt(SLOT, &[&self.name]).await.map_err(self.on_source("read the slot"))?;
        let lost = |why: &str| Err(LevelError::LostSlot { why: why.to_owned() });
        let Some(row) = row else { return lost("the slot is gone") };
        let (confirmed, is_lost): (i64, Option<bool>) = (row.get(0), row.get(1));
        let end: i64 = row.get(2);
        if is_lost == Some(true) {
            lost("the slot's write-ahead log was removed")
        } else if confirmed.cast_unsigned() > position {
            lost("the slot stands beyond what the target has stored")
        } else if end.cast_unsigned() < position {
            lost("the source's log ends before what the target has stored: the source was restored or failed over")
        } else {
            // A slot's position is not durable at once: after a crash, and at the beginning, it stands before what is stored.
            self.consume(client, position).await.map(drop)
        }
    }

    pub(super) async fn mark(&self, client: &Client) -> Result<Mark, LevelError> {
        let content = Uuid::new_v4().to_string();
        let marked = client.execute(MARK, &[&MARKER_PREFIX, &content]).await;
        marked.map_err(self.on_source("commit the marker"))?;
        Ok(Mark::Message(content))
    }

    pub(super) async fn read<'a>(&self, at: At<'a>, marker: &'a str) -> Result<SlotReading<'a>, LevelError> {
        let options = ["proto_version", "1", "publication_names", &self.name, "messages", "true"];
        let options: Vec<String> = options.map(str::to_owned).to_vec();
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.name, &options];
        let list = at.client.query_raw(PEEK, parameters).await.map_err(LevelError::reading_slot(self.side))?;
        let reader = ChangeReader::new(at.tables, at.snapshot.clone(), marker.as_bytes()).ignoring(at.ignored);
        Ok(SlotReading { side: self.side, list: Box::pin(list), reader, page_keys: at.page_keys })
    }

    /// Moves the slot to `position`, unless it stands there; gives the bytes still behind it.
    pub(super) async fn consume(&self, client: &Client, position: Lsn) -> Result<u64, LevelError> {
        let row = client.query_opt(SLOT, &[&self.name]).await.map_err(self.on_source("read the slot"))?;
        if row.is_some_and(|row| row.get::<_, i64>(0).cast_unsigned() < position) {
            let advanced = client.execute(ADVANCE, &[&self.name, &position.cast_signed()]).await;
            advanced.map_err(LevelError::reading_slot(self.side))?;
        }
        let behind = client.query_one(BEHIND, &[&position.cast_signed()]).await;
        let behind: i64 = behind.map_err(self.on_source("measure the lag"))?.get(0);
        Ok(behind.max(0).cast_unsigned())
    }

    /// Draws the restart position near when it trails. What hinders it (a writer open for long, no free slot) only leaves the calls slower.
    pub(super) async fn draw_near(&self, client: &Client, limit: Duration) -> Near {
        let trail = match client.query_opt(TRAIL, &[&self.name]).await {
            Ok(row) => row.map_or(0, |row| row.get::<_, i64>(0)),
            Err(_) => return Near::Already,
        };
        if trail < LEAST_TRAIL {
            return Near::Already;
        }
        match self.make_notes(client, limit).await {
            Ok(()) => Near::Drawn,
            Err(error) => {
                tracing::debug!(%error, trail, "the slot's restart position stays where it is");
                Near::Hindered
            }
        }
    }

    async fn make_notes(&self, client: &Client, limit: Duration) -> Result<(), tokio_postgres::Error> {
        let name = literal(&format!("{}_near", self.name));
        client.batch_execute(&format!("set statement_timeout = {}", PATIENCE.as_millis())).await?;
        let make = format!("select pg_create_logical_replication_slot({name}, 'pgoutput', true)");
        let made = client.execute(&make, &[]).await;
        client.batch_execute(&format!("set statement_timeout = {}", limit.as_millis())).await?;
        made?;
        client.execute(&format!("select pg_drop_replication_slot({name})"), &[]).await.map(drop)
    }
}

impl SlotReading<'_> {
    pub(super) async fn page(&mut self) -> Result<Option<Page>, LevelError> {
        while !self.reader.done {
            let row = self.list.try_next().await.map_err(LevelError::reading_slot(self.side))?;
            self.reader.feed(row.ok_or(LevelError::NoMarker)?.get(0))?;
            if self.reader.waiting() >= self.page_keys {
                break;
            }
        }
        let page = self.reader.take_keys();
        Ok((!page.is_empty()).then_some(page))
    }

    pub(super) fn ended(self) -> Ended {
        let ChangeReader { consumed_end, commits, left, emptied, .. } = self.reader;
        Ended { position: consumed_end, commits, left, emptied }
    }
}
