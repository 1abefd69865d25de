//! One index, built concurrently until it is valid; what an attempt left invalid is dropped first.

use super::super::migrate::MigrateError;
use super::super::migrate_worker::Worker;
use super::super::migrations::split::ConcurrentIndex;
use super::super::sql::{ident, qualified};
use super::super::tries::{Tries, is_lock};
use super::{Work, alone, duplicates, partitioned};
use tokio_postgres::error::SqlState;

const INDEX: &str = "
select n.nspname, x.indisvalid,
       exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = i.oid)
  from pg_catalog.pg_class i
  join pg_catalog.pg_index x on x.indexrelid = i.oid
  join pg_catalog.pg_namespace n on n.oid = i.relnamespace
 where i.relkind = 'i' and i.relname = $1
   and i.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = pg_catalog.to_regclass($2::text))";

/// What stands under the name of an index.
struct Standing {
    schema: String,
    is_valid: bool,
    is_being_built: bool,
}

/// The table of an index, quoted.
pub(super) fn table(index: &ConcurrentIndex) -> String {
    match &index.table {
        (Some(schema), name) => qualified(schema, name),
        (None, name) => ident(name),
    }
}

async fn find(worker: &Worker<'_>, index: &ConcurrentIndex) -> Result<Option<Standing>, MigrateError> {
    let failed = MigrateError::server("look for an index");
    let row = worker.client.query_opt(INDEX, &[&index.name, &table(index)]).await.map_err(failed)?;
    Ok(row.map(|row| Standing { schema: row.get(0), is_valid: row.get(1), is_being_built: row.get(2) }))
}

/// Builds an index as the file says; on a partitioned table one for each partition.
pub(super) async fn build(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    index: &ConcurrentIndex,
    was_begun: bool,
) -> Result<(), MigrateError> {
    if partitioned::is_partitioned(worker, index).await? {
        return partitioned::build(worker, work, index).await;
    }
    one(worker, work, index, &work.statement.text, was_begun).await?;
    worker.applied.indexes_concurrent += 1;
    Ok(())
}

/// Builds one index with `sql` until it is valid; what an earlier attempt left invalid is dropped first.
pub(super) async fn one(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    index: &ConcurrentIndex,
    sql: &str,
    was_begun: bool,
) -> Result<(), MigrateError> {
    let mut tries = Tries::new(&worker.pace);
    loop {
        match find(worker, index).await? {
            Some(standing) if standing.is_valid && was_begun => return Ok(()),
            Some(standing) if standing.is_being_built => {
                if !tries.pause().await {
                    return Err(MigrateError::Busy { waited_s: tries.waited().as_secs() });
                }
                continue;
            }
            Some(standing) if !standing.is_valid => drop_leftover(worker, work, index, &standing, &mut tries).await?,
            _ => {}
        }
        let (result, seen) = alone(worker, work, sql, &tries).await?;
        match result {
            Ok(()) => break,
            Err(error) if is_lock(&error) => worker.bear(&mut tries, &work.file, &work.summary, &seen, error).await?,
            Err(error) => return Err(refused(worker, work, index, error).await),
        }
    }
    let is_valid = find(worker, index).await?.is_some_and(|standing| standing.is_valid);
    if !is_valid {
        return Err(MigrateError::InvalidIndex { file: work.file.clone(), index: index.name.clone() });
    }
    Ok(())
}

/// The refusal in words, with the rows that caused it; what it left behind is dropped.
async fn refused(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    index: &ConcurrentIndex,
    source: tokio_postgres::Error,
) -> MigrateError {
    let rows = if source.code() == Some(&SqlState::UNIQUE_VIOLATION) {
        match find(worker, index).await {
            Ok(Some(standing)) => duplicates::of(worker, &qualified(&standing.schema, &index.name)).await,
            _ => None,
        }
    } else {
        None
    };
    clear(worker, work, index, &source).await;
    match rows {
        Some(rows) => {
            let (file, statement) = (work.file.clone(), work.summary.clone());
            MigrateError::Duplicates { file, statement, rows, source }
        }
        None => work.refused(source),
    }
}

async fn drop_leftover(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    index: &ConcurrentIndex,
    standing: &Standing,
    tries: &mut Tries,
) -> Result<(), MigrateError> {
    let name = qualified(&standing.schema, &index.name);
    (worker.tell)(&format!("{}: index {} was left invalid; dropping it", work.file, index.name));
    drop_index(worker, work, &name, tries).await
}

/// Drops an index, quoted, concurrently.
pub(super) async fn drop_index(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    name: &str,
    tries: &mut Tries,
) -> Result<(), MigrateError> {
    let sql = format!("drop index concurrently if exists {name}");
    loop {
        let (result, seen) = alone(worker, work, &sql, tries).await?;
        let Err(error) = result else { return Ok(()) };
        worker.bear(tries, &work.file, &sql, &seen, error).await?;
    }
}

/// After a refused build: an invalid index would cost every write, so it goes now if it can; else the next run drops it.
async fn clear(worker: &mut Worker<'_>, work: &Work<'_>, index: &ConcurrentIndex, error: &tokio_postgres::Error) {
    if error.as_db_error().is_none() {
        return;
    }
    let mut tries = Tries::none();
    let dropped = match find(worker, index).await {
        Ok(Some(standing)) if !standing.is_valid => drop_leftover(worker, work, index, &standing, &mut tries).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = dropped {
        (worker.tell)(&format!("{}: index {} stays invalid until the next run: {error}", work.file, index.name));
    }
}
