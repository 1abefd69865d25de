//! How much a capture may keep before blue is in danger, and giving it up for blue's sake.
//!
//! A slot keeps write-ahead log until it is read, a trigger log its own rows, and a full disk stops the database that serves: what is
//! kept is judged against the plan's limits and against the server's own. Giving up is final: a capture made anew would have missed
//! what was written in between.

use super::{Capture, CaptureError};
use crate::database::term::Term;
use crate::plan::CaptureMethod;
use tokio_postgres::{Client, GenericClient};

/// The writer whose transaction has been open longest, or was prepared and forgotten: a slot keeps the log from its first change on. Of a
/// trigger log whoever has an old snapshot keeps consumed rows, a reader too.
const OLDEST: &str = "select coalesce(
  (select format('transaction %s, prepared since %s', quote_literal(gid), date_trunc('second', prepared)) from pg_prepared_xacts
    where prepared < now() - interval '1 minute' order by prepared limit 1),
  (select format('backend %s (%s, database %s), in a transaction since %s', pid, coalesce(nullif(application_name, ''), usename), datname, date_trunc('second', xact_start))
    from pg_stat_activity where (backend_xid is not null or $1 and backend_xmin is not null) and xact_start < now() - interval '1 minute' order by xact_start limit 1))";

/// The plan's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalLimits {
    /// `window.wal_keep`.
    pub keep_bytes: u64,
    /// `window.wal_drop`.
    pub drop_bytes: Option<u64>,
}

/// What a capture keeps on its side until it is consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What keeps it.
    pub method: CaptureMethod,
    /// Bytes: of write-ahead log from the slot's restart position to its end, or of the trigger log.
    pub bytes: u64,
    /// Why the capture cannot deliver any more, if so.
    pub lost: Option<String>,
    /// Bytes that may still be written before the server takes the log away from a slot; none when it never does.
    pub safe_bytes: Option<u64>,
}

impl Kept {
    /// In words, such as `the slot keeps 12 MB of log`.
    #[must_use]
    pub fn words(&self) -> String {
        let size = megabytes(self.bytes);
        match self.method {
            CaptureMethod::Slot => format!("the slot keeps {size} MB of log"),
            CaptureMethod::Triggers => format!("the log of touched keys takes {size} MB"),
        }
    }
}

/// How much room a capture has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Ample,
    /// Little is left, or the plan's limit is passed and the run may go on: with figures, to be told.
    Short(String),
    /// The plan's limit is passed, and the plan does not say that the capture may be dropped.
    Passed(String),
    /// The limit is passed at which the plan gives green up.
    GiveUp(String),
    /// The capture cannot deliver any more.
    Lost(String),
}

/// Judges what a capture keeps.
#[must_use]
pub fn room(kept: &Kept, limits: WalLimits) -> Room {
    if let Some(why) = &kept.lost {
        return Room::Lost(why.clone());
    }
    let held = format!("{} on blue", kept.words());
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
    /// Who keeps the list from getting shorter: a transaction that has been open for more than a minute.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn oldest_writer(&self, client: &impl GenericClient) -> Result<Option<String>, CaptureError> {
        let counts_readers = self.method == CaptureMethod::Triggers;
        let row =
            client.query_one(OLDEST, &[&counts_readers]).await.map_err(self.server("look for the oldest writer"))?;
        Ok(row.get(0))
    }

    /// What the capture keeps until it is consumed.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn kept(&self, client: &impl GenericClient) -> Result<Kept, CaptureError> {
        match self.method {
            CaptureMethod::Slot => self.slot_kept(client).await,
            CaptureMethod::Triggers => self.log_kept(client).await,
        }
    }

    /// Takes away what keeps, and nothing else, so that its room is free at once: the capture is lost from then on, and says so to
    /// whoever looks.
    ///
    /// # Errors
    /// When another process took over, or somebody has it in use.
    pub async fn give_up(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        match self.method {
            CaptureMethod::Slot => self.give_slot_up(client, term).await,
            CaptureMethod::Triggers => self.give_log_up(client, term).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_048_576;

    fn kept(megabytes: u64) -> Kept {
        Kept { method: CaptureMethod::Slot, bytes: megabytes * MB, lost: None, safe_bytes: None }
    }

    #[test]
    fn what_a_slot_keeps_is_told_then_stops_and_is_given_up_only_where_the_plan_says_so() {
        let without = WalLimits { keep_bytes: 1000 * MB, drop_bytes: None };
        let with = WalLimits { drop_bytes: Some(2000 * MB), ..without };
        assert_eq!(room(&kept(800), without), Room::Ample);
        assert!(
            matches!(room(&kept(801), without), Room::Short(why) if why.contains("801 MB") && why.contains("1000 MB"))
        );
        assert!(matches!(room(&kept(1001), without), Room::Passed(_)));
        assert!(matches!(room(&kept(1999), with), Room::Short(_)), "it may be dropped, so it goes on");
        assert!(matches!(room(&kept(2000), with), Room::GiveUp(why) if why.contains("2000 MB")));
        assert!(matches!(room(&kept(9000), without), Room::Passed(_)), "never dropped without a word in the plan");
        assert!(matches!(room(&Kept { lost: Some("it is gone".to_owned()), ..kept(1) }, with), Room::Lost(_)));
        let log = Kept { method: CaptureMethod::Triggers, ..kept(1001) };
        assert!(matches!(room(&log, without), Room::Passed(why) if why.contains("log of touched keys takes 1001 MB")));
        let nearly = Kept { safe_bytes: Some(20 * MB), ..kept(100) };
        assert!(matches!(room(&nearly, without), Room::Short(why) if why.contains("20 MB more")));
    }
}
