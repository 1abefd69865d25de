//! What the plan's cleanup rules leave behind: shown before anything is copied, kept in the archive, brought back; and sweeping a live table.
//!
//! The rules themselves are part of the mapping, so that copy, level and accounting say the same. Here is the preview, which only reads. May
//! call `mapping`, `copy`, `level`, `repair`, `claim`, `term`, `catalog`.

pub mod archive;
mod clean;
mod effects;
mod error;
mod keys;
mod restore;
mod shown;
mod sweep;
mod swept;
mod tuning;

pub use clean::{Dangling, dangling};
pub use effects::{Cascade, Hanging, cascades, hanging};
pub use error::CleanupError;
pub use restore::{Restorable, Restore, Restored, restorable, restore};
pub use shown::shown;
pub use sweep::{Batches, Sweep, Swept, children_first, sweep};
pub use swept::{as_parked, forget_swept, swept};
pub use tuning::Tuning;

use super::copy::{CopyError, count_source, is_over_cap};
use super::mapping::{LeftBehind, Mapping, RULE, TableMapping};
use super::sql::{ident, literal};
use crate::plan::TableName;
use serde::Serialize;
use tokio_postgres::{Client, GenericClient, IsolationLevel};

/// Rows of a rule that are named.
const NAMED: usize = 5;

/// What one rule would leave behind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// The rule's name in the plan.
    pub rule: String,
    /// The green table whose mapping it is part of.
    pub table: TableName,
    /// Rows it leaves behind; a row that several rules match is the first one's.
    pub rows: u64,
    /// Rows there are without cleanup.
    pub source_rows: u64,
    /// Most rows it may leave behind.
    pub cap_rows: u64,
    /// Most rows it may leave behind, in per cent.
    pub cap_percent: f64,
    /// Whether it goes over its cap, so that the copy would refuse.
    pub is_over_cap: bool,
}

/// Counts for every rule of the mapping, all as of one moment of blue.
///
/// # Errors
/// When blue does not answer; nothing was changed.
pub async fn preview(blue: &mut Client, mapping: &Mapping) -> Result<Vec<Preview>, CopyError> {
    let failed = |source| CopyError::Server { act: "look at", object: "blue".to_owned(), source };
    let begin = blue.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let look = begin.start().await.map_err(failed)?;
    let mut previews = Vec::new();
    for table in mapping.tables.iter().filter(|table| !table.cleanup.is_empty()) {
        let (source_rows, by_rule) = count_source(&look, table, &table.count_sql).await?;
        previews.extend(of_table(table, source_rows, &by_rule));
    }
    look.commit().await.map_err(failed)?;
    Ok(previews)
}

fn of_table(table: &TableMapping, source_rows: u64, by_rule: &[(String, u64)]) -> Vec<Preview> {
    let pairs = table.cleanup.iter().zip(by_rule);
    pairs
        .map(|(rule, (name, rows))| Preview {
            rule: name.clone(),
            table: table.target.clone(),
            rows: *rows,
            source_rows,
            cap_rows: rule.cap_rows,
            cap_percent: rule.cap_percent,
            is_over_cap: is_over_cap(rule, *rows, source_rows),
        })
        .collect()
}

/// The keys of some rows that a rule leaves behind; of what is secret only how it begins.
///
/// # Errors
/// When blue does not answer.
pub async fn samples(blue: &impl GenericClient, left: &LeftBehind, rule: &str) -> Result<Vec<String>, CleanupError> {
    let key = &left.rows.key;
    let list: Vec<String> = key.iter().map(|column| format!("q.{}::text", ident(&column.name))).collect();
    let query = format!(
        "select array[{}] from ({}) as q where q.{} = {} limit {NAMED}",
        list.join(", "),
        left.rows.select,
        ident(RULE),
        literal(rule)
    );
    let what = format!("look at rows of {} that {rule} leaves behind", left.table);
    let rows = blue.query(&query, &[]).await.map_err(CleanupError::server(what))?;
    let named = |row: &tokio_postgres::Row| {
        let values: Vec<Option<String>> = row.get(0);
        shown::row(&key.iter().map(|column| column.name.as_str()).zip(values).collect::<Vec<_>>())
    };
    Ok(rows.iter().map(named).collect())
}
