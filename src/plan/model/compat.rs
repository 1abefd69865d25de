//! The resolved section `compat`: where the statements of the engine that serves are found.

/// Statements that must live with the new schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compat {
    /// Files by their names in the plan, and their texts.
    pub statements: Vec<(String, String)>,
    /// Whether blue's `pg_stat_statements` is asked as well.
    pub statistics: bool,
}
