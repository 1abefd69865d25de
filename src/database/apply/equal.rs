//! The statements that make one table's rows equal: which rows go, which change where they stand, which come. Only text.

use super::{equal_keys, list};
use crate::database::catalog::Catalog;
use crate::database::mapping::{KeyColumn, TableMapping};
use crate::database::sql::ident;

/// Types whose equality is equality of every bit, so that they need not be compared as text.
const EXACT: [&str; 10] = [
    "smallint",
    "integer",
    "bigint",
    "boolean",
    "uuid",
    "bytea",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "oid",
];
/// Text types: exact when compared byte by byte.
const TEXTUAL: [&str; 2] = ["text", "character varying"];

/// The target's own columns that can be written, so that a row that is replaced keeps them.
pub(super) fn own_columns(table: &TableMapping, catalog: &Catalog) -> Vec<String> {
    let writable = |name: &&String| {
        catalog.table(&table.target).and_then(|table| table.column(name)).is_some_and(|column| !column.is_generated)
    };
    table.own_columns.iter().filter(writable).cloned().collect()
}

/// Columns that may be changed where the row stands. Those of unique indexes may not: two rows that swap their values would be refused
/// one by one. Neither may the key, which says what a row is, nor an identity, which refuses updates.
pub(super) struct InPlace(Vec<String>);

impl InPlace {
    pub(super) fn of(table: &TableMapping, catalog: &Catalog) -> Self {
        let Some(found) =
            catalog.table(&table.target).filter(|found| !found.is_partitioned && !found.refuses_otherwise)
        else {
            return Self(Vec::new());
        };
        let is_free = |name: &&String| {
            !found.unique.iter().flatten().any(|unique| unique == *name)
                && !table.key.iter().any(|key| key.name == **name)
                && found.column(name).is_some_and(|column| !column.is_identity_always)
        };
        Self(table.columns.iter().map(|column| &column.name).filter(is_free).cloned().collect())
    }

    fn has(&self, column: &KeyColumn) -> bool {
        self.0.contains(&column.name)
    }
}

pub(super) fn update_sql(table: &TableMapping, place: &InPlace, target: &str, rows: &str) -> Option<String> {
    let free: Vec<&KeyColumn> = table.columns.iter().filter(|column| place.has(column)).collect();
    let set: Vec<String> = free.iter().map(|column| format!("{0} = r.{0}", ident(&column.name))).collect();
    let alike: Vec<String> = free.iter().map(|column| same(column)).collect();
    (!free.is_empty()).then(|| {
        format!(
            "update {target} g set {} from pg_temp.{rows} r where {} and not ({})",
            set.join(", "),
            equal_keys("g", "r", &table.key),
            alike.join(" and ")
        )
    })
}

pub(super) fn delete_sql(
    table: &TableMapping,
    place: &InPlace,
    target: &str,
    keys: &str,
    rows: &str,
    gone: &str,
) -> String {
    let mut others: Vec<String> = table.columns.iter().filter(|column| !place.has(column)).map(same).collect();
    if others.is_empty() {
        others.push("true".to_owned());
    }
    format!(
        "with gone as (delete from {target} g using (select distinct {} from pg_temp.{keys}) k where {} and not exists (
  select from pg_temp.{rows} r where {} and {}) returning g.*),
kept as (insert into pg_temp.{gone} select * from gone returning 1) select count(*) from kept",
        list("", &table.key),
        equal_keys("g", "k", &table.key),
        equal_keys("r", "g", &table.key),
        others.join(" and ")
    )
}

pub(super) fn insert_sql(
    table: &TableMapping,
    target: &str,
    rows: &str,
    gone: &str,
    own: &[String],
    same_key: &str,
) -> Vec<String> {
    let columns = list("", &table.columns);
    let values = list("r.", &table.columns);
    let missing = format!("not exists (select from {target} g where {same_key})");
    let plain = format!(
        "insert into {target} ({columns}) overriding system value select {values} from pg_temp.{rows} r where {missing}"
    );
    if own.is_empty() {
        return vec![plain];
    }
    let names: Vec<String> = own.iter().map(|name| ident(name)).collect();
    let kept: Vec<String> = names.iter().map(|name| format!("o.{name}")).collect();
    let with_own = format!(
        "insert into {target} ({columns}, {}) overriding system value select {values}, {} from pg_temp.{rows} r join pg_temp.{gone} o on {} where {missing}",
        names.join(", "),
        kept.join(", "),
        equal_keys("o", "r", &table.key)
    );
    vec![with_own, plain]
}

/// Whether a column has the same value in `g` and in `r`, bit by bit: numbers that are equal and print differently differ.
fn same(column: &KeyColumn) -> String {
    let name = ident(&column.name);
    let base = column.type_sql.split('(').next().unwrap_or_default();
    if EXACT.contains(&column.type_sql.as_str()) {
        format!("g.{name} is not distinct from r.{name}")
    } else if TEXTUAL.contains(&base) && !column.type_sql.ends_with("[]") {
        format!("g.{name} collate \"C\" is not distinct from r.{name} collate \"C\"")
    } else {
        format!("g.{name}::text collate \"C\" is not distinct from r.{name}::text collate \"C\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_bit_by_bit() {
        let column = |type_sql: &str| KeyColumn { name: "c".into(), type_sql: type_sql.into() };
        assert_eq!(same(&column("integer")), "g.\"c\" is not distinct from r.\"c\"");
        assert!(same(&column("character varying(40)")).contains("g.\"c\" collate"));
        for kind in ["numeric(10,2)", "jsonb", "json", "text[]", "double precision", "citext", "box"] {
            assert!(same(&column(kind)).contains("::text"), "{kind}");
        }
    }
}
