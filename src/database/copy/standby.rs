//! Reading rows from a standby of blue: that it is one, and that it has replayed all that the slot will not tell.
//!
//! The slot tells what was committed after it was made. So the standby's snapshot must see everything before that: it has replayed blue's log up
//! to a position that was read from blue after the slot was made.

use super::CopyError;
use crate::database::client::connect;
use crate::plan::Secret;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// Longest wait for a standby to replay what blue has written until now.
const CAUGHT_UP: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const IDENTITY: &str = "select (select system_identifier from pg_catalog.pg_control_system())::text || ' ' || oid::text, pg_catalog.pg_is_in_recovery()
from pg_catalog.pg_database where datname = current_database()";
const POSITION: &str = "select pg_catalog.pg_current_wal_flush_lsn()::text";
const BEHIND: &str = "select pg_catalog.pg_wal_lsn_diff($1::text::pg_lsn, pg_catalog.pg_last_wal_replay_lsn())::bigint";

/// Why `standby` is no standby of `blue`, by effect; none when it is one.
///
/// # Errors
/// When one of them does not answer.
pub(in crate::database) async fn objection(
    blue: &Client,
    standby: &Client,
) -> Result<Option<&'static str>, tokio_postgres::Error> {
    let (blue, standby) = tokio::try_join!(blue.query_one(IDENTITY, &[]), standby.query_one(IDENTITY, &[]))?;
    Ok(match standby.get(1) {
        false => Some("it is not in recovery"),
        true if blue.get::<_, String>(0) != standby.get::<_, String>(0) => Some("it follows another database"),
        true => None,
    })
}

/// Waits until the standby has replayed what blue has written until now.
pub(super) async fn catch_up(blue: &Secret, standby: &Secret) -> Result<(), CopyError> {
    let failed = CopyError::server("look at", "the standby of blue");
    let (blue, standby) = (connect(blue, "blue").await?, connect(standby, "the standby of blue").await?);
    if let Some(why) = objection(&blue, &standby).await.map_err(&failed)? {
        return Err(CopyError::NoStandby { why });
    }
    let position: String = blue.query_one(POSITION, &[]).await.map_err(&failed)?.get(0);
    let end = Instant::now() + CAUGHT_UP;
    loop {
        let row = standby.query_one(BEHIND, &[&position]).await.map_err(&failed)?;
        match row.get::<_, Option<i64>>(0).unwrap_or(i64::MAX) {
            ..=0 => return Ok(()),
            behind_bytes if Instant::now() >= end => {
                return Err(CopyError::StandbyBehind { behind_bytes, waited_s: CAUGHT_UP.as_secs() });
            }
            _ => sleep(POLL).await,
        }
    }
}
