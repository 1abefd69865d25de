//! Where the plan's revocations stand, as control says it: asked when somebody scrapes `/metrics`, and by no request of a client.

use super::config::Config;
use super::upstream::chain_of;
use crate::revocations::{Overview, Totals};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Control counts a long queue from end to end: however often and by how many it is scraped, it does so once in this time.
const KEPT: Duration = Duration::from_secs(10);
/// Longest wait of a scrape for a connection, and again for the count.
const PATIENCE: Duration = Duration::from_secs(2);

/// What control said last.
pub(super) struct LastTotals {
    overview: Overview,
    last: Mutex<Option<Last>>,
}

/// None is what it said when it was away.
#[derive(Clone, Copy)]
struct Last {
    at: Instant,
    totals: Option<Totals>,
}

impl LastTotals {
    pub(super) fn new(config: &Config) -> Self {
        Self { overview: Overview::new(&config.control, &config.plan, PATIENCE), last: Mutex::default() }
    }

    /// As control says it now, or said it a moment ago; none when it was not to be had. Who asks beside another waits for the same answer.
    pub(super) async fn get(&self) -> Option<Totals> {
        let mut last = self.last.lock().await;
        if let Some(last) = last.filter(|last| last.at.elapsed() < KEPT) {
            return last.totals;
        }
        let totals = self.overview.totals().await;
        if let Err(error) = &totals {
            tracing::debug!(error = %chain_of(error), "control does not say where revocations stand");
        }
        let totals = totals.ok();
        *last = Some(Last { at: Instant::now(), totals });
        totals
    }
}
