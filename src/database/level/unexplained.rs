//! Rows that are gone on the source for no known reason: recorded on the target, counted, and removed when a person has decided.

use super::fall::let_fall;
use super::{LevelError, REPLICA, Worker};
use crate::database::term;
use crate::plan::TableName;

const CREATE: &str = "create table if not exists cutover.unexplained (
  relation text not null,
  key text[] not null,
  first_seen timestamptz not null default clock_timestamp(),
  primary key (relation, key))";

/// What of one table is gone on the source for no known reason, and stands on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// The target's table.
    pub table: TableName,
    /// How many rows.
    pub count: u64,
    /// Keys of a few, those found first.
    pub samples: Vec<String>,
}

impl Worker {
    /// Creates the record, under the term, if anything can come to stand in it.
    pub(super) async fn begin_unexplained(&mut self) -> Result<(), LevelError> {
        if self.stricter.iter().all(Option::is_none) {
            return Ok(());
        }
        let side = self.capture.side.other();
        let on_target = |what| LevelError::on(side, what);
        let target = self.target.transaction().await.map_err(on_target("begin"))?;
        term::hold(&target, &self.term).await?;
        target.batch_execute(CREATE).await.map_err(on_target("create table cutover.unexplained"))?;
        target.commit().await.map_err(on_target("create table cutover.unexplained"))
    }

    /// What is recorded and still lives on the target; tables of which nothing is are left out.
    ///
    /// # Errors
    /// When the target does not answer.
    pub async fn unexplained(&mut self) -> Result<Vec<Unexplained>, LevelError> {
        let mut all = Vec::new();
        for sql in self.stricter.iter().flatten() {
            let row = self.target.query_one(&sql.count, &[]).await;
            let row = row.map_err(self.on_target("count what nothing explains"))?;
            let (count, samples): (i64, Option<Vec<String>>) = (row.get(0), row.get(1));
            if let Some(samples) = samples {
                all.push(Unexplained { table: sql.target.clone(), count: count.max(0).cast_unsigned(), samples });
            }
        }
        Ok(all)
    }

    /// Removes what is recorded, with what hangs on it, in one transaction under the term; gives the number of rows. Nothing is left to
    /// do for a second call.
    ///
    /// # Errors
    /// When another process took over, or a row that refuses hangs on one of them; nothing was removed.
    pub async fn apply_unexplained(&mut self) -> Result<u64, LevelError> {
        let side = self.capture.side.other();
        let on_target = |what| LevelError::on(side, what);
        let target = self.target.transaction().await.map_err(on_target("begin"))?;
        target.batch_execute(REPLICA).await.map_err(on_target("become a replica"))?;
        term::hold(&target, &self.term).await?;
        target.batch_execute(&self.staged.empty()).await.map_err(on_target("empty the temporary tables"))?;
        let (mut removed, mut gone) = (0, Vec::new());
        for (sql, table) in self.stricter.iter().zip(&self.sql) {
            let Some(sql) = sql else { continue };
            let row = target.query_one(&sql.remove_recorded, &[]).await.map_err(on_target("remove recorded rows"))?;
            removed += row.get::<_, i64>(0).max(0).cast_unsigned();
            target.execute(&sql.forget_all, &[]).await.map_err(on_target("forget recorded rows"))?;
            gone.push((sql.target.clone(), table.gone().to_owned()));
        }
        let_fall(&target, side, &self.falls, &self.catalog, gone).await?;
        target.commit().await.map_err(on_target("commit"))?;
        self.staged.took_any();
        Ok(removed)
    }
}
