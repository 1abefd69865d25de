//! Whether orphan rules hold on green: no carried row points to a row of the rule's parent that green does not have. Reads only.

use super::{CleanupError, shown};
use crate::database::mapping::Pointing;
use crate::database::sql::{ident, qualified};
use serde::Serialize;
use std::fmt;
use tokio_postgres::GenericClient;

/// Rows of green that point to nothing although a rule leaves such rows behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dangling {
    /// The rule.
    pub rule: String,
    /// How many rows.
    pub rows: u64,
    /// What one of them points to.
    pub sample: String,
    /// Where they are.
    pub child: String,
    /// To what they point.
    pub parent: String,
}

impl fmt::Display for Dangling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, rows, sample, child, parent } = self;
        write!(f, "{rows} rows of {child} point to rows that {parent} does not have ({rule}, such as {sample})")
    }
}

/// Asks green, rule by rule.
///
/// # Errors
/// When green does not answer.
pub async fn dangling(green: &impl GenericClient, pointing: &[Pointing]) -> Result<Vec<Dangling>, CleanupError> {
    let mut found = Vec::new();
    for one in pointing {
        let (child, parent) =
            (qualified(&one.child.schema, &one.child.name), qualified(&one.parent.schema, &one.parent.name));
        let given: Vec<String> = one.columns.iter().map(|(own, _)| format!("c.{} is not null", ident(own))).collect();
        let pairs: Vec<String> =
            one.columns.iter().map(|(own, other)| format!("p.{} = c.{}", ident(other), ident(own))).collect();
        let values: Vec<String> = one.columns.iter().map(|(own, _)| format!("c.{}::text", ident(own))).collect();
        let query = format!(
            "select count(*), min(array[{}]) from {child} as c where {} and not exists (select from {parent} as p where {})",
            values.join(", "),
            given.join(" and "),
            pairs.join(" and ")
        );
        let what = format!("look for rows of {} on green that point to nothing", one.child);
        let row = green.query_one(&query, &[]).await.map_err(CleanupError::server(what))?;
        let rows = row.get::<_, i64>(0).cast_unsigned();
        if rows > 0 {
            let sample: Option<Vec<Option<String>>> = row.get(1);
            let names = one.columns.iter().map(|(own, _)| own.as_str());
            let sample: Vec<(&str, Option<String>)> = names.zip(sample.unwrap_or_default()).collect();
            found.push(Dangling {
                rule: one.rule.clone(),
                rows,
                sample: shown::row(&sample),
                child: one.child.to_string(),
                parent: one.parent.to_string(),
            });
        }
    }
    Ok(found)
}
