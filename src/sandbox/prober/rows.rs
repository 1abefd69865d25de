//! Probe rows: every 20 ms, on each side, a row in the application's role inside a transaction that is rolled back.
//!
//! Never leaves a row behind and never waits for a lock longer than a few milliseconds.

use super::Prober;
use super::writers::Met;
use crate::database::client::connect;
use crate::plan::{Secret, Side};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::error::SqlState;

const EVERY: Duration = Duration::from_millis(20);
/// A server that does not answer one probe in this time is taken as gone.
const PATIENCE: Duration = Duration::from_millis(500);
const SETTINGS: &str = "set lock_timeout = '5ms'; set statement_timeout = '200ms'";
const SHAPE: &str = "select count(*), count(*) filter (where attname = 'nid') from pg_attribute
    where attrelid = to_regclass('public.hydra_oauth2_jti_blacklist') and attnum > 0";
const ROW_1X: &str = "begin;
    insert into public.hydra_oauth2_jti_blacklist (signature, expires_at) values ('cutover-probe', now());
    rollback";
const ROW_2X: &str = "begin;
    insert into public.hydra_oauth2_jti_blacklist (signature, expires_at, nid)
        select 'cutover-probe', now(), id from public.networks limit 1;
    rollback";

/// One side's connection and the row that fits its schema.
struct Probe {
    client: tokio_postgres::Client,
    row: Option<&'static str>,
}

/// Probes one side for as long as the prober lives.
pub(super) async fn probe_side(prober: Arc<Prober>, side: Side, url: Secret) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut probe = None;
    loop {
        every.tick().await;
        if probe.is_none() {
            probe = timeout(PATIENCE, open(&url, side)).await.ok().flatten();
        }
        let start_us = prober.client.now_us();
        let met = match &mut probe {
            Some(probe) => timeout(PATIENCE, probe.write()).await.unwrap_or(None),
            None => None,
        };
        if met.is_none() {
            probe = None;
        }
        let end_us = prober.client.now_us();
        prober.history.lock().writers.of(side).push(start_us, end_us, met.unwrap_or(Met::Refused));
    }
}

async fn open(url: &Secret, side: Side) -> Option<Probe> {
    let client = connect(url, side.as_str()).await.ok()?;
    client.batch_execute(SETTINGS).await.ok()?;
    Some(Probe { client, row: None })
}

impl Probe {
    /// Tries one row; none when the connection is lost.
    async fn write(&mut self) -> Option<Met> {
        if self.row.is_none() {
            self.row = self.shape().await?;
        }
        let Some(row) = self.row else { return Some(Met::Absent) };
        let Err(error) = self.client.batch_execute(row).await else { return Some(Met::Accepted) };
        let code = error.code()?.clone();
        self.client.batch_execute("rollback").await.ok()?;
        // The schema may have grown since the row was chosen: a migration adds columns one by one.
        if !matches!(code, SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::LOCK_NOT_AVAILABLE) {
            self.row = None;
        }
        Some(if code == SqlState::READ_ONLY_SQL_TRANSACTION { Met::Fenced } else { Met::Refused })
    }

    /// The row that fits; none inside while the table is not there.
    async fn shape(&self) -> Option<Option<&'static str>> {
        let found = self.client.query_one(SHAPE, &[]).await.ok()?;
        let (columns, nids): (i64, i64) = (found.get(0), found.get(1));
        Some(match (columns, nids) {
            (0, _) => None,
            (_, 0) => Some(ROW_1X),
            _ => Some(ROW_2X),
        })
    }
}
