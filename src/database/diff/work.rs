//! The workers of a diff: each takes the next part, has both sides sum it up at once, looks closer where they differ, and notes what it found.

use super::found::Found;
use super::merge::{Hashed, Named, merge};
use super::noted;
use super::sql::{Hash, Part, Questions};
use super::{DiffError, DiffOptions, DiffProgress};
use crate::database::client::connect;
use crate::database::copy::pace::{Signal, may_go};
use crate::database::copy::watch::{Held, watch};
use crate::database::mapping::TableMapping;
use crate::database::sql::literal;
use futures_util::{Stream, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::watch::Sender;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Row, Transaction};

/// The planner's own workers would come on top of ours, and compiling costs more than it saves. It takes every bucket for a row's own, and would
/// sort whole rows on disk to sum them up. Joins of a plan's select that are kept in memory write no files.
const QUIET: &str =
    "set max_parallel_workers_per_gather = 0; set jit = off; set enable_sort = off; set work_mem = '32MB'";

/// One part to compare.
pub(super) struct Piece<'a> {
    pub(super) table: &'a TableMapping,
    pub(super) part: Part,
    /// About how many rows the table has.
    pub(super) rows: u64,
}

impl Piece<'_> {
    /// About how long it takes, beside others: the longest goes first, so that no worker is left with it at the end.
    pub(super) fn weight(&self) -> u64 {
        weight(self.rows, is_joined(self.table)) / u64::from(self.part.of.unsigned_abs().max(1))
    }
}

/// About how long a table takes, beside others. A row that a select joins takes some six times as long as one that is read: 11.4 µs on both sides
/// together for a flow of version 2 out of four tables, 1.8 µs for a token.
pub(super) fn weight(rows: u64, is_joined: bool) -> u64 {
    rows * if is_joined { 6 } else { 1 }
}

/// Whether the source has to join its rows.
pub(super) fn is_joined(table: &TableMapping) -> bool {
    table.driven_by.is_none()
}

/// A diff under way.
pub(super) struct Job<'a> {
    options: &'a DiffOptions<'a>,
    snapshot: &'a str,
    hash: Hash,
    pieces: Vec<Piece<'a>>,
    next: AtomicUsize,
    done: AtomicU64,
    parts: u64,
    differences: AtomicU64,
    signal: Sender<Signal>,
    held: Held,
    tell: &'a (dyn Fn(DiffProgress<'_>) + Sync),
}

impl<'a> Job<'a> {
    pub(super) fn new(
        options: &'a DiffOptions<'a>,
        snapshot: &'a str,
        hash: Hash,
        pieces: Vec<Piece<'a>>,
        done: u64,
        tell: &'a (dyn Fn(DiffProgress<'_>) + Sync),
    ) -> Self {
        Self {
            options,
            snapshot,
            hash,
            next: AtomicUsize::new(0),
            done: AtomicU64::new(done),
            parts: done + pieces.len() as u64,
            differences: AtomicU64::new(0),
            pieces,
            signal: Sender::default(),
            held: Held::default(),
            tell,
        }
    }

    /// Compares the parts; the reason when some were left, because the snapshot must go.
    pub(super) async fn run(&self) -> Result<Option<String>, DiffError> {
        let workers = self.options.workers.clamp(1, self.pieces.len().max(1));
        let all = futures_util::future::try_join_all((0..workers).map(|_| self.work()));
        let (blue, throttle) = (self.options.blue, self.options.throttle);
        tokio::select! {
            left = all => Ok(left?.into_iter().flatten().next()),
            ended = watch(blue, blue, throttle, &self.held, &self.signal) => Ok(ended.map(|()| None)?),
        }
    }

    async fn work(&self) -> Result<Option<String>, DiffError> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let mut blue = connect(self.options.blue, "blue").await?;
        let mut green = connect(self.options.green, "green").await?;
        let failed = DiffError::server("prepare a diff on", "both sides");
        tokio::try_join!(blue.batch_execute(QUIET), green.batch_execute(QUIET)).map_err(failed)?;
        let source = self.look(&mut blue).await?;
        let mut signal = self.signal.subscribe();
        while self.next.load(Ordering::Relaxed) < self.pieces.len() {
            if let Err(why) = may_go(&mut signal).await {
                return Ok(Some(why));
            }
            let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let (table, bound) = (&piece.table.target, self.options.bound);
            let expired = |_| DiffError::Expired { table: table.clone(), bound_s: bound.as_secs() };
            let found =
                tokio::time::timeout(bound, self.compare(&source, &mut green, piece)).await.map_err(expired)??;
            noted::done(&mut green, &self.options.term, table, piece.part, &found).await?;
            let differences = self.differences.fetch_add(found.differences(), Ordering::Relaxed) + found.differences();
            let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
            (self.tell)(DiffProgress { table, done, parts: self.parts, differences });
        }
        Ok(None)
    }

    /// A read-only transaction that sees what the exported snapshot sees.
    async fn look<'c>(&self, blue: &'c mut Client) -> Result<Transaction<'c>, DiffError> {
        let failed = DiffError::server("look through the snapshot of", "blue");
        let begin = blue.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let source = begin.start().await.map_err(&failed)?;
        let take = format!("set transaction snapshot {}", literal(self.snapshot));
        source.batch_execute(&take).await.map_err(&failed)?;
        Ok(source)
    }

    async fn compare(
        &self,
        source: &Transaction<'_>,
        green: &mut Client,
        piece: &Piece<'_>,
    ) -> Result<Found, DiffError> {
        let (table, part) = (piece.table, piece.part);
        let on_blue = Questions::of_source(table, self.hash, part, piece.rows);
        let on_green = Questions::of_target(table, self.hash, part, piece.rows);
        // One moment of green for both questions: nobody should write it, and if somebody does the second must not contradict the first.
        let begin = green.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let target = begin.start().await.map_err(DiffError::server("read", "green"))?;
        let sums = tokio::try_join!(sums(source, &on_blue, table, "blue"), sums(&target, &on_green, table, "green"));
        let (wanted, given) = sums?;
        let mut found = Found { rows: given.values().map(|sum| sum.rows).sum(), ..Found::default() };
        let differing = differing(&wanted, &given);
        if !differing.is_empty() {
            let named = Named {
                table: &table.target,
                columns: on_green.beside_key().map(|column| column.name.as_str()).collect(),
                declared: self.options.declared.iter().filter(|one| one.table == table.target).collect(),
                most: self.options.listed,
            };
            let rows = tokio::try_join!(
                rows(source, on_blue.rows(&named.declared), &differing, table, "blue"),
                rows(&target, on_green.rows(&named.declared), &differing, table, "green")
            );
            let (wanted, given) = rows?;
            merge(&named, wanted, given, &mut found).await?;
        }
        if part.at == 0 {
            found.expected = expected(source, table).await?;
        }
        target.rollback().await.map_err(DiffError::server("read", "green"))?;
        Ok(found)
    }
}

/// What a bucket adds up to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: String,
}

async fn sums(
    client: &impl GenericClient,
    questions: &Questions<'_>,
    table: &TableMapping,
    side: &str,
) -> Result<BTreeMap<i64, Sum>, DiffError> {
    let failed = DiffError::server("sum up", format!("{} on {side}", table.target));
    let rows = client.query(&questions.sums(), &[]).await.map_err(failed)?;
    let sum = |row: &Row| Sum { rows: row.get::<_, i64>(1).unsigned_abs(), hashes: row.get(2) };
    Ok(rows.iter().map(|row| (row.get(0), sum(row))).collect())
}

fn differing(wanted: &BTreeMap<i64, Sum>, given: &BTreeMap<i64, Sum>) -> Vec<i64> {
    let all = wanted.keys().chain(given.keys().filter(|bucket| !wanted.contains_key(bucket)));
    all.filter(|bucket| wanted.get(bucket) != given.get(bucket)).copied().collect()
}

async fn rows<C: GenericClient>(
    client: &C,
    question: String,
    buckets: &[i64],
    table: &TableMapping,
    side: &str,
) -> Result<impl Stream<Item = Result<Hashed, DiffError>> + use<C>, DiffError> {
    let failed = DiffError::server("read the keys of", format!("{} on {side}", table.target));
    let rows = client.query_raw(&question, [buckets]).await.map_err(&failed)?;
    Ok(rows.map_err(failed).map_ok(|row| Hashed {
        spot: row.get(0),
        place: row.get(1),
        key: row.get(2),
        whole: row.get(3),
        columns: row.get(4),
        declared: row.get(5),
    }))
}

/// Rows that cleanup rules leave behind, by rule.
async fn expected(source: &Transaction<'_>, table: &TableMapping) -> Result<BTreeMap<String, u64>, DiffError> {
    if table.cleanup.is_empty() {
        return Ok(BTreeMap::new());
    }
    let failed = DiffError::server("count the rows that cleanup leaves behind of", &table.target);
    let row = source.query_one(&table.count_sql, &[]).await.map_err(failed)?;
    let count = |at: usize| row.get::<_, i64>(at + 1).unsigned_abs();
    let rules = table.cleanup.iter().enumerate().map(|(at, rule)| (rule.rule.clone(), count(at)));
    Ok(rules.filter(|(_, rows)| *rows > 0).collect())
}
