//! The mapping from a source's tables to a target's: one select per carried table and the way from a touched row to the target's keys.
//!
//! Resolved once, from both catalogs, after green has its final schema; whatever is unmapped or ambiguous is refused before a row
//! moves. The same mapping is used to copy, to keep level, and to account; another one, of the same form, leads back. Pure but for
//! [`ask_values`].

mod back;
mod in_place;
mod judge;
mod one_to_one;
mod parked;
mod pointing;
mod resolve;
mod rules;
mod text;
mod types;

pub use back::resolve_back;
pub use in_place::left_in_place;
pub use judge::judge;
use one_to_one::plan_one_to_one as resolve_one_to_one_plan;
pub use one_to_one::resolve_one_to_one;
pub use parked::{LeftBehind, RULE, archive_of, left_behind, left_behind_one_to_one, parked};
pub use pointing::{Pointing, pointing};
pub use resolve::resolve;

use super::catalog::{Column, Table};
use super::sql::literal;
use crate::plan::{Sql, TableName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use thiserror::Error;
use tokio_postgres::GenericClient;

/// A column of a key, with the type in which it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Its type as SQL would write it.
    pub type_sql: String,
}

/// How a touched row of a source table leads to keys of a target table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// The table of the source.
    pub source: TableName,
    /// Its key, as the change list names rows.
    pub source_key: Vec<KeyColumn>,
    /// A query on the source: one `text[]` parameter per column of `source_key`, one row per key of the target, its columns as text in
    /// key order.
    pub keys_sql: String,
    /// Columns of the target table that hold `source_key`, in the same order. Empty where the source's own rows say it: those that point to a
    /// parent which has gone are still there.
    pub back: Vec<String>,
}

/// One cleanup rule of a mapping and its caps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cleanup {
    /// The rule's name.
    pub rule: String,
    /// Most rows it may leave behind.
    pub cap_rows: u64,
    /// Most rows it may leave behind, in per cent of the table.
    pub cap_percent: f64,
}

/// How the target's rows are made equal to the derived ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Equality {
    /// In everything: missing rows are inserted, others replaced or deleted.
    Equal,
    /// The stricter side wins: rows are switched off or deleted, never inserted, never switched on.
    Stricter {
        /// The boolean column, of one name on both sides, whose `false` switches a row off.
        active: Option<String>,
        /// The target's column that says to which chain a row belongs.
        chain: Option<String>,
    },
}

/// One carried table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableMapping {
    /// The table of the target.
    pub target: TableName,
    /// How its rows are made equal.
    pub equality: Equality,
    /// Its key.
    pub key: Vec<KeyColumn>,
    /// The columns that are carried, in the order of `select`.
    pub columns: Vec<KeyColumn>,
    /// Columns of the target that the mapping does not give.
    pub own_columns: Vec<String>,
    /// Whether a carried column is an identity that refuses given values without `overriding system value`.
    pub overrides_identity: bool,
    /// The ordinary table of the source of whose rows each gives at most one of the target's, under its own name in `select`; none where the
    /// plan wrote the select, or where the rows lie in partitions.
    pub driven_by: Option<TableName>,
    /// A select over the source that gives exactly `columns`, rows left behind by a rule taken out.
    pub select: String,
    /// A query on the source with one row: all its rows, then the rows each of `cleanup` leaves behind (the first rule that matches counts).
    pub count_sql: String,
    /// The cleanup rules in it.
    pub cleanup: Vec<Cleanup>,
    /// Which tables of the source touch which of its keys.
    pub touched_by: Vec<Touch>,
    /// Predicates over the target's rows that the source never had: left out when every key of the table is touched.
    pub spared: Vec<String>,
    /// The server's estimate of its rows on the source, for ordering work; 0 when unknown.
    pub estimated_rows: u64,
}

impl TableMapping {
    /// `select` and `count_sql` over those rows only that satisfy a predicate over `driven_by`.
    pub(super) fn within(&self, predicate: &str) -> (String, String) {
        let and = if self.cleanup.is_empty() { "where" } else { "and" };
        (format!("{} {and} {predicate}", self.select), format!("{} where {predicate}", self.count_sql))
    }
}

/// All carried tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// In the order of their names.
    pub tables: Vec<TableMapping>,
}

impl Mapping {
    /// The tables of the source whose changes touch anything, each once.
    #[must_use]
    pub fn captured(&self) -> Vec<TableName> {
        let touches = self.tables.iter().flat_map(|table| &table.touched_by);
        touches.map(|touch| touch.source.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The tables of the target that are carried.
    #[must_use]
    pub fn carried(&self) -> Vec<TableName> {
        self.tables.iter().map(|table| table.target.clone()).collect()
    }
}

/// Something that is unmapped or ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MappingProblem {
    /// The table it is about.
    pub table: TableName,
    /// What is wrong.
    pub what: String,
    /// What to write in the plan.
    pub hint: String,
}

impl fmt::Display for MappingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.table, self.what, self.hint)
    }
}

/// Why the plan's `values` could not be asked of green.
#[derive(Debug, Error)]
pub enum ValueError {
    /// The server refused the question.
    #[error("ask green for value {name}")]
    Server {
        /// The value.
        name: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Not one row with one value.
    #[error("ask green for value {name}: {rows} rows, one is wanted, and not null")]
    NotOne {
        /// The value.
        name: String,
        /// How many rows came.
        rows: usize,
    },
}

/// Asks green once for each of the plan's `values`; answers each as an SQL literal with its type, ready to stand for `$name`.
///
/// # Errors
/// When a question is refused or has not exactly one answer.
pub async fn ask_values(
    green: &impl GenericClient,
    values: &BTreeMap<String, Sql>,
) -> Result<BTreeMap<String, String>, ValueError> {
    let mut answers = BTreeMap::new();
    for (name, question) in values {
        let sql = format!(
            "select pg_catalog.format_type(pg_catalog.pg_typeof(v)::oid, null), v::text from ({}) as q(v)",
            question.text
        );
        let failed = |source| ValueError::Server { name: name.clone(), source };
        let rows = green.query(&sql, &[]).await.map_err(failed)?;
        let value: Option<String> = rows.first().and_then(|row| row.get(1));
        match (rows.len(), value) {
            (1, Some(value)) => {
                let kind: String = rows[0].get(0);
                answers.insert(name.clone(), format!("{}::{kind}", literal(&value)));
            }
            (rows, _) => return Err(ValueError::NotOne { name: name.clone(), rows }),
        }
    }
    Ok(answers)
}

fn key_column(column: &Column) -> KeyColumn {
    KeyColumn { name: column.name.clone(), type_sql: column.type_sql.clone() }
}

fn is_not_null(table: &Table, name: &str) -> bool {
    table.column(name).is_some_and(|column| column.not_null)
}
