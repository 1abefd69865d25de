//! Our schema on a side, and whose it is: created when a run claims both sides, removed when nothing of the run is left.
//!
//! The identity row tells our run from another's, and a side from the other, also where a copy carries both sides' marks.

use super::inventory::{self, InventoryError, Kind, Object};
use super::term::{Term, TermError, hold};
use crate::plan::Side;
use serde_json::Value;
use thiserror::Error;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

/// Why a side could not be claimed, marked or cleared.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Another process has taken over; nothing was changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// What is on the side could not be listed or dropped; nothing was dropped.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The server refused or the connection broke.
    #[error("{what}")]
    Server {
        /// What was tried, on what.
        what: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

fn server(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> ClaimError {
    let what = what.into();
    move |source| ClaimError::Server { what, source }
}

/// Who has claimed a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody: there is no schema `cutover`.
    Nobody,
    /// A schema `cutover` without an identity row: an act of claiming was cut short, or it is somebody else's.
    Unsigned,
    /// This run, as this side.
    By {
        /// The run.
        run: Uuid,
        /// The side it was claimed as.
        side: Side,
    },
}

const CREATE: &str = "
create schema if not exists cutover;
create table if not exists cutover.identity (
  singleton boolean primary key default true check (singleton),
  run uuid not null, side text not null check (side in ('blue', 'green')), claimed_at timestamptz not null default now());
create table if not exists cutover.milestone (
  name text primary key, run uuid not null, at timestamptz not null default now(), body jsonb not null)";

const LEFTOVERS: &str = "
select format('schema %s', nspname) from pg_catalog.pg_namespace where nspname = 'cutover'
union all select format('slot %s', slot_name) from pg_catalog.pg_replication_slots
  where slot_name like 'cutover\\_%' and database = current_database()
union all select format('publication %s', pubname) from pg_catalog.pg_publication where pubname like 'cutover\\_%'
union all select format('trigger %s on %s', tgname, tgrelid::regclass) from pg_catalog.pg_trigger where tgname like 'cutover\\_%'
order by 1";

/// Asks who has claimed the side; read-only.
///
/// # Errors
/// When the server does not answer.
pub async fn read(client: &impl GenericClient) -> Result<Claimed, ClaimError> {
    let what = "read who has claimed the side";
    let row = client
        .query_one("select to_regnamespace('cutover') is not null, to_regclass('cutover.identity') is not null", &[])
        .await
        .map_err(server(what))?;
    let (schema, table): (bool, bool) = (row.get(0), row.get(1));
    if !table {
        return Ok(if schema { Claimed::Unsigned } else { Claimed::Nobody });
    }
    let row = client.query_opt("select run, side from cutover.identity", &[]).await.map_err(server(what))?;
    let side = |text: String| text.parse().unwrap_or(Side::Green);
    Ok(row.map_or(Claimed::Unsigned, |row| Claimed::By { run: row.get(0), side: side(row.get(1)) }))
}

/// Creates our schema and signs it. Nothing of an earlier claim is changed.
///
/// # Errors
/// When the server refuses; nothing was created.
pub async fn claim(client: &mut Client, run: Uuid, side: Side) -> Result<(), ClaimError> {
    let what = format!("claim {side}");
    let transaction = client.transaction().await.map_err(server(what.clone()))?;
    transaction.batch_execute(CREATE).await.map_err(server(what.clone()))?;
    let insert = "insert into cutover.identity (run, side) values ($1, $2) on conflict do nothing";
    transaction.execute(insert, &[&run, &side.as_str()]).await.map_err(server(what.clone()))?;
    transaction.commit().await.map_err(server(what))
}

/// Drops our schema with everything in it, under our term; the last act of an undo.
///
/// # Errors
/// When another process took over or the server refuses; nothing was dropped.
pub async fn release(client: &mut Client, term: &Term, side: Side) -> Result<(), ClaimError> {
    let what = format!("drop schema cutover on {side}");
    let transaction = client.transaction().await.map_err(server(what.clone()))?;
    hold(&transaction, term).await?;
    transaction.batch_execute("drop schema if exists cutover cascade").await.map_err(server(what.clone()))?;
    transaction.commit().await.map_err(server(what))
}

/// What of ours is in a database, by kind and name: schemas, slots, publications, triggers. Empty means that nothing is left.
///
/// # Errors
/// When the server does not answer.
pub async fn leftovers(client: &impl GenericClient) -> Result<Vec<String>, ClaimError> {
    let rows = client.query(LEFTOVERS, &[]).await.map_err(server("look for what is left of ours"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Sessions of `role` on this database.
///
/// # Errors
/// When the server does not answer.
pub async fn sessions_of(client: &impl GenericClient, role: &str) -> Result<i64, ClaimError> {
    let count = "select count(*) from pg_catalog.pg_stat_activity where datname = current_database() and usename = $1";
    let row = client.query_one(count, &[&role]).await.map_err(server(format!("count the sessions of {role}")))?;
    Ok(row.get(0))
}

/// Seconds since a moment that this server's clock named, in UTC; none for a text that is no time.
///
/// # Errors
/// When the server does not answer.
pub async fn seconds_since(client: &impl GenericClient, moment: &str) -> Result<Option<f64>, ClaimError> {
    if moment.is_empty() {
        return Ok(None);
    }
    let age = "select extract(epoch from clock_timestamp() at time zone 'utc' - $1::text::timestamp)::float8";
    let row = client.query_one(age, &[&moment]).await.map_err(server("measure how long ago that was"))?;
    Ok(row.get(0))
}

/// Notes on a side that something which cannot be seen in its catalog was done.
///
/// # Errors
/// When another process took over or the server refuses; nothing was noted.
pub async fn note(client: &mut Client, term: &Term, run: Uuid, name: &str, body: &Value) -> Result<(), ClaimError> {
    let what = format!("note {name}");
    let transaction = client.transaction().await.map_err(server(what.clone()))?;
    hold(&transaction, term).await?;
    note_within(&transaction, run, name, body).await?;
    transaction.commit().await.map_err(server(what))
}

/// The same, in the transaction of what is noted; the caller holds the term.
///
/// # Errors
/// When the server refuses.
pub async fn note_within(client: &impl GenericClient, run: Uuid, name: &str, body: &Value) -> Result<(), ClaimError> {
    let insert = "insert into cutover.milestone (name, run, body) values ($1, $2, $3)
                  on conflict (name) do update set run = excluded.run, body = excluded.body, at = now()";
    client.execute(insert, &[&name, &run, body]).await.map_err(server(format!("note {name}")))?;
    Ok(())
}

/// What [`note`] wrote for this run, if it did.
///
/// # Errors
/// When the server does not answer.
pub async fn noted(client: &impl GenericClient, run: Uuid, name: &str) -> Result<Option<Value>, ClaimError> {
    let what = format!("look for {name}");
    let known = client.query_one("select to_regclass('cutover.milestone') is not null", &[]).await;
    if !known.map_err(server(what.clone()))?.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client
        .query_opt("select body from cutover.milestone where name = $1 and run = $2", &[&name, &run])
        .await
        .map_err(server(what))?;
    Ok(row.map(|row| row.get(0)))
}

/// Forgets what [`note`] wrote.
///
/// # Errors
/// When another process took over or the server refuses; nothing was changed.
pub async fn forget(client: &mut Client, term: &Term, name: &str) -> Result<(), ClaimError> {
    let what = format!("forget {name}");
    let transaction = client.transaction().await.map_err(server(what.clone()))?;
    hold(&transaction, term).await?;
    forget_within(&transaction, name).await?;
    transaction.commit().await.map_err(server(what))
}

/// The same, in a transaction of the caller's, who holds the term.
///
/// # Errors
/// When the server refuses.
pub async fn forget_within(client: &impl GenericClient, name: &str) -> Result<(), ClaimError> {
    let delete = "delete from cutover.milestone where name = $1";
    client.execute(delete, &[&name]).await.map_err(server(format!("forget {name}")))?;
    Ok(())
}

/// What an application has on a side, by name: relations, types, routines; those of extensions left out.
///
/// # Errors
/// When the server does not answer.
pub async fn contents(client: &impl GenericClient) -> Result<Vec<String>, ClaimError> {
    Ok(contained(client).await?.iter().map(Object::words).collect())
}

/// Makes green as empty as it was when it was claimed: drops every relation, type and routine of the application.
///
/// The caller has seen that green carries this run's identity, which is only ever given to an empty database.
///
/// # Errors
/// When another process took over or the server refuses; nothing was dropped.
pub async fn empty(client: &mut Client, term: &Term) -> Result<(), ClaimError> {
    let contained = contained(client).await?;
    Ok(inventory::remove(client, term, &contained).await?)
}

/// Schemas and extensions are a person's; in an empty schema there is nothing.
async fn contained(client: &impl GenericClient) -> Result<Vec<Object>, ClaimError> {
    let mut objects = inventory::read(client).await?;
    objects.retain(|object| !matches!(object.kind, Kind::Schema | Kind::Extension));
    Ok(objects)
}
