//! Whether touched rows find their keys, and keys their rows, through indexes on both sides; asked before a row moves, with EXPLAIN.
//!
//! A way that reads a whole table is harmless in a trial and stops a batch for minutes on a night with a hundred million rows; and
//! one row of blue that leads to millions of green's does the same. Nothing is read or changed.

use super::source::captured_tables;
use crate::database::apply::{TableSql, TouchedSql};
use crate::database::catalog::{Catalog, Table};
use crate::database::mapping::{Mapping, MappingProblem, TableMapping};
use crate::plan::TableName;
use serde_json::Value;
use tokio_postgres::{Client, GenericClient};

/// A table of so many rows or bytes may be read from end to end: that takes some milliseconds.
const SMALL_ROWS: u64 = 10_000;
const SMALL_BYTES: u64 = 8 << 20;
/// The planner goes another way than through an index only where there is none: what is cheapest depends on statistics that an empty
/// green has not.
const THROUGH_INDEXES: &str =
    "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off;
set local plan_cache_mode = force_generic_plan";
/// Elements that the planner expects in an array it does not know.
const KEYS_EXPECTED: f64 = 10.0;

/// What the ways from a touched row to its rows on green cost.
#[derive(Debug)]
struct Way {
    /// The first large table that is read from end to end.
    whole: Option<TableName>,
    /// Rows that the planner expects.
    rows: f64,
}

/// Ways that would read a large table from end to end, and touches of which one row leads to more than `fan_out` keys.
///
/// # Errors
/// When a server does not answer, or refuses a statement that it has prepared before.
pub async fn judge_lookups(
    blue: &mut Client,
    blue_catalog: &Catalog,
    green: &mut Client,
    green_catalog: &Catalog,
    mapping: &Mapping,
    fan_out: u64,
) -> Result<Vec<MappingProblem>, tokio_postgres::Error> {
    let tables = captured_tables(mapping);
    let (source, target) = (blue.transaction().await?, green.transaction().await?);
    source.batch_execute(THROUGH_INDEXES).await?;
    target.batch_execute(THROUGH_INDEXES).await?;
    for (place, table) in tables.iter().enumerate() {
        target.batch_execute(&TouchedSql::new(place, table).create).await?;
    }
    let on_blue = |name: &TableName| blue_catalog.table(name).is_some_and(is_large);
    let on_green = |name: &TableName| mapping.tables.iter().any(|table| table.target == *name && will_be_large(table));
    let mut problems = Vec::new();
    for (place, table) in mapping.tables.iter().enumerate() {
        let sql = TableSql::new(place, table, &tables, green_catalog);
        target.batch_execute(&sql.create).await?;
        let row = vec![None::<&str>; table.key.len()];
        let derived = way(&source, &sql.rows_of(&[row]), 0, on_blue).await?;
        problems.extend(derived.whole.map(|whole| underivable(table, &whole)));
        for touch in &sql.touches {
            let captured = &tables[touch.captured];
            let found = way(&source, &touch.on_source, captured.key.len(), on_blue).await?;
            let is_parent = touch.on_target.is_none();
            problems.extend(found.whole.map(|whole| untraceable(table, &captured.name, &whole, is_parent)));
            if let Some(on_target) = &touch.on_target {
                let back = way(&target, on_target, 0, on_green).await?;
                problems.extend(back.whole.map(|_| unindexed(table, &captured.name)));
            }
            let rows = found.rows / KEYS_EXPECTED;
            #[expect(clippy::cast_precision_loss, reason = "a bound needs no more than 52 bits")]
            let is_over = rows > fan_out as f64;
            problems.extend(is_over.then(|| fans_out(table, &captured.name, rows, fan_out)));
        }
    }
    Ok(problems)
}

fn is_large(table: &Table) -> bool {
    table.estimated_rows > SMALL_ROWS || table.bytes > SMALL_BYTES
}

fn will_be_large(table: &TableMapping) -> bool {
    table.estimated_rows > SMALL_ROWS
}

/// Has the server explain a statement with so many parameters, for whatever keys they will be; `is_large` tells which tables must not be
/// read whole.
async fn way(
    client: &impl GenericClient,
    statement: &str,
    parameters: usize,
    is_large: impl Fn(&TableName) -> bool,
) -> Result<Way, tokio_postgres::Error> {
    let given = if parameters == 0 { String::new() } else { format!("({})", vec!["null"; parameters].join(", ")) };
    client.batch_execute(&format!("prepare cutover_way as {statement}")).await?;
    let explain = format!("explain (verbose, format json) execute cutover_way{given}");
    let explained: Value = client.query_one(&explain, &[]).await?.get(0);
    client.batch_execute("deallocate cutover_way").await?;
    let top = &explained[0]["Plan"];
    Ok(Way { whole: read_whole(top, &is_large), rows: top["Plan Rows"].as_f64().unwrap_or(0.0) })
}

/// The first large table below `node` that is read without a condition on an index.
fn read_whole(node: &Value, is_large: &impl Fn(&TableName) -> bool) -> Option<TableName> {
    let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let is_whole = match node["Node Type"].as_str() {
        Some("Seq Scan") => true,
        Some("Index Scan" | "Index Only Scan") => node["Index Cond"].is_null(),
        _ => false,
    };
    let table = TableName { schema: text("Schema"), name: text("Relation Name") };
    if is_whole && is_large(&table) {
        return Some(table);
    }
    node["Plans"].as_array().into_iter().flatten().find_map(|below| read_whole(below, is_large))
}

fn underivable(table: &TableMapping, whole: &TableName) -> MappingProblem {
    MappingProblem {
        table: table.target.clone(),
        what: format!("each batch would read all of blue's {whole} to derive a few rows"),
        hint: "give the key's columns plainly in from:, so that a condition on them reaches an index, or add the index on blue".to_owned(),
    }
}

fn untraceable(table: &TableMapping, touched: &TableName, whole: &TableName, is_parent: bool) -> MappingProblem {
    let hint = match is_parent {
        true => {
            "add an index on blue that begins with the columns of orphan_of: by which rows point to it, or leave the rule out"
        }
        false => "let key: of touched_by lead through an index of blue, or add one",
    };
    MappingProblem {
        table: table.target.clone(),
        what: format!("each batch would read all of blue's {whole} to find the keys of touched rows of {touched}"),
        hint: hint.to_owned(),
    }
}

fn unindexed(table: &TableMapping, touched: &TableName) -> MappingProblem {
    MappingProblem {
        table: table.target.clone(),
        what: format!("each batch would read all of it to find rows that were derived from touched rows of {touched}"),
        hint: "add an index on green that begins with the columns of back:, or name others that have one".to_owned(),
    }
}

fn fans_out(table: &TableMapping, touched: &TableName, rows: f64, bound: u64) -> MappingProblem {
    MappingProblem {
        table: table.target.clone(),
        what: format!(
            "one touched row of {touched} leads to about {rows:.0} rows, by blue's statistics, and level.fan_out is {bound}"
        ),
        hint: "leave the columns out that need it, carry them in a table of their own, or raise level.fan_out and rehearse it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_large_table_without_a_condition_is_read_whole() {
        let large = |table: &TableName| table.name == "large";
        let scan = |kind: &str, table: &str| json!({ "Node Type": kind, "Schema": "public", "Relation Name": table });
        assert!(read_whole(&scan("Seq Scan", "large"), &large).is_some());
        assert!(read_whole(&scan("Seq Scan", "small"), &large).is_none());
        assert!(read_whole(&scan("Index Scan", "large"), &large).is_some(), "an index may be read from end to end too");
        let mut by_key = scan("Index Scan", "large");
        by_key["Index Cond"] = json!("(id = 1)");
        assert!(read_whole(&by_key, &large).is_none());
        let below = json!({ "Node Type": "Nested Loop", "Plans": [by_key, scan("Seq Scan", "large")] });
        assert_eq!(read_whole(&below, &large).map(|table| table.to_string()), Some("public.large".to_owned()));
    }
}
