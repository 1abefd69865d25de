//! What the prober's clients hold: apps, consents, chains of tokens, and what is known of their ends.
//!
//! Owns who may use what next, so that one client never races itself: at most one request that changes a chain, a consent or an app
//! is outstanding. Never asks anybody; the judge's rulings stand on it.

mod taking;

use super::rulings::Fate;
use super::turns::{Origin, Turns};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

/// Most chains kept; beyond it the load issues no more.
const CHAINS_MAX: usize = 250_000;
/// The end of a chain of which a token was used twice.
pub(super) const THEFT: &str = "a theft";
/// How often a random pick is tried before giving up.
const PICKS: usize = 24;

/// A chain of tokens: one grant and everything refreshed from it.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) app: usize,
    pub(super) consent: Option<usize>,
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    /// The code that it was exchanged for; it stays dead.
    pub(super) code: Option<Spent>,
    /// Refresh tokens that were used; they stay dead.
    pub(super) used: Vec<String>,
    /// Access tokens that a refresh replaced; they stay dead as well.
    pub(super) replaced: Vec<String>,
    pub(super) expires_us: u64,
    /// Where its tokens came from.
    born: Option<Origin>,
    pub(super) fate: Fate,
    /// The end of its current access token alone: a client's access tokens go, what they were refreshed from stays.
    pub(super) cut: Fate,
    /// By what it ended, in a word.
    pub(super) ended_by: &'static str,
    /// A request that changes it is outstanding.
    pub(super) busy: bool,
    /// An answer was lost: what the engine holds is unknown.
    pub(super) uncertain: bool,
}

/// A code that was exchanged.
#[derive(Debug, Clone)]
pub(super) struct Spent {
    pub(super) code: String,
    pub(super) verifier: String,
}

/// A client of the engine, created on the dashboard.
#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) id: String,
    pub(super) secret: String,
    /// Secrets that were changed for another; they stay dead.
    pub(super) old_secrets: Vec<String>,
    /// The name last acknowledged.
    pub(super) name: String,
    pub(super) fate: Fate,
    pub(super) uncertain: bool,
    /// Requests that use its secret right now.
    pub(super) users: u32,
    pub(super) busy: bool,
    /// Never deleted by the load.
    pub(super) lasting: bool,
    /// Nobody may use it meanwhile.
    is_closed: bool,
    chains: Vec<usize>,
    pub(super) renames: u32,
}

/// A consent given by one subject to one app.
#[derive(Debug, Clone)]
pub(super) struct Consent {
    pub(super) app: usize,
    pub(super) subject: String,
    pub(super) fate: Fate,
    /// The cookies of the browser in which it was given.
    pub(super) browser: Option<String>,
    /// The end of the login session that they name; it takes neither the consent nor a token along.
    pub(super) session: Fate,
    pub(super) busy: bool,
    pub(super) uncertain: bool,
    /// Where traffic was before it was given and when its code was exchanged: the dashboard's own answer names no side.
    given: [Option<Origin>; 2],
    /// The same subject has given the same app another consent since this one was taken away: who asks now is told of that one.
    pub(super) is_followed: bool,
    chains: Vec<usize>,
}

/// Tokens as an answer gave them.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    pub(super) expires_us: u64,
    /// Where they came from.
    pub(super) born: Option<Origin>,
}

impl Chain {
    /// Takes the tokens of a refresh; those before are dead from here, on either side.
    pub(super) fn rotate(&mut self, next: Tokens) {
        self.used.extend(std::mem::replace(&mut self.refresh, next.refresh));
        self.replaced.push(std::mem::replace(&mut self.access, next.access));
        (self.expires_us, self.born, self.cut) = (next.expires_us, next.born, Fate::default());
    }

    /// Every refresh token it ever had.
    fn refresh_tokens(&self) -> impl Iterator<Item = &String> {
        self.refresh.iter().chain(&self.used)
    }

    /// Every token it ever had: once it is revoked, none may be accepted, on whichever side it was issued.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.access).chain(&self.replaced).chain(self.refresh_tokens())
    }
}

/// Everything the clients hold.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) chains: Vec<Chain>,
    pub(super) apps: Vec<App>,
    pub(super) consents: Vec<Consent>,
    /// Chains whose revocation was acknowledged.
    pub(super) revoked: Vec<usize>,
    pub(super) turns: Turns,
}

impl Ledger {
    pub(super) fn add_app(&mut self, id: String, secret: String, name: String, lasting: bool) -> usize {
        let fate = Fate::default();
        let (chains, users, renames) = (Vec::new(), 0, 0);
        self.apps.push(App {
            id,
            secret,
            old_secrets: Vec::new(),
            name,
            fate,
            uncertain: false,
            users,
            busy: false,
            lasting,
            is_closed: false,
            chains,
            renames,
        });
        self.apps.len() - 1
    }

    /// A consent given to `app` while traffic was known to be at `before`.
    pub(super) fn add_consent(&mut self, app: usize, subject: String, before: Option<Origin>) -> usize {
        let (chains, given) = (Vec::new(), [before, None]);
        self.consents.push(Consent {
            app,
            subject,
            fate: Fate::default(),
            browser: None,
            session: Fate::default(),
            busy: true,
            uncertain: false,
            given,
            is_followed: false,
            chains,
        });
        self.consents.len() - 1
    }

    /// Notes where a consent's code was exchanged, or refused.
    pub(super) fn exchanged(&mut self, consent: usize, origin: Option<Origin>) {
        self.consents[consent].given[1] = origin;
    }

    /// A chain inherits the doom of its app and consent: they may have been revoked while its tokens were on the way.
    pub(super) fn add_chain(&mut self, app: usize, consent: Option<usize>, tokens: Tokens) -> usize {
        let index = self.chains.len();
        let fate = consent.map_or(Fate::default(), |consent| self.consents[consent].fate);
        let Tokens { access, refresh, expires_us, born } = tokens;
        self.chains.push(Chain {
            app,
            consent,
            access,
            refresh,
            code: None,
            used: Vec::new(),
            replaced: Vec::new(),
            expires_us,
            born,
            fate,
            cut: Fate::default(),
            ended_by: "-",
            busy: false,
            uncertain: false,
        });
        self.apps[app].chains.push(index);
        if let Some(consent) = consent {
            self.consents[consent].chains.push(index);
        }
        index
    }

    pub(super) fn is_full(&self) -> bool {
        self.chains.len() >= CHAINS_MAX
    }

    /// An app whose secret may be used; counted as used until [`Self::leave`].
    pub(super) fn use_app(&mut self) -> Option<usize> {
        let app = pick(self.apps.len(), |index| {
            let app = &self.apps[index];
            !app.fate.is_doomed() && !app.uncertain && !app.is_closed
        })?;
        self.apps[app].users += 1;
        Some(app)
    }

    /// What is known of the end of one token of a chain.
    pub(super) fn fate_of(&self, chain: usize, token: &str) -> Fate {
        let chain = &self.chains[chain];
        if chain.access == token { chain.fate.or(chain.cut) } else { chain.fate }
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

    /// The token of a chain that a resource server is shown: the current one, or of a revoked chain any.
    pub(super) fn token_to_show(&self, chain: usize) -> String {
        let chain = &self.chains[chain];
        if chain.fate.revoked_us.is_none() {
            return chain.access.clone();
        }
        any_of(chain.tokens()).unwrap_or_else(|| chain.access.clone())
    }

    /// A refresh token of a chain, one that was used already among them.
    pub(super) fn any_refresh_token(&self, chain: usize) -> Option<String> {
        any_of(self.chains[chain].refresh_tokens())
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
        let app_free = !app.fate.is_doomed() && !app.uncertain && !app.is_closed;
        let free = !chain.busy && !chain.uncertain && !chain.fate.is_doomed();
        free && app_free && consent_free && !self.is_given_up(index)
    }

    /// Whether the way back gave a chain up; from then on nobody expects its tokens to be accepted, anywhere.
    pub(super) fn is_given_up(&self, chain: usize) -> bool {
        self.turns.gave_up(self.chains[chain].born)
    }

    /// Whether the way back gave a consent up.
    pub(super) fn is_consent_given_up(&self, consent: usize) -> bool {
        self.consents[consent].given.iter().any(|given| self.turns.gave_up(*given))
    }

    /// Whether a consent must still stand, revocations apart.
    pub(super) fn is_consent_certain(&self, consent: usize) -> bool {
        let asked = &self.consents[consent];
        !asked.busy && !asked.uncertain && !self.is_consent_given_up(consent)
    }

    /// Chains and consents that were given up and that nobody had ended.
    pub(super) fn given_up(&self) -> (u64, u64) {
        let chains = self.chains.iter().enumerate().filter(|(_, chain)| !chain.fate.is_doomed());
        let consents = self.consents.iter().enumerate().filter(|(_, consent)| !consent.fate.is_doomed());
        let chains = chains.filter(|(index, _)| self.is_given_up(*index)).count();
        (chains as u64, consents.filter(|(index, _)| self.is_consent_given_up(*index)).count() as u64)
    }

    /// What is known of a chain and one of its tokens, for whoever looks for what went wrong; names no token.
    pub(super) fn about(&self, index: usize, token: &str) -> String {
        let chain = &self.chains[index];
        let which = match token {
            token if token == chain.access => "its access token",
            token if chain.refresh.as_deref() == Some(token) => "its refresh token",
            token if chain.used.iter().any(|used| used == token) => "a refresh token that was used",
            _ => "an access token that was replaced",
        };
        let ms = |us: Option<u64>| us.map_or_else(|| "never".to_owned(), |us| format!("at {} ms", us / 1000));
        let Fate { doomed_us, revoked_us } = chain.fate;
        format!(
            "{which}; ended by {}, asked for {}, acknowledged {}; refreshed {} times, born {:?}",
            chain.ended_by,
            ms(doomed_us),
            ms(revoked_us),
            chain.used.len(),
            chain.born
        )
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

    /// Takes a chain of which somebody has a refresh token that was used already, and that token.
    pub(super) fn take_for_reuse(&mut self, now_us: u64) -> Option<(usize, String)> {
        let chain = pick(self.chains.len(), |index| !self.chains[index].used.is_empty() && self.is_free(index))?;
        self.take(chain);
        self.chains[chain].fate.doom(now_us);
        any_of(self.chains[chain].used.iter()).map(|token| (chain, token))
    }

    /// Takes a consent that was taken away, so that its subject gives the app another one: the app, used until [`Self::leave`], and the subject.
    pub(super) fn take_to_follow(&mut self) -> Option<(usize, String)> {
        let index = pick(self.consents.len(), |index| {
            let consent = &self.consents[index];
            let app = &self.apps[consent.app];
            let was_taken_away = consent.fate.revoked_us.is_some() && !consent.busy && !consent.is_followed;
            was_taken_away && !app.fate.is_doomed() && !app.uncertain && !app.is_closed
        })?;
        let consent = &mut self.consents[index];
        consent.is_followed = true;
        self.apps[consent.app].users += 1;
        Some((consent.app, consent.subject.clone()))
    }

    /// Takes an app that nobody uses, so that nobody is in its way; closed until [`Self::open`].
    pub(super) fn take_alone(&mut self) -> Option<usize> {
        let index = pick(self.apps.len(), |index| {
            let app = &self.apps[index];
            !app.lasting && !app.busy && !app.uncertain && app.users == 0 && !app.fate.is_doomed()
        })?;
        (self.apps[index].busy, self.apps[index].is_closed) = (true, true);
        Some(index)
    }

    /// Takes an app to end its access tokens, likewise.
    pub(super) fn take_to_cut(&mut self, now_us: u64) -> Option<usize> {
        let index = self.take_alone()?;
        for chain in &self.apps[index].chains {
            self.chains[*chain].cut.doom(now_us);
        }
        Some(index)
    }

    /// Notes the acknowledged end of an app's access tokens.
    pub(super) fn access_revoked(&mut self, app: usize, ack_us: u64) {
        for chain in &self.apps[app].chains {
            self.chains[*chain].cut.revoked(ack_us);
        }
    }

    /// Lets an app be used again.
    pub(super) fn open(&mut self, app: usize) {
        (self.apps[app].busy, self.apps[app].is_closed) = (false, false);
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
            let free = !consent.busy && !consent.uncertain && !consent.fate.is_doomed();
            free && !app.fate.is_doomed() && idle && !self.is_consent_given_up(index)
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
    pub(super) fn chain_revoked(&mut self, chain: usize, ack_us: u64, by: &'static str) {
        let is_first = self.chains[chain].fate.revoked(ack_us);
        if is_first || by != THEFT {
            self.chains[chain].ended_by = by;
        }
        if is_first {
            self.revoked.push(chain);
        }
    }

    /// Notes the acknowledged revocation of a consent.
    pub(super) fn consent_revoked(&mut self, consent: usize, ack_us: u64) {
        self.consents[consent].fate.revoked(ack_us);
        for chain in self.consents[consent].chains.clone() {
            self.chain_revoked(chain, ack_us, "its consent's end");
        }
    }

    /// Notes the acknowledged deletion of an app.
    pub(super) fn app_deleted(&mut self, app: usize, ack_us: u64) {
        self.apps[app].fate.revoked(ack_us);
        for chain in self.apps[app].chains.clone() {
            self.chain_revoked(chain, ack_us, "its app's end");
        }
    }

    /// Whether `token` must still be accepted, revocations apart: it is the current one, and the way back has not given it up.
    pub(super) fn is_certain(&self, chain: usize, token: &str, now_us: u64) -> bool {
        let given_up = self.is_given_up(chain);
        let chain = &self.chains[chain];
        let current = chain.access == token || chain.refresh.as_deref() == Some(token);
        let fresh = chain.access != token || now_us < chain.expires_us;
        current && fresh && !chain.busy && !chain.uncertain && !given_up && !self.apps[chain.app].uncertain
    }
}

fn pick(len: usize, suits: impl Fn(usize) -> bool) -> Option<usize> {
    if len == 0 {
        return None;
    }
    let mut random = rand::rng();
    (0..PICKS).map(|_| random.random_range(0..len)).find(|index| suits(*index))
}

fn any_of<'a>(tokens: impl Iterator<Item = &'a String>) -> Option<String> {
    tokens.collect::<Vec<_>>().choose(&mut rand::rng()).map(|token| (*token).clone())
}
