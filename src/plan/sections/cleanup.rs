//! The sections `cleanup` and `dirty`: rows that are left behind, and questions for rows that need it.

use super::no_sql;
use crate::plan::document as typed;
use crate::plan::model::{CleanupRule, Condition, Dirty, OrphanOf};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use crate::plan::sql_rules::Kind;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn cleanup(&mut self, typed: &[typed::CleanupRule]) -> Vec<CleanupRule> {
        let place = Place::top("cleanup");
        typed.iter().enumerate().map(|(index, rule)| self.cleanup_rule(&place.index(index), rule)).collect()
    }

    fn cleanup_rule(&mut self, place: &Place, typed: &typed::CleanupRule) -> CleanupRule {
        self.nonempty(&place.key("because"), &typed.because);
        CleanupRule {
            name: self.name(&place.key("name"), &typed.name),
            table: self.table(&place.key("table"), &typed.table, false),
            condition: self.condition(place, typed),
            cap_rows: typed.cap.rows,
            cap_percent: typed.cap.percent,
            park: typed.park,
            because: typed.because.clone(),
        }
    }

    fn condition(&mut self, place: &Place, typed: &typed::CleanupRule) -> Condition {
        match (&typed.predicate, &typed.orphan_of) {
            (Some(predicate), None) => {
                Condition::Where(self.sql(&place.key("where"), predicate, Kind::Predicate).unwrap_or_else(no_sql))
            }
            (None, Some(orphan)) => {
                let place = place.key("orphan_of");
                Condition::OrphanOf(OrphanOf {
                    table: self.table(&place.key("table"), &orphan.table, false),
                    columns: orphan.columns.clone(),
                    references: orphan.references.clone(),
                })
            }
            _ => {
                let message = format!("`{place}` must have either `where` or `orphan_of`");
                let hint = "`where: predicate` for rows that say it themselves, `orphan_of: { table: … }` for rows that point to nothing";
                self.problems.key(place, message, hint);
                Condition::Where(no_sql())
            }
        }
    }

    pub(in crate::plan) fn dirty(&mut self, typed: &[typed::Dirty]) -> Vec<Dirty> {
        let place = Place::top("dirty");
        typed.iter().enumerate().map(|(index, dirty)| self.dirty_rows(&place.index(index), dirty)).collect()
    }

    fn dirty_rows(&mut self, place: &Place, typed: &typed::Dirty) -> Dirty {
        self.nonempty(&place.key("because"), &typed.because);
        if typed.handled_by.is_some() == typed.expect.is_some() {
            let message = format!("`{place}` must have either `handled_by` or `expect: none`");
            let hint =
                "name the rule of `cleanup`, the table of `carry` or the entry of `migrate` that deals with such rows";
            self.problems.key(place, message, hint);
        }
        Dirty {
            name: self.name(&place.key("name"), &typed.name),
            find: self.sql(&place.key("find"), &typed.find, Kind::Value).unwrap_or_else(no_sql),
            handled_by: typed.handled_by.clone(),
            because: typed.because.clone(),
        }
    }
}
