//! The deny overlay: what was revoked is refused at introspection, userinfo, refresh and code exchange, whatever an engine says of it.
//!
//! It is the second line. The guarantee is that a side opens only when every acknowledged revocation is proved on it, and that the side
//! that serves has executed what it acknowledged. So a token that cannot be looked up because the side's database does not answer in time
//! passes: its engine has executed the revocation, or was proved before it opened, and to refuse every token then would make an outage of
//! a guard. It never accepts anything: a request that it lets through is still the engine's to judge.
//!
//! It is bounded, and nothing is dropped for something else: entries go by the rule in `retire`, and where there is no room a revocation is
//! refused before it is queued.

mod cache;
mod denied;
mod entries;
mod follow;
mod presented;
mod retire;

pub(super) use denied::answer as denied;
pub(super) use follow::follow;
pub(super) use presented::{Doorway, Presented, is_hidden};
pub(super) use retire::Retirement;

use super::counters::Counters;
use crate::plan::Side;
use crate::revocations::{Captured, Identities, Identity, Outcome, Receipt, RevocationError};
use cache::Cache;
use entries::Entries;
use presented::Token;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// A lookup that takes longer is given up.
const LOOKUP: Duration = Duration::from_millis(250);
/// Most lookups at once; a side that is slow must not gather requests here.
const LOOKUPS: usize = 256;

/// What the overlay says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing of what it presents is denied.
    Passes,
    /// Something of it is.
    Denied,
    /// No signature of it is denied, and whose it is could not be looked up in time.
    Unknown,
}

/// What is denied, and the means to recognise it.
pub(super) struct Overlay {
    entries: RwLock<Entries>,
    /// How many there are, read without the lock by every request.
    count: AtomicUsize,
    most: usize,
    identities: Identities,
    cache: Mutex<Cache>,
    lookups: Semaphore,
    is_loaded: AtomicBool,
    counters: Arc<Counters>,
}

impl Overlay {
    /// An empty one that keeps at most `most` revocations of its own gateway.
    pub(super) fn new(most: usize, identities: Identities, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            entries: RwLock::default(),
            count: AtomicUsize::new(0),
            most,
            identities,
            cache: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS),
            is_loaded: AtomicBool::new(false),
            counters,
        })
    }

    /// Whether nothing is denied, so that nothing need be looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many revocations are denied.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether everything that was queued before this process started is denied.
    pub(super) fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// Refuses a revocation that there is no room for; an entry is never dropped for another.
    pub(super) fn require_room(&self) -> Result<(), RevocationError> {
        if self.len() < self.most { Ok(()) } else { Err(RevocationError::Full { most: self.most }) }
    }

    /// Denies what was just queued; call before the engine hears of it.
    pub(super) fn deny(&self, receipt: &Receipt, captured: &Captured) {
        self.change(|entries| {
            entries.add(receipt.id, captured.door, &captured.chain, Outcome::Captured, Instant::now());
        });
    }

    /// The engine has answered.
    pub(super) fn settle(&self, id: Uuid, outcome: Outcome) {
        self.change(|entries| match outcome {
            Outcome::Executed => entries.executed(id),
            Outcome::Refused => entries.refuse(id),
            Outcome::Captured => {}
        });
    }

    /// Whether what is presented may go to the engine of `side`.
    pub(super) async fn judge(&self, side: Side, presented: &Presented) -> Verdict {
        if self.is_empty() {
            return Verdict::Passes;
        }
        let mut verdict = Verdict::Passes;
        for token in &presented.tokens {
            match self.judge_one(side, presented, token).await {
                Verdict::Denied => return Verdict::Denied,
                Verdict::Unknown => verdict = Verdict::Unknown,
                Verdict::Passes => {}
            }
        }
        verdict
    }

    async fn judge_one(&self, side: Side, presented: &Presented, token: &Token) -> Verdict {
        if self.read(|entries| entries.denies_signature(&token.forms)) {
            return Verdict::Denied;
        }
        let found = self.look_up(side, presented, token).await;
        if let Some(identities) = found.as_ref().filter(|identities| !identities.is_empty()) {
            let is_denied = self.read(|entries| identities.iter().any(|identity| entries.denies(identity)));
            return if is_denied { Verdict::Denied } else { Verdict::Passes };
        }
        // Only where no row says whose it is: otherwise anybody could have a stranger's token denied, by revoking one of his own with
        // the stranger's claims in it.
        if token
            .jwt
            .as_ref()
            .is_some_and(|form| self.read(|entries| entries.denies_signature(std::slice::from_ref(form))))
        {
            return Verdict::Denied;
        }
        if found.is_some() { Verdict::Passes } else { Verdict::Unknown }
    }

    /// Whose a token is on the side; none when that could not be found out in time.
    async fn look_up(&self, side: Side, presented: &Presented, token: &Token) -> Option<Arc<[Identity]>> {
        let key = cache::key(side, presented.kinds, &token.forms);
        if let Some(known) = self.cache().get(&key, Instant::now()) {
            return Some(known);
        }
        let asked = match self.lookups.try_acquire() {
            // A box, so that requests that look up nothing are not as large as one that asks a database.
            Ok(_permit) => {
                let asked = Box::pin(self.identities.of(side, presented.kinds, &token.forms));
                timeout(LOOKUP, asked).await.ok()
            }
            Err(_) => None,
        };
        match asked {
            Some(Ok(found)) => {
                self.counters.lookups.add(1);
                let found: Arc<[Identity]> = found.into();
                self.cache().put(key, Arc::clone(&found), Instant::now());
                Some(found)
            }
            Some(Err(error)) => {
                self.counters.lookups_failed.add(1);
                tracing::debug!(%error, %side, "whose a token is could not be looked up");
                None
            }
            None => {
                self.counters.lookups_failed.add(1);
                None
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Entries) -> T) -> T {
        look(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Entries)) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut entries);
        self.count.store(entries.len(), Ordering::Release);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
