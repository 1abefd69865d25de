//! What sweeps have noted of themselves in the database, and that it is forgotten once rows are back.

use super::CleanupError;
use crate::database::claim::{ClaimError, forget_within};
use crate::database::mapping::{KeyColumn, LeftBehind, TableMapping, archive_of};
use crate::database::term::{Term, hold};
use tokio_postgres::{Client, GenericClient};

const IS_NOTED: &str = "select to_regclass('cutover.swept') is not null";
const BEGUN: &str = "select count(*) from cutover.swept";
const COLUMNS: &str = "select a.attname from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped";
const FORGET: &str = "delete from cutover.swept";

/// How many rules have been begun.
///
/// # Errors
/// When the server does not answer.
pub async fn swept(client: &impl GenericClient) -> Result<u64, CleanupError> {
    if !is_noted(client).await? {
        return Ok(0);
    }
    let row = client.query_one(BEGUN, &[]).await.map_err(CleanupError::server("see what was swept"))?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// The rows of a table that were parked, in the columns that they had then and that the table still has; none when there is no archive.
///
/// # Errors
/// When the server does not answer.
pub async fn as_parked(client: &impl GenericClient, left: &LeftBehind) -> Result<Option<LeftBehind>, CleanupError> {
    let archive = archive_of(&left.table);
    let found = client.query(COLUMNS, &[&archive.schema, &archive.name]).await;
    let found = found.map_err(CleanupError::server(format!("look for {archive}")))?;
    let had: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    let columns: Vec<KeyColumn> =
        left.rows.columns.iter().filter(|column| had.contains(&column.name)).cloned().collect();
    let rows = TableMapping { columns, ..left.rows.clone() };
    Ok((!had.is_empty()).then(|| LeftBehind { rows, ..left.clone() }))
}

/// Forgets how far sweeps are, and that they are done, so that they begin anew; `milestone` is their mark.
///
/// # Errors
/// When another process took over or the server refuses; nothing was changed then.
pub async fn forget_swept(client: &mut Client, term: &Term, milestone: &str) -> Result<(), CleanupError> {
    let failed = || CleanupError::server("forget what was swept");
    let transaction = client.transaction().await.map_err(failed())?;
    hold(&transaction, term).await?;
    if is_noted(&transaction).await? {
        transaction.execute(FORGET, &[]).await.map_err(failed())?;
    }
    forget_within(&transaction, milestone).await.map_err(|error| match error {
        ClaimError::Server { what, source } => CleanupError::Server { what, source },
        other => CleanupError::refused(other.to_string(), "cutover status PLAN"),
    })?;
    transaction.commit().await.map_err(failed())
}

async fn is_noted(client: &impl GenericClient) -> Result<bool, CleanupError> {
    let row = client.query_one(IS_NOTED, &[]).await.map_err(CleanupError::server("see what was swept"))?;
    Ok(row.get(0))
}
