//! The sections `diff` and `proof`: whether and how much is told, and what may differ for which reason.

use super::no_sql;
use crate::plan::document as typed;
use crate::plan::model::{DeclaredDifference, Diff};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use crate::plan::sql_rules::Kind;

/// Most rows that a diff may list: it is held in memory and kept in the journal.
const MOST_LISTED: u32 = 10_000;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn diff(&mut self, typed: &typed::Diff) -> Diff {
        let place = Place::top("diff").key("list");
        let listed = typed.list.unwrap_or(100);
        if !(1..=MOST_LISTED).contains(&listed) {
            let hint = "all rows that differ are counted; this says how many are listed by their keys";
            self.problems.value(&place, format!("`{place}` is not from 1 to {MOST_LISTED}"), hint);
        }
        Diff { step: typed.step.unwrap_or(true), listed: usize::try_from(listed).unwrap_or(1) }
    }

    pub(in crate::plan) fn proof(&mut self, typed: &typed::Proof) -> Vec<DeclaredDifference> {
        let place = Place::top("proof").key("differences");
        let declared = typed.differences.iter().enumerate();
        declared.map(|(index, one)| self.declared(&place.index(index), one)).collect()
    }

    fn declared(&mut self, place: &Place, typed: &typed::DeclaredDifference) -> DeclaredDifference {
        self.nonempty(&place.key("because"), &typed.because);
        if typed.columns.is_empty() == typed.rows.is_none() {
            let hint = "`columns` that may differ in rows of both, or `rows: mapped` or `rows: migrated` for rows that only one of both has";
            self.problems.key(place, format!("`{place}` must have either `columns` or `rows`"), hint);
        }
        let predicate = typed.predicate.as_ref();
        DeclaredDifference {
            table: self.table(&place.key("table"), &typed.table, false),
            columns: typed.columns.clone(),
            rows: typed.rows,
            predicate: predicate.map(|sql| self.sql(&place.key("where"), sql, Kind::Predicate).unwrap_or_else(no_sql)),
            because: typed.because.clone(),
        }
    }
}
