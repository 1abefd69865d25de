//! Two folders of migrations run on two empty databases, and what the databases then hold, compared line by line.
//!
//! Runs files as a runner would: in one transaction each, or statement by statement where that must be. Only ever called on databases
//! that were made for it.

use super::source::{Folder, MigrationFile};
use super::split::split;
use serde::Serialize;
use std::collections::BTreeSet;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

/// Everything that a schema says, one line for each part. Names of the two databases do not occur in it.
const CATALOG: &str = include_str!("compare.sql");

/// Why a folder did not run to its end.
#[derive(Debug, Error)]
pub enum CompareError {
    /// The server refused a statement.
    #[error("run {file} line {line} on an empty database: {statement}")]
    Statement {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// The statement.
        statement: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server refused something around it.
    #[error("{act} an empty database")]
    Server {
        /// What was tried.
        act: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// One part of the schema that stands on one side alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// What it is part of, such as `table public.account`.
    pub object: String,
    /// As it is after the first folder.
    pub first: Option<String>,
    /// As it is after the second.
    pub second: Option<String>,
}

/// Lays a dumped schema on an empty database; what only psql understands in it is left out, and an extension that our login may not create:
/// what needs it fails in its own place.
///
/// # Errors
/// At the first statement that the server refuses.
pub async fn lay(client: &Client, schema: &str) -> Result<(), CompareError> {
    let is_for_psql = |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
    let text: String = schema.split_inclusive('\n').filter(|line| !is_for_psql(line)).collect();
    for statement in split(&text) {
        let Err(source) = client.batch_execute(&statement.text).await else { continue };
        let is_extension =
            statement.begins(&["create", "extension"]) || statement.begins(&["comment", "on", "extension"]);
        let is_forbidden = source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        if !(is_extension && (is_forbidden || source.code() == Some(&SqlState::UNDEFINED_OBJECT))) {
            let (file, line) = ("the schema".to_owned(), statement.line);
            return Err(CompareError::Statement { file, line, statement: statement.summary(), source });
        }
    }
    // A dump sets the search path to nothing.
    client.batch_execute("reset all").await.map_err(|source| CompareError::Server { act: "reset a session on", source })
}

/// Runs every file of a folder.
///
/// # Errors
/// At the first statement that the server refuses.
pub async fn run(client: &mut Client, folder: &Folder) -> Result<(), CompareError> {
    for file in folder.files() {
        run_file(client, file).await?;
    }
    Ok(())
}

/// Runs one file.
///
/// # Errors
/// At the first statement that the server refuses.
pub async fn run_file(client: &mut Client, file: &MigrationFile) -> Result<(), CompareError> {
    if file.is_alone {
        return statements(client, file).await;
    }
    let transaction = client.transaction().await.map_err(|source| CompareError::Server { act: "begin on", source })?;
    statements(&transaction, file).await?;
    transaction.commit().await.map_err(|source| CompareError::Server { act: "commit on", source })
}

async fn statements(client: &impl GenericClient, file: &MigrationFile) -> Result<(), CompareError> {
    for statement in &file.statements {
        client.batch_execute(&statement.text).await.map_err(|source| CompareError::Statement {
            file: file.name.clone(),
            line: statement.line,
            statement: statement.summary(),
            source,
        })?;
    }
    Ok(())
}

/// What a database holds, as lines of object and definition; without `is_order_kept` the order of columns is left out.
///
/// # Errors
/// When the server refuses.
pub async fn catalog(
    client: &impl GenericClient,
    is_order_kept: bool,
) -> Result<BTreeSet<(String, String)>, CompareError> {
    let read = |source| CompareError::Server { act: "read the catalog of", source };
    client.batch_execute("set search_path = ''").await.map_err(read)?;
    let rows = client.query(CATALOG, &[&is_order_kept]).await.map_err(read)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What stands on one side alone; parts of one object that differ are paired.
#[must_use]
pub fn differences(first: &BTreeSet<(String, String)>, second: &BTreeSet<(String, String)>) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for (object, part) in first.difference(second) {
        found.push(Difference { object: object.clone(), first: Some(part.clone()), second: None });
    }
    for (object, part) in second.difference(first) {
        match found.iter_mut().find(|one| one.object == *object && one.second.is_none()) {
            Some(one) => one.second = Some(part.clone()),
            None => found.push(Difference { object: object.clone(), first: None, second: Some(part.clone()) }),
        }
    }
    found.sort();
    found
}
