//! Keeping the list of changes short between batches, so that the next call does not read what was consumed long ago.

use super::Worker;
use super::list::Near;
use std::time::Duration;
use tokio::time::Instant;

/// Time between two.
const EVERY: Duration = Duration::from_secs(2);
/// Time after one that did not succeed.
const AFTER_FAILURE: Duration = Duration::from_secs(15);

impl Worker {
    /// Gives room back, and draws the list near when it trails, at most every two seconds. Call it between batches, never while clients are held. What
    /// hinders it only leaves the calls slower.
    pub async fn draw_near(&mut self) {
        self.give_room_back().await;
        if Instant::now() < self.near_again {
            return;
        }
        match self.list.draw_near(&self.beside, self.limits.statement).await {
            Near::Already => {}
            Near::Drawn => self.near_again = Instant::now() + EVERY,
            Near::Hindered => self.near_again = Instant::now() + AFTER_FAILURE,
        }
    }
}
