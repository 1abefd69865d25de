//! The worker's temporary tables between batches: what one batch has staged is deleted before the next one stages anew.
//!
//! They are not emptied by `on commit delete rows`: at each commit that truncates every such table of the session, used or not, with its
//! indexes and its toast table. For sixty tables that took 100 ms, and the last batch's commit is one for which clients wait.

use super::Worker;
use crate::database::apply::{Falls, StricterSql, TableSql, TouchedSql};
use std::collections::BTreeSet;

/// All temporary tables of a worker, and those that hold rows.
#[derive(Debug, Default)]
pub(super) struct Staged {
    touched: Vec<String>,
    /// Of each carried table.
    carried: Vec<[String; 4]>,
    /// Used on the way back alone.
    others: Vec<String>,
    full: BTreeSet<String>,
}

impl Staged {
    pub(super) fn new(
        touched: &[TouchedSql],
        sql: &[TableSql],
        stricter: &[Option<StricterSql>],
        falls: &Falls,
    ) -> Self {
        let explained = stricter.iter().flatten().map(|sql| sql.explained.clone());
        Self {
            touched: touched.iter().map(|touched| touched.name.clone()).collect(),
            carried: sql.iter().map(TableSql::temporary).collect(),
            others: explained.chain(falls.names()).collect(),
            full: BTreeSet::new(),
        }
    }

    /// Empties those that hold rows, inside the transaction that stages anew.
    pub(super) fn empty(&self) -> String {
        self.full.iter().map(|name| format!("delete from pg_temp.{name};")).collect()
    }

    /// Notes what a batch has committed: rows touched of these captured tables, and so many keys of each carried table.
    pub(super) fn took(&mut self, places: &BTreeSet<usize>, keys: &[u64]) {
        self.full = places.iter().map(|place| self.touched[*place].clone()).collect();
        let carried = self.carried.iter().zip(keys).filter(|(_, keys)| **keys > 0);
        self.full.extend(carried.flat_map(|(names, _)| names.clone()));
        self.full.extend(self.others.clone());
    }

    /// Notes that any of them may hold rows.
    pub(super) fn took_any(&mut self) {
        self.full = self.touched.iter().chain(self.carried.iter().flatten()).chain(&self.others).cloned().collect();
    }
}

impl Worker {
    /// Empties what was staged and gives its room back: the planner takes the room for rows, and would read whole tables for a few keys.
    /// Between batches, never while clients are held; what hinders it only leaves the next batch slower.
    pub(super) async fn give_room_back(&mut self) {
        if self.staged.full.is_empty() {
            return;
        }
        let names: Vec<String> = self.staged.full.iter().map(|name| format!("pg_temp.{name}")).collect();
        let given_back = async {
            self.target.batch_execute(&self.staged.empty()).await?;
            self.target.batch_execute(&format!("vacuum {}", names.join(", "))).await
        };
        match given_back.await {
            Ok(()) => self.staged.full.clear(),
            Err(error) => tracing::warn!(%error, "temporary tables keep their room"),
        }
    }
}
