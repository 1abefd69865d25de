//! The resolved sections `cleanup` and `dirty`: rows that are left behind, and questions for rows that need one.

use super::{Sql, TableName};

/// Rows of a carried table that are left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanupRule {
    /// Name, unique in the plan.
    pub name: String,
    /// Green table whose mapping the rule is part of.
    pub table: TableName,
    /// Which rows.
    pub condition: Condition,
    /// Most rows it may leave behind.
    pub cap_rows: u64,
    /// Most rows it may leave behind, in per cent of the table.
    pub cap_percent: f64,
    /// Whether they are kept in the archive on green.
    pub park: bool,
    /// Why, for people.
    pub because: String,
}

/// Which rows a rule leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Those for which a predicate is true: over blue's table for a generated mapping, over the select's columns for a written one.
    Where(Sql),
    /// Those that point to a row of another table of blue which is not there, or which is left behind itself.
    OrphanOf(OrphanOf),
}

/// To what rows point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanOf {
    /// Blue's table.
    pub table: TableName,
    /// Columns of the pointing row; empty when blue's foreign key says it.
    pub columns: Vec<String>,
    /// Columns of the table; empty when its primary key is meant.
    pub references: Vec<String>,
}

/// A question to blue for rows that would break, or change unseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirty {
    /// Name, unique in the plan.
    pub name: String,
    /// A select with a row for each dirty row.
    pub find: Sql,
    /// The rule, mapping or migration that deals with them; none when there may be none.
    pub handled_by: Option<String>,
    /// What they would do, for people.
    pub because: String,
}
