//! Pieces of a mapping's SQL. Pure: names and expressions in, text out.

use super::KeyColumn;
use crate::database::catalog::Table;
use crate::database::sql::{ident, qualified};
use crate::plan::TableName;

pub(super) fn plain(table: &Table, column: &str) -> String {
    format!("{}.{}", ident(&table.name.name), ident(column))
}

/// Whether SQL text mentions a name as a word of its own.
pub(super) fn has_word(sql: &str, name: &str) -> bool {
    sql.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word.eq_ignore_ascii_case(name))
}

pub(super) fn texts(expressions: &[String]) -> String {
    expressions.iter().map(|sql| format!("({sql})::text")).collect::<Vec<_>>().join(", ")
}

/// The touched keys of the source as a relation: `unnest($1::text[], …)` with the key's types.
pub(super) fn touched(key: &[KeyColumn], alias: &str) -> String {
    let arrays: Vec<String> = (1..=key.len()).map(|place| format!("${place}::text[]")).collect();
    let raw: Vec<String> = (1..=key.len()).map(|place| format!("c{place}")).collect();
    let typed: Vec<String> = key
        .iter()
        .zip(&raw)
        .map(|(column, raw)| format!("u.{raw}::{} as {}", column.type_sql, ident(&column.name)))
        .collect();
    format!(
        "(select {} from unnest({}) as u({})) as {}",
        typed.join(", "),
        arrays.join(", "),
        raw.join(", "),
        ident(alias)
    )
}

/// A select over the touched rows of a source table that are still there.
pub(super) fn rows_sql(source: &TableName, key: &[KeyColumn], list: &str) -> String {
    let same: Vec<String> = key
        .iter()
        .map(|column| format!("{}.{1} = touched_key.{1}", ident(&source.name), ident(&column.name)))
        .collect();
    let keys = touched(key, "touched_key");
    let table = format!("{} as {}", qualified(&source.schema, &source.name), ident(&source.name));
    let exists = format!("exists (select 1 from {keys} where {})", same.join(" and "));
    format!("select {list} from {table} where {exists}")
}

/// That a row of a table of the source satisfies a condition in which it goes by its own name.
pub(super) fn rows_of(source: &TableName, condition: &str) -> String {
    let table = format!("{} as {}", qualified(&source.schema, &source.name), ident(&source.name));
    format!("exists (select 1 from {table} where {condition})")
}

pub(super) fn keep(rules: &[String]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let kept: Vec<String> = rules.iter().map(|rule| format!("({rule}) is not true")).collect();
    format!(" where {}", kept.join(" and "))
}

pub(super) fn count_sql(origin: &str, rules: &[String]) -> String {
    let mut counts = vec!["count(*)".to_owned()];
    for (place, rule) in rules.iter().enumerate() {
        let before: Vec<String> = rules[..place].iter().map(|rule| format!("({rule}) is not true and ")).collect();
        counts.push(format!("count(*) filter (where {}({rule}) is true)", before.concat()));
    }
    format!("select {} from {origin}", counts.join(", "))
}
