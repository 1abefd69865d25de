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

/// Whether values of a type are equal only when all their bits are.
pub(in crate::database) fn is_exact(type_sql: &str) -> bool {
    EXACT.contains(&type_sql)
}

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

/// The temporary tables of one carried table that its statements need.
pub(super) struct Temporary<'a> {
    /// Touched keys, some of them several times.
    pub(super) keys: &'a str,
    /// Derived rows.
    pub(super) rows: &'a str,
    /// The target's rows under touched keys, and what is to become of them.
    pub(super) found: &'a str,
    /// Rows that were taken away.
    pub(super) gone: &'a str,
}

/// How the table `found` is created: the key, where the row stands, and whether it goes, or changes where it stands.
pub(super) fn found_columns(key_list: &str) -> String {
    format!("{key_list}, 0::oid as cutover_in, null::tid as cutover_at, true as cutover_goes, true as cutover_changes")
}

/// The statements that make the touched rows of one table equal to the derived ones. The target is searched once, by `compare`; what
/// follows goes by what that found.
#[derive(Debug)]
pub(in crate::database) struct EqualSql {
    /// Finds the target's touched rows; one row with the number of those that go, and of those that change.
    pub(in crate::database) compare: String,
    /// Deletes the rows that go: no row was derived, or it differs in what must be unique.
    pub(in crate::database) delete: String,
    /// Updates the rows that change; none where every row that differs goes.
    pub(in crate::database) update: Option<String>,
    /// Inserts what is missing: first rows that had a predecessor with columns of the target's own, then the others.
    pub(in crate::database) inserts: Vec<String>,
}

impl EqualSql {
    pub(super) fn of(table: &TableMapping, target: &str, catalog: &Catalog, temporary: &Temporary<'_>) -> Self {
        let place = InPlace::of(table, catalog);
        let (free, others): (Vec<&KeyColumn>, Vec<&KeyColumn>) =
            table.columns.iter().partition(|column| place.has(column));
        let standing = Standing::of(table, catalog);
        Self {
            compare: compare_sql(table, target, temporary, &free, &others),
            delete: delete_sql(target, temporary, &standing),
            update: (!free.is_empty()).then(|| update_sql(table, target, temporary, &standing, &free)),
            inserts: insert_sql(table, target, temporary, &own_columns(table, catalog)),
        }
    }
}

/// How a row of the target `g` is found again from its row of `found`: by its place, which nobody but us can change meanwhile, and its table,
/// since one that inherits from the target has the same places; by its key where there are partitions, each of which would be searched.
struct Standing(String);

impl Standing {
    fn of(table: &TableMapping, catalog: &Catalog) -> Self {
        let is_partitioned = catalog.table(&table.target).is_some_and(|found| found.is_partitioned);
        Self(if is_partitioned {
            equal_keys("g", "f", &table.key)
        } else {
            "g.tableoid = f.cutover_in and g.ctid = f.cutover_at".to_owned()
        })
    }
}

fn compare_sql(
    table: &TableMapping,
    target: &str,
    Temporary { keys, rows, found, .. }: &Temporary<'_>,
    free: &[&KeyColumn],
    others: &[&KeyColumn],
) -> String {
    let alike = |columns: &[&KeyColumn]| {
        let alike: Vec<String> = columns.iter().map(|column| same(column)).collect();
        if alike.is_empty() { "true".to_owned() } else { alike.join(" and ") }
    };
    let stays = format!("r.{} is not null and {}", ident(&table.key[0].name), alike(others));
    format!(
        "with compared as (insert into pg_temp.{found} select {}, g.tableoid, g.ctid, not ({stays}), {stays} and not ({})
  from (select distinct {} from pg_temp.{keys}) k join {target} g on {} left join pg_temp.{rows} r on {}
  returning cutover_goes, cutover_changes)
select count(*) filter (where cutover_goes), count(*) filter (where cutover_changes) from compared",
        list("k.", &table.key),
        alike(free),
        list("", &table.key),
        equal_keys("g", "k", &table.key),
        equal_keys("r", "g", &table.key),
    )
}

fn delete_sql(target: &str, Temporary { found, gone, .. }: &Temporary<'_>, standing: &Standing) -> String {
    format!(
        "with gone as (delete from {target} g using pg_temp.{found} f where f.cutover_goes and {} returning g.*)
insert into pg_temp.{gone} select * from gone",
        standing.0
    )
}

fn update_sql(
    table: &TableMapping,
    target: &str,
    Temporary { rows, found, .. }: &Temporary<'_>,
    standing: &Standing,
    free: &[&KeyColumn],
) -> String {
    let set: Vec<String> = free.iter().map(|column| format!("{0} = r.{0}", ident(&column.name))).collect();
    format!(
        "update {target} g set {} from pg_temp.{found} f join pg_temp.{rows} r on {} where f.cutover_changes and {}",
        set.join(", "),
        equal_keys("r", "f", &table.key),
        standing.0
    )
}

fn insert_sql(
    table: &TableMapping,
    target: &str,
    Temporary { rows, found, gone, .. }: &Temporary<'_>,
    own: &[String],
) -> Vec<String> {
    let (columns, values) = (list("", &table.columns), list("r.", &table.columns));
    let stands = format!(
        "exists (select from pg_temp.{found} f where {} and not f.cutover_goes)",
        equal_keys("f", "r", &table.key)
    );
    let insert = |more: &str, values: String, from: String| {
        format!(
            "insert into {target} ({columns}{more}) overriding system value select {values} from pg_temp.{rows} r {from}"
        )
    };
    if own.is_empty() {
        return vec![insert("", values, format!("where not {stands}"))];
    }
    let names: Vec<String> = own.iter().map(|name| ident(name)).collect();
    let kept: Vec<String> = names.iter().map(|name| format!("o.{name}")).collect();
    let replaced = equal_keys("o", "r", &table.key);
    vec![
        insert(
            &format!(", {}", names.join(", ")),
            format!("{values}, {}", kept.join(", ")),
            format!("join pg_temp.{gone} o on {replaced} where not {stands}"),
        ),
        insert(
            "",
            values,
            format!("where not {stands} and not exists (select from pg_temp.{gone} o where {replaced})"),
        ),
    ]
}

/// Whether a column has the same value in `g` and in `r`, bit by bit: numbers that are equal and print differently differ.
fn same(column: &KeyColumn) -> String {
    let name = ident(&column.name);
    let base = column.type_sql.split('(').next().unwrap_or_default();
    if is_exact(&column.type_sql) {
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
