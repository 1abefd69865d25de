//! One batch between its snapshot and the target's commit: touched keys, derived rows, the rows that differ, the foreign keys.
//!
//! Everything of one snapshot goes into one transaction of the target; memory is bounded by pages of keys and by temporary tables, never
//! by splitting that transaction.

use super::fanned::{Fanned, columns};
use super::list::{Page, Reading};
use super::{BatchReport, LevelError, TouchedTable};
use crate::database::apply::{Falls, StricterSql, TableSql, TouchedSql, copy_line};
use crate::database::catalog::Catalog;
use crate::database::changes::Key;
use crate::database::pgoutput::Lsn;
use crate::database::repair;
use crate::plan::{Side, TableName};
use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use std::collections::BTreeSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};

/// Bytes that are gathered before they are handed to the target.
const GATHERED: usize = 64 * 1024;
/// Bytes of keys that are staged at a time.
const STAGED: usize = 1024 * 1024;
/// Above this many keys the planner is told how many there are.
const MANY_KEYS: u64 = 1000;

/// One batch under way: everything it needs, and what it has done.
pub(super) struct Batch<'a> {
    pub(super) source: &'a Transaction<'a>,
    pub(super) target: &'a Transaction<'a>,
    /// The source as it is now, for what a snapshot may not do.
    pub(super) beside: &'a Client,
    /// The side that is the source.
    pub(super) side: Side,
    pub(super) touched: &'a [TouchedSql],
    pub(super) sql: &'a [TableSql],
    pub(super) stricter: &'a [Option<StricterSql>],
    /// What falls with deleted rows; none where nothing may.
    pub(super) falls: Option<&'a Falls>,
    pub(super) catalog: &'a Catalog,
    pub(super) page_keys: usize,
    /// Touched rows that led to many keys before.
    pub(super) fanned: &'a mut Fanned,
    /// Keys written to each table's temporary table.
    pub(super) keys: Vec<u64>,
    /// Captured tables of which rows were touched.
    pub(super) places: BTreeSet<usize>,
    pub(super) report: BatchReport,
}

impl Batch<'_> {
    pub(super) fn on_source(&self, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> LevelError + use<> {
        LevelError::on(self.side, what)
    }

    pub(super) fn on_target(&self, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> LevelError + use<> {
        LevelError::on(self.side.other(), what)
    }

    /// Reads the list up to the mark and writes the touched keys of the target to the temporary tables, page by page. Gives the
    /// target's new position.
    pub(super) async fn touch(
        &mut self,
        mut reading: Reading<'_>,
        rewritten: BTreeSet<usize>,
    ) -> Result<Option<Lsn>, LevelError> {
        while let Some(page) = reading.page().await? {
            self.touch_page(page).await?;
        }
        let ended = reading.ended();
        self.touch_all(&(&ended.emptied | &rewritten)).await?;
        self.touch_recorded().await?;
        self.touch_repaired().await?;
        (self.report.commits, self.report.left_in_slot) = (ended.commits, ended.left);
        Ok(ended.position)
    }

    /// Keys derived from the source's rows as S sees them; and the touched rows noted, for what the target records.
    async fn touch_page(&mut self, page: Page) -> Result<(), LevelError> {
        for (place, keys) in page {
            self.places.insert(place);
            let mut lines = Vec::new();
            keys.iter().for_each(|key| copy_line(&mut lines, key));
            self.copy_in(&self.touched[place].keys_in, lines).await?;
            let all = self.sql;
            for (table, sql) in all.iter().enumerate() {
                for touch in sql.touches.iter().filter(|touch| touch.captured == place) {
                    self.keys[table] += self.follow(table, touch, &keys).await?;
                }
            }
        }
        Ok(())
    }

    /// Asks the source for the target's keys of some touched rows, and stages them; a row that is gone, or a key with a null, gives none.
    pub(super) async fn touch_keys(&self, query: &str, keys: &[Key], keys_in: &str) -> Result<u64, LevelError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let arrays = columns(keys);
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
        let rows = self.source.query_raw(query, parameters).await.map_err(self.on_source("derive touched keys"))?;
        pin_mut!(rows);
        let (mut lines, mut count) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await.map_err(self.on_source("derive touched keys"))? {
            let key: Option<Key> = (0..row.len()).map(|at| row.get(at)).collect();
            if let Some(key) = key {
                copy_line(&mut lines, &key);
                count += 1;
            }
            // One row may lead to millions.
            if lines.len() >= STAGED {
                self.copy_in(keys_in, std::mem::take(&mut lines)).await?;
            }
        }
        self.copy_in(keys_in, lines).await?;
        Ok(count)
    }

    /// Keys that the target records as derived from the touched rows, whether those rows are still there or not.
    async fn touch_recorded(&mut self) -> Result<(), LevelError> {
        for (table, sql) in self.sql.iter().enumerate() {
            let touched = sql.touches.iter().filter(|touch| self.places.contains(&touch.captured));
            for (touch, on_target) in touched.filter_map(|touch| Some((touch, touch.on_target.as_ref()?))) {
                let left_alone = if self.fanned.knows(touch) { touch.left_alone() } else { String::new() };
                let added = self.target.execute(&format!("{on_target}{left_alone}"), &[]).await;
                self.keys[table] += added.map_err(self.on_target("find recorded keys"))?;
            }
        }
        Ok(())
    }

    /// Keys that somebody found in need of being derived anew.
    async fn touch_repaired(&mut self) -> Result<(), LevelError> {
        let waiting = self.target.query(repair::WAITING, &[]).await.map_err(self.on_target("look for repairs"))?;
        if waiting.is_empty() {
            return Ok(());
        }
        let waiting: BTreeSet<String> = waiting.iter().map(|row| row.get(0)).collect();
        for (table, sql) in self.sql.iter().enumerate().filter(|(_, sql)| waiting.contains(&sql.target.to_string())) {
            let added = self.target.execute(&sql.repaired, &[]).await;
            self.keys[table] += added.map_err(self.on_target("take repairs"))?;
        }
        self.target.batch_execute(repair::TAKE).await.map_err(self.on_target("take repairs"))
    }

    /// All keys of the mappings of captured tables that were emptied or rewritten, on both sides.
    async fn touch_all(&mut self, places: &BTreeSet<usize>) -> Result<(), LevelError> {
        for (table, sql) in self.sql.iter().enumerate() {
            if !sql.touches.iter().any(|touch| places.contains(&touch.captured)) {
                continue;
            }
            for touch in sql.touches.iter().filter(|touch| places.contains(&touch.captured)) {
                self.forget_all(touch).await?;
            }
            let added = self.target.execute(&sql.all_on_target, &[]).await;
            self.keys[table] += added.map_err(self.on_target("touch every key"))?;
            self.keys[table] += self.carry(&sql.all_on_source, &sql.keys_in).await?;
        }
        Ok(())
    }

    /// Derives the touched keys' rows from the source at S, page by page.
    pub(super) async fn derive(&mut self) -> Result<(), LevelError> {
        let page_size = i32::try_from(self.page_keys).unwrap_or(i32::MAX);
        for (table, sql) in self.sql.iter().enumerate().filter(|(table, _)| self.keys[*table] > 0) {
            self.report.touched.insert(sql.target.clone());
            self.report.keys += self.keys[table];
            let portal = self.target.bind(&sql.keys_out, &[]).await.map_err(self.on_target("read touched keys"))?;
            loop {
                let rows = self.target.query_portal(&portal, page_size).await;
                let rows = rows.map_err(self.on_target("read touched keys"))?;
                let page: Vec<Key> =
                    rows.iter().filter_map(|row| (0..row.len()).map(|at| row.get(at)).collect()).collect();
                if !page.is_empty() {
                    self.carry(&sql.rows_out(&page), &sql.rows_in).await?;
                }
                if rows.len() < self.page_keys {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The places of tables of which keys were touched, those made equal or those of which the stricter side wins.
    pub(super) fn touched_places(&self, is_equal: bool) -> Vec<usize> {
        let is_meant = |place: &usize| self.keys[*place] > 0 && self.stricter[*place].is_none() == is_equal;
        (0..self.sql.len()).filter(is_meant).collect()
    }

    /// The touched rows of every table, as the target now holds them.
    pub(super) fn touched_tables(&self) -> Vec<TouchedTable<'_>> {
        let tables = self.sql.iter().zip(&self.keys).filter(|(_, keys)| **keys > 0);
        tables.map(|(sql, keys)| TouchedTable { table: &sql.target, from: &sql.touched_rows, keys: *keys }).collect()
    }

    /// Tells the planner how many keys there are, and sees that no key was derived twice.
    async fn require_single(&self) -> Result<(), LevelError> {
        for (table, sql) in self.sql.iter().enumerate().filter(|(table, _)| self.keys[*table] > 0) {
            if self.keys[table] > MANY_KEYS {
                self.target.batch_execute(&sql.analyze).await.map_err(self.on_target("count the keys"))?;
            }
            if let Some(row) =
                self.target.query_opt(&sql.twice(), &[]).await.map_err(self.on_target("look for twins"))?
            {
                return Err(LevelError::Twice { table: sql.target.clone(), key: row.get(0) });
            }
        }
        Ok(())
    }

    /// Deletes of all tables first, then updates of what no unique index holds, then inserts: only rows that differ. What hung on a row that is gone falls with it, if it may.
    pub(super) async fn make_equal(&mut self) -> Result<(), LevelError> {
        self.require_single().await?;
        let equal = self.touched_places(true);
        let (mut gone, mut changed, mut inserted) = (0, 0, 0);
        for sql in equal.iter().map(|place| &self.sql[*place].equal) {
            let compared = self.target.query_one(&sql.compare, &[]).await.map_err(self.on_target("compare rows"))?;
            if compared.get::<_, i64>(0) > 0 {
                gone += self.target.execute(&sql.delete, &[]).await.map_err(self.on_target("delete rows"))?;
            }
            changed += compared.get::<_, i64>(1).cast_unsigned();
        }
        if changed > 0 {
            for update in equal.iter().filter_map(|place| self.sql[*place].equal.update.as_ref()) {
                self.target.execute(update, &[]).await.map_err(self.on_target("update rows"))?;
            }
        }
        for insert in equal.iter().flat_map(|place| &self.sql[*place].equal.inserts) {
            inserted += self.target.execute(insert, &[]).await.map_err(self.on_target("insert rows"))?;
        }
        self.report.rows_deleted += gone + changed;
        self.report.rows_inserted += inserted + changed;
        if gone > 0 { self.let_fall(&equal).await } else { Ok(()) }
    }

    /// What the replica role does not check: that touched rows point to something, and that nothing points to rows taken away.
    pub(super) async fn check_foreign_keys(&self) -> Result<(), LevelError> {
        if self.report.rows_deleted + self.report.rows_inserted == 0 {
            return Ok(());
        }
        let mut checks = Vec::new();
        for sql in self.touched_places(true).into_iter().map(|place| &self.sql[place]) {
            let own = self.catalog.table(&sql.target).into_iter().flat_map(|table| &table.foreign_keys);
            checks.extend(own.map(|key| (sql.child_check(key), &sql.target, &key.name)));
            for child in self.catalog.tables.values() {
                let to_us = child.foreign_keys.iter().filter(|key| key.parent == sql.target);
                checks.extend(to_us.map(|key| (sql.parent_check(&child.name, key), &child.name, &key.name)));
            }
        }
        // All are sent at once: there are dozens, and clients may wait for each answer.
        let asked = checks.iter().map(|(query, table, constraint)| self.require_none(query, table, constraint));
        try_join_all(asked).await.map(drop)
    }

    pub(super) async fn require_none(
        &self,
        query: &str,
        table: &TableName,
        constraint: &str,
    ) -> Result<(), LevelError> {
        let row = self.target.query_opt(query, &[]).await.map_err(self.on_target("check a foreign key"))?;
        let Some(row) = row else { return Ok(()) };
        Err(LevelError::ForeignKey { table: table.clone(), constraint: constraint.to_owned(), sample: row.get(0) })
    }

    pub(super) async fn copy_in(&self, statement: &str, lines: Vec<u8>) -> Result<u64, LevelError> {
        let what = self.on_target("stage keys");
        if lines.is_empty() {
            return Ok(0);
        }
        let copied = async {
            let sink = self.target.copy_in::<_, Bytes>(statement).await?;
            pin_mut!(sink);
            sink.send(Bytes::from(lines)).await?;
            sink.finish().await
        };
        copied.await.map_err(what)
    }

    /// Streams a `copy … to stdout` of the source into a `copy … from stdin` of the target; gives the number of rows.
    async fn carry(&self, out: &str, into: &str) -> Result<u64, LevelError> {
        let stream = self.source.copy_out(out).await.map_err(self.on_source("derive rows"))?;
        let sink = self.target.copy_in::<_, Bytes>(into).await.map_err(self.on_target("stage rows"))?;
        pin_mut!(stream);
        pin_mut!(sink);
        let mut gathered = BytesMut::with_capacity(GATHERED);
        while let Some(row) = stream.next().await {
            gathered.extend_from_slice(&row.map_err(self.on_source("derive rows"))?);
            if gathered.len() >= GATHERED {
                sink.send(gathered.split().freeze()).await.map_err(self.on_target("stage rows"))?;
            }
        }
        sink.send(gathered.freeze()).await.map_err(self.on_target("stage rows"))?;
        sink.finish().await.map_err(self.on_target("stage rows"))
    }
}
