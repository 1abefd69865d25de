//! The document's section `hot_queries`: queries that clients send all the time, and how much worse green may plan them.

use super::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Queries that are planned on both sides, and never run, before the flip point.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HotQueries {
    /// How many times blue's estimated cost green's may be, from 1.
    #[serde(default = "cost_ratio")]
    pub cost_ratio: f64,
    /// A table of green that is smaller may be read from end to end.
    #[serde(default = "small_table")]
    pub small_table: Size,
    /// The queries.
    pub queries: Vec<HotQuery>,
}

/// One query: `sql` where both sides are sent the same, `blue` and `green` where the engines differ. Parameters are `$1`, `$2` and so on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HotQuery {
    /// Name of the query, unique in the plan.
    pub name: String,
    /// The query, or a `.sql` file with it: one select, insert, update or delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The query as blue's engine sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<String>,
    /// The query as green's engine sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<String>,
    /// Why green may plan it worse than blue: that is told then, and stops nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
}

fn cost_ratio() -> f64 {
    10.0
}

/// Below it PostgreSQL itself thinks a table too small to be read by several workers.
fn small_table() -> Size {
    Size("8MB".to_owned())
}
