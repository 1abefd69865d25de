//! The table `cutover.repair` on a target: keys that the next batch derives anew, whether their rows were touched or not.
//!
//! After the first batch nothing but a batch may write carried tables, and before it nobody can know what a row ought to be now; so
//! whoever finds a row that may be wrong writes its key here. Only text: `copy` adds keys, `level` takes them.

use super::mapping::KeyColumn;
use super::sql::{ident, literal};
use crate::plan::TableName;

/// Creates the table where it is missing.
pub(super) const CREATE: &str =
    "create table if not exists cutover.repair (target_table text not null, key text[] not null)";
/// The tables of which keys wait.
pub(super) const WAITING: &str = "select distinct target_table from cutover.repair";
/// All of them have been derived anew, in this transaction.
pub(super) const TAKE: &str = "delete from cutover.repair";

/// An insert of the keys in the relation `rows`, each once.
pub(super) fn add_from(rows: &str, table: &TableName, key: &[KeyColumn]) -> String {
    let values: Vec<String> = key.iter().map(|column| format!("{}::text", ident(&column.name))).collect();
    let table = literal(&table.to_string());
    format!(
        "insert into cutover.repair (target_table, key) select distinct {table}, array[{}] from {rows}",
        values.join(", ")
    )
}

/// A select of a table's waiting keys, typed, in key order.
pub(super) fn keys_of(table: &TableName, key: &[KeyColumn]) -> String {
    let values: Vec<String> =
        key.iter().enumerate().map(|(at, column)| format!("key[{}]::{}", at + 1, column.type_sql)).collect();
    format!("select {} from cutover.repair where target_table = {}", values.join(", "), literal(&table.to_string()))
}
