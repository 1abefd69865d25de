//! The table `cutover.copied`: which chunks there are, how often each was begun, and what came of it, committed together with its rows.

use super::chunks::Blocks;
use super::{Copied, CopyError};
use crate::plan::TableName;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{GenericClient, Transaction};

pub(super) const CREATE: &str = "create table if not exists cutover.copied (
  green_table text not null,
  first_block bigint not null,
  end_block bigint,
  attempts integer not null default 0,
  rows bigint,
  source_rows bigint,
  cleaned_by_rule jsonb not null default '[]',
  snapshot text,
  file text,
  primary key (green_table, first_block))";
const EXISTS: &str = "select pg_catalog.to_regclass('cutover.copied') is not null";
const READ: &str =
    "select green_table, first_block, end_block, attempts, rows, source_rows, cleaned_by_rule, snapshot, file
from cutover.copied order by green_table, first_block";
const PLAN: &str = "insert into cutover.copied (green_table, first_block, end_block)
select $1, * from unnest($2::bigint[], $3::bigint[])";
const BEGIN: &str = "update cutover.copied set attempts = attempts + 1 where green_table = $1 and first_block = $2";
const DONE: &str =
    "update cutover.copied set rows = $3, source_rows = $4, cleaned_by_rule = $5, snapshot = $6, file = $7
where green_table = $1 and first_block = $2 and rows is null";
/// Rows taken away again stand as a chunk of their own, with a number below zero, so that sums stay true.
const TAKEN: &str = "insert into cutover.copied (green_table, first_block, end_block, rows, source_rows) values ($1, -1, 0, -$2::bigint, -$2::bigint)";
/// A commit that waits for the disk makes every earlier commit durable too: the log has one order.
pub(super) const SETTLE: &str =
    "set synchronous_commit = on; update cutover.copied set attempts = attempts where first_block <= 0";

/// What came of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    /// Rows that green received.
    pub(super) rows: i64,
    /// Rows without cleanup.
    pub(super) source_rows: i64,
    /// Rows left behind, by rule.
    pub(super) cleaned: Vec<(String, u64)>,
    /// The name of the snapshot that they were read from.
    pub(super) snapshot: String,
    /// The file whose blocks they are; empty for all of a mapping that no single table drives.
    pub(super) file: String,
}

/// One chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) blocks: Blocks,
    pub(super) attempts: u64,
    pub(super) done: Option<Done>,
}

impl Noted {
    /// Whether it stands for rows that were taken away, not for blocks of blue.
    fn is_taken(&self) -> bool {
        self.blocks.from < 0
    }
}

/// The chunks of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chunks(pub(super) Vec<Noted>);

impl Chunks {
    fn dones(&self) -> impl Iterator<Item = &Done> {
        self.0.iter().filter(|chunk| !chunk.is_taken()).filter_map(|chunk| chunk.done.as_ref())
    }

    /// Whether nothing of it stands on green.
    pub(super) fn is_untouched(&self) -> bool {
        self.dones().next().is_none()
    }

    /// Whether what stands was read from another file than `file`.
    pub(super) fn is_of_another_file(&self, file: &str) -> bool {
        self.dones().any(|done| done.file != file)
    }

    /// Whether its rows come from more than one moment of blue.
    pub(super) fn is_mixed(&self) -> bool {
        self.dones().map(|done| &done.snapshot).collect::<BTreeSet<_>>().len() > 1
    }

    /// Whether rows of one key from two moments have been taken away.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_mixed() || self.0.iter().any(Noted::is_taken)
    }

    /// Whether all of it stands.
    pub(super) fn is_complete(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|chunk| chunk.done.is_some()) && self.is_settled()
    }

    /// The sums over all that stands.
    pub(super) fn copied(&self, table: &TableName) -> Copied {
        let all = || self.0.iter().filter_map(|chunk| chunk.done.as_ref());
        let sum = |of: fn(&Done) -> i64| u64::try_from(all().map(of).sum::<i64>()).unwrap_or(0);
        let mut cleaned: Vec<(String, u64)> = Vec::new();
        for (rule, rows) in all().flat_map(|done| &done.cleaned) {
            match cleaned.iter_mut().find(|(name, _)| name == rule) {
                Some((_, sum)) => *sum += rows,
                None => cleaned.push((rule.clone(), *rows)),
            }
        }
        Copied {
            table: table.clone(),
            rows: sum(|done| done.rows),
            source_rows: sum(|done| done.source_rows),
            cleaned,
            chunks: self.0.iter().filter(|chunk| !chunk.is_taken()).count() as u64,
            repeated: self.0.iter().map(|chunk| chunk.attempts.saturating_sub(1)).sum(),
            is_mixed: self.is_mixed(),
        }
    }
}

/// All chunks of all tables; none when no copy was begun.
pub(super) async fn read(client: &impl GenericClient) -> Result<Option<BTreeMap<TableName, Chunks>>, CopyError> {
    let failed = CopyError::server("read", "cutover.copied on green");
    let exists: bool = client.query_one(EXISTS, &[]).await.map_err(&failed)?.get(0);
    if !exists {
        return Ok(None);
    }
    let mut tables: BTreeMap<TableName, Chunks> = BTreeMap::new();
    for row in client.query(READ, &[]).await.map_err(&failed)? {
        tables.entry(table(row.get(0))).or_default().0.push(noted(&row));
    }
    Ok(Some(tables))
}

fn table(name: &str) -> TableName {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    TableName { schema: schema.to_owned(), name: table.to_owned() }
}

fn noted(row: &tokio_postgres::Row) -> Noted {
    let rule = |pair: &serde_json::Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_u64()?));
    let cleaned: serde_json::Value = row.get(6);
    let done = row.get::<_, Option<i64>>(4).map(|rows| Done {
        rows,
        source_rows: row.get::<_, Option<i64>>(5).unwrap_or(0),
        cleaned: cleaned.as_array().into_iter().flatten().filter_map(rule).collect(),
        snapshot: row.get::<_, Option<String>>(7).unwrap_or_default(),
        file: row.get::<_, Option<String>>(8).unwrap_or_default(),
    });
    let blocks = Blocks { from: row.get(1), to: row.get(2) };
    Noted { blocks, attempts: u64::try_from(row.get::<_, i32>(3)).unwrap_or(0), done }
}

/// Notes the chunks that a table is to be copied in.
pub(super) async fn plan(
    transaction: &Transaction<'_>,
    table: &TableName,
    ranges: &[Blocks],
) -> Result<(), tokio_postgres::Error> {
    let from: Vec<i64> = ranges.iter().map(|blocks| blocks.from).collect();
    let to: Vec<Option<i64>> = ranges.iter().map(|blocks| blocks.to).collect();
    transaction.execute(PLAN, &[&table.to_string(), &from, &to]).await.map(drop)
}

/// Notes that a chunk is begun once more.
pub(super) async fn begin(
    client: &impl GenericClient,
    table: &TableName,
    blocks: Blocks,
) -> Result<(), tokio_postgres::Error> {
    client.execute(BEGIN, &[&table.to_string(), &blocks.from]).await.map(drop)
}

/// Notes what came of a chunk, in the transaction of its rows; false when another attempt has done so before.
pub(super) async fn done(
    transaction: &Transaction<'_>,
    table: &TableName,
    blocks: Blocks,
    done: &Done,
) -> Result<bool, tokio_postgres::Error> {
    let by_rule = serde_json::to_value(&done.cleaned).unwrap_or_default();
    let (table, rows, source_rows) = (table.to_string(), done.rows, done.source_rows);
    let noted = transaction
        .execute(DONE, &[&table, &blocks.from, &rows, &source_rows, &by_rule, &done.snapshot, &done.file])
        .await?;
    Ok(noted == 1)
}

/// Notes that so many rows were taken away again.
pub(super) async fn taken(
    transaction: &Transaction<'_>,
    table: &TableName,
    rows: i64,
) -> Result<(), tokio_postgres::Error> {
    transaction.execute(TAKEN, &[&table.to_string(), &rows]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(from: i64, attempts: u64, done: Option<(i64, &str, &str)>) -> Noted {
        let done = done.map(|(rows, snapshot, file)| Done {
            rows,
            source_rows: rows + 1,
            cleaned: vec![("old".to_owned(), 1)],
            snapshot: snapshot.to_owned(),
            file: file.to_owned(),
        });
        Noted { blocks: Blocks { from, to: None }, attempts, done }
    }

    fn taken(rows: i64) -> Noted {
        let done = Done { rows, source_rows: rows, cleaned: Vec::new(), snapshot: String::new(), file: String::new() };
        Noted { blocks: Blocks { from: -1, to: Some(0) }, attempts: 0, done: Some(done) }
    }

    #[test]
    fn of_one_moment_all_chunks_are_enough() {
        let mut chunks = Chunks(vec![chunk(0, 1, Some((5, "1:1:", "f"))), chunk(8, 1, None)]);
        assert!(!chunks.is_complete() && !chunks.is_untouched());
        chunks.0[1] = chunk(8, 2, Some((7, "1:1:", "f")));
        assert!(chunks.is_complete());
        let copied = chunks.copied(&table("public.t"));
        assert_eq!((copied.rows, copied.source_rows, copied.cleaned), (12, 14, vec![("old".to_owned(), 2)]));
        assert_eq!((copied.chunks, copied.repeated, copied.is_mixed), (2, 1, false));
        assert!(!chunks.is_of_another_file("f") && chunks.is_of_another_file("g"));
        assert!(!Chunks::default().is_complete(), "no chunk is no table");
    }

    #[test]
    fn of_two_moments_twins_are_taken_away_first() {
        let mut chunks = Chunks(vec![chunk(0, 1, Some((5, "1:1:", "f"))), chunk(8, 2, Some((7, "2:2:", "f")))]);
        assert!(chunks.is_mixed() && !chunks.is_complete());
        chunks.0.push(taken(-2));
        assert!(chunks.is_complete());
        let copied = chunks.copied(&table("public.t"));
        assert_eq!((copied.rows, copied.source_rows, copied.chunks, copied.is_mixed), (10, 12, 2, true));
    }
}
