//! What is known of the tables: from the statements before, and from a live database when there is one.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How large a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Bytes of the table with its indexes.
    pub bytes: u64,
    /// Rows, as the planner estimates them.
    pub rows: u64,
}

/// A constraint, as far as locks depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Rows of another table are referenced by these columns.
    Foreign {
        /// The other table.
        parent: String,
        /// The columns on this side.
        columns: Vec<String>,
    },
    /// A check; for `column is not null` the column.
    Check {
        /// The column that it keeps from being null, when it says just that.
        not_null: Option<String>,
        /// Whether all rows were looked at.
        is_valid: bool,
    },
    /// A unique or primary key or an exclusion, with its columns.
    Key(Vec<String>),
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Types by column, as written.
    pub columns: BTreeMap<String, String>,
    /// Columns that refuse null.
    pub not_null: BTreeSet<String>,
    /// Constraints by name.
    pub rules: BTreeMap<String, Rule>,
    /// Columns of the primary key.
    pub primary_key: Vec<String>,
    /// Columns on which a check, or an index with an expression or a condition, depends: it is done anew with their type.
    pub computed: BTreeSet<String>,
    /// Its partition for what no other takes.
    pub default_partition: Option<String>,
    /// Whether its rows lie in partitions.
    pub is_partitioned: bool,
    /// The table whose partition or child it is.
    pub parent: Option<String>,
    /// How large; nothing when nobody looked.
    pub size: Option<Size>,
    /// Made by the file that is looked at, or absent from the database that was read: nobody can be waiting for it.
    pub is_new: bool,
}

/// All that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Tables and materialized views by name.
    pub tables: BTreeMap<String, Table>,
    /// Tables by the name of their index.
    pub indexes: BTreeMap<String, String>,
    /// Columns by the name of their index, where it holds columns alone.
    pub index_columns: BTreeMap<String, Vec<String>>,
    /// Views, materialized ones too, and what they read.
    pub views: BTreeMap<String, BTreeSet<String>>,
    /// Tables by the name of their extended statistics.
    pub statistics: BTreeMap<String, String>,
    /// Domains, and other types that were made, by name: whether they have constraints.
    pub domains: BTreeMap<String, bool>,
    /// Whether a database was read: a table that is not in it is new.
    pub is_live: bool,
}

impl Known {
    /// Whether nobody can be waiting for a table.
    #[must_use]
    pub fn is_new(&self, table: &str) -> bool {
        self.tables.get(table).is_some_and(|table| table.is_new)
    }

    /// From the next file on, what the last one made may have rows, unless a database was read that does not have it.
    pub fn next_file(&mut self) {
        if !self.is_live {
            self.tables.values_mut().for_each(|table| table.is_new = false);
        }
    }

    /// Tables whose foreign keys reference `table`, by these columns' owner.
    pub(super) fn children(&self, table: &str) -> Vec<&str> {
        let is_child = |other: &Table| {
            other.rules.values().any(|rule| matches!(rule, Rule::Foreign { parent, .. } if parent == table))
        };
        self.tables
            .iter()
            .filter(|(name, other)| *name != table && is_child(other))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Tables that `table` references, by any column or by one.
    pub(super) fn parents(&self, table: &str, column: Option<&str>) -> Vec<String> {
        let Some(found) = self.tables.get(table) else { return Vec::new() };
        let mut parents: Vec<String> = Vec::new();
        for rule in found.rules.values() {
            if let Rule::Foreign { parent, columns } = rule
                && column.is_none_or(|column| columns.iter().any(|one| one == column))
                && parent != table
                && !parents.contains(parent)
            {
                parents.push(parent.clone());
            }
        }
        parents
    }

    /// Partitions and children of a table, and theirs.
    pub(in crate::database::migrations) fn below(&self, table: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut look = vec![table.to_owned()];
        while let Some(parent) = look.pop() {
            for (name, _) in self.tables.iter().filter(|(_, child)| child.parent.as_deref() == Some(&parent)) {
                if !found.contains(name) {
                    found.push(name.clone());
                    look.push(name.clone());
                }
            }
        }
        found
    }

    /// Partitions of a table, and theirs; none of a table with children alone, which share neither its indexes nor its keys.
    pub(in crate::database::migrations) fn partitions(&self, table: &str) -> Vec<String> {
        if self.is_partitioned(table) { self.below(table) } else { Vec::new() }
    }

    /// Whether a table's rows lie in partitions.
    pub(in crate::database::migrations) fn is_partitioned(&self, table: &str) -> bool {
        self.tables.get(table).is_some_and(|table| table.is_partitioned)
    }

    /// The partition that takes what no other of this table takes.
    pub(super) fn rest_of(&self, table: &str) -> Option<String> {
        self.tables.get(table).and_then(|table| table.default_partition.clone())
    }

    /// Views that read a table.
    pub(super) fn readers(&self, table: &str) -> impl Iterator<Item = &str> {
        self.views.iter().filter(move |(_, reads)| reads.contains(table)).map(|(view, _)| view.as_str())
    }
}

/// A name without its schema.
pub(super) fn bare(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
