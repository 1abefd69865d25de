//! The document's section `compat`: where the statements of the engine that serves are found, in a plan in place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Statements of the engine that serves: those that break or change their meaning on the new schema stop the run before it is made.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// Files with its statements, relative to the plan: of `.go` the strings, of any other the SQL in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
    /// Asks `pg_stat_statements` on blue as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub statistics: bool,
}
