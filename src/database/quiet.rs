//! Waiting until nothing is at work on a side in our name: a command whose parent was killed goes on by itself, and is let end.
//!
//! Reads `pg_stat_activity` alone; ends nobody.

use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// Sessions of our login that do something, ourselves left out.
const AT_WORK: &str = "
select format('backend %s (%s, since %s): %s', pid, application_name, coalesce(xact_start, query_start), left(regexp_replace(query, '\\s+', ' ', 'g'), 60))
  from pg_catalog.pg_stat_activity
 where usename = session_user and datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
   and state <> 'idle'
 order by coalesce(xact_start, query_start) limit 1";
/// Between two statements a command is idle for a moment, so that one look is not enough.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Why it is not known to be quiet; nothing was changed.
#[derive(Debug, Error)]
pub enum QuietError {
    /// Somebody is still at work.
    #[error(
        "wait until an earlier command of ours has ended on the side: after {waited_s} s there still is {who}; nothing was changed"
    )]
    Busy {
        /// How long we waited.
        waited_s: u64,
        /// The session.
        who: String,
    },
    /// The server does not answer.
    #[error("look for earlier commands of ours on the side")]
    Server(#[source] tokio_postgres::Error),
}

/// Waits until no other session of our login has done anything for a few looks; tells of whom it waits for.
///
/// # Errors
/// When somebody is still at work after `patience`.
pub async fn wait(client: &Client, patience: Duration, tell: &(dyn Fn(&str) + Sync)) -> Result<(), QuietError> {
    let begun = Instant::now();
    let mut quiet = 0;
    while quiet < LOOKS {
        let row = client.query_opt(AT_WORK, &[]).await.map_err(QuietError::Server)?;
        let Some(who) = row.map(|row| row.get::<_, String>(0)) else {
            quiet += 1;
            sleep(PAUSE).await;
            continue;
        };
        if begun.elapsed() >= patience {
            return Err(QuietError::Busy { waited_s: patience.as_secs(), who });
        }
        tell(&format!("waits for what an earlier process has left: {who}"));
        quiet = 0;
        sleep(PAUSE).await;
    }
    Ok(())
}
