//! Revoking a canary while the run is under way, as its own client does it: at the door that clients use, on the side that serves.
//!
//! `door` is where clients knock, and `engine` is the one behind it, which alone says whether the canary is dead.

use super::{Canaries, Canary, Client, Engine, Kept, Kind, OauthError, both};
use crate::plan::Secret;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// An engine that has said yes has done it; so long it may be late in showing it.
const DEAD_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);

impl Canaries {
    /// Whether there is one of this kind: a run that was begun by an older version has fewer.
    #[must_use]
    pub fn holds(&self, kind: Kind) -> bool {
        self.canaries.iter().any(|canary| canary.kind == kind)
    }

    /// Refreshes one, so that its chain goes on with tokens of which no earlier copy knows.
    ///
    /// # Errors
    /// When no new tokens came; whether the engine has made them is not known then.
    pub async fn refresh(&mut self, kind: Kind, door: &Engine) -> Result<(), OauthError> {
        let what = "refresh a canary";
        let canary = self.of(kind, what)?;
        let client = canary.own(what)?;
        let answer = door.refresh(what, &client, &canary.newest()).await?;
        let tokens = both(&Engine::tokens(what, &answer)?);
        if tokens.len() < 2 {
            return Err(OauthError::unexpected(what, "no refresh token came"));
        }
        canary.tokens.extend(tokens.iter().map(|token| Kept::of(token.expose(), &json!({ "active": true }))));
        Ok(())
    }

    /// Revokes one by its newest refresh token, and sees every token of it dead. One that is dead already is not revoked again: a process
    /// that was cut off has done it.
    ///
    /// # Errors
    /// When the door does not take it, or the engine shows one of its tokens alive afterwards.
    pub async fn revoke(&mut self, kind: Kind, door: &Engine, engine: &Engine) -> Result<(), OauthError> {
        let what = "revoke a canary";
        let canary = self.of(kind, what)?;
        let client = canary.own(what)?;
        let newest = canary.newest();
        if engine.is_active(&newest).await? {
            door.revoke(what, &client, newest.expose()).await?.expect(what, 200)?;
        }
        canary.see_dead(what, engine).await
    }

    /// Takes one back by its user's consent, which needs none of its tokens: the only way when the newest are lost.
    ///
    /// # Errors
    /// As above.
    pub async fn take_back(&mut self, kind: Kind, door: &Engine, engine: &Engine) -> Result<(), OauthError> {
        let what = "take back the consent of a canary";
        let canary = self.of(kind, what)?;
        let client = canary.own(what)?;
        door.delete_consents(&canary.subject, &client.id).await?;
        canary.see_dead(what, engine).await?;
        if canary.consents.iter().any(|(listed, _)| *listed == client.id) {
            return Err(OauthError::unexpected(what, "the engine lists it still"));
        }
        Ok(())
    }

    /// From now on nobody knows whether this one was revoked: dead and alive are both right.
    pub fn doubt(&mut self, kind: Kind) {
        for canary in self.canaries.iter_mut().filter(|canary| canary.kind == kind) {
            canary.tokens.iter_mut().for_each(|kept| kept.is_doubted = true);
        }
    }

    fn of(&mut self, kind: Kind, what: &'static str) -> Result<&mut Canary, OauthError> {
        let found = self.canaries.iter_mut().find(|canary| canary.kind == kind);
        found.ok_or_else(|| OauthError::unexpected(what, format!("there is none that is {}", kind.as_str())))
    }
}

impl Canary {
    fn own(&self, what: &'static str) -> Result<Client, OauthError> {
        let own = self.client.as_ref().ok_or_else(|| OauthError::unexpected(what, "its client is not known"))?;
        Ok(Client { id: own.id.clone(), secret: Secret::new(own.secret.as_str()), redirect_uri: String::new() })
    }

    /// The last token that it was given: a refresh token.
    fn newest(&self) -> Secret {
        Secret::new(self.tokens.last().map(|kept| kept.token.as_str()).unwrap_or_default())
    }

    /// Every token of it dead; what the engine lists from now on is what every side must list.
    async fn see_dead(&mut self, what: &'static str, engine: &Engine) -> Result<(), OauthError> {
        let until = Instant::now() + DEAD_WITHIN;
        for (index, kept) in self.tokens.iter_mut().enumerate() {
            let token = Secret::new(kept.token.as_str());
            let said = loop {
                let said = engine.introspect(&token).await?;
                if said["active"] != true {
                    break said;
                }
                if Instant::now() >= until {
                    let (token, seconds) = (index + 1, DEAD_WITHIN.as_secs());
                    let why = format!("token {token} is active {seconds} s after the revocation was taken");
                    return Err(OauthError::unexpected(what, why));
                }
                tokio::time::sleep(PAUSE).await;
            };
            *kept = Kept::of(token.expose(), &said);
        }
        self.consents = engine.consents(&self.subject).await?;
        Ok(())
    }
}
