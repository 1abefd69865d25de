//! The archive on green: rows that rules leave behind, kept where the application cannot see them.
//!
//! Its tables are in our own schema and are derived like carried ones, so that batches keep them exact: all keys are put down to be derived
//! anew once, and from then on a row whose verdict changes goes from one table to the other in one transaction. It goes with our schema.

use super::CleanupError;
use crate::database::mapping::{Mapping, TableMapping};
use crate::database::sql::{ident, literal, qualified};
use crate::database::term::{Term, hold};
use crate::database::{claim, repair};
use crate::plan::TableName;
use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use std::pin::pin;
use tokio_postgres::{Client, IsolationLevel, Transaction};
use uuid::Uuid;

const ARCHIVES: &str =
    "select c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'cutover' and c.relkind = 'r' and c.relname like 'parked\\_%' order by 1";
/// Keys of rows that no archive will hold.
const FORGET: &str = "delete from cutover.repair where target_table like 'cutover.parked\\_%'";
/// Keys travel as text, and mean the same on green whatever the login's own settings are.
const PINNED: &str = "set local timezone = 'UTC'; set local datestyle = 'ISO, MDY'; set local intervalstyle = 'postgres'; \
                      set local extra_float_digits = 1; set local bytea_output = 'hex'";

/// Makes the archives and puts all their rows down to be derived by the next batch; in one transaction, which also notes `name`.
///
/// # Errors
/// `Refused` when two rows that are left behind would have one key; nothing was changed then.
pub async fn begin(
    blue: &mut Client,
    green: &mut Client,
    (term, run, name): (&Term, Uuid, &str),
    archives: &Mapping,
) -> Result<Vec<(TableName, u64)>, CleanupError> {
    let (on_blue, on_green) = (
        || CleanupError::server("read the rows that cleanup rules leave behind on blue"),
        || CleanupError::server("make the archive on green"),
    );
    let look = blue.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let look = look.start().await.map_err(on_blue())?;
    look.batch_execute(PINNED).await.map_err(on_blue())?;
    let target = green.transaction().await.map_err(on_green())?;
    hold(&target, term).await?;
    target.batch_execute(repair::CREATE).await.map_err(on_green())?;
    target.execute(FORGET, &[]).await.map_err(on_green())?;
    let mut counts = Vec::new();
    for archive in &archives.tables {
        target.batch_execute(&create_sql(archive)).await.map_err(on_green())?;
        let rows = put_down(&look, &target, archive).await?;
        require_single(&target, archive).await?;
        counts.push((archive.target.clone(), rows));
    }
    let body = serde_json::to_value(archives).unwrap_or_default();
    claim::note_within(&target, run, name, &body).await.map_err(|error| match error {
        claim::ClaimError::Server { what, source } => CleanupError::Server { what, source },
        other => CleanupError::refused(other.to_string(), "cutover status PLAN"),
    })?;
    target.commit().await.map_err(on_green())?;
    Ok(counts)
}

/// Takes all archives away again, and the note.
///
/// # Errors
/// When another process took over or the server refuses; nothing was changed then.
pub async fn remove(green: &mut Client, term: &Term, name: &str) -> Result<(), CleanupError> {
    let failed = || CleanupError::server("take the archive on green away");
    let target = green.transaction().await.map_err(failed())?;
    hold(&target, term).await?;
    for row in target.query(ARCHIVES, &[]).await.map_err(failed())? {
        let drop = format!("drop table {}", qualified("cutover", row.get(0)));
        target.batch_execute(&drop).await.map_err(failed())?;
    }
    target.batch_execute(repair::CREATE).await.map_err(failed())?;
    target.execute(FORGET, &[]).await.map_err(failed())?;
    target.execute("delete from cutover.milestone where name = $1", &[&name]).await.map_err(failed())?;
    target.commit().await.map_err(failed())
}

pub(super) fn name_of(table: &TableMapping) -> String {
    qualified(&table.target.schema, &table.target.name)
}

/// Typed as the mapping has it, keyed as its table, with an index for each way from a touched row.
fn create_sql(archive: &TableMapping) -> String {
    let name = name_of(archive);
    let columns: Vec<String> =
        archive.columns.iter().map(|column| format!("{} {}", ident(&column.name), column.type_sql)).collect();
    let key: Vec<String> = archive.key.iter().map(|column| ident(&column.name)).collect();
    let mut sql = format!(
        "drop table if exists {name}; create table {name} ({}, primary key ({})); revoke all on {name} from public",
        columns.join(", "),
        key.join(", ")
    );
    for touch in archive.touched_by.iter().filter(|touch| !touch.back.is_empty()) {
        let back: Vec<String> = touch.back.iter().map(|name| ident(name)).collect();
        if back != key {
            sql.push_str(&format!("; create index on {name} ({})", back.join(", ")));
        }
    }
    sql
}

/// The keys of all rows that are left behind, streamed into the list of keys that the next batch derives anew.
async fn put_down(
    look: &Transaction<'_>,
    target: &Transaction<'_>,
    archive: &TableMapping,
) -> Result<u64, CleanupError> {
    let read = || CleanupError::server(format!("read the rows of {} that are left behind", archive.target));
    let write = || CleanupError::server("put the keys of rows that are left behind down on green");
    let key: Vec<String> = archive.key.iter().map(|column| format!("q.{}::text", ident(&column.name))).collect();
    let out = format!(
        "copy (select {}, array[{}] from ({}) as q) to stdout",
        literal(&archive.target.to_string()),
        key.join(", "),
        archive.select
    );
    let mut rows = pin!(look.copy_out(&out).await.map_err(read())?);
    let into = "copy cutover.repair (target_table, key) from stdin";
    let mut sink = pin!(target.copy_in::<_, Bytes>(into).await.map_err(write())?);
    while let Some(row) = rows.try_next().await.map_err(read())? {
        sink.send(row).await.map_err(write())?;
    }
    sink.finish().await.map_err(write())
}

/// An archive has its table's key; rows that are left behind because they have one in common cannot be kept there.
async fn require_single(target: &Transaction<'_>, archive: &TableMapping) -> Result<(), CleanupError> {
    let twins = "select key::text from cutover.repair where target_table = $1 group by key having count(*) > 1 limit 1";
    let found = target.query_opt(twins, &[&archive.target.to_string()]).await;
    let found = found.map_err(CleanupError::server("look for rows with one key"))?;
    let Some(_) = found else { return Ok(()) };
    let why = format!("two rows that are left behind would have one key in {}", archive.target);
    Err(CleanupError::refused(why, "write park: false in the rules of that table: blue keeps these rows"))
}
