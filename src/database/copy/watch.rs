//! The watch beside a copy: how long its snapshot has held vacuum back on blue, who waits for a lock behind it, how far standbys are behind.
//!
//! Somebody who alters a table waits for our lock, and everybody who wants to use that table waits behind him: so the snapshot is let go, and
//! what is missing is read from a new one.

use super::CopyError;
use super::pace::Signal;
use crate::database::client::connect;
use crate::database::standbys;
use crate::plan::{Secret, Throttle};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch::Sender;
use tokio::time::Instant;
use tokio_postgres::Client;

const EVERY: Duration = Duration::from_secs(1);
/// Who waits for a lock that one of our transactions with this snapshot holds; and how many transactions vacuum is kept from. Asked of the
/// locks, since a login without `pg_monitor` does not see that others wait; it does not see their queries either.
const LOOK: &str = "select
  (select format('backend %s (%s) waits for our lock: %s', a.pid, coalesce(nullif(a.application_name, ''), a.usename), left(a.query, 60))
     from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
    where not l.granted and l.locktype = 'relation' and a.application_name <> 'cutover' and a.datname = current_database()
      and exists (select from unnest(pg_catalog.pg_blocking_pids(l.pid)) as b(pid)
                  join pg_catalog.pg_stat_activity o on o.pid = b.pid and o.application_name = 'cutover'
                  where o.backend_xmin is not null)
    limit 1),
  coalesce((select max(pg_catalog.age(backend_xmin)) from pg_catalog.pg_stat_activity
    where application_name = 'cutover' and datname = current_database()), 0)::bigint";
/// What a watch knows, for the progress.
#[derive(Debug, Default)]
pub(in crate::database) struct Held {
    /// Seconds since the snapshot was taken.
    pub(super) age_s: AtomicU64,
    /// Transactions that vacuum cannot clean up after.
    pub(super) xids: AtomicU64,
}

/// Looks once a second, for ever; ends with an error only. Standbys are `blue`'s, the snapshot is held on `source`.
pub(in crate::database) async fn watch(
    blue: &Secret,
    source: &Secret,
    throttle: Throttle,
    held: &Held,
    say: &Sender<Signal>,
) -> Result<(), CopyError> {
    let (blue, source) = (connect(blue, "blue").await?, connect(source, "blue").await?);
    let begun = Instant::now();
    loop {
        let signal = look(&blue, &source, throttle, begun, held).await.map_err(CopyError::server("watch", "blue"))?;
        say.send_if_modified(|now| {
            let is_new = *now != signal && !matches!(now, Signal::Leave(_));
            if is_new {
                *now = signal;
            }
            is_new
        });
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(
    blue: &Client,
    source: &Client,
    throttle: Throttle,
    begun: Instant,
    held: &Held,
) -> Result<Signal, tokio_postgres::Error> {
    let row = source.query_one(LOOK, &[]).await?;
    held.age_s.store(begun.elapsed().as_secs(), Ordering::Relaxed);
    held.xids.store(row.get::<_, i64>(1).max(0).cast_unsigned(), Ordering::Relaxed);
    if let Some(waiting) = row.get::<_, Option<String>>(0) {
        return Ok(Signal::Leave(waiting));
    }
    if begun.elapsed() >= throttle.snapshot {
        let limit = humantime::format_duration(throttle.snapshot);
        return Ok(Signal::Leave(format!("the snapshot is older than {limit}, and keeps vacuum from working")));
    }
    let Some(lag) = throttle.replica_lag else { return Ok(Signal::Go) };
    Ok(standbys::behind(blue, lag).await?.map_or(Signal::Go, Signal::Wait))
}
