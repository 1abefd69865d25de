//! The document's sections `diff` and `proof`: comparing green with blue row by row, and the mapping with the engine's own migrations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The comparison of green with what the mapping derives from blue, row by row and column by column, before the flip point.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Diff {
    /// Whether `run` compares; true when left out. `cutover diff` compares in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<bool>,
    /// Most rows that are listed by their keys, from 1 to 10000; all are counted. 100 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<u32>,
}

impl Diff {
    pub(in crate::plan) fn is_empty(&self) -> bool {
        self.step.is_none() && self.list.is_none()
    }
}

/// What `cutover rehearse --prove-mapping` may find different between the mapping and the engine's own migrations.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Proof {
    /// Differences that are meant; any other stops the rehearsal.
    pub differences: Vec<DeclaredDifference>,
}

impl Proof {
    pub(in crate::plan) fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Rows of one table in which the mapping means to differ from the engine's migrations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredDifference {
    /// Green table.
    pub table: String,
    /// Columns that may differ. Left out where whole rows are meant: see `rows`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Whole rows that only one of both has; left out where `columns` are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<DeclaredRows>,
    /// SQL predicate over one row of the green table, or a `.sql` file: only rows for which it is true, as the mapping or as the engine has
    /// made them. All rows when left out.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// Why they may differ, for the people who read the plan and the proof.
    pub because: String,
}

/// Whole rows that only one of both has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeclaredRows {
    /// The mapping makes them, the engine's migrations do not.
    Mapped,
    /// The engine's migrations make them, the mapping does not.
    Migrated,
}
