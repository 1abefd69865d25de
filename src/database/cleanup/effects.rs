//! What hangs on rows that are left behind: rows of other tables that point to them, on green by its foreign keys, on blue by blue's.
//!
//! Nothing is left behind because something else is: whatever would hang in the air on green is told before a row moves. Reads only.

use super::{CleanupError, shown};
use crate::database::catalog::{Catalog, ForeignKey, OnDelete};
use crate::database::mapping::{LeftBehind, Mapping, RULE, TableMapping};
use crate::database::sql::{ident, qualified};
use crate::plan::TableName;
use serde::Serialize;
use std::fmt;
use tokio_postgres::GenericClient;

/// How far rows are followed that hang on rows that hang on a row.
const DEEPEST: usize = 5;

/// Rows that would be carried and point to rows that a rule leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hanging {
    /// The rule.
    pub rule: String,
    /// Its table.
    pub table: TableName,
    /// The table of the rows that point to it.
    pub child: TableName,
    /// By which foreign key of green.
    pub constraint: String,
    /// How many.
    pub rows: u64,
    /// What one of them points to.
    pub sample: String,
}

impl fmt::Display for Hanging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, table, child, constraint, rows, sample } = self;
        write!(
            f,
            "{rows} rows of {child} point to rows of {table} that {rule} leaves behind ({constraint}, such as {sample})"
        )
    }
}

/// Rows of blue that hang, directly or through others, on rows that a rule leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cascade {
    /// The rule.
    pub rule: String,
    /// The table of the rows.
    pub table: TableName,
    /// The foreign keys of blue that lead to them, from the table of the rule.
    pub through: Vec<String>,
    /// What a delete would do to them on blue.
    pub on_delete: OnDelete,
    /// How many.
    pub rows: u64,
}

/// Rows that the mapping carries and that would point to nothing on green, by its foreign keys, because of a rule. Green's catalog is that of
/// before the copy, whose keys stand.
///
/// # Errors
/// When blue does not answer.
pub async fn hanging(
    blue: &impl GenericClient,
    mapping: &Mapping,
    left: &[LeftBehind],
    green: &Catalog,
) -> Result<Vec<Hanging>, CleanupError> {
    let mut found = Vec::new();
    for parent in left {
        for table in green.roots() {
            let Some(child) = mapping.tables.iter().find(|child| child.target == table.name) else { continue };
            for key in table.foreign_keys.iter().filter(|key| key.parent == parent.table) {
                let Some(kept) = mapping.tables.iter().find(|kept| kept.target == parent.table) else { continue };
                found.extend(through(blue, child, key, parent, kept).await?);
            }
        }
    }
    Ok(found)
}

async fn through(
    blue: &impl GenericClient,
    child: &TableMapping,
    key: &ForeignKey,
    parent: &LeftBehind,
    kept: &TableMapping,
) -> Result<Vec<Hanging>, CleanupError> {
    let pairs = |left: &str, right: &str| {
        let pairs = key.columns.iter().zip(&key.parent_columns);
        let pairs: Vec<String> =
            pairs.map(|(own, other)| format!("{left}.{} = {right}.{}", ident(own), ident(other))).collect();
        pairs.join(" and ")
    };
    let is_given = |mapping: &TableMapping, name: &String| mapping.columns.iter().any(|column| column.name == *name);
    if !key.columns.iter().all(|name| is_given(child, name))
        || !key.parent_columns.iter().all(|name| is_given(kept, name))
    {
        return Ok(Vec::new());
    }
    let values: Vec<String> = key.columns.iter().map(|name| format!("c.{}::text", ident(name))).collect();
    let query = format!(
        "select l.{rule}, count(*), min(array[{}]) from ({}) as c join ({}) as l on {} where not exists (select from ({}) as k where {}) group by 1 order by 1",
        values.join(", "),
        child.select,
        parent.rows.select,
        pairs("c", "l"),
        kept.select,
        pairs("c", "k"),
        rule = ident(RULE),
    );
    let what =
        format!("count the rows of {} that point to rows of {} which are left behind", child.target, parent.table);
    let rows = blue.query(&query, &[]).await.map_err(CleanupError::server(what))?;
    let hanging = rows.iter().map(|row| {
        let sample: Vec<Option<String>> = row.get(2);
        let sample: Vec<(&str, Option<String>)> = key.columns.iter().map(String::as_str).zip(sample).collect();
        Hanging {
            rule: row.get(0),
            table: parent.table.clone(),
            child: child.target.clone(),
            constraint: key.name.clone(),
            rows: row.get::<_, i64>(1).cast_unsigned(),
            sample: shown::row(&sample),
        }
    });
    Ok(hanging.collect())
}

/// Rows of blue that are reached from a set of rows, by foreign keys, and how.
struct Reached {
    /// A select of them, all columns.
    rows: String,
    tables: Vec<TableName>,
    through: Vec<String>,
}

/// What hangs on the rows of each rule of a table, on blue, by blue's foreign keys. Rows that are reached by two ways are counted on each.
///
/// # Errors
/// When blue does not answer.
pub async fn cascades(
    blue: &impl GenericClient,
    left: &LeftBehind,
    catalog: &Catalog,
) -> Result<Vec<Cascade>, CleanupError> {
    let Some((source, by_rule)) = &left.on_source else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (rule, rows) in left.rows.cleanup.iter().zip(by_rule) {
        let mut open = vec![Reached { rows: rows.clone(), tables: vec![source.clone()], through: Vec::new() }];
        while let Some(reached) = open.pop() {
            let Some(last) = reached.tables.last() else { continue };
            for table in catalog.roots().filter(|table| !reached.tables.contains(&table.name)) {
                for key in table.foreign_keys.iter().filter(|key| key.parent == *last) {
                    let next = reached.further(&table.name, key);
                    let what =
                        format!("count the rows of {} that hang on rows which {} leaves behind", table.name, rule.rule);
                    let count = format!("select count(*) from ({}) as r", next.rows);
                    let row = blue.query_one(&count, &[]).await.map_err(CleanupError::server(what))?;
                    let rows = row.get::<_, i64>(0).cast_unsigned();
                    if rows == 0 {
                        continue;
                    }
                    found.push(Cascade {
                        rule: rule.rule.clone(),
                        table: table.name.clone(),
                        through: next.through.clone(),
                        on_delete: key.on_delete,
                        rows,
                    });
                    if next.through.len() < DEEPEST {
                        open.push(next);
                    }
                }
            }
        }
    }
    Ok(found)
}

impl Reached {
    fn further(&self, child: &TableName, key: &ForeignKey) -> Self {
        let pairs = key.columns.iter().zip(&key.parent_columns);
        let pairs: Vec<String> = pairs.map(|(own, other)| format!("p.{} = c.{}", ident(other), ident(own))).collect();
        let rows = format!(
            "select c.* from {} as c where exists (select from ({}) as p where {})",
            qualified(&child.schema, &child.name),
            self.rows,
            pairs.join(" and ")
        );
        let tables = self.tables.iter().cloned().chain([child.clone()]).collect();
        let through = self.through.iter().cloned().chain([key.name.clone()]).collect();
        Self { rows, tables, through }
    }
}
