//! The plan's cleanup rules as SQL over a mapping's rows: which rows each leaves behind, and which rows of other tables its verdict hangs on.
//!
//! A row that points to a parent is an orphan when blue has no such parent, or when a rule leaves the parent behind; so a rule holds the rules
//! of its parents in it. Pure.

use super::text::{rows_of, touched};
use super::{KeyColumn, MappingProblem, key_column};
use crate::database::catalog::{Catalog, Table};
use crate::database::sql::{ident, qualified};
use crate::plan::{CleanupRule, Condition, OrphanOf, Plan, Sql, TableName};
use std::collections::BTreeMap;

/// What rules are made from.
pub(super) struct Rules<'a> {
    pub(super) plan: &'a Plan,
    pub(super) blue: &'a Catalog,
    pub(super) values: &'a BTreeMap<String, String>,
}

/// The rows that a rule judges: those of one table of green, under a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged<'j> {
    /// The table of green.
    pub(super) target: &'j TableName,
    /// Blue's table whose rows they are; none where a select gives them.
    pub(super) source: Option<&'j Table>,
    /// Their name in the statement.
    pub(super) alias: &'j str,
}

/// A table on whose rows a rule's verdict hangs, and the condition by which touched ones lead to the rows judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hanging {
    pub(super) source: TableName,
    pub(super) source_key: Vec<KeyColumn>,
    pub(super) condition: String,
}

/// An orphan rule: its parent on blue, and which column of the rows judged leads to which of the parent's key.
pub(super) struct Orphan {
    pub(super) rule: String,
    pub(super) parent: TableName,
    pub(super) columns: Vec<(String, String)>,
}

/// A parent, and the columns by which a row points to it, in the order of the parent's key.
struct Parent<'a> {
    table: &'a Table,
    key: Vec<KeyColumn>,
    columns: Vec<String>,
}

impl Parent<'_> {
    /// That `alias` points to the relation `to`.
    fn pointed_at(&self, alias: &str, to: &str) -> String {
        let pairs = self.key.iter().zip(&self.columns);
        let pairs: Vec<String> = pairs
            .map(|(key, column)| format!("{}.{} = {}.{}", ident(to), ident(&key.name), ident(alias), ident(column)))
            .collect();
        pairs.join(" and ")
    }

    fn name(&self) -> &str {
        &self.table.name.name
    }
}

impl Rules<'_> {
    fn filled(&self, sql: &Sql) -> String {
        sql.with_values(|name| self.values.get(name).cloned())
    }

    fn of<'r>(&'r self, target: &'r TableName) -> impl Iterator<Item = &'r CleanupRule> {
        self.plan.cleanup.iter().filter(move |rule| rule.table == *target)
    }

    /// The predicate of each rule of a table, in the order of the plan.
    ///
    /// # Errors
    /// What of an orphan rule cannot be said of these tables.
    pub(super) fn predicates(&self, judged: Judged<'_>) -> Result<Vec<String>, MappingProblem> {
        self.of(judged.target).map(|rule| self.predicate(rule, judged)).collect()
    }

    fn predicate(&self, rule: &CleanupRule, judged: Judged<'_>) -> Result<String, MappingProblem> {
        let orphan = match &rule.condition {
            Condition::Where(predicate) => return Ok(self.filled(predicate)),
            Condition::OrphanOf(orphan) => orphan,
        };
        let parent = self.parent(rule, orphan, judged)?;
        let mut points: Vec<String> = Vec::new();
        for column in &parent.columns {
            points.push(format!("{}.{} is not null", ident(judged.alias), ident(column)));
        }
        let mut kept = vec![parent.pointed_at(judged.alias, parent.name())];
        for carrier in self.carriers(&parent.table.name) {
            let above = Judged { target: &carrier, source: Some(parent.table), alias: parent.name() };
            kept.extend(self.predicates(above)?.iter().map(|rule| format!("({rule}) is not true")));
        }
        let from =
            format!("{} as {}", qualified(&parent.table.name.schema, &parent.table.name.name), ident(parent.name()));
        Ok(format!("{} and not exists (select from {from} where {})", points.join(" and "), kept.join(" and ")))
    }

    /// Every table above the rows judged, by each of their orphan rules.
    ///
    /// # Errors
    /// The same as [`predicates`](Self::predicates).
    pub(super) fn hanging(&self, judged: Judged<'_>) -> Result<Vec<Hanging>, MappingProblem> {
        let mut all = Vec::new();
        for rule in self.of(judged.target) {
            let Condition::OrphanOf(orphan) = &rule.condition else { continue };
            let parent = self.parent(rule, orphan, judged)?;
            let name = &parent.table.name;
            let touched_parent = touched(&parent.key, "touched_key");
            all.push(Hanging {
                source: name.clone(),
                source_key: parent.key.clone(),
                condition: format!(
                    "exists (select 1 from {touched_parent} where {})",
                    parent.pointed_at(judged.alias, "touched_key")
                ),
            });
            for carrier in self.carriers(name) {
                let above = Judged { target: &carrier, source: Some(parent.table), alias: parent.name() };
                all.extend(self.hanging(above)?.into_iter().map(|above| Hanging {
                    condition: rows_of(
                        name,
                        &format!("{} and {}", parent.pointed_at(judged.alias, parent.name()), above.condition),
                    ),
                    ..above
                }));
            }
        }
        Ok(all)
    }

    /// Tables of green that are carried row by row from a table of blue, and so say which of its rows are left behind.
    pub(super) fn carriers(&self, source: &TableName) -> Vec<TableName> {
        let entries = &self.plan.carry;
        let named = entries.iter().filter(|(_, entry)| entry.from.is_none() && entry.table.as_ref() == Some(source));
        let mut carriers: Vec<TableName> = named.map(|(green, _)| green.clone()).collect();
        if entries.get(source).is_none_or(|entry| entry.from.is_none() && entry.table.is_none()) {
            carriers.push(source.clone());
        }
        carriers
    }

    /// The orphan rules of a table that hold for these tables: each with its parent, and which column leads to which of its key.
    pub(super) fn orphans(&self, judged: Judged<'_>) -> Vec<Orphan> {
        let orphan = |rule: &CleanupRule| {
            let Condition::OrphanOf(orphan) = &rule.condition else { return None };
            let parent = self.parent(rule, orphan, judged).ok()?;
            let keys = parent.key.iter().map(|key| key.name.clone());
            let columns = parent.columns.iter().cloned().zip(keys).collect();
            Some(Orphan { rule: rule.name.clone(), parent: parent.table.name.clone(), columns })
        };
        self.of(judged.target).filter_map(orphan).collect()
    }

    fn parent<'p>(
        &'p self,
        rule: &CleanupRule,
        orphan: &OrphanOf,
        judged: Judged<'_>,
    ) -> Result<Parent<'p>, MappingProblem> {
        let problem = |what: String, hint: &str| MappingProblem {
            table: judged.target.clone(),
            what: format!("cleanup rule {}: {what}", rule.name),
            hint: hint.to_owned(),
        };
        let Some(table) = self.blue.table(&orphan.table) else {
            return Err(problem(format!("blue has no table {}", orphan.table), "correct orphan_of:"));
        };
        if table.name.name == judged.alias {
            let hint = "a table that points to itself, or to one of the same name, cannot be judged so: write a where:";
            return Err(problem(format!("{} has the same name as the rows that point to it", table.name), hint));
        }
        let (columns, references) = self.pointing(orphan, table, judged);
        if columns.is_empty() {
            let what = format!("blue has no single foreign key to {}", table.name);
            return Err(problem(what, "name the columns that point to it in columns: of orphan_of:"));
        }
        let paired = |name: &String| references.iter().position(|reference| reference == name);
        // In place nothing follows changes by their key: a row that points to nothing is told by looking, whatever it points with.
        let key = if self.plan.databases.is_in_place { &references } else { &table.key };
        if let Some(name) = references.iter().find(|name| table.column(name).is_none()) {
            return Err(problem(format!("{} has no column {name}", table.name), "correct references: of orphan_of:"));
        }
        let places: Option<Vec<usize>> = key.iter().map(paired).collect();
        let Some(places) = places.filter(|places| !places.is_empty() && places.len() == columns.len()) else {
            let what = format!(
                "{} does not lead to the primary key ({}) of {}",
                columns.join(", "),
                table.key.join(", "),
                table.name
            );
            let hint = "changes name rows by their primary key, so an orphan can only be told by it: use columns that hold that key, or a where:";
            return Err(problem(what, hint));
        };
        let missing = |name: &&String| judged.source.is_some_and(|source| source.column(name).is_none());
        if let Some(name) = columns.iter().find(missing) {
            return Err(problem(format!("blue has no column {name} there"), "correct columns: of orphan_of:"));
        }
        Ok(Parent {
            key: key.iter().filter_map(|name| table.column(name)).map(key_column).collect(),
            columns: places.iter().map(|place| columns[*place].clone()).collect(),
            table,
        })
    }

    /// Which columns point to which: as the plan says, or as blue's only foreign key to that table does.
    fn pointing(&self, orphan: &OrphanOf, table: &Table, judged: Judged<'_>) -> (Vec<String>, Vec<String>) {
        let otherwise = |given: &[String], default: &[String]| match given {
            [] => default.to_vec(),
            given => given.to_vec(),
        };
        if !orphan.columns.is_empty() {
            return (orphan.columns.clone(), otherwise(&orphan.references, &table.key));
        }
        let keys = judged.source.map(|source| source.foreign_keys.as_slice()).unwrap_or_default();
        let is_meant = |references: &[String]| orphan.references.is_empty() || orphan.references == references;
        let mut found = keys.iter().filter(|key| key.parent == table.name && is_meant(&key.parent_columns));
        match (found.next(), found.next()) {
            (Some(key), None) => (key.columns.clone(), key.parent_columns.clone()),
            _ => (Vec::new(), Vec::new()),
        }
    }
}
