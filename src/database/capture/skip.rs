//! Passing over what was written before the side opened: those changes were ours, and nobody asks for them.

use super::{Capture, CaptureError, CaptureStanding};
use crate::database::pgoutput::Lsn;
use crate::plan::CaptureMethod;
use tokio_postgres::Client;

/// When a side opened, before anybody but us could write there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The end of its write-ahead log.
    pub lsn: Lsn,
    /// A snapshot, as the server prints it.
    pub snapshot: String,
}

const CONFIRMED: &str =
    "select (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint from pg_replication_slots where slot_name = $1";
const END: &str = "select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint";
const ADVANCE: &str = "select pg_replication_slot_advance($1, '0/0'::pg_lsn + $2::bigint::numeric)";
const NOTE: &str = "update cutover.capture set skip_lsn = '0/0'::pg_lsn + $2::bigint::numeric
where run = $1 and coalesce(skip_lsn, start_lsn) < '0/0'::pg_lsn + $2::bigint::numeric";

impl Capture {
    /// Passes over what was committed before a side opened, so that it is never read: call it before the first batch from this side, and
    /// before its position is stored with `begin_progress`. Called again for the same opening, it changes nothing.
    ///
    /// # Errors
    /// `Beyond` when the side's log does not reach that far; `Lost` when the capture does not stand. Called again, it goes on.
    pub async fn skip_to(&self, client: &Client, opened: &Opened) -> Result<(), CaptureError> {
        let side = self.side;
        match self.verify(client).await? {
            CaptureStanding::Present(_) => {}
            other => return Err(CaptureError::Lost { side, why: format!("it was found {other:?}") }),
        }
        let row = client.query_one(END, &[]).await.map_err(self.server("read the end of the log"))?;
        let (lsn, end) = (opened.lsn, row.get::<_, i64>(0).cast_unsigned());
        if lsn > end {
            return Err(CaptureError::Beyond { side, lsn, end });
        }
        match self.method {
            CaptureMethod::Slot => self.skip_slot(client, lsn).await,
            CaptureMethod::Triggers => self.skip_log(client, lsn.cast_signed(), &opened.snapshot).await,
        }
    }

    /// Moves the slot, unless it stands there or beyond.
    async fn skip_slot(&self, client: &Client, lsn: Lsn) -> Result<(), CaptureError> {
        let row = client.query_one(CONFIRMED, &[&self.name()]).await.map_err(self.server("read the slot"))?;
        if row.get::<_, i64>(0).cast_unsigned() < lsn {
            let advanced = client.execute(ADVANCE, &[&self.name(), &lsn.cast_signed()]).await;
            advanced.map_err(self.server("advance the slot"))?;
        }
        client.execute(NOTE, &[&self.run, &lsn.cast_signed()]).await.map_err(self.server("note what was skipped"))?;
        Ok(())
    }
}
