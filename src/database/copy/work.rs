//! The workers of a copy: each takes the next chunk, counts it, streams it, and commits rows and note together.

use super::chunks::Blocks;
use super::exported::ExportedSnapshot;
use super::format::{self, Form};
use super::idle::Idle;
use super::noted::{self, Chunks, Done};
use super::pace::{Rate, Signal, may_go};
use super::watch::{self, Held};
use super::{CopyError, CopyOptions, CopyProgress, CopyTold, count_source, green_name};
use crate::database::client::connect;
use crate::database::mapping::{Mapping, TableMapping};
use crate::database::sql::ident;
use crate::database::term::hold;
use crate::plan::TableName;
use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt, TryStreamExt};
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::watch::Sender;
use tokio_postgres::{Client, Transaction};

/// Rows come without green's triggers and cascades; commits need not reach the disk one by one, because `SETTLE` comes last.
const LOAD: &str = "set session_replication_role = replica; set synchronous_commit = off; set statement_timeout = 0";
/// Bytes that are gathered before they are handed to green, and of a large row handed on at a time.
const GATHERED: usize = 64 * 1024;

/// One chunk to copy.
pub(super) struct Piece<'a> {
    pub(super) table: &'a TableMapping,
    pub(super) blocks: Blocks,
    pub(super) form: Form,
    /// The file whose blocks they are.
    pub(super) file: String,
    /// Blocks of blue that it reads.
    pub(super) cost: i64,
}

impl Piece<'_> {
    /// The select and the count of its rows.
    fn sql(&self) -> (String, String) {
        let driver = self.table.driven_by.as_ref().map(|table| ident(&table.name));
        match driver.and_then(|alias| self.blocks.predicate(&alias)) {
            Some(predicate) => self.table.within(&predicate),
            None => (self.table.select.clone(), self.table.count_sql.clone()),
        }
    }
}

/// A copy under way.
pub(super) struct Job<'a> {
    options: &'a CopyOptions<'a>,
    snapshot: &'a ExportedSnapshot,
    pieces: Vec<Piece<'a>>,
    next: AtomicUsize,
    chunks: usize,
    chunks_done: AtomicUsize,
    rows: AtomicU64,
    rows_expected: u64,
    bytes: AtomicU64,
    rate: Rate,
    signal: Sender<Signal>,
    held: Held,
    idle: &'a Idle,
    tell: &'a (dyn Fn(CopyTold<'_>) + Sync),
}

impl<'a> Job<'a> {
    pub(super) fn new(
        options: &'a CopyOptions<'a>,
        snapshot: &'a ExportedSnapshot,
        noted: &BTreeMap<TableName, Chunks>,
        mapping: &Mapping,
        pieces: Vec<Piece<'a>>,
        idle: &'a Idle,
        tell: &'a (dyn Fn(CopyTold<'_>) + Sync),
    ) -> Self {
        let chunks: usize = noted.values().map(|chunks| chunks.0.len()).sum();
        let rows = noted.iter().map(|(table, chunks)| chunks.copied(table).rows).sum();
        Self {
            options,
            snapshot,
            next: AtomicUsize::new(0),
            chunks,
            chunks_done: AtomicUsize::new(chunks - pieces.len()),
            rows: AtomicU64::new(rows),
            rows_expected: mapping.tables.iter().map(|table| table.estimated_rows).sum(),
            bytes: AtomicU64::new(0),
            rate: Rate::new(options.throttle.rate_bytes),
            signal: Sender::default(),
            held: Held::default(),
            pieces,
            idle,
            tell,
        }
    }

    /// Copies the pieces; the reason when some were left, because the snapshot must go.
    pub(super) async fn run(&self) -> Result<Option<String>, CopyError> {
        let workers = self.options.workers.clamp(1, self.pieces.len().max(1));
        let all = futures_util::future::try_join_all((0..workers).map(|_| self.work()));
        let watched =
            watch::watch(self.options.blue, self.options.source(), self.options.throttle, &self.held, &self.signal);
        tokio::select! {
            left = all => Ok(left?.into_iter().flatten().next()),
            ended = watched => ended.map(|()| None),
        }
    }

    async fn work(&self) -> Result<Option<String>, CopyError> {
        let mut blue = connect(self.options.source(), "blue").await?;
        let mut green = connect(self.options.green, "green").await?;
        green.batch_execute(LOAD).await.map_err(CopyError::server("prepare a load of", "green"))?;
        let source = self.snapshot.look(&mut blue).await?;
        let mut signal = self.signal.subscribe();
        while self.next.load(Ordering::Relaxed) < self.pieces.len() {
            if let Err(why) = may_go(&mut signal).await {
                return Ok(Some(why));
            }
            let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let bound = self.options.bound;
            let one = tokio::time::timeout(bound, self.piece(&source, &mut green, piece)).await;
            let expired = |_| CopyError::Expired { table: piece.table.target.clone(), bound_s: bound.as_secs() };
            one.map_err(expired)??;
            self.chunks_done.fetch_add(1, Ordering::Relaxed);
            self.idle.copied(&piece.table.target);
            self.tell(&piece.table.target);
        }
        self.idle.one_more();
        Ok(None)
    }

    /// One chunk: that it is begun is committed first, then its rows together with what came of it.
    async fn piece(&self, source: &Transaction<'_>, green: &mut Client, piece: &Piece<'_>) -> Result<(), CopyError> {
        let table = &piece.table.target;
        let failed = CopyError::server("copy", table);
        let begun = green.transaction().await.map_err(&failed)?;
        hold(&begun, &self.options.term).await?;
        noted::begin(&begun, table, piece.blocks).await.map_err(&failed)?;
        begun.commit().await.map_err(&failed)?;

        let (select, count_sql) = piece.sql();
        // Without a rule nothing is left behind, and what the snapshot holds is what it gives: it need not be read twice.
        let counted = match piece.table.cleanup.is_empty() {
            true => None,
            false => Some(count_source(source, piece.table, &count_sql).await?),
        };
        let target = green.transaction().await.map_err(&failed)?;
        hold(&target, &self.options.term).await?;
        let (read, rows) = self.stream(source, &target, piece, &select).await?;
        let (source_rows, cleaned) = counted.unwrap_or((read, Vec::new()));
        let left: u64 = cleaned.iter().map(|(_, rows)| rows).sum();
        if rows + left != source_rows {
            return Err(CopyError::Miscounted { table: table.clone(), rows, source_rows, cleaned: left });
        }
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let done = Done {
            rows: signed(rows),
            source_rows: signed(source_rows),
            cleaned,
            snapshot: self.snapshot.moment.to_string(),
            file: piece.file.clone(),
        };
        if !noted::done(&target, table, piece.blocks, &done).await.map_err(&failed)? {
            return Err(CopyError::Twice { table: table.clone() });
        }
        target.commit().await.map_err(&failed)
    }

    /// Streams rows from blue to green; gives the number that blue gave, and the number that green received.
    async fn stream(
        &self,
        source: &Transaction<'_>,
        target: &Transaction<'_>,
        piece: &Piece<'_>,
        select: &str,
    ) -> Result<(u64, u64), CopyError> {
        let (table, form) = (piece.table, piece.form);
        let read = CopyError::server("read", format!("the rows of {}", table.target));
        let write = CopyError::server("write", &table.target);
        let into = format!("copy {} ({}) from stdin{form}", green_name(table), column_list(table));
        let mut rows = pin!(source.copy_out(&format!("copy ({select}) to stdout{form}")).await.map_err(&read)?);
        let mut sink = pin!(target.copy_in::<_, Bytes>(&into).await.map_err(&write)?);
        let (mut gathered, mut rows_in_it, mut given) = (BytesMut::with_capacity(GATHERED), 0, 0);
        while let Some(row) = rows.try_next().await.map_err(&read)? {
            let is_row = u64::from(format::is_row(form, &row));
            (rows_in_it, given) = (rows_in_it + is_row, given + is_row);
            if row.len() < GATHERED {
                gathered.extend_from_slice(&row);
            }
            if gathered.len() >= GATHERED || row.len() >= GATHERED {
                self.sent(&table.target, rows_in_it, gathered.len()).await;
                rows_in_it = 0;
                sink.send(gathered.split().freeze()).await.map_err(&write)?;
            }
            if row.len() >= GATHERED {
                self.sent(&table.target, 0, row.len()).await;
                send_large(sink.as_mut(), row).await.map_err(&write)?;
            }
        }
        self.sent(&table.target, rows_in_it, gathered.len()).await;
        sink.send(gathered.freeze()).await.map_err(&write)?;
        let received = sink.finish().await.map_err(&write)?;
        Ok((given, received))
    }

    /// Counts what is handed to green, and waits until the plan's rate allows it.
    async fn sent(&self, table: &TableName, rows: u64, bytes: usize) {
        self.rate.take(bytes).await;
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.tell(table);
    }

    fn tell(&self, table: &TableName) {
        let rows = self.rows.load(Ordering::Relaxed);
        let signal = self.signal.borrow().clone();
        let waits = match &signal {
            Signal::Go => None,
            Signal::Wait(why) | Signal::Leave(why) => Some(why.as_str()),
        };
        (self.tell)(CopyTold::Rows(CopyProgress {
            waits,
            snapshot_s: self.held.age_s.load(Ordering::Relaxed),
            horizon_xids: self.held.xids.load(Ordering::Relaxed),
            table,
            rows,
            rows_expected: self.rows_expected.max(rows),
            bytes: self.bytes.load(Ordering::Relaxed),
            chunks_done: self.chunks_done.load(Ordering::Relaxed),
            chunks: self.chunks,
        }));
    }
}

/// A row of many megabytes is handed on in slices, so that it is held once and not once more for sending.
async fn send_large<S>(mut sink: Pin<&mut S>, mut row: Bytes) -> Result<(), S::Error>
where
    S: Sink<Bytes>,
{
    while !row.is_empty() {
        let slice = row.split_to(row.len().min(GATHERED));
        sink.as_mut().send(slice).await?;
    }
    Ok(())
}

/// The carried columns, in the mapping's order.
pub(super) fn column_list(table: &TableMapping) -> String {
    table.columns.iter().map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ")
}
