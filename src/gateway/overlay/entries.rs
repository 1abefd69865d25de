//! What is denied, as keys in memory: signatures, grants, and clients' tokens up to a moment. Pure; holds digests, no token and no
//! signature.
//!
//! An entry goes when its event turns out refused, or retires; nothing else makes room.

use crate::revocations::{Chain, Door, Identity, Kind, Outcome};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Refused events that are remembered until the queue says so too; with more, one may be denied again for less than a second.
const REFUSED: usize = 10_000;

/// A digest by which a signature or a grant is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    pub(super) fn signature(form: &str) -> Self {
        Self::of(b's', form)
    }

    fn grant(request: &str) -> Self {
        Self::of(b'g', request)
    }

    fn of(kind: u8, text: &str) -> Self {
        let digest = Sha256::new().chain_update([kind]).chain_update(text.as_bytes()).finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }
}

/// All that is denied.
#[derive(Default)]
pub(super) struct Entries {
    by_event: HashMap<Uuid, Entry>,
    /// How many events deny what the key stands for.
    keys: HashMap<Key, u32>,
    clients: HashMap<String, Vec<Until>>,
    refused: HashSet<Uuid>,
}

struct Entry {
    keys: Vec<Key>,
    clients: Vec<String>,
    is_executed: bool,
    since: Instant,
}

/// A client's tokens from before a moment.
struct Until {
    event: Uuid,
    access_alone: bool,
    until: String,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.by_event.len()
    }

    /// Adds an event, unless it is there or is known to be refused; events of doors through which no token dies are no entries.
    pub(super) fn add(&mut self, id: Uuid, door: Door, chain: &Chain, outcome: Outcome, now: Instant) {
        if outcome == Outcome::Refused {
            self.refused.remove(&id);
            self.remove(id);
            return;
        }
        if self.by_event.contains_key(&id) || self.refused.remove(&id) {
            return;
        }
        let keys = keys(door, chain);
        let clients = self.add_clients(id, door, chain);
        if keys.is_empty() && clients.is_empty() {
            return;
        }
        for key in &keys {
            *self.keys.entry(*key).or_default() += 1;
        }
        self.by_event.insert(id, Entry { keys, clients, is_executed: outcome == Outcome::Executed, since: now });
    }

    fn add_clients(&mut self, event: Uuid, door: Door, chain: &Chain) -> Vec<String> {
        let Some(until) = chain.until.as_ref().filter(|_| matches!(door, Door::ClientTokens | Door::ClientDelete))
        else {
            return Vec::new();
        };
        for client in &chain.clients {
            let access_alone = door == Door::ClientTokens;
            let until = Until { event, access_alone, until: until.clone() };
            self.clients.entry(client.clone()).or_default().push(until);
        }
        chain.clients.iter().cloned().collect()
    }

    /// The engine has executed it.
    pub(super) fn executed(&mut self, id: Uuid) {
        if let Some(entry) = self.by_event.get_mut(&id) {
            entry.is_executed = true;
        }
    }

    /// The engine has refused it: it never was a revocation.
    pub(super) fn refuse(&mut self, id: Uuid) {
        if self.remove(id) {
            if self.refused.len() >= REFUSED {
                self.refused.clear();
            }
            self.refused.insert(id);
        }
    }

    /// Lets executed events go that have stood for `age`: for a time in which no other side can be served.
    pub(super) fn retire(&mut self, age: Duration, now: Instant) {
        let over = |entry: &Entry| entry.is_executed && now.saturating_duration_since(entry.since) >= age;
        let old: Vec<Uuid> = self.by_event.iter().filter(|(_, entry)| over(entry)).map(|(id, _)| *id).collect();
        for id in old {
            self.remove(id);
        }
    }

    /// Some of those that have stood for `age` since they came or were last kept.
    pub(super) fn due(&self, age: Duration, now: Instant, most: usize) -> Vec<Uuid> {
        let over = |entry: &Entry| now.saturating_duration_since(entry.since) >= age;
        self.by_event.iter().filter(|(_, entry)| over(entry)).map(|(id, _)| *id).take(most).collect()
    }

    /// Lets events go.
    pub(super) fn let_go(&mut self, ids: &[Uuid]) {
        for id in ids {
            self.remove(*id);
        }
    }

    /// Those of `ids` that are still here stand for another age.
    pub(super) fn keep(&mut self, ids: &[Uuid], now: Instant) {
        for id in ids {
            if let Some(entry) = self.by_event.get_mut(id) {
                entry.since = now;
            }
        }
    }

    /// Events whose outcome is not known.
    pub(super) fn unsettled(&self, most: usize) -> Vec<Uuid> {
        self.by_event.iter().filter(|(_, entry)| !entry.is_executed).map(|(id, _)| *id).take(most).collect()
    }

    /// Whether a token of one of these signatures is denied.
    pub(super) fn denies_signature(&self, forms: &[String]) -> bool {
        forms.iter().any(|form| self.keys.contains_key(&Key::signature(form)))
    }

    /// Whether a token of this grant is denied.
    pub(super) fn denies(&self, identity: &Identity) -> bool {
        let has = |grant: &str| self.keys.contains_key(&Key::grant(grant));
        if has(&identity.request) || identity.consent.as_deref().is_some_and(has) {
            return true;
        }
        let dies = |until: &Until| {
            (!until.access_alone || identity.kind == Kind::Access) && identity.requested_at <= until.until
        };
        self.clients.get(&identity.client).is_some_and(|untils| untils.iter().any(dies))
    }

    fn remove(&mut self, id: Uuid) -> bool {
        let Some(entry) = self.by_event.remove(&id) else { return false };
        for key in &entry.keys {
            if let Some(count) = self.keys.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.keys.remove(key);
                }
            }
        }
        for client in &entry.clients {
            if let Some(untils) = self.clients.get_mut(client) {
                untils.retain(|until| until.event != id);
                if untils.is_empty() {
                    self.clients.remove(client);
                }
            }
        }
        true
    }
}

/// A login session that ends takes no token with it, and a changed client's tokens live on: engines do it so, and so do we.
fn keys(door: Door, chain: &Chain) -> Vec<Key> {
    let grants = chain.requests.iter().chain(&chain.consents).map(|grant| Key::grant(grant));
    match door {
        Door::Token => grants.chain(chain.signatures.iter().map(|form| Key::signature(form))).collect(),
        Door::Consent => grants.collect(),
        Door::LoginSession | Door::Logout | Door::ClientTokens | Door::ClientDelete | Door::ClientUpdate => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(requests: &[&str], signatures: &[&str]) -> Chain {
        Chain {
            requests: requests.iter().map(|text| (*text).to_owned()).collect(),
            signatures: signatures.iter().map(|text| (*text).to_owned()).collect(),
            ..Chain::default()
        }
    }

    fn of_client(until: &str) -> Chain {
        Chain { clients: ["app".to_owned()].into(), until: Some(until.to_owned()), ..Chain::default() }
    }

    fn identity(kind: Kind, request: &str, requested_at: &str) -> Identity {
        Identity {
            kind,
            request: request.into(),
            consent: Some("c1".into()),
            client: "app".into(),
            requested_at: requested_at.into(),
        }
    }

    fn denies(entries: &Entries, signature: &str) -> bool {
        entries.denies_signature(&[signature.to_owned()])
    }

    #[test]
    fn a_chain_is_denied_by_its_signatures_and_its_grant_until_the_last_event_is_gone() {
        let (mut entries, now) = (Entries::default(), Instant::now());
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        entries.add(one, Door::Token, &chain(&["r1"], &["s1"]), Outcome::Captured, now);
        entries.add(one, Door::Token, &chain(&["r1"], &["s1"]), Outcome::Captured, now);
        entries.add(two, Door::Token, &chain(&["r1"], &["s2"]), Outcome::Executed, now);
        assert!(denies(&entries, "s1") && denies(&entries, "s2") && !denies(&entries, "r1"));
        assert!(entries.denies(&identity(Kind::Refresh, "r1", "")));
        assert!(!entries.denies(&identity(Kind::Refresh, "r2", "")));
        entries.refuse(one);
        assert!(!denies(&entries, "s1"), "the engine refused it");
        assert!(entries.denies(&identity(Kind::Access, "r1", "")), "another revocation has the same grant");
        entries.add(one, Door::Token, &chain(&["r1"], &["s1"]), Outcome::Captured, now);
        assert!(!denies(&entries, "s1"), "the queue had not heard of the refusal yet");
        entries.refuse(two);
        assert!(entries.len() == 0 && entries.keys.is_empty() && entries.clients.is_empty());
    }

    #[test]
    fn a_consent_is_denied_with_all_its_tokens_and_a_session_with_none() {
        let (mut entries, now) = (Entries::default(), Instant::now());
        let consent =
            Chain { consents: ["c1".to_owned()].into(), sessions: ["s".to_owned()].into(), ..chain(&[], &[]) };
        entries.add(Uuid::new_v4(), Door::Logout, &consent, Outcome::Captured, now);
        assert_eq!(entries.len(), 0);
        entries.add(Uuid::new_v4(), Door::Consent, &consent, Outcome::Captured, now);
        assert!(entries.denies(&identity(Kind::Code, "r9", "")));
    }

    #[test]
    fn a_clients_tokens_are_denied_up_to_a_moment() {
        let (mut entries, now) = (Entries::default(), Instant::now());
        entries.add(Uuid::new_v4(), Door::ClientTokens, &of_client("2026-01-02"), Outcome::Captured, now);
        let denied = |entries: &Entries, kind, at| entries.denies(&identity(kind, "r", at));
        assert!(denied(&entries, Kind::Access, "2026-01-02"));
        assert!(!denied(&entries, Kind::Access, "2026-01-03"), "granted later");
        assert!(!denied(&entries, Kind::Refresh, "2026-01-01"), "refresh tokens stay");
        entries.add(Uuid::new_v4(), Door::ClientDelete, &of_client("2026-01-02"), Outcome::Captured, now);
        assert!(denied(&entries, Kind::Refresh, "2026-01-01"));
    }

    #[test]
    fn only_what_was_executed_long_enough_ago_retires() {
        let (mut entries, now) = (Entries::default(), Instant::now());
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        entries.add(one, Door::Token, &chain(&[], &["s1"]), Outcome::Captured, now);
        entries.add(two, Door::Token, &chain(&[], &["s2"]), Outcome::Captured, now);
        entries.executed(two);
        assert_eq!(entries.unsettled(9), [one]);
        let age = Duration::from_secs(60);
        entries.retire(age, now + Duration::from_secs(59));
        assert!(denies(&entries, "s2"));
        entries.retire(age, now + age);
        assert!(!denies(&entries, "s2") && denies(&entries, "s1"), "whether the first was executed nobody knows");
    }

    #[test]
    fn what_is_kept_is_due_again_after_another_age() {
        let (mut entries, now, age) = (Entries::default(), Instant::now(), Duration::from_secs(60));
        let ids = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        for (number, id) in ids.iter().enumerate() {
            entries.add(*id, Door::Token, &chain(&[], &[&number.to_string()]), Outcome::Captured, now);
        }
        assert!(entries.due(age, now + Duration::from_secs(59), 9).is_empty());
        assert_eq!(entries.due(age, now + age, 2).len(), 2);
        entries.keep(&ids[..2], now + age);
        assert_eq!(entries.due(age, now + age, 9), [ids[2]]);
        entries.let_go(&ids[..1]);
        assert!(!denies(&entries, "0") && denies(&entries, "1"));
        assert_eq!(entries.due(age, now + age * 2, 9).len(), 2);
    }
}
