//! The resolved sections `invariants` and `repairs`.

use super::{Sql, TableName};

/// One question with one answer on each side, and how the answers must compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Invariant {
    /// Name, unique in the plan.
    pub name: String,
    /// As blue is asked it; none where green alone is asked.
    pub blue: Option<Sql>,
    /// As green is asked it.
    pub green: Sql,
    /// How the answers must compare.
    pub expect: Expect,
    /// For rows: the columns that name one.
    pub key: Vec<String>,
    /// Why it must hold.
    pub because: Option<String>,
}

/// How two answers must compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expect {
    /// One value, the same on both sides.
    Equal,
    /// One number; green's is not smaller.
    AtLeast,
    /// One number, not further from blue's than both.
    Within {
        /// In rows.
        rows: u64,
        /// In per cent of blue's.
        percent: f64,
    },
    /// Rows; each as often on both sides.
    SetEqual,
    /// Rows; green gives none.
    Empty,
}

impl Expect {
    /// Whether answers are rows and not one value.
    #[must_use]
    pub fn is_of_rows(self) -> bool {
        matches!(self, Self::SetEqual | Self::Empty)
    }
}

/// A statement that puts rows of green right.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// Name, unique in the plan.
    pub name: String,
    /// The invariant that calls for it and must hold after it.
    pub invariant: String,
    /// One update, insert or delete.
    pub sql: Sql,
    /// The table of green that it changes.
    pub table: TableName,
    /// Most rows it may change.
    pub cap_rows: u64,
    /// Most rows it may change, in per cent of the table.
    pub cap_percent: f64,
    /// Why.
    pub because: String,
}
