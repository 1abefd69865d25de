//! Cleanup in the document: the sections `cleanup`, rows that are left behind, and `dirty`, questions for rows that would break or change
//! unseen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows of one carried table that are left behind: not carried, counted, and capped. Which, is said by `where` or by `orphan_of`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CleanupRule {
    /// Name of the rule, unique in the plan.
    pub name: String,
    /// Green table whose mapping the rule is part of.
    pub table: String,
    /// SQL predicate over one row (blue's, or that of the mapping's select), or a `.sql` file; a row is left behind when it is true.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// Rows that point to a row of another table which blue does not have, or which another rule leaves behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphan_of: Option<OrphanOf>,
    /// Most rows that the rule may leave behind; above it the run is refused.
    pub cap: Cap,
    /// Keeps the rows in an archive on green, from which `cutover cleanup restore` brings them back after the flip. Without it they are on blue
    /// alone.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub park: bool,
    /// Why, for the people who read the plan and the diff.
    pub because: String,
}

/// The table to which rows point, and by which columns.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrphanOf {
    /// Blue's table to which they point.
    pub table: String,
    /// Columns of the pointing row: blue's, or those of the mapping's select; those of blue's foreign key when left out. A row with a null in
    /// one of them points to nothing and is no orphan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Columns of `table` to which they point, in the same order: its primary key, which is meant when they are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
}

/// Most rows that a rule may leave behind; the smaller of both holds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// In rows, from 0.
    pub rows: u64,
    /// In per cent of the table, less than 100.
    pub percent: f64,
}

/// A question to blue for rows that would break, or change unseen, on their way to green. Asked by `check`, and before the first row is
/// copied.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dirty {
    /// Name of the question, unique in the plan.
    pub name: String,
    /// A select over blue's tables, or a `.sql` file with one: a row for each dirty row, whose columns are its key.
    pub find: String,
    /// What deals with such rows: the name of a rule of `cleanup`, of a table of `carry`, or of an entry of `migrate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_by: Option<String>,
    /// `none`: there may be no such row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectNone>,
    /// What such rows would do, for the people who read the finding.
    pub because: String,
}

/// How many rows a question may find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExpectNone {
    /// None.
    None,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_yes(park: &bool) -> bool {
    *park
}
