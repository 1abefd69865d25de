//! Rows that must go from a database that serves: parked and deleted batch by batch, so that nobody else feels it.
//!
//! A batch is one transaction over one window of the key, as large as the time allows that it may take; it holds the term, parks and deletes in
//! one statement, and commits where it stands together with what it did, so that a sweep goes on from there. Nothing falls by a cascade:
//! rows that others point to are refused, so children go before parents.

use super::CleanupError;
use super::keys::{KeyAt, Keyset};
use super::tuning::Tuning;
use crate::database::catalog::Catalog;
use crate::database::level::unrest;
use crate::database::mapping::{KeyColumn, archive_of};
use crate::database::sql::{ident, literal, qualified};
use crate::database::term::{Term, hold};
use crate::plan::{Level, Side, TableName};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

const CREATE: &str = "create table if not exists cutover.swept (
  rule text primary key, position text[], rows bigint not null, is_done boolean not null)";
const BEGIN: &str = "insert into cutover.swept values ($1, null, 0, false) on conflict do nothing";
const READ: &str = "select position, rows, is_done from cutover.swept where rule = $1";
const STORE: &str = "update cutover.swept set position = $2, rows = rows + $3, is_done = $4 where rule = $1";

/// Tries of a batch that somebody is in the way of, or that is too slow even with few rows.
pub(super) const MOST_FAILURES: u32 = 50;

/// Bounds of batches on a live table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// How long a batch should take.
    pub target: Duration,
    /// Rows that the first one looks at.
    pub first: u32,
    /// Most rows that one looks at.
    pub most: u32,
    /// Longest wait for a row that somebody else holds.
    pub lock: Duration,
    /// A statement that takes longer is given up, and tried again with fewer rows.
    pub statement: Duration,
    /// Bound on all of it.
    pub whole: Duration,
}

/// After a batch this many times as long nothing is asked of the server: a ninth of the time is ours. A half was too much, 95 of 100 statements
/// of others took 2.7 times as long as without us, and so was a fifth: 1.7 times.
const REST: u32 = 8;

impl Default for Batches {
    /// A fifth of a second: short beside what people notice, long beside a commit.
    fn default() -> Self {
        Self {
            target: Duration::from_millis(200),
            first: 200,
            most: 50_000,
            lock: Duration::from_millis(200),
            statement: Duration::from_secs(2),
            whole: Duration::from_secs(3600),
        }
    }
}

/// What is swept.
#[derive(Debug, Clone, Copy)]
pub struct Sweep<'a> {
    /// The rule, under whose name it is noted how far the sweep is.
    pub rule: &'a str,
    /// The table.
    pub table: &'a TableName,
    /// Columns of a unique index of it that refuse null.
    pub key: &'a [KeyColumn],
    /// Which rows go: SQL over the table's rows under its own name.
    pub predicate: &'a str,
    /// Most rows that may go.
    pub cap_rows: u64,
    /// The same in per cent of the table.
    pub cap_percent: f64,
    /// Whether they are kept in the archive.
    pub park: bool,
    /// The database's tables, for what points to this one.
    pub catalog: &'a Catalog,
    /// The term to act in.
    pub term: Term,
    /// Which side the database is, for words.
    pub side: Side,
    /// When a batch waits.
    pub calm: &'a Level,
    /// Bounds.
    pub batches: Batches,
}

/// What a sweep has done so far, this call's part of it apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows that have gone, those of earlier calls included.
    pub rows: u64,
    /// Batches of this call.
    pub batches: u64,
    /// The longest of them.
    pub longest: Duration,
    /// Whether the end of the table was reached; else somebody asked for a stop.
    pub is_done: bool,
    /// Why the next batch waits.
    pub waits: Option<String>,
}

/// Sweeps a table to its end, or until `stop` says so after a batch. `tell` is called after every batch and while one waits.
///
/// # Errors
/// `Refused` when more rows match than the cap allows, or rows of other tables point to them; batches that have committed stand, and the next
/// call goes on after them.
pub async fn sweep(
    client: &mut Client,
    sweep: &Sweep<'_>,
    stop: &(dyn Fn() -> bool + Sync),
    tell: &(dyn Fn(&Swept) + Sync),
) -> Result<Swept, CleanupError> {
    let (mut position, mut swept) = sweep.begin(client).await?;
    let mut tuning = Tuning::new(sweep.batches.target, sweep.batches.first, sweep.batches.most);
    let (begun, mut failures) = (Instant::now(), 0);
    while !swept.is_done && !stop() {
        if begun.elapsed() > sweep.batches.whole {
            let why = format!("sweeping {} took longer than {} s", sweep.table, sweep.batches.whole.as_secs());
            return Err(CleanupError::refused(why, "what has gone is gone and noted; run it again for the rest"));
        }
        let unrest = unrest(client, sweep.side, sweep.calm).await;
        swept.waits =
            unrest.map_err(|error| CleanupError::refused(error.to_string(), "mend level.load or its query"))?;
        if swept.waits.is_some() {
            tell(&swept);
            sleep(sweep.calm.every).await;
            continue;
        }
        let started = Instant::now();
        let batch = sweep.batch(client, position.as_ref(), tuning.rows(), swept.rows).await;
        let took = started.elapsed();
        match batch {
            Ok((end, rows)) => {
                tuning.took(took);
                swept.rows += rows;
                swept.batches += 1;
                swept.longest = swept.longest.max(took);
                swept.is_done = end.is_none();
                position = end.or(position);
                failures = 0;
            }
            // A row that somebody holds, or a batch that was too slow: nothing of it stands.
            Err(CleanupError::Server { source, .. }) if is_passing(&source) && failures < MOST_FAILURES => {
                failures += 1;
                tuning.failed();
            }
            Err(error) => return Err(error),
        }
        tell(&swept);
        sleep((took * REST).min(sweep.batches.statement)).await;
    }
    Ok(swept)
}

/// Whether a batch was only too slow, or in somebody's way.
pub(super) fn is_passing(error: &tokio_postgres::Error) -> bool {
    let passing = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| passing.contains(code))
}

/// The rules' places in the order in which their tables can be swept: children before parents.
///
/// # Errors
/// `Refused` when tables point to each other in a circle.
pub fn children_first(tables: &[&TableName], catalog: &Catalog) -> Result<Vec<usize>, CleanupError> {
    let points = |child: &TableName, parent: &TableName| {
        child != parent
            && catalog.table(child).is_some_and(|table| table.foreign_keys.iter().any(|key| key.parent == *parent))
    };
    let (mut open, mut order): (Vec<usize>, Vec<usize>) = ((0..tables.len()).collect(), Vec::new());
    while !open.is_empty() {
        let is_free = |place: &&usize| !open.iter().any(|other| points(tables[*other], tables[**place]));
        let Some(next) = open.iter().find(is_free).copied() else {
            let names: Vec<String> = open.iter().map(|place| tables[*place].to_string()).collect();
            let why = format!("these tables point to each other in a circle: {}", names.join(", "));
            return Err(CleanupError::refused(why, "no order leaves every row something to point to; let one rule go"));
        };
        open.retain(|place| *place != next);
        order.push(next);
    }
    Ok(order)
}

impl Sweep<'_> {
    fn name(&self) -> String {
        qualified(&self.table.schema, &self.table.name)
    }

    fn archive(&self) -> String {
        let archive = archive_of(self.table);
        qualified(&archive.schema, &archive.name)
    }

    fn alias(&self) -> String {
        ident(&self.table.name)
    }

    /// Where an earlier call has come to; and that the cap holds for what has gone and what is to go.
    async fn begin(&self, client: &mut Client) -> Result<(Option<KeyAt>, Swept), CleanupError> {
        let failed = || CleanupError::server(format!("begin to sweep {}", self.table));
        let (name, alias, predicate) = (self.name(), self.alias(), self.predicate);
        let transaction = client.transaction().await.map_err(failed())?;
        hold(&transaction, &self.term).await?;
        transaction.batch_execute(CREATE).await.map_err(failed())?;
        if self.park {
            let archive = self.archive();
            // The way back goes through it by the key, window by window.
            let (by_key, keys) =
                (ident(&format!("{}_key", archive_of(self.table).name)), Keyset::new(self.key).list("t"));
            let create = format!(
                "create table if not exists {archive} as select t.*, null::text as cutover_rule from {name} as t with no data;
                 create index if not exists {by_key} on {archive} ({});
                 revoke all on {archive} from public", keys.replace("t.", "")
            );
            transaction.batch_execute(&create).await.map_err(failed())?;
        }
        transaction.execute(BEGIN, &[&self.rule]).await.map_err(failed())?;
        let row = transaction.query_one(READ, &[&self.rule]).await.map_err(failed())?;
        let (position, gone, is_done): (Option<KeyAt>, i64, bool) = (row.get(0), row.get(1), row.get(2));
        transaction.commit().await.map_err(failed())?;
        let count = format!("select count(*) filter (where ({predicate}) is true), count(*) from {name} as {alias}");
        let row = client.query_one(&count, &[]).await.map_err(failed())?;
        let (left, all): (i64, i64) = (row.get(0), row.get(1));
        let (gone, left, all) = (gone.cast_unsigned(), left.cast_unsigned(), all.cast_unsigned());
        self.require_cap(gone + left, gone + all)?;
        // What matches behind the end of an earlier sweep has come since: it begins anew.
        let begins_anew = is_done && left > 0;
        let position = position.filter(|_| !begins_anew);
        let is_done = is_done && !begins_anew;
        Ok((position, Swept { rows: gone, is_done, ..Swept::default() }))
    }

    fn require_cap(&self, rows: u64, all: u64) -> Result<(), CleanupError> {
        #[expect(clippy::cast_precision_loss, reason = "a share in per cent needs no more than 52 bits")]
        let percent = if all == 0 { 0.0 } else { rows as f64 * 100.0 / all as f64 };
        if rows <= self.cap_rows && percent <= self.cap_percent {
            return Ok(());
        }
        let why = format!(
            "cleanup rule {}: {rows} of {all} rows of {} match, and its cap is {} rows and {} %",
            self.rule, self.table, self.cap_rows, self.cap_percent
        );
        Err(CleanupError::refused(why, "correct the rule or its cap; nothing more was deleted"))
    }

    /// One window; gives its end, none when it was the last, and how many rows have gone.
    async fn batch(
        &self,
        client: &mut Client,
        from: Option<&KeyAt>,
        rows: u32,
        gone: u64,
    ) -> Result<(Option<KeyAt>, u64), CleanupError> {
        let failed = || CleanupError::server(format!("sweep {}", self.table));
        let keys = Keyset::new(self.key);
        let transaction = client.transaction().await.map_err(failed())?;
        hold(&transaction, &self.term).await?;
        let bounds = format!(
            "set local lock_timeout = {}; set local statement_timeout = {}",
            self.batches.lock.as_millis().max(1),
            self.batches.statement.as_millis().max(1)
        );
        transaction.batch_execute(&bounds).await.map_err(failed())?;
        let end = transaction.query_opt(&keys.end(&self.name(), from, rows), &[]).await.map_err(failed())?;
        let end: Option<KeyAt> = end.map(|row| row.get(0));
        let alias = self.alias();
        let which = format!("{} and ({}) is true", keys.within(&alias, from, end.as_ref()), self.predicate);
        self.require_childless(&transaction, &which).await?;
        let count = transaction.execute(&self.delete_sql(&which), &[]).await.map_err(failed())?;
        if gone + count > self.cap_rows {
            self.require_cap(gone + count, u64::MAX)?;
        }
        let (stored, is_last) = (end.as_ref().or(from), end.is_none());
        transaction.execute(STORE, &[&self.rule, &stored, &count.cast_signed(), &is_last]).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok((end, count))
    }

    fn delete_sql(&self, which: &str) -> String {
        let (name, alias) = (self.name(), self.alias());
        let delete = format!("delete from {name} as {alias} where {which}");
        match self.park {
            false => delete,
            true => format!(
                "with gone as ({delete} returning {alias}.*) insert into {} select gone.*, {} from gone",
                self.archive(),
                literal(self.rule)
            ),
        }
    }

    /// Locks the rows that are to go, so that nobody begins to point to one, and sees that nobody does.
    async fn require_childless(&self, transaction: &Transaction<'_>, which: &str) -> Result<(), CleanupError> {
        let (name, alias) = (self.name(), self.alias());
        let lock = format!("select count(*) from (select 1 from {name} as {alias} where {which} for update) as l");
        let row = transaction.query_one(&lock, &[]).await;
        let locked: i64 = row.map_err(CleanupError::server(format!("lock rows of {}", self.table)))?.get(0);
        if locked == 0 {
            return Ok(());
        }
        for child in self.catalog.roots() {
            for key in child.foreign_keys.iter().filter(|key| key.parent == *self.table) {
                let pairs = key.columns.iter().zip(&key.parent_columns);
                let pairs: Vec<String> = pairs
                    .map(|(own, other)| format!("{alias}.{} = cutover_child.{}", ident(other), ident(own)))
                    .collect();
                let count = format!(
                    "select count(*) from {} as cutover_child where exists (select 1 from {name} as {alias} where {which} and {})",
                    qualified(&child.name.schema, &child.name.name),
                    pairs.join(" and ")
                );
                let what = format!("look for rows of {} that point to rows which are to go", child.name);
                let row = transaction.query_one(&count, &[]).await.map_err(CleanupError::server(what))?;
                let rows: i64 = row.get(0);
                if rows > 0 {
                    let why = format!(
                        "{rows} rows of {} point to rows of {} that {} would delete ({})",
                        child.name, self.table, self.rule, key.name
                    );
                    let hint = "sweep them first, by a rule of their own: nothing falls by a cascade";
                    return Err(CleanupError::refused(why, hint));
                }
            }
        }
        Ok(())
    }
}
