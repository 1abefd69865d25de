//! What a gateway counts since its start, for `/metrics`: plain numbers, and refreshes that were shared by client.

use super::overlay::Doorway;
use crate::plan::Side;
use crate::revocations::hydra::Class;
use crate::traffic::figures::CLIENTS;
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Longest id of a client that is kept.
const ID_BYTES: usize = 255;
/// Status classes: 1xx to 5xx.
const STATUSES: usize = 5;

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often the answer to one refresh was given to others, by client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shared {
    /// To requests that came while it was under way.
    pub(super) followers: u64,
    /// To requests that came afterwards.
    pub(super) replays: u64,
}

/// All counts of a gateway.
#[derive(Default)]
pub(super) struct Counters {
    /// Answers to clients, by side, class and status class.
    answers: [[[Count; STATUSES]; Class::COUNT]; 2],
    denied: [Count; Doorway::ALL.len()],
    /// Refused because too many were held.
    pub(super) refused_full: Count,
    /// Refused because no side was settled.
    pub(super) refused_unsettled: Count,
    /// Revocations queued.
    pub(super) captured: Count,
    /// Revocations refused because they could not be queued.
    pub(super) capture_refused: Count,
    /// Tokens looked up for the overlay.
    pub(super) lookups: Count,
    /// Tokens that could not be looked up in time.
    pub(super) lookups_failed: Count,
    /// Refreshes sent to an engine once for all who asked the same.
    pub(super) flights: Count,
    /// Answers that would have been kept for a retry, had there been room.
    pub(super) unkept: Count,
    /// Browsers sent back to where their flow began, because it had begun on the other side.
    pub(super) restarted_browsers: Count,
    /// Screens told the same.
    pub(super) restarted_screens: Count,
    shared: Mutex<BTreeMap<String, Shared>>,
}

impl Counters {
    /// Counts an answer.
    pub(super) fn answered(&self, side: Side, class: Class, status: StatusCode) {
        let status = usize::from(status.as_u16() / 100).clamp(1, STATUSES) - 1;
        self.answers[of(side)][class as usize][status].add(1);
    }

    /// Counts a request that presented what was revoked.
    pub(super) fn denied(&self, doorway: Doorway) {
        self.denied[doorway as usize].add(1);
    }

    /// How often it was denied at a doorway.
    pub(super) fn denials(&self, doorway: Doorway) -> u64 {
        self.denied[doorway as usize].get()
    }

    /// How often a class was answered by a side in a status class, 1 to 5.
    pub(super) fn answers(&self, side: Side, class: Class, status: usize) -> u64 {
        self.answers[of(side)][class as usize][status.clamp(1, STATUSES) - 1].get()
    }

    /// Counts an answer that was shared; of clients beyond the first hundred under no name.
    pub(super) fn shared(&self, client: &str, one: Shared) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = shared.contains_key(client) || (shared.len() < CLIENTS && client.len() <= ID_BYTES);
        let counts = shared.entry(if is_known { client.to_owned() } else { String::new() }).or_default();
        counts.followers += one.followers;
        counts.replays += one.replays;
    }

    /// What was shared, by client; without a name the rest.
    pub(super) fn all_shared(&self) -> BTreeMap<String, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn of(side: Side) -> usize {
    match side {
        Side::Blue => 0,
        Side::Green => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_by_name_but_not_without_end() {
        let counters = Counters::default();
        for number in 0..CLIENTS + 7 {
            counters.shared(&format!("client {number}"), Shared { followers: 1, replays: 0 });
        }
        counters.shared("client 0", Shared { followers: 0, replays: 2 });
        let all = counters.all_shared();
        assert_eq!(all.len(), CLIENTS + 1);
        assert_eq!(all["client 0"], Shared { followers: 1, replays: 2 });
        assert_eq!(all[""], Shared { followers: 7, replays: 0 });
    }

    #[test]
    fn answers_are_counted_by_side_class_and_status() {
        let counters = Counters::default();
        counters.answered(Side::Green, Class::Token, StatusCode::BAD_REQUEST);
        assert_eq!(counters.answers(Side::Green, Class::Token, 4), 1);
        assert_eq!(counters.answers(Side::Blue, Class::Token, 4) + counters.answers(Side::Green, Class::Token, 5), 0);
    }
}
