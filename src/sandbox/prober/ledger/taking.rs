//! What the rarer acts take of what the clients hold: login sessions, secrets of before, codes that were exchanged.

use super::{Ledger, Spent, any_of, pick};

impl Ledger {
    /// Takes a consent whose browser is to be logged out; its app is used until it is left.
    pub(in super::super) fn take_to_log_out(&mut self) -> Option<usize> {
        let index = pick(self.consents.len(), |index| {
            let consent = &self.consents[index];
            let is_over = consent.fate.is_doomed() || consent.session.is_doomed();
            consent.browser.is_some() && !is_over && self.is_session_certain(index)
        })?;
        let consent = &mut self.consents[index];
        consent.busy = true;
        self.apps[consent.app].users += 1;
        Some(index)
    }

    /// Gives a consent back.
    pub(in super::super) fn give_consent_back(&mut self, consent: usize) {
        self.consents[consent].busy = false;
        self.leave(self.consents[consent].app);
    }

    /// Every consent whose session ends with all of the subject's.
    pub(in super::super) fn consents_of_same_subject(&self, consent: usize) -> Vec<usize> {
        let subject = &self.consents[consent].subject;
        let consents = self.consents.iter().enumerate();
        consents.filter(|(_, other)| other.subject == *subject).map(|(index, _)| index).collect()
    }

    /// Whether a login session must still be remembered, its own end apart.
    pub(in super::super) fn is_session_certain(&self, consent: usize) -> bool {
        let app = &self.apps[self.consents[consent].app];
        self.is_consent_certain(consent) && !app.uncertain && !app.fate.is_doomed()
    }

    /// A consent whose browser comes again: often enough one that was logged out.
    pub(in super::super) fn any_browser(&self) -> Option<usize> {
        let one = |is_logged_out: bool| {
            pick(self.consents.len(), |index| {
                let consent = &self.consents[index];
                consent.browser.is_some() && (!is_logged_out || consent.session.revoked_us.is_some())
            })
        };
        one(rand::random()).or_else(|| one(false))
    }

    /// A secret that was changed for another, and whose it was.
    pub(in super::super) fn any_old_secret(&self) -> Option<(usize, String)> {
        let app = pick(self.apps.len(), |index| !self.apps[index].old_secrets.is_empty())?;
        any_of(self.apps[app].old_secrets.iter()).map(|secret| (app, secret))
    }

    /// Takes a chain of which somebody has the code that it was exchanged for, and that code.
    pub(in super::super) fn take_to_replay(&mut self, now_us: u64) -> Option<(usize, Spent)> {
        let chain = pick(self.chains.len(), |index| self.chains[index].code.is_some() && self.is_free(index))?;
        self.take(chain);
        self.chains[chain].fate.doom(now_us);
        self.chains[chain].code.clone().map(|spent| (chain, spent))
    }

    /// Whether nobody uses a chain any more, so that its code can be tried without ending anything.
    pub(in super::super) fn is_over(&self, chain: usize) -> bool {
        self.chains[chain].fate.revoked_us.is_some() || self.is_given_up(chain)
    }

    /// A chain that is over and of which somebody has the code.
    pub(in super::super) fn over_with_code(&self) -> Option<usize> {
        pick(self.chains.len(), |index| self.chains[index].code.is_some() && self.is_over(index))
    }
}
