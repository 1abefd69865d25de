//! What falls with a deleted row: a batch fires no cascades, so the target's own `on delete` rules are carried out by statements.
//!
//! Only rows whose parent is really gone fall; one that was replaced under its key keeps its children.

use super::{lost_rows, pairs, parent_check};
use crate::database::catalog::{Catalog, ForeignKey, OnDelete, Table};
use crate::database::sql::{ident, qualified};
use crate::plan::TableName;
use std::collections::BTreeSet;

/// Every table that rows can fall from, each with a temporary table for the rows that fell.
#[derive(Debug, Default)]
pub(in crate::database) struct Falls {
    tables: Vec<TableName>,
}

/// What a deleted row means for the rows of one table that reference it.
#[derive(Debug)]
pub(in crate::database) struct Fall {
    /// The referencing table.
    pub(in crate::database) child: TableName,
    /// The constraint.
    pub(in crate::database) constraint: String,
    /// Carries out the rule; none where the rule is to refuse.
    pub(in crate::database) statement: Option<String>,
    /// The temporary table that receives what fell; none where nothing is deleted.
    pub(in crate::database) fallen: Option<String>,
    /// A query for one row that still references a deleted one.
    pub(in crate::database) check: String,
}

impl Falls {
    /// All tables that can be reached by `on delete cascade` from `parents`.
    pub(in crate::database) fn of(catalog: &Catalog, parents: impl IntoIterator<Item = TableName>) -> Self {
        let mut waiting: Vec<TableName> = parents.into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(parent) = waiting.pop() {
            for (child, _) in children(catalog, &parent).filter(|(_, key)| key.on_delete == OnDelete::Cascade) {
                if reached.insert(child.name.clone()) {
                    waiting.push(child.name.clone());
                }
            }
        }
        Self { tables: reached.into_iter().collect() }
    }

    /// Creates the temporary tables.
    pub(in crate::database) fn creates(&self) -> Vec<String> {
        let create = |table: &TableName| {
            let (name, of) = (self.name(table), qualified(&table.schema, &table.name));
            format!("create temporary table {name} as select * from {of} with no data; analyze {name}")
        };
        self.tables.iter().map(create).collect()
    }

    /// The names of the temporary tables.
    pub(in crate::database) fn names(&self) -> Vec<String> {
        self.tables.iter().map(|table| self.name(table)).collect()
    }

    /// What rows of `parent` in the temporary table `gone` mean for others.
    pub(in crate::database) fn caused_by(&self, catalog: &Catalog, parent: &TableName, gone: &str) -> Vec<Fall> {
        children(catalog, parent).map(|(child, key)| self.fall(child, key, gone)).collect()
    }

    fn fall(&self, child: &Table, key: &ForeignKey, gone: &str) -> Fall {
        let fallen = (key.on_delete == OnDelete::Cascade).then(|| self.name(&child.name));
        let table = qualified(&child.name.schema, &child.name.name);
        let (lost, is_child) = (lost_rows(gone, key), pairs("c", &key.columns, "p", &key.parent_columns));
        let let_go = |to: &str| {
            let columns: Vec<String> = key.columns.iter().map(|column| format!("{} = {to}", ident(column))).collect();
            format!("update {table} c set {} from {lost} where {is_child}", columns.join(", "))
        };
        let statement = match key.on_delete {
            OnDelete::Refuse => None,
            OnDelete::SetNull => Some(let_go("null")),
            OnDelete::SetDefault => Some(let_go("default")),
            OnDelete::Cascade => fallen.as_ref().map(|fallen| {
                format!("with fell as (delete from {table} c using {lost} where {is_child} returning c.*) insert into pg_temp.{fallen} select * from fell")
            }),
        };
        let check = parent_check(gone, &child.name, key);
        Fall { child: child.name.clone(), constraint: key.name.clone(), statement, fallen, check }
    }

    fn name(&self, table: &TableName) -> String {
        let place = self.tables.iter().position(|known| known == table).unwrap_or_default();
        format!("cutover_fallen_{place}")
    }
}

fn children<'c>(catalog: &'c Catalog, parent: &TableName) -> impl Iterator<Item = (&'c Table, &'c ForeignKey)> {
    let parent = parent.clone();
    catalog.tables.values().flat_map(move |child| {
        let parent = parent.clone();
        child.foreign_keys.iter().filter(move |key| key.parent == parent).map(move |key| (child, key))
    })
}
