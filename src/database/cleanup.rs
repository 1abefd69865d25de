//! What the plan's cleanup rules would leave behind on blue, before anything is copied: rows, their share, the cap.
//!
//! Owns the preview only; the rules themselves are part of the mapping, so that copy, level and accounting say the same. Reads only.

use super::copy::{CopyError, count_source, is_over_cap};
use super::mapping::{Mapping, TableMapping};
use crate::plan::TableName;
use serde::Serialize;
use tokio_postgres::{Client, IsolationLevel};

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
