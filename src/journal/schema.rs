//! The control database's own tables: how a connection to it is set up and how the tables come to be.
//!
//! Calls `database::client`. Never touches blue or green.

use super::error::JournalError;
use crate::database::client::connect;
use crate::plan::Secret;
use refinery::{Migration, Runner};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// Our migrations, each file of `migrations/control` by name; embedded, so that the binary stands alone.
const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__journal", include_str!("../../migrations/control/V1__journal.sql")),
    ("V2__revocations", include_str!("../../migrations/control/V2__revocations.sql")),
    ("V3__pause", include_str!("../../migrations/control/V3__pause.sql")),
    ("V4__queue", include_str!("../../migrations/control/V4__queue.sql")),
    ("V5__revocation_verdicts", include_str!("../../migrations/control/V5__revocation_verdicts.sql")),
    ("V6__overlay", include_str!("../../migrations/control/V6__overlay.sql")),
    ("V8__system_stand", include_str!("../../migrations/control/V8__system_stand.sql")),
    ("V9__retired_revocations", include_str!("../../migrations/control/V9__retired_revocations.sql")),
    ("V10__unfinished_revocations", include_str!("../../migrations/control/V10__unfinished_revocations.sql")),
];
/// Every session: a record is durable when its commit returns, and no wait is without a bound.
const SESSION: &str = "set synchronous_commit = on; set statement_timeout = '15s'; set lock_timeout = '10s';
set idle_in_transaction_session_timeout = '30s'";
const CREATE_SCHEMA: &str = "create schema if not exists cutover";
const HISTORY: &str = "cutover.cutover_schema_history";
const EXISTS: &str = "select to_regclass('cutover.record') is not null and to_regclass('cutover.lease') is not null";
/// Serialises those who create the tables; the number is the first eight bytes of our name.
const LOCK: &str = "select pg_try_advisory_lock(7166758745047626082)";
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(100);

/// The names of the embedded migrations, for the test that compares them with the folder.
#[must_use]
pub fn embedded_migrations() -> Vec<&'static str> {
    MIGRATIONS.iter().map(|(name, _)| *name).collect()
}

/// Connects to the control database with our session settings.
pub(super) async fn control(url: &Secret) -> Result<Client, JournalError> {
    let client = connect(url, "control").await?;
    client.batch_execute(SESSION).await.map_err(JournalError::server("set up a session"))?;
    Ok(client)
}

/// Whether the journal's tables are there.
pub(super) async fn exists(client: &Client) -> Result<bool, JournalError> {
    let row = client.query_one(EXISTS, &[]).await.map_err(JournalError::server("look for the journal's tables"))?;
    Ok(row.get(0))
}

/// Creates the journal's tables, or brings them to this version; alone among all processes.
pub(super) async fn migrate(url: &Secret, client: &mut Client) -> Result<(), JournalError> {
    // On a connection of its own: the lock ends with it, whatever happens.
    let lock = control(url).await?;
    wait_for_lock(&lock).await?;
    client.batch_execute(CREATE_SCHEMA).await.map_err(JournalError::server("create schema cutover"))?;
    let migrations: Result<Vec<_>, _> = MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
    let mut runner = Runner::new(&migrations.expect("our own migrations are well named"));
    runner.set_migration_table_name(HISTORY);
    runner.run_async(client).await.map_err(|error| JournalError::Schema(Box::new(error)))?;
    Ok(())
}

async fn wait_for_lock(client: &Client) -> Result<(), JournalError> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        let row = client.query_one(LOCK, &[]).await.map_err(JournalError::server("lock the journal's tables"))?;
        if row.get(0) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(JournalError::SchemaBusy { waited_s: LOCK_PATIENCE.as_secs() });
        }
        sleep(LOCK_POLL).await;
    }
}
