//! Questions for dirty rows: what of blue would break, or change unseen, on its way to green. Reads only, for no longer than the plan says.

use super::cleanup::shown;
use super::sql::literal;
use crate::plan::Dirty;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::{Client, IsolationLevel};

/// Rows that are named of those that a question finds.
const NAMED: usize = 20;

/// Why a question could not be asked; nothing was changed.
#[derive(Debug, Error)]
#[error("ask blue for {name}")]
pub struct DirtyError {
    /// The question.
    pub name: String,
    /// What the server said.
    #[source]
    pub source: tokio_postgres::Error,
}

/// What a question found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The question.
    pub name: String,
    /// How many rows.
    pub rows: u64,
    /// Their keys, the first of them; of what is secret only the beginning.
    pub keys: Vec<String>,
    /// What deals with them; none when there may be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled_by: Option<String>,
    /// What they would do.
    pub because: String,
}

impl Found {
    /// Whether there are rows with which nothing deals.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.rows > 0 && self.handled_by.is_none()
    }

    /// What was found, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let by = match (&self.handled_by, self.rows) {
            (_, 0) => return format!("{}: no row", self.name),
            (Some(by), _) => format!("{by} deals with them"),
            (None, _) => "nothing deals with them".to_owned(),
        };
        let more = if self.rows > self.keys.len() as u64 { ", …" } else { "" };
        format!("{}: {} rows, {by} ({}{more}): {}", self.name, self.rows, self.keys.join("; "), self.because)
    }
}

/// Asks one question, read-only, for at most `bound`.
///
/// # Errors
/// When the server refuses, for one because the question writes, or it takes too long.
pub async fn ask(blue: &mut Client, dirty: &Dirty, bound: Duration) -> Result<Found, DirtyError> {
    let failed = |source| DirtyError { name: dirty.name.clone(), source };
    let look = blue.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let look = look.start().await.map_err(failed)?;
    let patience = format!("set local statement_timeout = {}", literal(&bound.as_millis().max(1).to_string()));
    look.batch_execute(&patience).await.map_err(failed)?;
    let query = format!(
        "select (count(*) over ())::bigint, pg_catalog.to_json(q)::text from ({}) as q limit {NAMED}",
        dirty.find.text
    );
    let rows = look.query(&query, &[]).await.map_err(failed)?;
    look.rollback().await.map_err(failed)?;
    Ok(Found {
        name: dirty.name.clone(),
        rows: rows.first().map_or(0, |row| row.get::<_, i64>(0).cast_unsigned()),
        keys: rows.iter().map(|row| key(row.get(1))).collect(),
        handled_by: dirty.handled_by.clone(),
        because: dirty.because.clone(),
    })
}

/// A row's columns with their values.
fn key(row: &str) -> String {
    let Ok(Value::Object(columns)) = serde_json::from_str(row) else { return String::new() };
    let said = columns.iter().map(|(column, value)| match value {
        Value::Null => format!("{column} is null"),
        Value::String(text) => format!("{column}={}", shown(column, text)),
        other => format!("{column}={}", shown(column, &other.to_string())),
    });
    said.collect::<Vec<_>>().join(", ")
}
