//! The bulk copy: every carried table through its mapping, in parallel, chunk by chunk, straight into green.
//!
//! Owns the exported snapshot, the workers and the table `cutover.copied`, in which what came of a chunk is committed together with its
//! rows. The chunks of one call share one snapshot; a call after a crash takes a new one for the chunks that are missing. That is exact
//! because the slot is older than the first snapshot and no batch comes before the last chunk: what changed between two snapshots
//! was touched. Only twins have to be looked for. May call `mapping`, `repair`, `term` and `client`. Never writes after the first level
//! batch: the caller's order sees to that.

mod chunks;
mod error;
mod exported;
pub(super) mod format;
mod idle;
mod noted;
pub(super) mod pace;
pub(super) mod standby;
mod twins;
pub(super) mod watch;
mod work;

pub use error::CopyError;
pub use exported::ExportedSnapshot;
pub use idle::IdleWork;

use self::chunks::{Blocks, ranges};
use self::idle::Idle;
use self::noted::Chunks;
use self::work::{Job, Piece};
use super::client::connect;
use super::indexes::{Queue, drop_sql};
use super::mapping::{Cleanup, Mapping, TableMapping};
use super::repair;
use super::sql::{literal, qualified};
use super::term::{Term, hold};
use crate::plan::{Secret, TableName, Throttle};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::{Client, GenericClient};

/// How long emptying green's tables waits for a copy that was cut off and still holds them.
const EMPTY_PATIENCE: &str = "30s";

/// What a copy needs besides the mapping.
#[derive(Debug, Clone)]
pub struct CopyOptions<'a> {
    /// Our login on blue.
    pub blue: &'a Secret,
    /// A standby of blue to read rows from; blue itself without one.
    pub standby: Option<&'a Secret>,
    /// Our login on green.
    pub green: &'a Secret,
    /// The term in which we act.
    pub term: Term,
    /// Chunks copied at a time.
    pub workers: usize,
    /// Bound on one chunk.
    pub bound: Duration,
    /// Blocks of blue in one chunk: what a crash costs at most, for each worker.
    pub chunk_blocks: i64,
    /// What keeps it from harming blue.
    pub throttle: Throttle,
    /// What a worker may do that has no chunk left.
    pub idle: Option<IdleWork<'a>>,
}

impl CopyOptions<'_> {
    /// Where rows are read.
    fn source(&self) -> &Secret {
        self.standby.unwrap_or(self.blue)
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Everything stands.
    Whole(Vec<Copied>),
    /// The snapshot was let go before that, for blue's sake; call again for the rest.
    Part {
        /// Why.
        why: String,
    },
}

/// What came of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The green table.
    pub table: TableName,
    /// Rows that green received.
    pub rows: u64,
    /// Rows that the mapping gives without cleanup, counted in the snapshots they were read from.
    pub source_rows: u64,
    /// Rows left behind, by rule, in the order of the plan.
    pub cleaned: Vec<(String, u64)>,
    /// Pieces it was copied in.
    pub chunks: u64,
    /// Pieces that were begun again, because a crash or a failure cut them off.
    pub repeated: u64,
    /// Whether its rows come from more than one moment of blue; until the backlog is levelled, two of them may then share what must be unique.
    pub is_mixed: bool,
}

impl Copied {
    /// Rows left behind by all rules.
    #[must_use]
    pub fn cleaned_rows(&self) -> u64 {
        self.cleaned.iter().map(|(_, rows)| rows).sum()
    }
}

/// What a copy tells while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyTold<'a> {
    /// Rows have moved, or wait.
    Rows(CopyProgress<'a>),
    /// An idle worker builds this index.
    Index(&'a str),
}

/// How far a copy is; told at most every few thousand rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress<'a> {
    /// The table that moved last.
    pub table: &'a TableName,
    /// Rows sent so far, of all tables.
    pub rows: u64,
    /// Rows there are, by blue's estimate.
    pub rows_expected: u64,
    /// Bytes sent so far, of all tables, by this call.
    pub bytes: u64,
    /// Why no chunk is begun at the moment.
    pub waits: Option<&'a str>,
    /// How long the snapshot has been held, in seconds.
    pub snapshot_s: u64,
    /// Transactions on blue after which vacuum cannot clean up meanwhile.
    pub horizon_xids: u64,
    /// Chunks that stand, of all tables.
    pub chunks_done: usize,
    /// Chunks there are.
    pub chunks: usize,
}

/// Copies every table of the mapping, or what an earlier call has left of it, and says what came of each.
///
/// The caller has removed foreign keys and unique indexes of the carried tables, and has made the slot before. `tell` is called often.
///
/// # Errors
/// The first chunk that could not be copied; chunks under way are rolled back, the ones that stand are kept for the next call.
pub async fn copy(
    options: &CopyOptions<'_>,
    mapping: &Mapping,
    tell: &(dyn Fn(CopyTold<'_>) + Sync),
) -> Result<Ended, CopyError> {
    let mut green = connect(options.green, "green").await?;
    if let Some(standby) = options.standby {
        standby::catch_up(options.blue, standby).await?;
    }
    let snapshot = match ExportedSnapshot::export(options.source(), "blue", &mapping.captured()).await {
        Err(error) if error.is_locked() => {
            return Ok(Ended::Part { why: "somebody alters a table of blue".to_owned() });
        }
        other => other?,
    };
    begin(&mut green, options, mapping, &snapshot).await?;
    let noted = noted::read(&green).await?.unwrap_or_default();
    require_caps(mapping, &noted, &snapshot).await?;
    let pieces = pieces(&green, mapping, &noted, &snapshot).await?;
    let idle = Idle::new(&noted, &pieces);
    let queue = queue(&green, options, mapping, &snapshot).await?;
    let rows = async {
        let left = Job::new(options, &snapshot, &noted, mapping, pieces, &idle, tell).run().await;
        idle.over();
        drop(snapshot);
        left
    };
    let (left, ()) = tokio::join!(rows, idle.build(options, queue.as_ref(), tell));
    match left {
        Ok(None) => settle(&mut green, options, mapping).await.map(Ended::Whole),
        Ok(Some(why)) => Ok(Ended::Part { why }),
        Err(error) if options.standby.is_some() && error.is_recovery_conflict() => {
            Ok(Ended::Part { why: "the standby ended a reader that held its replay up".to_owned() })
        }
        Err(error) => Err(error),
    }
}

/// Takes twins away and makes what was copied durable; gives it.
async fn settle(green: &mut Client, options: &CopyOptions<'_>, mapping: &Mapping) -> Result<Vec<Copied>, CopyError> {
    let noted = noted::read(green).await?.unwrap_or_default();
    for table in mapping.tables.iter().filter(|table| !chunks_of(&noted, table).is_settled()) {
        twins::take_away(green, &options.term, table).await?;
    }
    green.batch_execute(noted::SETTLE).await.map_err(CopyError::server("settle", "the copied rows"))?;
    Ok(read_copied(green).await?.unwrap_or_default())
}

/// Indexes for idle workers, those of the largest tables first.
async fn queue<'a>(
    green: &Client,
    options: &CopyOptions<'a>,
    mapping: &Mapping,
    snapshot: &ExportedSnapshot,
) -> Result<Option<Queue<'a>>, CopyError> {
    let Some(work) = options.idle else { return Ok(None) };
    let carried = |name: &TableName| mapping.tables.iter().find(|table| table.target == *name);
    let size = |name: &TableName| carried(name).map_or(0, |table| cost(snapshot, table, Blocks::ALL));
    Ok(Some(Queue::missing(green, work.indexes, size).await?))
}

/// Plans the chunks of every table that has none, or whose chunks were read from a file that blue has no more; such a table is emptied.
async fn begin(
    green: &mut Client,
    options: &CopyOptions<'_>,
    mapping: &Mapping,
    snapshot: &ExportedSnapshot,
) -> Result<(), CopyError> {
    let noted = noted::read(green).await?.unwrap_or_default();
    let is_stale = |table: &&TableMapping| {
        let chunks = chunks_of(&noted, table);
        chunks.0.is_empty() || chunks.is_of_another_file(file_of(snapshot, table))
    };
    let stale: Vec<&TableMapping> = mapping.tables.iter().filter(is_stale).collect();
    if stale.is_empty() {
        return Ok(());
    }
    let failed = CopyError::server("empty", "green's carried tables");
    let transaction = green.transaction().await.map_err(&failed)?;
    hold(&transaction, &options.term).await?;
    // An idle worker may have built indexes of a table that is begun anew.
    let is_stale = |name: &TableName| stale.iter().any(|table| table.target == *name);
    let built = options.idle.map_or_else(String::new, |work| drop_sql(work.indexes, is_stale));
    transaction.batch_execute(&built).await.map_err(&failed)?;
    clear(&transaction, &stale).await.map_err(&failed)?;
    for table in stale {
        let blocks = table.driven_by.as_ref().and_then(|source| snapshot.file(source)).map(|file| file.blocks);
        let ranges = blocks.map_or_else(|| vec![Blocks::ALL], |blocks| ranges(blocks, options.chunk_blocks));
        noted::plan(&transaction, &table.target, &ranges).await.map_err(&failed)?;
    }
    transaction.commit().await.map_err(&failed)
}

/// The chunks that are missing, the costliest first.
async fn pieces<'a>(
    green: &Client,
    mapping: &'a Mapping,
    noted: &BTreeMap<TableName, Chunks>,
    snapshot: &ExportedSnapshot,
) -> Result<Vec<Piece<'a>>, CopyError> {
    let mut pieces = Vec::new();
    for table in &mapping.tables {
        let failed = CopyError::server("describe the columns of", &table.target);
        let columns = format!("select {} from {}", work::column_list(table), green_name(table));
        let form = format::form(snapshot.client(), &table.select, green, &columns).await.map_err(failed)?;
        let missing = chunks_of(noted, table).0.into_iter().filter(|chunk| chunk.done.is_none());
        pieces.extend(missing.map(|chunk| Piece {
            table,
            blocks: chunk.blocks,
            form,
            file: file_of(snapshot, table).to_owned(),
            cost: cost(snapshot, table, chunk.blocks),
        }));
    }
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.cost));
    Ok(pieces)
}

/// Blocks of blue that a chunk reads.
fn cost(snapshot: &ExportedSnapshot, table: &TableMapping, blocks: Blocks) -> i64 {
    let size = |source: &TableName| snapshot.file(source).map_or(0, |file| file.blocks);
    match &table.driven_by {
        Some(source) => blocks.count(size(source)),
        None => table.touched_by.iter().map(|touch| size(&touch.source)).sum(),
    }
}

fn chunks_of(noted: &BTreeMap<TableName, Chunks>, table: &TableMapping) -> Chunks {
    noted.get(&table.target).cloned().unwrap_or_default()
}

/// The file whose blocks a table's chunks are; empty where its chunk is all of it.
fn file_of<'s>(snapshot: &'s ExportedSnapshot, table: &TableMapping) -> &'s str {
    let file = table.driven_by.as_ref().and_then(|source| snapshot.file(source));
    file.map_or("", |file| file.name.as_str())
}

/// Empties every carried table of green and forgets what was copied, in one transaction: the undo of [`copy`].
///
/// # Errors
/// When another process took over or the server refuses; nothing was changed.
pub async fn empty(green: &mut Client, term: &Term, mapping: &Mapping) -> Result<(), CopyError> {
    let failed = CopyError::server("empty", "green's carried tables");
    let transaction = green.transaction().await.map_err(&failed)?;
    hold(&transaction, term).await?;
    clear(&transaction, &mapping.tables.iter().collect::<Vec<_>>()).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)
}

async fn clear(client: &impl GenericClient, tables: &[&TableMapping]) -> Result<(), tokio_postgres::Error> {
    let patience = format!("set local lock_timeout = {}", literal(EMPTY_PATIENCE));
    client.batch_execute(&format!("{patience}; {}; {}", noted::CREATE, repair::CREATE)).await?;
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(|table| green_name(table)).collect();
    client.batch_execute(&format!("truncate {}", names.join(", "))).await?;
    let targets: Vec<String> = tables.iter().map(|table| table.target.to_string()).collect();
    client.execute("delete from cutover.copied where green_table = any($1)", &[&targets]).await?;
    client.execute("delete from cutover.repair where target_table = any($1)", &[&targets]).await?;
    Ok(())
}

/// What has been copied and committed, by table, those of which all chunks stand; none when no copy was begun.
///
/// # Errors
/// When the server does not answer.
pub async fn read_copied(green: &impl GenericClient) -> Result<Option<Vec<Copied>>, CopyError> {
    let noted = noted::read(green).await?;
    let complete = |noted: BTreeMap<TableName, Chunks>| {
        noted.iter().filter(|(_, chunks)| chunks.is_complete()).map(|(table, chunks)| chunks.copied(table)).collect()
    };
    Ok(noted.map(complete))
}

/// Every cleanup rule keeps to its cap, asked before a row of its table moves.
async fn require_caps(
    mapping: &Mapping,
    noted: &BTreeMap<TableName, Chunks>,
    snapshot: &ExportedSnapshot,
) -> Result<(), CopyError> {
    let asked = mapping.tables.iter().filter(|table| !table.cleanup.is_empty());
    for table in asked.filter(|table| chunks_of(noted, table).is_untouched()) {
        let (source_rows, cleaned) = count_source(snapshot.client(), table, &table.count_sql).await?;
        over_cap(table, source_rows, &cleaned)?;
    }
    Ok(())
}

/// Rows without cleanup, and rows left behind by each rule, as `client` sees blue; `count_sql` is the mapping's, or part of it.
pub(super) async fn count_source(
    client: &impl GenericClient,
    table: &TableMapping,
    count_sql: &str,
) -> Result<(u64, Vec<(String, u64)>), CopyError> {
    let failed = CopyError::server("count the source rows of", &table.target);
    let row = client.query_one(count_sql, &[]).await.map_err(&failed)?;
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

fn green_name(table: &TableMapping) -> String {
    qualified(&table.target.schema, &table.target.name)
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
