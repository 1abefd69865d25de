//! What a batch would change: of rows that look wrong on the target, those that a batch would leave as they are differ for a reason.
//!
//! Revocations are killed on the target as soon as they are queued, and stay killed there however the source's engine has written them
//! down; a batch kills them again. So the question is put to a batch itself, in a transaction that is rolled back.

use super::batch::Batch;
use super::source::begin;
use super::{BatchReport, LevelError, REPLICA, Reapply, Worker};
use crate::database::apply::{TableSql, copy_line};
use crate::database::changes::Key;
use crate::database::copy::ExportedSnapshot;
use crate::database::term;
use crate::plan::{Side, TableName};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Transaction;

impl Worker {
    /// Of these keys, those whose rows a batch for `moment` would change, by table. Nothing is changed.
    ///
    /// # Errors
    /// When a server does not answer or another process took over. What the target refuses to a batch counts as changed.
    pub async fn apart(
        &mut self,
        moment: &ExportedSnapshot,
        keys: &BTreeMap<TableName, Vec<Key>>,
        reapply: &impl Reapply,
    ) -> Result<BTreeMap<TableName, BTreeSet<Key>>, LevelError> {
        match self.tried(moment, keys, reapply).await {
            Err(LevelError::Server { side, ref source, .. })
                if side == self.capture.side.other() && source.as_db_error().is_some() =>
            {
                Ok(keys.iter().map(|(table, keys)| (table.clone(), keys.iter().cloned().collect())).collect())
            }
            tried => tried,
        }
    }

    async fn tried(
        &mut self,
        moment: &ExportedSnapshot,
        keys: &BTreeMap<TableName, Vec<Key>>,
        reapply: &impl Reapply,
    ) -> Result<BTreeMap<TableName, BTreeSet<Key>>, LevelError> {
        self.read_catalog().await?;
        let side = self.capture.side;
        let on_target = |what| LevelError::on(side.other(), what);
        let source = begin(&mut self.source, side, Some(moment)).await?;
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
        for (place, sql) in self.sql.iter().enumerate() {
            let Some(keys) = keys.get(&sql.target) else { continue };
            let mut lines = Vec::new();
            keys.iter().for_each(|key| copy_line(&mut lines, key));
            batch.keys[place] = batch.copy_in(&sql.keys_in, lines).await?;
            target.batch_execute(&sql.remember(place)).await.map_err(on_target("remember rows"))?;
        }
        batch.derive().await?;
        batch.make_equal().await?;
        reapply.reapply(&target, &batch.touched_tables()).await.map_err(on_target("apply revocations again"))?;
        let changed = changed(&target, &self.sql, keys).await.map_err(on_target("compare rows"))?;
        target.rollback().await.map_err(on_target("take all of it back"))?;
        source.rollback().await.map_err(LevelError::on(side, "end the snapshot"))?;
        Ok(changed)
    }
}

async fn changed(
    target: &Transaction<'_>,
    sql: &[TableSql],
    keys: &BTreeMap<TableName, Vec<Key>>,
) -> Result<BTreeMap<TableName, BTreeSet<Key>>, tokio_postgres::Error> {
    let mut changed = BTreeMap::new();
    for (place, sql) in sql.iter().enumerate().filter(|(_, sql)| keys.contains_key(&sql.target)) {
        let rows = target.query(&sql.changed(place), &[]).await?;
        changed.insert(sql.target.clone(), rows.iter().map(|row| row.get(0)).collect());
    }
    Ok(changed)
}
