//! The bulk copy: every carried table through its mapping, from one snapshot of blue, in parallel, straight into green.
//!
//! Owns the exported snapshot, the workers and the table `cutover.copied`, in which each table's counts are committed together with
//! its rows. All tables share one snapshot, so a copy that was interrupted starts over with a new one. May call `mapping`, `term` and
//! `client`. Never writes after the first level batch: the caller's order sees to that.

use super::client::{ConnectError, connect};
use super::mapping::{Cleanup, Mapping, TableMapping};
use super::sql::{ident, literal, qualified};
use super::term::{Term, TermError, hold};
use crate::plan::{Secret, TableName};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Transaction};

const CREATE: &str = "create table if not exists cutover.copied (
  green_table text primary key,
  rows bigint not null,
  source_rows bigint not null,
  cleaned bigint not null,
  cleaned_by_rule jsonb not null default '[]')";
const EXISTS: &str = "select to_regclass('cutover.copied') is not null";
const READ: &str = "select green_table, rows, source_rows, cleaned_by_rule from cutover.copied order by green_table";
const NOTE: &str = "insert into cutover.copied (green_table, rows, source_rows, cleaned, cleaned_by_rule)
values ($1, $2, $3, $4, $5)";
/// A commit that waits for the disk makes every earlier commit durable too: the log has one order.
const SETTLE: &str = "set synchronous_commit = on; update cutover.copied set rows = rows";
/// Rows come without green's triggers and cascades; commits need not reach the disk one by one, because `SETTLE` comes last.
const LOAD: &str = "set session_replication_role = replica; set synchronous_commit = off; set statement_timeout = 0";
/// Bytes that are gathered before they are handed to green.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long emptying green's tables waits for a copy that was cut off and still holds them.
const EMPTY_PATIENCE: &str = "30s";

/// Why rows could not be copied. What is committed is listed in `cutover.copied`; a new copy begins by emptying the tables.
#[derive(Debug, Error)]
pub enum CopyError {
    /// No connection; nothing was changed by it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process has taken over; the table under way was rolled back.
    #[error(transparent)]
    Term(#[from] TermError),
    /// A server refused, or the connection broke; the table under way was rolled back.
    #[error("{act} {object}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// On what.
        object: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A cleanup rule would leave more rows behind than it may; nothing of this table was copied.
    #[error(
        "cleanup rule {rule} would leave {rows} of {source_rows} rows of {table} behind, its cap is {cap_rows} rows and {cap_percent} %; \
         look with cutover cleanup preview PLAN, then correct the rule or its cap"
    )]
    OverCap {
        /// The green table.
        table: TableName,
        /// The rule.
        rule: String,
        /// Rows it would leave behind.
        rows: u64,
        /// Rows without cleanup.
        source_rows: u64,
        /// Its cap in rows.
        cap_rows: u64,
        /// Its cap in per cent.
        cap_percent: f64,
    },
    /// The copy did not move as many rows as the same snapshot counted; the table was rolled back.
    #[error(
        "copy {table}: {rows} rows moved, but blue's snapshot holds {source_rows} of which {cleaned} are left behind"
    )]
    Miscounted {
        /// The green table.
        table: TableName,
        /// Rows that were moved.
        rows: u64,
        /// Rows without cleanup.
        source_rows: u64,
        /// Rows left behind by rules.
        cleaned: u64,
    },
    /// The plan's bound for one table has passed; the table was rolled back.
    #[error("copy {table}: not done within {bound_s} s; raise `window.copy`, or give the copy more workers")]
    Expired {
        /// The green table.
        table: TableName,
        /// The bound, in seconds.
        bound_s: u64,
    },
}

impl CopyError {
    /// Whether a rule of the plan said no, so that trying again changes nothing.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::OverCap { .. })
    }

    fn server(act: &'static str, object: impl ToString) -> impl Fn(tokio_postgres::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Server { act, object: object.clone(), source }
    }
}

/// What a copy needs besides the mapping.
#[derive(Debug, Clone)]
pub struct CopyOptions<'a> {
    /// Our login on blue.
    pub blue: &'a Secret,
    /// Our login on green.
    pub green: &'a Secret,
    /// The term in which we act.
    pub term: Term,
    /// Tables copied at a time.
    pub workers: usize,
    /// Bound on one table.
    pub table_bound: Duration,
}

/// What came of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The green table.
    pub table: TableName,
    /// Rows that green received.
    pub rows: u64,
    /// Rows that the mapping gives without cleanup, counted in the copy's snapshot.
    pub source_rows: u64,
    /// Rows left behind, by rule, in the order of the plan.
    pub cleaned: Vec<(String, u64)>,
}

impl Copied {
    /// Rows left behind by all rules.
    #[must_use]
    pub fn cleaned_rows(&self) -> u64 {
        self.cleaned.iter().map(|(_, rows)| rows).sum()
    }
}

/// How far a copy is; told at most every few thousand rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress<'a> {
    /// The table that moved last.
    pub table: &'a TableName,
    /// Rows sent so far, of all tables.
    pub rows: u64,
    /// Rows there are, by blue's estimate until a table has been counted.
    pub rows_expected: u64,
    /// Bytes sent so far, of all tables.
    pub bytes: u64,
    /// Tables that stand.
    pub tables_done: usize,
    /// Tables there are.
    pub tables: usize,
}

/// A snapshot of a database that other connections can look through; it lasts as long as this value.
pub struct ExportedSnapshot {
    id: String,
    /// Keeps the exporting transaction open.
    _client: Client,
}

impl ExportedSnapshot {
    /// Opens a transaction on a connection of its own and exports its snapshot. The capture's slot must be older.
    ///
    /// # Errors
    /// When the server does not answer or refuses; nothing was changed.
    pub async fn export(url: &Secret, what: &str) -> Result<Self, CopyError> {
        let client = connect(url, what).await?;
        let failed = CopyError::server("export a snapshot of", what);
        let begin = "set idle_in_transaction_session_timeout = 0; begin isolation level repeatable read, read only";
        client.batch_execute(begin).await.map_err(&failed)?;
        let row = client.query_one("select pg_export_snapshot()", &[]).await.map_err(&failed)?;
        Ok(Self { id: row.get(0), _client: client })
    }

    /// The name by which another connection to the same database takes it over.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A read-only transaction that sees what the snapshot sees.
    ///
    /// # Errors
    /// When the server refuses, for one because the exporting transaction has ended.
    pub async fn look<'c>(&self, client: &'c mut Client) -> Result<Transaction<'c>, CopyError> {
        let failed = CopyError::server("look through", "blue's snapshot");
        let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = begin.start().await.map_err(&failed)?;
        let take = format!("set transaction snapshot {}", literal(&self.id));
        transaction.batch_execute(&take).await.map_err(&failed)?;
        Ok(transaction)
    }
}

/// Copies every table of the mapping, whatever stood in green's tables before, and says what came of each.
///
/// The caller has removed foreign keys that start or end at a carried table, and has made the slot before. `tell` is called often.
///
/// # Errors
/// The first table that could not be copied; tables under way are rolled back, the ones that stand are emptied by the next copy.
pub async fn copy(
    options: &CopyOptions<'_>,
    mapping: &Mapping,
    tell: &(dyn Fn(CopyProgress<'_>) + Sync),
) -> Result<Vec<Copied>, CopyError> {
    let mut green = connect(options.green, "green").await?;
    empty(&mut green, &options.term, mapping).await?;
    let snapshot = ExportedSnapshot::export(options.blue, "blue").await?;
    let mut tables: Vec<&TableMapping> = mapping.tables.iter().collect();
    tables.sort_by_key(|table| std::cmp::Reverse(table.estimated_rows));
    let job = Job {
        options,
        snapshot: &snapshot,
        tables: &tables,
        next: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        rows: AtomicU64::new(0),
        rows_expected: AtomicU64::new(tables.iter().map(|table| table.estimated_rows).sum()),
        bytes: AtomicU64::new(0),
        tell,
    };
    let workers = options.workers.clamp(1, tables.len().max(1));
    let copied = futures_util::future::try_join_all((0..workers).map(|_| job.work())).await?;
    green.batch_execute(SETTLE).await.map_err(CopyError::server("settle", "the copied rows"))?;
    let mut copied: Vec<Copied> = copied.into_iter().flatten().collect();
    copied.sort_by(|one, other| one.table.cmp(&other.table));
    Ok(copied)
}

/// Empties every carried table of green and forgets what was copied, in one transaction. Also the undo of [`copy`].
///
/// # Errors
/// When another process took over or the server refuses; nothing was changed.
pub async fn empty(green: &mut Client, term: &Term, mapping: &Mapping) -> Result<(), CopyError> {
    let failed = CopyError::server("empty", "green's carried tables");
    let transaction = green.transaction().await.map_err(&failed)?;
    hold(&transaction, term).await?;
    let patience = format!("set local lock_timeout = {}", literal(EMPTY_PATIENCE));
    transaction.batch_execute(&patience).await.map_err(&failed)?;
    if !mapping.tables.is_empty() {
        let names: Vec<String> = mapping.tables.iter().map(green_name).collect();
        transaction.batch_execute(&format!("truncate {}", names.join(", "))).await.map_err(&failed)?;
    }
    transaction.batch_execute(CREATE).await.map_err(&failed)?;
    transaction.batch_execute("delete from cutover.copied").await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)
}

/// What has been copied and committed, by table; none when no copy was begun.
///
/// # Errors
/// When the server does not answer.
pub async fn read_copied(green: &impl GenericClient) -> Result<Option<Vec<Copied>>, CopyError> {
    let failed = CopyError::server("read", "cutover.copied on green");
    let exists: bool = green.query_one(EXISTS, &[]).await.map_err(&failed)?.get(0);
    if !exists {
        return Ok(None);
    }
    let rows = green.query(READ, &[]).await.map_err(&failed)?;
    Ok(Some(rows.iter().map(copied).collect()))
}

fn copied(row: &tokio_postgres::Row) -> Copied {
    let name: String = row.get(0);
    let (schema, table) = name.split_once('.').unwrap_or(("public", &name));
    let cleaned: serde_json::Value = row.get(3);
    let pair = |pair: &serde_json::Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_u64()?));
    Copied {
        table: TableName { schema: schema.to_owned(), name: table.to_owned() },
        rows: count(row.get(1)),
        source_rows: count(row.get(2)),
        cleaned: cleaned.as_array().into_iter().flatten().filter_map(pair).collect(),
    }
}

struct Job<'a> {
    options: &'a CopyOptions<'a>,
    snapshot: &'a ExportedSnapshot,
    tables: &'a [&'a TableMapping],
    next: AtomicUsize,
    done: AtomicUsize,
    rows: AtomicU64,
    rows_expected: AtomicU64,
    bytes: AtomicU64,
    tell: &'a (dyn Fn(CopyProgress<'_>) + Sync),
}

impl Job<'_> {
    async fn work(&self) -> Result<Vec<Copied>, CopyError> {
        let mut blue = connect(self.options.blue, "blue").await?;
        let mut green = connect(self.options.green, "green").await?;
        green.batch_execute(LOAD).await.map_err(CopyError::server("prepare a load of", "green"))?;
        let source = self.snapshot.look(&mut blue).await?;
        let mut copied = Vec::new();
        while let Some(table) = self.tables.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let bound = self.options.table_bound;
            let one = tokio::time::timeout(bound, self.table(&source, &mut green, table)).await;
            let expired = |_| CopyError::Expired { table: table.target.clone(), bound_s: bound.as_secs() };
            copied.push(one.map_err(expired)??);
            self.done.fetch_add(1, Ordering::Relaxed);
            self.tell(&table.target);
        }
        Ok(copied)
    }

    /// One table: counted and judged first, then its rows and its entry in `cutover.copied` in one transaction.
    async fn table(
        &self,
        source: &Transaction<'_>,
        green: &mut Client,
        table: &TableMapping,
    ) -> Result<Copied, CopyError> {
        let (source_rows, cleaned) = count_source(source, table).await?;
        over_cap(table, source_rows, &cleaned)?;
        self.rows_expected.fetch_add(source_rows, Ordering::Relaxed);
        self.rows_expected.fetch_sub(table.estimated_rows, Ordering::Relaxed);
        let failed = CopyError::server("copy", &table.target);
        let target = green.transaction().await.map_err(&failed)?;
        hold(&target, &self.options.term).await?;
        let rows = self.stream(source, &target, table).await?;
        let copied = Copied { table: table.target.clone(), rows, source_rows, cleaned };
        if rows + copied.cleaned_rows() != source_rows {
            let cleaned = copied.cleaned_rows();
            return Err(CopyError::Miscounted { table: copied.table, rows, source_rows, cleaned });
        }
        note(&target, &copied).await.map_err(&failed)?;
        target.commit().await.map_err(&failed)?;
        Ok(copied)
    }

    async fn stream(
        &self,
        source: &Transaction<'_>,
        target: &Transaction<'_>,
        table: &TableMapping,
    ) -> Result<u64, CopyError> {
        let read = CopyError::server("read", format!("the rows of {}", table.target));
        let write = CopyError::server("write", &table.target);
        let columns: Vec<String> = table.columns.iter().map(|column| ident(&column.name)).collect();
        let into = format!("copy {} ({}) from stdin", green_name(table), columns.join(", "));
        let mut rows = pin!(source.copy_out(&format!("copy ({}) to stdout", table.select)).await.map_err(&read)?);
        let mut sink = pin!(target.copy_in::<_, Bytes>(&into).await.map_err(&write)?);
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let mut rows_in_chunk = 0;
        while let Some(row) = rows.try_next().await.map_err(&read)? {
            chunk.extend_from_slice(&row);
            rows_in_chunk += 1;
            if chunk.len() >= CHUNK_BYTES {
                self.sent(&table.target, rows_in_chunk, chunk.len());
                rows_in_chunk = 0;
                sink.send(chunk.split().freeze()).await.map_err(&write)?;
            }
        }
        self.sent(&table.target, rows_in_chunk, chunk.len());
        sink.send(chunk.freeze()).await.map_err(&write)?;
        sink.finish().await.map_err(&write)
    }

    fn sent(&self, table: &TableName, rows: u64, bytes: usize) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.tell(table);
    }

    fn tell(&self, table: &TableName) {
        let rows = self.rows.load(Ordering::Relaxed);
        (self.tell)(CopyProgress {
            table,
            rows,
            rows_expected: self.rows_expected.load(Ordering::Relaxed).max(rows),
            bytes: self.bytes.load(Ordering::Relaxed),
            tables_done: self.done.load(Ordering::Relaxed),
            tables: self.tables.len(),
        });
    }
}

/// Rows without cleanup, and rows left behind by each rule, as `client` sees blue.
pub(super) async fn count_source(
    client: &impl GenericClient,
    table: &TableMapping,
) -> Result<(u64, Vec<(String, u64)>), CopyError> {
    let failed = CopyError::server("count the source rows of", &table.target);
    let row = client.query_one(&table.count_sql, &[]).await.map_err(&failed)?;
    let by_rule = table.cleanup.iter().enumerate().map(|(place, rule)| (rule.rule.clone(), count(row.get(place + 1))));
    Ok((count(row.get(0)), by_rule.collect()))
}

/// The first rule that leaves more rows behind than it may.
fn over_cap(table: &TableMapping, source_rows: u64, cleaned: &[(String, u64)]) -> Result<(), CopyError> {
    let over = table.cleanup.iter().zip(cleaned).find(|(rule, (_, rows))| is_over_cap(rule, *rows, source_rows));
    let Some((rule, (_, rows))) = over else { return Ok(()) };
    Err(CopyError::OverCap {
        table: table.target.clone(),
        rule: rule.rule.clone(),
        rows: *rows,
        source_rows,
        cap_rows: rule.cap_rows,
        cap_percent: rule.cap_percent,
    })
}

/// Whether a rule that leaves `rows` of `source_rows` behind goes over one of its caps.
pub(super) fn is_over_cap(rule: &Cleanup, rows: u64, source_rows: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share in per cent needs no more than 52 bits")]
    let percent = if source_rows == 0 { 0.0 } else { rows as f64 * 100.0 / source_rows as f64 };
    rows > rule.cap_rows || percent > rule.cap_percent
}

async fn note(target: &Transaction<'_>, copied: &Copied) -> Result<(), tokio_postgres::Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let by_rule = serde_json::to_value(&copied.cleaned).unwrap_or_default();
    let (rows, source_rows) = (number(copied.rows), number(copied.source_rows));
    let cleaned = number(copied.cleaned_rows());
    target.execute(NOTE, &[&copied.table.to_string(), &rows, &source_rows, &cleaned, &by_rule]).await.map(|_| ())
}

fn green_name(table: &TableMapping) -> String {
    qualified(&table.target.schema, &table.target.name)
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
