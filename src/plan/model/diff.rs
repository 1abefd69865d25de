//! The resolved sections `diff` and `proof`: comparing green with blue row by row, and the mapping with the engine's own migrations.

use super::{DeclaredRows, Sql, TableName};

/// The comparison of green with what the mapping derives from blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diff {
    /// Whether a run compares before the flip point.
    pub step: bool,
    /// Most rows that are listed by their keys.
    pub listed: usize,
}

/// Rows of one table in which the mapping means to differ from the engine's migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredDifference {
    /// The green table.
    pub table: TableName,
    /// Columns that may differ; none where whole rows are meant.
    pub columns: Vec<String>,
    /// Whole rows that only one of both has.
    pub rows: Option<DeclaredRows>,
    /// Only rows for which this is true, on either side.
    pub predicate: Option<Sql>,
    /// Why.
    pub because: String,
}
