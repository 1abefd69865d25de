//! Passing over what was written before the side opened: those changes were ours, and nobody asks for them.

use super::{Capture, CaptureError, CaptureStanding};
use crate::database::pgoutput::Lsn;
use tokio_postgres::Client;

const PLACE: &str =
    "select (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
from pg_replication_slots where slot_name = $1";
const ADVANCE: &str = "select pg_replication_slot_advance($1, '0/0'::pg_lsn + $2::bigint::numeric)";
const NOTE: &str = "update cutover.capture set skip_lsn = '0/0'::pg_lsn + $2::bigint::numeric
where run = $1 and coalesce(skip_lsn, start_lsn) < '0/0'::pg_lsn + $2::bigint::numeric";

impl Capture {
    /// Moves the slot to `lsn`, so that what was committed before is never read: call it before the first batch from this side, and
    /// before its position is stored with `begin_progress`. A slot that stands there or beyond stays where it is.
    ///
    /// # Errors
    /// `Beyond` when the log does not reach that far; `Lost` when the capture does not stand. Called again, it goes on.
    pub async fn skip_to(&self, client: &Client, lsn: Lsn) -> Result<(), CaptureError> {
        let side = self.side;
        match self.verify(client).await? {
            CaptureStanding::Present(_) => {}
            other => return Err(CaptureError::Lost { side, why: format!("it was found {other:?}") }),
        }
        let row = client.query_one(PLACE, &[&self.name()]).await.map_err(self.server("read the slot"))?;
        let (confirmed, end): (i64, i64) = (row.get(0), row.get(1));
        if lsn > end.cast_unsigned() {
            return Err(CaptureError::Beyond { side, lsn, end: end.cast_unsigned() });
        }
        if confirmed.cast_unsigned() < lsn {
            let advanced = client.execute(ADVANCE, &[&self.name(), &lsn.cast_signed()]).await;
            advanced.map_err(self.server("advance the slot"))?;
        }
        client.execute(NOTE, &[&self.run, &lsn.cast_signed()]).await.map_err(self.server("note what was skipped"))?;
        Ok(())
    }
}
