//! The last part of a batch: the stricter side wins, what is gone is explained or recorded, and what hung on it falls.

use super::LevelError;
use super::batch::Batch;
use super::fall::let_fall;
use super::reapply::{Explained, Gone, Reapply};
use crate::database::apply::{StricterSql, copy_line};

impl Batch<'_> {
    /// For tables of which only deletes and deactivations are taken over. Called after revocations were applied again: what they
    /// explain is dead by then.
    pub(super) async fn judge(&mut self, reapply: &impl Reapply) -> Result<(), LevelError> {
        let places = self.touched_places(false);
        for (place, sql) in places.iter().filter_map(|place| Some((*place, self.stricter[*place].as_ref()?))) {
            if let Some(deactivate) = &sql.deactivate {
                let rows = self.target.execute(deactivate, &[]).await.map_err(self.on_target("switch rows off"))?;
                self.report.rows_deactivated += rows;
            }
            let gone =
                self.target.execute(&sql.find_gone, &[]).await.map_err(self.on_target("find rows that are gone"))?;
            if gone > 0 {
                self.remove_explained(place, sql, reapply).await?;
            }
            self.target.execute(&sql.forget, &[]).await.map_err(self.on_target("forget what is explained by now"))?;
            let recorded = self.target.execute(&sql.record, &[]).await;
            self.report.rows_unexplained += recorded.map_err(self.on_target("record what nothing explains"))?;
        }
        if self.report.rows_removed > 0 { self.let_fall(&places).await } else { Ok(()) }
    }

    async fn remove_explained(
        &mut self,
        place: usize,
        sql: &StricterSql,
        reapply: &impl Reapply,
    ) -> Result<(), LevelError> {
        let remove = if self.explain(place, sql, reapply).await? { &sql.remove_all } else { &sql.remove_explained };
        let removed = self.target.execute(remove, &[]).await.map_err(self.on_target("remove explained rows"))?;
        self.report.rows_removed += removed;
        Ok(())
    }

    /// Asks about the chains of noted rows, page by page; whether the whole table is explained.
    async fn explain(&self, place: usize, sql: &StricterSql, reapply: &impl Reapply) -> Result<bool, LevelError> {
        let mut after = String::new();
        loop {
            let chains = self.chains(sql, &after).await?;
            let gone = Gone { table: &self.sql[place].target, chains: &chains };
            match reapply.explain(self.source, gone).await.map_err(self.on_source("explain what is gone"))? {
                Explained::All => return Ok(true),
                Explained::Chains(explained) => {
                    let mut lines = Vec::new();
                    explained.into_iter().for_each(|chain| copy_line(&mut lines, &[chain]));
                    self.copy_in(&sql.explained_in, lines).await?;
                }
            }
            match chains.last() {
                Some(last) if chains.len() >= self.page_keys => after.clone_from(last),
                _ => return Ok(false),
            }
        }
    }

    async fn chains(&self, sql: &StricterSql, after: &str) -> Result<Vec<String>, LevelError> {
        let Some(chains) = &sql.chains else { return Ok(Vec::new()) };
        let most = i64::try_from(self.page_keys).unwrap_or(i64::MAX);
        let rows = self.target.query(chains, &[&after, &most]).await;
        Ok(rows
            .map_err(self.on_target("read the chains of rows that are gone"))?
            .iter()
            .map(|row| row.get(0))
            .collect())
    }

    /// Carries out the target's own rules for what hung on rows that were taken away from the tables at `places`.
    pub(super) async fn let_fall(&mut self, places: &[usize]) -> Result<(), LevelError> {
        let Some(falls) = self.falls else { return Ok(()) };
        let gone = places.iter().map(|place| (self.sql[*place].target.clone(), self.sql[*place].gone().to_owned()));
        let fallen = let_fall(self.target, self.side.other(), falls, self.catalog, gone.collect()).await?;
        self.report.rows_fallen += fallen;
        Ok(())
    }
}
