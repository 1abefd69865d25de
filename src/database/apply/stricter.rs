//! Letting the stricter side win: the statements for one table of which only deletes and deactivations are taken over.
//!
//! A row that is gone on the source and lives on the target is removed when it is explained, and recorded when it is not. Only builds
//! text; `level` runs it in the batch's transaction, after revocations were applied again.

use super::{TableSql, equal_keys, list};
use crate::database::mapping::{Equality, KeyColumn, TableMapping};
use crate::database::sql::{ident, literal, qualified};
use crate::plan::TableName;

/// All statements for one such table.
#[derive(Debug)]
pub(in crate::database) struct StricterSql {
    /// The target's table.
    pub(in crate::database) target: TableName,
    /// The temporary table of explained chains.
    pub(in crate::database) explained: String,
    /// Creates it.
    pub(in crate::database) create: String,
    /// Switches off touched rows that the source has switched off.
    pub(in crate::database) deactivate: Option<String>,
    /// Notes touched rows that live on the target and are gone on the source.
    pub(in crate::database) find_gone: String,
    /// Chains of noted rows after `$1`, at most `$2` of them, in order.
    pub(in crate::database) chains: Option<String>,
    /// `copy … from stdin` of explained chains.
    pub(in crate::database) explained_in: String,
    /// Removes all noted rows.
    pub(in crate::database) remove_all: String,
    /// Removes noted rows of explained chains.
    pub(in crate::database) remove_explained: String,
    /// Forgets what was recorded of touched rows that are back on the source, or gone on the target.
    pub(in crate::database) forget: String,
    /// Records noted rows that are still there.
    pub(in crate::database) record: String,
    /// How many recorded rows still live, and the keys of some.
    pub(in crate::database) count: String,
    /// Removes recorded rows, noting them; one row with the number.
    pub(in crate::database) remove_recorded: String,
    /// Forgets all that was recorded.
    pub(in crate::database) forget_all: String,
}

impl StricterSql {
    /// None for a table whose rows are made equal.
    pub(in crate::database) fn new(place: usize, table: &TableMapping, sql: &TableSql) -> Option<Self> {
        let Equality::Stricter { active, chain } = &table.equality else { return None };
        let target = qualified(&table.target.schema, &table.target.name);
        let relation = literal(&table.target.to_string());
        let (keys, rows, gone, explained) = (&sql.keys, &sql.rows, &sql.gone, format!("cutover_explained_{place}"));
        let touched = format!("(select distinct {} from pg_temp.{keys}) k", list("", &table.key));
        let lives = active.as_ref().map_or(String::new(), |name| format!(" and g.{} is not false", ident(name)));
        let is_noted =
            format!("delete from {target} g using pg_temp.{gone} o where {}", equal_keys("g", "o", &table.key));
        let is_recorded = format!("u.relation = {relation} and {}", recorded_key("g", &table.key));
        let is_back = format!(
            "not exists (select from pg_temp.{gone} o join {target} g on {} where {} = u.key)",
            equal_keys("g", "o", &table.key),
            key_array("o", &table.key)
        );
        Some(Self {
            create: format!("create temporary table {explained} (chain text); analyze {explained}"),
            deactivate: active.as_ref().map(|name| deactivate_sql(&target, rows, &ident(name), &table.key)),
            find_gone: format!(
                "insert into pg_temp.{gone} select g.* from {target} g join {touched} on {} where not exists (select from pg_temp.{rows} r where {}){lives}",
                equal_keys("g", "k", &table.key),
                equal_keys("r", "g", &table.key)
            ),
            chains: chain.as_ref().map(|name| chains_sql(gone, &ident(name))),
            explained_in: format!("copy pg_temp.{explained} from stdin"),
            remove_explained: format!(
                "{is_noted} and {}",
                chain.as_ref().map_or("false".to_owned(), |name| format!(
                    "o.{}::text in (select chain from pg_temp.{explained})",
                    ident(name)
                ))
            ),
            remove_all: is_noted,
            forget: format!(
                "delete from cutover.unexplained u using {touched} where u.relation = {relation} and u.key = {} and {is_back}",
                key_array("k", &table.key)
            ),
            record: format!(
                "insert into cutover.unexplained (relation, key) select {relation}, {} from pg_temp.{gone} o join {target} g on {} on conflict do nothing",
                key_array("o", &table.key),
                equal_keys("g", "o", &table.key)
            ),
            count: format!(
                "select count(*), (array_agg(array_to_string(u.key, ', ') order by u.first_seen, u.key))[1:5]
from cutover.unexplained u join {target} g on {is_recorded}{lives}"
            ),
            remove_recorded: format!(
                "with dead as (delete from {target} g using cutover.unexplained u where {is_recorded}{lives} returning g.*),
kept as (insert into pg_temp.{gone} select * from dead returning 1) select count(*) from kept"
            ),
            forget_all: format!("delete from cutover.unexplained where relation = {relation}"),
            target: table.target.clone(),
            explained,
        })
    }
}

/// Only an exact `false` switches off, and only what is switched on: nothing is made of a null.
fn deactivate_sql(target: &str, rows: &str, active: &str, key: &[KeyColumn]) -> String {
    format!(
        "update {target} g set {active} = false from pg_temp.{rows} r where {} and r.{active} is false and g.{active} is true",
        equal_keys("g", "r", key)
    )
}

fn chains_sql(gone: &str, chain: &str) -> String {
    format!(
        "select distinct o.{chain}::text collate \"C\" from pg_temp.{gone} o where o.{chain}::text collate \"C\" > $1 order by 1 limit $2"
    )
}

/// A key as the table of unexplained rows holds it.
fn key_array(from: &str, key: &[KeyColumn]) -> String {
    let values: Vec<String> = key.iter().map(|column| format!("{from}.{}::text", ident(&column.name))).collect();
    format!("array[{}]", values.join(", "))
}

/// Whether row `g` has the key that row `u` of the unexplained ones holds.
fn recorded_key(row: &str, key: &[KeyColumn]) -> String {
    let same = key
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{row}.{} = u.key[{}]::{}", ident(&column.name), at + 1, column.type_sql));
    same.collect::<Vec<_>>().join(" and ")
}
