//! The fidelity diff: what the mapping derives from blue at one snapshot against what green holds, row by row and column by column.
//!
//! Exact because green was brought level to that very snapshot and nobody writes it meanwhile; so what differs was never right, or was
//! changed by somebody else. Both sides hash each row as text under pinned settings; hashes are summed by bucket of the key's hash, and only
//! buckets whose sums differ are read again, as keys and hashes of columns. A part of a table is noted in `cutover.compared` when it has been
//! compared. May call `mapping`, `term`, `client`, and the watch of `copy`. Never changes a row, and never reads a value but keys.

mod alike;
mod declared;
mod error;
mod found;
mod merge;
mod noted;
mod sql;
mod work;

pub use declared::{Declared, Meant};
pub use error::DiffError;
pub use found::{Class, Difference, Found};

use self::noted::Noted;
use self::work::{Job, Piece, is_joined, weight};
use super::account;
use super::client::connect;
use super::mapping::{Mapping, TableMapping};
use super::term::Term;
use crate::plan::{Secret, TableName, Throttle};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_postgres::Client;

/// Rows of one part of a table that is read straight from a table of blue. Each part reads all of the table, and hashes only its own rows whole.
const ROWS_IN_PART: u64 = 2_000_000;
/// The same of a table whose rows a select of the plan's joins: that is made anew for each part.
const ROWS_IN_JOINED_PART: u64 = 4_000_000;
/// Rows from which such a table is halved when it would keep one worker busy while the others have nothing left. Not into more: every part joins
/// anew on blue, which serves.
const LEAST_HALVED: u64 = 100_000;
/// Most parts of a table: more would be spent on reading all of it again and again.
const MOST_PARTS: u64 = 16;

/// Most rows that are asked for their reason at a moment; where more differ, revocations are not why.
const MOST_SETTLED: usize = 20_000;

/// What a diff needs beside the mapping.
#[derive(Debug, Clone)]
pub struct DiffOptions<'a> {
    /// Our login on blue.
    pub blue: &'a Secret,
    /// Our login on green.
    pub green: &'a Secret,
    /// The term in which parts are noted.
    pub term: Term,
    /// Parts compared at a time.
    pub workers: usize,
    /// Bound on one part.
    pub bound: Duration,
    /// What keeps it from harming blue.
    pub throttle: Throttle,
    /// Most rows of a part to list.
    pub listed: usize,
    /// Differences that are meant; none between blue and green.
    pub declared: &'a [Declared],
    /// Rows of a part; as many as are usual without it.
    pub rows_in_part: Option<u64>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Everything was compared: see [`found()`].
    Whole,
    /// The snapshot must go before that, for blue's sake; bring green level to another and call again for the rest.
    Part {
        /// Why.
        why: String,
    },
}

/// How far a diff is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffProgress<'a> {
    /// The table of which a part was compared last.
    pub table: &'a TableName,
    /// Parts that were compared.
    pub done: u64,
    /// All parts.
    pub parts: u64,
    /// Rows that differ, so far.
    pub differences: u64,
}

/// Compares every table of the mapping, or what an earlier call has left of it, at the exported `snapshot` of blue.
///
/// The caller has brought green level to that snapshot, keeps it open, and lets nobody write green before this has ended.
///
/// # Errors
/// When the sides cannot be compared or a server refuses; no row was changed, and parts that were compared are noted.
pub async fn diff(
    options: &DiffOptions<'_>,
    mapping: &Mapping,
    snapshot: &str,
    tell: &(dyn Fn(DiffProgress<'_>) + Sync),
) -> Result<Ended, DiffError> {
    let (blue, mut green) = (connect(options.blue, "blue").await?, connect(options.green, "green").await?);
    let hash = alike::require(&blue, &green).await?;
    let sizes = sizes(&green, mapping).await?;
    let rows = |table: &TableMapping| sizes.get(&table.target).copied().unwrap_or(0);
    let all: u64 = mapping.tables.iter().map(|table| weight(rows(table), is_joined(table))).sum();
    let share = all / options.workers.max(1) as u64;
    let parts = |table: &TableMapping| parts(rows(table), is_joined(table), share, options.rows_in_part);
    let noted = noted::begin(&mut green, &options.term, mapping, parts).await?;
    let done = noted.iter().filter(|part| part.found.is_some()).count() as u64;
    let mut pieces: Vec<Piece<'_>> = noted.into_iter().filter_map(|part| piece(mapping, part, &sizes)).collect();
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.weight()));
    let left = Job::new(options, snapshot, hash, pieces, done, tell).run().await?;
    Ok(left.map_or(Ended::Whole, |why| Ended::Part { why }))
}

/// Rows that were found to differ at the moment that is still held, for [`settle`]. Not those that green has twice, which nothing explains.
///
/// # Errors
/// When green does not answer.
pub async fn unsettled(green: &Client, mapping: &Mapping) -> Result<Vec<Difference>, DiffError> {
    let found = noted::read(green, mapping).await?.into_iter().filter_map(|part| part.found);
    let open = found.filter(|found| !found.is_settled).flat_map(|found| found.listed);
    Ok(open.filter(|one| one.class != Class::Duplicate).take(MOST_SETTLED).collect())
}

/// Notes which of them differ because something was revoked; the others stand.
///
/// # Errors
/// When another process took over or green does not answer.
pub async fn settle(
    green: &mut Client,
    term: &Term,
    mapping: &Mapping,
    revoked: &BTreeSet<Difference>,
) -> Result<(), DiffError> {
    noted::settle(green, term, mapping, revoked).await
}

/// All that was found, at most `listed` rows of it by name: of keys that are secret only how they begin.
///
/// # Errors
/// When green does not answer.
pub async fn found(green: &Client, mapping: &Mapping, listed: usize) -> Result<Found, DiffError> {
    let mut all = Found::default();
    for part in noted::read(green, mapping).await? {
        all.merge(part.found.unwrap_or_default(), listed);
    }
    let key = |name: &TableName| mapping.tables.iter().find(|table| table.target == *name).map(|table| &table.key);
    all.mask(|name| key(name).into_iter().flatten().map(|column| column.name.as_str()).collect());
    Ok(all)
}

/// A part that is still to be compared.
fn piece<'a>(mapping: &'a Mapping, noted: Noted, sizes: &BTreeMap<TableName, u64>) -> Option<Piece<'a>> {
    let table = mapping.tables.iter().find(|table| table.target == noted.table)?;
    let rows = sizes.get(&noted.table).copied().unwrap_or(0);
    noted.found.is_none().then_some(Piece { table, part: noted.part, rows })
}

/// About how many rows each table has.
async fn sizes(green: &Client, mapping: &Mapping) -> Result<BTreeMap<TableName, u64>, DiffError> {
    let mut sizes = BTreeMap::new();
    for table in &mapping.tables {
        let there = account::estimate(green, &table.target).await.unwrap_or(0);
        sizes.insert(table.target.clone(), there.max(table.estimated_rows));
    }
    Ok(sizes)
}

/// In how many parts a table is compared, of whose weight and that of all others each worker has this share.
fn parts(rows: u64, is_joined: bool, share: u64, in_part: Option<u64>) -> i32 {
    let is_halved = is_joined && rows >= LEAST_HALVED && weight(rows, is_joined) > share;
    let usual = match (is_joined, is_halved) {
        (true, true) => rows.div_ceil(2).min(ROWS_IN_JOINED_PART),
        (true, false) => ROWS_IN_JOINED_PART,
        (false, _) => ROWS_IN_PART,
    };
    let parts = rows.div_ceil(in_part.unwrap_or(usual).max(1)).clamp(1, MOST_PARTS);
    i32::try_from(parts).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_table_is_halved_when_it_would_keep_one_worker_alone() {
        let (flows, tokens) = (weight(750_001, true), weight(2_900_000, false));
        let share = (flows + tokens) / 2;
        assert_eq!(parts(750_001, true, share, None), 2);
        assert_eq!(parts(750_001, true, flows + tokens, None), 1, "one worker has it all in any case");
        assert_eq!(parts(50_000, true, 1, None), 1, "it is done in a moment");
        assert_eq!(parts(20_000_000, true, 1, None), 5, "as many as it has by its rows");
        assert_eq!(parts(2_900_000, false, share, None), 2);
        assert_eq!(parts(10, true, share, Some(2)), 5);
    }
}
