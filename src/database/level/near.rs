//! Keeping the slot's restart position near the end of the log, since every call of the slot reads from there.
//!
//! The position only follows the server's notes of who is running, which it writes every fifteen seconds; the calls get slower in
//! between, and fast again. Making a logical slot writes three such notes at once, also one that is dropped in the next statement.
//! It waits for every writer under way, so it is bounded, and never done while clients are held.

use super::Worker;
use crate::database::sql::literal;
use std::time::Duration;
use tokio::time::Instant;

const TRAIL: &str =
    "select coalesce((pg_current_wal_lsn() - restart_lsn)::bigint, 0) from pg_replication_slots where slot_name = $1";
/// A shorter trail is read in a few milliseconds.
const LEAST_TRAIL: i64 = 1 << 20;
/// Time between two.
const EVERY: Duration = Duration::from_secs(2);
/// Longest wait for writers under way; behind one that stays open for long the position cannot move anyway.
const PATIENCE: Duration = Duration::from_millis(250);
/// Time after one that did not succeed.
const AFTER_FAILURE: Duration = Duration::from_secs(15);

impl Worker {
    /// Draws the slot's restart position near when it trails, at most every two seconds. Call it between batches, never while clients
    /// are held. What hinders it (a writer open for long, no free slot) only leaves the calls slower.
    pub async fn draw_near(&mut self) {
        if Instant::now() < self.near_again {
            return;
        }
        let trail = match self.slot.query_opt(TRAIL, &[&self.captured.name]).await {
            Ok(row) => row.map_or(0, |row| row.get::<_, i64>(0)),
            Err(_) => return,
        };
        if trail < LEAST_TRAIL {
            return;
        }
        let drawn = self.make_notes().await;
        self.near_again = Instant::now() + if drawn.is_ok() { EVERY } else { AFTER_FAILURE };
        if let Err(error) = drawn {
            tracing::debug!(%error, trail, "the slot's restart position stays where it is");
        }
    }

    async fn make_notes(&self) -> Result<(), tokio_postgres::Error> {
        let name = literal(&format!("{}_near", self.captured.name));
        self.slot.batch_execute(&format!("set statement_timeout = {}", PATIENCE.as_millis())).await?;
        let made = self
            .slot
            .execute(&format!("select pg_create_logical_replication_slot({name}, 'pgoutput', true)"), &[])
            .await;
        self.slot.batch_execute(&format!("set statement_timeout = {}", self.limits.statement.as_millis())).await?;
        made?;
        self.slot.execute(&format!("select pg_drop_replication_slot({name})"), &[]).await.map(drop)
    }
}
