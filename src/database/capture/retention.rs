//! How much log a slot may keep before blue is in danger, and giving the slot up for blue's sake.
//!
//! A slot keeps log until it is read, and a full disk stops the database that serves: what is kept is judged against the plan's limits
//! and against the server's own. Giving up is final: a slot made anew would have missed what was written in between.

use super::{Capture, CaptureError, WalKept};
use crate::database::term::{self, Term};
use tokio_postgres::{Client, GenericClient};

/// The writer whose transaction has been open longest, or was prepared and forgotten: the log is kept from its first change on.
const OLDEST: &str = "select coalesce(
  (select format('transaction %s, prepared since %s', quote_literal(gid), date_trunc('second', prepared)) from pg_prepared_xacts
    where prepared < now() - interval '1 minute' order by prepared limit 1),
  (select format('backend %s (%s, database %s), in a transaction since %s', pid, coalesce(nullif(application_name, ''), usename), datname, date_trunc('second', xact_start))
    from pg_stat_activity where backend_xid is not null and xact_start < now() - interval '1 minute' order by xact_start limit 1))";

/// The plan's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalLimits {
    /// `window.wal_keep`.
    pub keep_bytes: u64,
    /// `window.wal_drop`.
    pub drop_bytes: Option<u64>,
}

/// How much room the slot has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Ample,
    /// Little is left, or the plan's limit is passed and the run may go on: with figures, to be told.
    Short(String),
    /// The plan's limit is passed, and the plan does not say that the slot may be dropped.
    Passed(String),
    /// The limit is passed at which the plan gives green up.
    GiveUp(String),
    /// The slot is gone, or the server has taken its log away.
    Lost(String),
}

/// Judges what a slot keeps; none is a slot that is gone.
#[must_use]
pub fn room(kept: Option<&WalKept>, limits: WalLimits) -> Room {
    let Some(kept) = kept else { return Room::Lost("the slot is gone".to_owned()) };
    if kept.status == "lost" {
        return Room::Lost("the server has removed the log that the slot needed (max_slot_wal_keep_size)".to_owned());
    }
    let held = format!("the slot keeps {} MB of log on blue", megabytes(kept.bytes));
    let keep = format!("window.wal_keep is {} MB", megabytes(limits.keep_bytes));
    match limits.drop_bytes {
        Some(drop) if kept.bytes >= drop => {
            return Room::GiveUp(format!("{held}, window.wal_drop is {} MB", megabytes(drop)));
        }
        None if kept.bytes > limits.keep_bytes => return Room::Passed(format!("{held}, {keep}")),
        _ => {}
    }
    if let Some(safe) = kept.safe_bytes.filter(|safe| *safe < kept.bytes / 4) {
        let rest = megabytes(safe);
        return Room::Short(format!("{held}, and the server removes it after {rest} MB more (max_slot_wal_keep_size)"));
    }
    if kept.bytes > limits.keep_bytes / 5 * 4 { Room::Short(format!("{held}, {keep}")) } else { Room::Ample }
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_048_576
}

impl Capture {
    /// Who keeps the log from getting shorter: a transaction that has been open for more than a minute.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn oldest_writer(&self, client: &impl GenericClient) -> Result<Option<String>, CaptureError> {
        let row = client.query_one(OLDEST, &[]).await.map_err(self.server("look for the oldest writer"))?;
        Ok(row.get(0))
    }

    /// Drops the slot and nothing else, so that the log is free at once: the capture is lost from then on, and says so to whoever looks.
    ///
    /// # Errors
    /// When another process took over, or somebody is reading the slot.
    pub async fn give_up(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        transaction.commit().await.map_err(self.server("hold the term"))?;
        self.drop_slot(client).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_048_576;

    fn kept(megabytes: u64) -> WalKept {
        WalKept { bytes: megabytes * MB, status: "extended".to_owned(), safe_bytes: None }
    }

    #[test]
    fn what_a_slot_keeps_is_told_then_stops_and_is_given_up_only_where_the_plan_says_so() {
        let without = WalLimits { keep_bytes: 1000 * MB, drop_bytes: None };
        let with = WalLimits { drop_bytes: Some(2000 * MB), ..without };
        assert_eq!(room(Some(&kept(800)), without), Room::Ample);
        assert!(
            matches!(room(Some(&kept(801)), without), Room::Short(why) if why.contains("801 MB") && why.contains("1000 MB"))
        );
        assert!(matches!(room(Some(&kept(1001)), without), Room::Passed(_)));
        assert!(matches!(room(Some(&kept(1999)), with), Room::Short(_)), "it may be dropped, so it goes on");
        assert!(matches!(room(Some(&kept(2000)), with), Room::GiveUp(why) if why.contains("2000 MB")));
        assert!(
            matches!(room(Some(&kept(9000)), without), Room::Passed(_)),
            "never dropped without a word in the plan"
        );
        assert!(matches!(room(None, without), Room::Lost(_)));
        assert!(matches!(room(Some(&WalKept { status: "lost".to_owned(), ..kept(1) }), with), Room::Lost(_)));
        let nearly = WalKept { safe_bytes: Some(20 * MB), ..kept(100) };
        assert!(matches!(room(Some(&nearly), without), Room::Short(why) if why.contains("20 MB more")));
    }
}
