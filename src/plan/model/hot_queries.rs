//! The resolved section `hot_queries`: queries that are planned on both sides, and how much worse green may plan them.

use super::{Side, Sql};

/// Queries that green must not plan worse than blue.
#[derive(Debug, Clone, PartialEq)]
pub struct HotQueries {
    /// How many times blue's estimated cost green's may be.
    pub cost_ratio: f64,
    /// Bytes from which on a table should not be read from end to end.
    pub small_table_bytes: u64,
    /// The queries.
    pub queries: Vec<HotQuery>,
}

/// One query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotQuery {
    /// Name, unique in the plan.
    pub name: String,
    /// As blue's engine sends it.
    pub blue: Sql,
    /// As green's engine sends it.
    pub green: Sql,
    /// Why green may plan it worse.
    pub accept: Option<String>,
}

impl HotQuery {
    /// The query as a side's engine sends it.
    #[must_use]
    pub fn of(&self, side: Side) -> &Sql {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}
