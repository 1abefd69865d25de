//! A trigger log as the list of changes: read in the batch's own snapshot, let go by that snapshot.
//!
//! What the snapshot sees of the log is what it sees of the tables, since a row and its logged key are one transaction's; so nothing has
//! to be left behind. The mark is a number on the source that is raised by a commit which is flushed, after the snapshot and before the
//! target's commit: what the target holds was flushed before, and a source that does not know the number has lost some of it.

use super::{At, Ended, Mark, Near, Page};
use crate::database::capture::{Capture, CaptureStanding, Captured, Logged, NONCE_RELATION, let_go};
use crate::database::changes::{CapturedTable, ChangesError, Key};
use crate::database::level::LevelError;
use crate::database::pgoutput::{DecodeError, Lsn};
use crate::database::snapshot::Snapshot;
use crate::plan::Side;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio_postgres::{Client, Portal, Row, Transaction};
use uuid::Uuid;

const MARK: &str = "update cutover.capture set mark = mark + 1 where run = $1 and nonce = $2 returning mark";
const MARKED: &str = "select mark from cutover.capture where run = $1 and nonce = $2";
/// Whether the snapshot sees the log that was made, and how many commits it sees there.
const SEEN: &str = "select count(*) filter (where relation = 0 and key = array[$1::text]) = 1, count(distinct xid) filter (where relation <> 0)
from cutover.touched";
const KEYS: &str = "select relation, key from cutover.touched where relation <> 0";
const SIZE: &str = "select pg_total_relation_size('cutover.touched')";
/// A shorter log is read in a few milliseconds, consumed rows or not.
const LEAST_SIZE: i64 = 4 << 20;
/// Longest vacuum of the log between two batches; one that is cut short has still freed something.
const PATIENCE: Duration = Duration::from_secs(20);

/// Places of a logged key that make a table's key, by the relation's oid; none for a table without interest.
type Places = HashMap<u32, Option<(usize, Vec<usize>)>>;

/// One trigger log.
pub(in crate::database::level) struct LogList {
    capture: Capture,
    nonce: Uuid,
    logged: Logged,
}

/// What a snapshot sees of the log, as it is read.
pub(in crate::database::level) struct LogReading<'a> {
    side: Side,
    source: &'a Transaction<'a>,
    portal: Portal,
    tables: Places,
    names: &'a [CapturedTable],
    page_keys: usize,
    ended: Ended,
}

impl LogList {
    pub(super) fn of(capture: Capture, captured: &Captured) -> Self {
        Self { capture, nonce: captured.nonce, logged: captured.logged.clone() }
    }

    fn on_source(&self, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> LevelError + use<> {
        LevelError::on(self.capture.side, what)
    }

    /// The log must be the one that was made, by triggers that were never off, on a server that has lost nothing of what the target holds.
    pub(super) async fn require(&self, client: &Client, position: Lsn) -> Result<(), LevelError> {
        let lost = |why: String| Err(LevelError::LostSlot { why });
        match self.capture.verify(client).await? {
            CaptureStanding::Present(captured) if captured.nonce == self.nonce => {}
            CaptureStanding::Present(_) => return lost("the trigger log was made anew".to_owned()),
            CaptureStanding::Lost(why) | CaptureStanding::Foreign(why) => return lost(why),
            CaptureStanding::Absent | CaptureStanding::Partial => return lost("the trigger log is gone".to_owned()),
        }
        let row = client.query_opt(MARKED, &[&self.capture.run, &self.nonce]).await;
        let row = row.map_err(self.on_source("read the log's mark"))?;
        let marked = row.map_or(0, |row| row.get::<_, i64>(0)).cast_unsigned();
        if marked < position {
            return lost(format!(
                "the source knows mark {marked} and the target has stored {position}: the source was restored or failed over"
            ));
        }
        Ok(())
    }

    /// The session commits with `synchronous_commit` on, so all that a snapshot taken before sees is flushed.
    pub(super) async fn mark(&self, client: &Client) -> Result<Mark, LevelError> {
        let row = client.query_opt(MARK, &[&self.capture.run, &self.nonce]).await;
        let row = row.map_err(self.on_source("commit the mark"))?;
        let row = row.ok_or_else(|| LevelError::LostSlot { why: "the capture's own row is gone".to_owned() })?;
        Ok(Mark::Number(row.get::<_, i64>(0).cast_unsigned()))
    }

    pub(super) async fn read<'a>(&self, at: At<'a>, mark: Lsn) -> Result<LogReading<'a>, LevelError> {
        let tables = places(&self.logged, at.tables, at.ignored)?;
        let seen = at.source.query_one(SEEN, &[&self.nonce.to_string()]).await;
        let seen = seen.map_err(self.on_source("read the log of touched keys"))?;
        if !seen.get::<_, bool>(0) {
            return Err(LevelError::LostSlot { why: "the log of touched keys was emptied or made anew".to_owned() });
        }
        let portal = at.source.bind(KEYS, &[]).await.map_err(self.on_source("read the log of touched keys"))?;
        let commits = seen.get::<_, i64>(1).cast_unsigned();
        let ended = Ended { position: Some(mark), commits, ..Ended::default() };
        let (source, names, page_keys) = (at.source, at.tables, at.page_keys);
        Ok(LogReading { side: self.capture.side, source, portal, tables, names, page_keys, ended })
    }

    pub(super) async fn consume(&self, client: &Client, snapshot: &Snapshot) -> Result<u64, LevelError> {
        let left = let_go(client, &snapshot.to_string()).await;
        left.map_err(self.on_source("let go what was consumed"))
    }

    /// Takes consumed rows out of the log's way: every batch reads the log from end to end, and they stay there until a vacuum. A transaction
    /// that has been open for long hinders it, as it hinders every vacuum.
    pub(super) async fn draw_near(&self, client: &Client, limit: Duration) -> Near {
        let size = async || client.query_one(SIZE, &[]).await.map_or(0, |row| row.get::<_, i64>(0));
        let before = size().await;
        if before < LEAST_SIZE {
            return Near::Already;
        }
        if let Err(error) = self.vacuum(client, limit).await {
            tracing::debug!(%error, before, "the log of touched keys was not vacuumed");
        }
        if size().await <= before / 2 { Near::Drawn } else { Near::Hindered }
    }

    async fn vacuum(&self, client: &Client, limit: Duration) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&format!("set statement_timeout = {}", PATIENCE.as_millis())).await?;
        let done = client.batch_execute("vacuum (skip_locked) cutover.touched").await;
        client.batch_execute(&format!("set statement_timeout = {}", limit.as_millis())).await?;
        done
    }
}

/// Where the key columns of each captured table stand in what is logged of it.
fn places(logged: &Logged, tables: &[CapturedTable], ignored: &[String]) -> Result<Places, LevelError> {
    let mut places: Places = ignored.iter().filter_map(|name| Some((logged.get(name)?.oid, None))).collect();
    for (place, table) in tables.iter().enumerate() {
        let name = table.name.to_string();
        let Some(found) = logged.get(&name) else {
            return Err(LevelError::LostSlot { why: format!("{name} is mapped and was not captured") });
        };
        let position = |column: &String| {
            let found = found.key.iter().position(|logged| logged == column);
            found.ok_or_else(|| ChangesError::IdentityChanged { table: name.clone(), column: column.clone() })
        };
        let positions = table.key.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        places.insert(found.oid, Some((place, positions)));
    }
    Ok(places)
}

impl LogReading<'_> {
    pub(super) async fn page(&mut self) -> Result<Option<Page>, LevelError> {
        let most = i32::try_from(self.page_keys).unwrap_or(i32::MAX);
        loop {
            let rows = self.source.query_portal(&self.portal, most).await;
            let rows = rows.map_err(LevelError::on(self.side, "read the log of touched keys"))?;
            let mut keys: HashMap<usize, HashSet<Key>> = HashMap::new();
            for row in &rows {
                if let Some((place, key)) = self.key(row)? {
                    keys.entry(place).or_default().insert(key);
                }
            }
            if !keys.is_empty() {
                return Ok(Some(keys.into_iter().map(|(place, keys)| (place, keys.into_iter().collect())).collect()));
            }
            if rows.len() < self.page_keys {
                return Ok(None);
            }
        }
    }

    /// One logged row's key; none when it says nothing to us, or that every key was touched.
    fn key(&mut self, row: &Row) -> Result<Option<(usize, Key)>, LevelError> {
        let (relation, key): (u32, Option<Vec<Option<String>>>) = (row.get(0), row.get(1));
        debug_assert_ne!(relation, NONCE_RELATION);
        let unknown = || ChangesError::UnknownTable { table: format!("the relation with oid {relation}") };
        let Some((place, positions)) = self.tables.get(&relation).ok_or_else(unknown)? else { return Ok(None) };
        let Some(key) = key else {
            self.ended.emptied.insert(*place);
            return Ok(None);
        };
        let keyless = || DecodeError::Keyless { table: self.names[*place].name.to_string() };
        let key = positions.iter().map(|at| key.get(*at).cloned().flatten().ok_or_else(keyless));
        let key = key.collect::<Result<Key, _>>().map_err(ChangesError::from)?;
        Ok(Some((*place, key)))
    }

    pub(super) fn ended(self) -> Ended {
        self.ended
    }
}
