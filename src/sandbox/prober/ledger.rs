//! What the prober's clients hold: apps, consents, chains of tokens, and what is known of their ends.
//!
//! Owns who may use what next, so that one client never races itself: at most one request that changes a chain, a consent or an app
//! is outstanding. Never asks anybody; the judge's rulings stand on it.

use super::rulings::Fate;
use rand::Rng as _;

/// Most chains kept; beyond it the load issues no more.
const CHAINS_MAX: usize = 250_000;
/// How often a random pick is tried before giving up.
const PICKS: usize = 24;

/// A chain of tokens: one grant and everything refreshed from it.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) app: usize,
    pub(super) consent: Option<usize>,
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    /// Refresh tokens that were used; they stay dead.
    pub(super) used: Vec<String>,
    pub(super) expires_us: u64,
    pub(super) fate: Fate,
    /// A request that changes it is outstanding.
    pub(super) busy: bool,
    /// An answer was lost: what the engine holds is unknown.
    pub(super) uncertain: bool,
}

/// A client of the engine, created on the dashboard.
#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) id: String,
    pub(super) secret: String,
    /// The name last acknowledged.
    pub(super) name: String,
    pub(super) fate: Fate,
    pub(super) uncertain: bool,
    /// Requests that use its secret right now.
    pub(super) users: u32,
    pub(super) busy: bool,
    /// Never deleted by the load.
    pub(super) lasting: bool,
    chains: Vec<usize>,
    pub(super) renames: u32,
}

/// A consent given by one subject to one app.
#[derive(Debug, Clone)]
pub(super) struct Consent {
    pub(super) app: usize,
    pub(super) subject: String,
    pub(super) fate: Fate,
    pub(super) busy: bool,
    pub(super) uncertain: bool,
    chains: Vec<usize>,
}

/// Tokens as an answer gave them.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    pub(super) expires_us: u64,
}

/// Everything the clients hold.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) chains: Vec<Chain>,
    pub(super) apps: Vec<App>,
    pub(super) consents: Vec<Consent>,
    /// Chains whose revocation was acknowledged.
    pub(super) revoked: Vec<usize>,
}

impl Ledger {
    pub(super) fn add_app(&mut self, id: String, secret: String, name: String, lasting: bool) -> usize {
        let fate = Fate::default();
        let (chains, users, renames) = (Vec::new(), 0, 0);
        self.apps.push(App { id, secret, name, fate, uncertain: false, users, busy: false, lasting, chains, renames });
        self.apps.len() - 1
    }

    pub(super) fn add_consent(&mut self, app: usize, subject: String) -> usize {
        let chains = Vec::new();
        self.consents.push(Consent { app, subject, fate: Fate::default(), busy: true, uncertain: false, chains });
        self.consents.len() - 1
    }

    /// A chain inherits the doom of its app and consent: they may have been revoked while its tokens were on the way.
    pub(super) fn add_chain(&mut self, app: usize, consent: Option<usize>, tokens: Tokens) {
        let index = self.chains.len();
        let fate = consent.map_or(Fate::default(), |consent| self.consents[consent].fate);
        let Tokens { access, refresh, expires_us } = tokens;
        self.chains.push(Chain {
            app,
            consent,
            access,
            refresh,
            used: Vec::new(),
            expires_us,
            fate,
            busy: false,
            uncertain: false,
        });
        self.apps[app].chains.push(index);
        if let Some(consent) = consent {
            self.consents[consent].chains.push(index);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.chains.len() >= CHAINS_MAX
    }

    /// An app whose secret may be used; counted as used until [`Self::leave`].
    pub(super) fn use_app(&mut self) -> Option<usize> {
        let app = pick(self.apps.len(), |index| {
            let app = &self.apps[index];
            !app.fate.is_doomed() && !app.uncertain
        })?;
        self.apps[app].users += 1;
        Some(app)
    }

    pub(super) fn leave(&mut self, app: usize) {
        self.apps[app].users -= 1;
    }

    /// A chain to ask about: often a live one, often enough a revoked one.
    pub(super) fn any_chain(&self) -> Option<usize> {
        let mut random = rand::rng();
        if !self.revoked.is_empty() && random.random_bool(0.3) {
            return Some(self.revoked[random.random_range(0..self.revoked.len())]);
        }
        pick(self.chains.len(), |_| true)
    }

    /// A revoked chain that had a refresh token.
    pub(super) fn revoked_with_refresh(&self) -> Option<usize> {
        let nth = pick(self.revoked.len(), |nth| self.chains[self.revoked[nth]].refresh.is_some())?;
        Some(self.revoked[nth])
    }

    fn is_free(&self, index: usize) -> bool {
        let chain = &self.chains[index];
        let app = &self.apps[chain.app];
        let consent_free = chain.consent.is_none_or(|consent| {
            let consent = &self.consents[consent];
            !consent.busy && !consent.fate.is_doomed()
        });
        let app_free = !app.fate.is_doomed() && !app.uncertain;
        !chain.busy && !chain.uncertain && !chain.fate.is_doomed() && app_free && consent_free
    }

    /// Takes a chain for a refresh.
    pub(super) fn take_for_refresh(&mut self) -> Option<usize> {
        let chain = pick(self.chains.len(), |index| self.chains[index].refresh.is_some() && self.is_free(index))?;
        self.take(chain);
        Some(chain)
    }

    /// Takes a chain for the revocation of one of its tokens.
    pub(super) fn take_for_revoke(&mut self, now_us: u64) -> Option<usize> {
        let chain = pick(self.chains.len(), |index| self.is_free(index))?;
        self.take(chain);
        self.chains[chain].fate.doom(now_us);
        Some(chain)
    }

    fn take(&mut self, chain: usize) {
        self.chains[chain].busy = true;
        let app = self.chains[chain].app;
        self.apps[app].users += 1;
    }

    /// Gives a chain back.
    pub(super) fn give_back(&mut self, chain: usize) {
        self.chains[chain].busy = false;
        self.leave(self.chains[chain].app);
    }

    /// Takes a consent with all its chains for revocation.
    pub(super) fn take_consent(&mut self, now_us: u64) -> Option<usize> {
        let index = pick(self.consents.len(), |index| {
            let consent = &self.consents[index];
            let app = &self.apps[consent.app];
            let idle = consent.chains.iter().all(|chain| !self.chains[*chain].busy);
            !consent.busy && !consent.uncertain && !consent.fate.is_doomed() && !app.fate.is_doomed() && idle
        })?;
        let consent = &mut self.consents[index];
        consent.busy = true;
        consent.fate.doom(now_us);
        self.apps[consent.app].users += 1;
        for chain in &consent.chains {
            self.chains[*chain].fate.doom(now_us);
        }
        Some(index)
    }

    /// Takes an app to rename it.
    pub(super) fn take_to_rename(&mut self) -> Option<usize> {
        let app = pick(self.apps.len(), |index| {
            let app = &self.apps[index];
            !app.busy && !app.uncertain && !app.fate.is_doomed()
        })?;
        self.apps[app].busy = true;
        self.apps[app].renames += 1;
        Some(app)
    }

    /// Takes an app to delete it, with everything issued to it.
    pub(super) fn take_to_delete(&mut self, now_us: u64) -> Option<usize> {
        let index = pick(self.apps.len(), |index| {
            let app = &self.apps[index];
            !app.lasting && !app.busy && !app.uncertain && app.users == 0 && !app.fate.is_doomed()
        })?;
        let app = &mut self.apps[index];
        app.busy = true;
        app.fate.doom(now_us);
        for chain in &app.chains {
            self.chains[*chain].fate.doom(now_us);
        }
        for consent in self.consents.iter_mut().filter(|consent| consent.app == index) {
            consent.fate.doom(now_us);
        }
        Some(index)
    }

    /// Notes the acknowledged revocation of one chain.
    pub(super) fn chain_revoked(&mut self, chain: usize, ack_us: u64) {
        if self.chains[chain].fate.revoked(ack_us) {
            self.revoked.push(chain);
        }
    }

    /// Notes the acknowledged revocation of a consent.
    pub(super) fn consent_revoked(&mut self, consent: usize, ack_us: u64) {
        self.consents[consent].fate.revoked(ack_us);
        for chain in self.consents[consent].chains.clone() {
            self.chain_revoked(chain, ack_us);
        }
    }

    /// Notes the acknowledged deletion of an app.
    pub(super) fn app_deleted(&mut self, app: usize, ack_us: u64) {
        self.apps[app].fate.revoked(ack_us);
        for chain in self.apps[app].chains.clone() {
            self.chain_revoked(chain, ack_us);
        }
    }

    /// Whether `token` must still be accepted, revocations apart.
    pub(super) fn is_certain(&self, chain: usize, token: &str, now_us: u64) -> bool {
        let chain = &self.chains[chain];
        let current = chain.access == token || chain.refresh.as_deref() == Some(token);
        let fresh = chain.access != token || now_us < chain.expires_us;
        current && fresh && !chain.busy && !chain.uncertain && !self.apps[chain.app].uncertain
    }
}

fn pick(len: usize, suits: impl Fn(usize) -> bool) -> Option<usize> {
    if len == 0 {
        return None;
    }
    let mut random = rand::rng();
    (0..PICKS).map(|_| random.random_range(0..len)).find(|index| suits(*index))
}
