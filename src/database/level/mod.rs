//! Keeping one side level with the other: one worker, batch after batch, each exact for one snapshot of the source.
//!
//! Before the flip blue is the source and green the target; for the way back it is the other way round. The capture says which.
//!
//! Owns the order of a batch, which is the whole point and must not be changed:
//! 1. a repeatable read transaction on the source locks the captured tables `access share`, then takes its snapshot S;
//! 2. a mark is committed on another connection with `synchronous_commit` on: all that S sees is flushed, and in the list, before it;
//! 3. the list is read up to the mark: every commit visible in S touches its keys. Of a slot the longest prefix of such is consumed, of a
//!    trigger log all that S sees;
//! 4. touched keys of the target are those derived from the source's rows at S **and** those that the target records as derived from them;
//! 5. one transaction of the target, under the term, deletes, updates and inserts the rows that differ from what S derives, without firing its
//!    cascades and triggers, looks for foreign keys left hanging, applies captured revocations again, then lets the stricter side win
//!    where nothing else goes back, and stores name, nonce and position;
//! 6. it commits durably; only then what was consumed goes from the list.
//!
//! After the first batch nothing but a batch writes carried tables. What keeps the list is asked through `list`. May call `capture`, `changes`, `apply`, `mapping`, `term`.
//! Never continues from a position that the target has not stored: then it must be copied anew.

mod apart;
mod batch;
mod calm;
mod error;
mod fall;
mod fanned;
mod judge;
mod list;
mod lookup;
mod near;
mod pair;
mod progress;
mod reapply;
mod report;
mod source;
mod staged;
mod unexplained;

pub use calm::unrest;
pub use error::LevelError;
pub use lookup::judge_lookups;
pub use progress::{age_s, begin_progress, end_progress, has_position};
pub use reapply::{Answer, Explained, Gone, Reapply, TouchedTable};
pub use report::{BatchReport, Levelled};
pub use unexplained::Unexplained;

use self::batch::Batch;
use self::fanned::Fanned;
use self::list::{At, List};
use self::progress::{matching_progress, store_progress};
use self::source::{begin, captured_tables, require_utf8, rewritten, session, snapshot};
use self::staged::Staged;
use crate::database::apply::{Falls, StricterSql, TableSql, TouchedSql};
use crate::database::capture::{Capture, CaptureStanding, Captured, Relations};
use crate::database::catalog::{self, Catalog};
use crate::database::changes::CapturedTable;
use crate::database::copy::ExportedSnapshot;
use crate::database::mapping::{Mapping, TableMapping};
use crate::database::pgoutput::Lsn;
use crate::database::term::{self, Term};
use crate::plan::{Secret, Side, TableName};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;

const FOREIGN_KEYS: &str = "select count(*), coalesce(max(oid::bigint), 0) from pg_constraint where contype = 'f'";
const OLDEST: &str = "select format('backend %s (%s, in a transaction since %s)', pid, coalesce(nullif(application_name, ''), usename), xact_start)
from pg_stat_activity where backend_xid is not null and datname = current_database() order by xact_start limit 1";
/// No cascade and no trigger of the target fires, and what is committed stays.
const REPLICA: &str = "set local session_replication_role = replica; set local synchronous_commit = on";
const PAUSE: Duration = Duration::from_millis(20);

/// Bounds of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for a lock on the source's tables; short, because the application waits behind us.
    pub lock: Duration,
    /// Longest single statement, on either side.
    pub statement: Duration,
    /// Keys held in memory at a time.
    pub page_keys: usize,
}

/// What a worker is made from.
#[derive(Debug, Clone)]
pub struct LevelSetup {
    /// Our login on the side that is read, direct.
    pub source: Secret,
    /// Our login on the side that is written, direct.
    pub target: Secret,
    /// The capture on the source; its side says which of both that is.
    pub capture: Capture,
    /// The tables to keep level.
    pub mapping: Mapping,
    /// The term to act in.
    pub term: Term,
    /// Bounds.
    pub limits: Limits,
}

/// The one process that writes the target: three connections, used batch after batch.
pub struct Worker {
    /// For the moments that others look through, each on a connection of its own.
    source_url: Secret,
    /// Reads rows at the batch's snapshot.
    source: Client,
    /// Sets marks and consumes what the target has stored, beside the batch's snapshot.
    beside: Client,
    target: Client,
    capture: Capture,
    captured: Captured,
    list: List,
    term: Term,
    limits: Limits,
    mapping: Vec<TableMapping>,
    tables: Vec<CapturedTable>,
    touched: Vec<TouchedSql>,
    sql: Vec<TableSql>,
    /// In the same order; none for a table whose rows are made equal.
    stricter: Vec<Option<StricterSql>>,
    falls: Falls,
    staged: Staged,
    fanned: Fanned,
    /// Captured tables that the mapping does not read.
    ignored: Vec<String>,
    everything: bool,
    catalog: Catalog,
    foreign_keys_seen: (i64, i64),
    lsn: Lsn,
    relations: Relations,
    /// When the slot's restart position may be drawn near again.
    near_again: Instant,
}

impl Worker {
    /// Connects, and checks that the source's list of changes and the target's position belong together.
    ///
    /// # Errors
    /// `LostSlot` when the list is missing or not whole, is another one, or has gone on or back from what the target has stored.
    pub async fn open(setup: LevelSetup) -> Result<Self, LevelError> {
        let side = setup.capture.side;
        let source = session(&setup.source, side, setup.limits).await?;
        let beside = session(&setup.source, side, setup.limits).await?;
        let mut target = session(&setup.target, side.other(), setup.limits).await?;
        require_utf8(&beside, side).await?;
        let captured = match setup.capture.verify(&beside).await? {
            CaptureStanding::Present(captured) => captured,
            other => return Err(LevelError::LostSlot { why: format!("the capture on {side} is {other:?}") }),
        };
        let progress = matching_progress(&mut target, &captured).await?;
        let tables = captured_tables(&setup.mapping);
        let mut worker = Self {
            source_url: setup.source,
            source,
            beside,
            target,
            capture: setup.capture,
            term: setup.term,
            limits: setup.limits,
            mapping: setup.mapping.tables,
            touched: tables.iter().enumerate().map(|(place, table)| TouchedSql::new(place, table)).collect(),
            ignored: ignored(&captured, &tables),
            tables,
            sql: Vec::new(),
            stricter: Vec::new(),
            falls: Falls::default(),
            staged: Staged::default(),
            fanned: Fanned::default(),
            everything: false,
            catalog: Catalog::default(),
            foreign_keys_seen: (-1, -1),
            lsn: progress.lsn,
            relations: progress.relations,
            near_again: Instant::now(),
            list: List::of(setup.capture, &captured),
            captured,
        };
        worker.list.require(&worker.beside, worker.lsn).await?;
        worker.prepare().await?;
        Ok(worker)
    }

    /// The target's connection, for work that alternates with batches on the one worker, such as the replay of revocations.
    pub fn target(&mut self) -> &mut Client {
        &mut self.target
    }

    fn on_target(&self, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> LevelError + use<> {
        LevelError::on(self.capture.side.other(), what)
    }

    /// Creates the temporary tables and the statements over them.
    async fn prepare(&mut self) -> Result<(), LevelError> {
        self.read_catalog().await?;
        let statements = self.mapping.iter().enumerate();
        self.sql = statements.map(|(place, table)| TableSql::new(place, table, &self.tables, &self.catalog)).collect();
        for sql in &mut self.sql {
            let settled = sql.settle_form(&self.source, &self.target).await;
            settled.map_err(LevelError::on(self.capture.side, "describe the derived rows"))?;
        }
        let pairs = self.mapping.iter().zip(&self.sql).enumerate();
        self.stricter = pairs.map(|(place, (table, sql))| StricterSql::new(place, table, sql)).collect();
        // On the way back what hangs on a deleted row falls with it, as it would have fallen on blue; on the way to green a row that hangs
        // on nothing is a fault of the mapping.
        if self.capture.side == Side::Green {
            self.falls = Falls::of(&self.catalog, self.mapping.iter().map(|table| table.target.clone()));
        }
        let touched = self.touched.iter().map(|touched| &touched.create);
        let stricter = self.stricter.iter().flatten().map(|sql| &sql.create);
        let falls = self.falls.creates();
        let creates = touched.chain(self.sql.iter().map(|sql| &sql.create)).chain(stricter).chain(&falls);
        for create in creates {
            self.target.batch_execute(create).await.map_err(self.on_target("create temporary tables"))?;
        }
        self.fanned =
            Fanned::read(&self.target).await.map_err(self.on_target("see which touched rows were followed"))?;
        self.staged = Staged::new(&self.touched, &self.sql, &self.stricter, &self.falls);
        self.begin_unexplained().await
    }

    /// Makes the next batch derive every key of every mapping anew, whether it was touched or not.
    pub fn touch_everything(&mut self) {
        self.everything = true;
    }

    /// Reads the target's foreign keys again when they have changed, because they are built while batches go on.
    async fn read_catalog(&mut self) -> Result<(), LevelError> {
        let row = self.target.query_one(FOREIGN_KEYS, &[]).await.map_err(self.on_target("count foreign keys"))?;
        let seen = (row.get(0), row.get(1));
        if seen != self.foreign_keys_seen {
            self.catalog = catalog::read(&self.target).await.map_err(self.on_target("read the catalog"))?;
            self.foreign_keys_seen = seen;
        }
        Ok(())
    }

    /// One batch: after it the target equals what the mapping derives from the source at one snapshot, for all that was touched until then.
    ///
    /// # Errors
    /// See [`LevelError`]; unless the target's commit was lost on the way, nothing was changed.
    pub async fn batch(&mut self, reapply: &impl Reapply) -> Result<BatchReport, LevelError> {
        self.batch_at(None, reapply).await
    }

    /// The same, for a moment that was exported after the batch before; without one for now.
    ///
    /// # Errors
    /// See [`Worker::batch`].
    pub async fn batch_at(
        &mut self,
        moment: Option<&ExportedSnapshot>,
        reapply: &impl Reapply,
    ) -> Result<BatchReport, LevelError> {
        self.read_catalog().await?;
        self.list.require(&self.beside, self.lsn).await?;
        let side = self.capture.side;
        let (on_source, on_target) = (|what| LevelError::on(side, what), |what| LevelError::on(side.other(), what));
        let source = begin(&mut self.source, side, moment).await?;
        let snapshot = snapshot(&source, side, &self.tables, self.limits).await?;
        let begun = Instant::now();
        let names: Vec<TableName> = self.tables.iter().map(|table| table.name.clone()).collect();
        let relations = self.capture.relations(&source, &names).await?;
        let mut rewritten = rewritten(&self.tables, &self.relations, &relations)?;
        if self.everything {
            rewritten.extend(0..self.tables.len());
        }
        let mark = self.list.mark(&self.beside).await?;

        let target = self.target.transaction().await.map_err(on_target("begin"))?;
        target.batch_execute(REPLICA).await.map_err(on_target("become a replica"))?;
        term::hold(&target, &self.term).await?;
        target.batch_execute(&self.staged.empty()).await.map_err(on_target("empty the temporary tables"))?;
        let mut batch = Batch {
            source: &source,
            target: &target,
            beside: &self.beside,
            side,
            touched: &self.touched,
            sql: &self.sql,
            stricter: &self.stricter,
            falls: (side == Side::Green).then_some(&self.falls),
            catalog: &self.catalog,
            page_keys: self.limits.page_keys,
            fanned: &mut self.fanned,
            keys: vec![0; self.sql.len()],
            places: BTreeSet::new(),
            report: BatchReport::default(),
        };
        let at = At {
            client: &self.beside,
            source: &source,
            snapshot: &snapshot,
            mark: &mark,
            tables: &self.tables,
            ignored: &self.ignored,
            page_keys: self.limits.page_keys,
        };
        let consumed = batch.touch(self.list.read(at).await?, rewritten).await?;
        batch.derive().await?;
        batch.make_equal().await?;
        batch.check_foreign_keys().await?;
        let reapplied =
            reapply.reapply(&target, &batch.touched_tables()).await.map_err(on_target("apply revocations again"))?;
        batch.judge(reapply).await?;
        let (keys, places) = (batch.keys, batch.places);
        let mut report = BatchReport { rows_reapplied: reapplied, ..batch.report };
        let lsn = consumed.unwrap_or(self.lsn).max(self.lsn);
        store_progress(&target, &self.captured, self.lsn, lsn, &relations, begun.elapsed()).await?;
        target.commit().await.map_err(on_target("commit"))?;
        report.lag_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        (self.lsn, self.relations, report.lsn) = (lsn, relations, lsn);
        self.staged.took(&places, &keys);
        self.everything = false;
        source.rollback().await.map_err(on_source("end the snapshot"))?;
        report.lag_bytes = self.list.consume(&self.beside, lsn, &snapshot).await?;
        Ok(report)
    }

    /// Runs batches until one leaves nothing in the slot and was at most `lag` behind at its commit; at least one.
    ///
    /// # Errors
    /// `NotLevel` when `bound` is over first; what the batches did stands.
    pub async fn until_level(
        &mut self,
        reapply: &impl Reapply,
        bound: Duration,
        lag: Duration,
    ) -> Result<Levelled, LevelError> {
        let begun = Instant::now();
        let mut levelled = Levelled::default();
        loop {
            let passing = match self.batch(reapply).await {
                Ok(report) => {
                    let is_level = report.left_in_slot == 0 && u128::from(report.lag_ms) <= lag.as_millis();
                    levelled.add(report);
                    if is_level {
                        return Ok(levelled);
                    }
                    None
                }
                Err(error) if error.is_passing() => Some(error),
                Err(error) => return Err(error),
            };
            self.draw_near().await;
            if begun.elapsed() >= bound {
                return Err(self.not_level(bound, &levelled, passing).await);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn not_level(&self, bound: Duration, levelled: &Levelled, passing: Option<LevelError>) -> LevelError {
        let oldest = self.beside.query_opt(OLDEST, &[]).await.ok().flatten();
        let why = match (passing, oldest) {
            (Some(error), _) => error.to_string(),
            (None, Some(row)) => format!("the oldest writer is {}", row.get::<_, &str>(0)),
            (None, None) => "no long writer is seen".to_owned(),
        };
        let (left, lag_ms) = (levelled.total.left_in_slot, levelled.total.lag_ms);
        LevelError::NotLevel { bound_ms: bound.as_millis(), left, lag_ms, why }
    }
}

/// Captured tables that no mapping reads: their changes are consumed and mean nothing.
fn ignored(captured: &Captured, tables: &[CapturedTable]) -> Vec<String> {
    let is_read = |name: &String| tables.iter().any(|table| table.name.to_string() == *name);
    captured.relations.keys().filter(|name| !is_read(name)).cloned().collect()
}
