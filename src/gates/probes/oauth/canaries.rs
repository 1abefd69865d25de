//! Canaries: grants made on blue before the copy, each in a state that must still be what it is on green, and again on blue after a way back.
//!
//! They are only ever looked at: introspected, and listed among their user's consents. That writes nothing, so a closed green can be asked. Two
//! are revoked while the run is under way, on the side that serves then: `withdraw.rs`.

mod kept;
mod withdraw;

use super::super::super::probe::{Finding, Reading};
use super::engine::{Client, Engine, Tokens};
use super::error::OauthError;
use super::grant::Asking;
use super::jws;
use crate::plan::Secret;
use kept::Kept;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a token of a canary may live: longer than any window, so that it says something to the end.
const LIFE: &str = "720h";
/// The life of a token that is to expire at once, and how long it is waited for.
const SHORT_LIFE: &str = "1s";
const EXPIRED_WITHIN: Duration = Duration::from_secs(10);

/// In what state a canary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A grant with a refresh token, untouched.
    Live,
    /// Refreshed once: the first pair is dead, the second lives.
    Rotated,
    /// Revoked by its client.
    Revoked,
    /// Its time is over.
    Expired,
    /// A client's own token.
    Machine,
    /// Its user has logged out since, and the grant goes on.
    LoggedOut,
    /// Live, with an access token that others can verify by themselves; there is none where the engine gives only opaque ones.
    Jwt,
    /// Live when the copy begins; then refreshed, and revoked by its client while blue serves.
    Withdrawn,
    /// Live on blue, and on green when that opens; revoked by its client while green serves, on the way back.
    WithdrawnOnGreen,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Live,
        Self::Rotated,
        Self::Revoked,
        Self::Expired,
        Self::Machine,
        Self::LoggedOut,
        Self::Jwt,
        Self::Withdrawn,
        Self::WithdrawnOnGreen,
    ];

    /// Whether its client revokes it while the run is under way.
    fn is_withdrawn(self) -> bool {
        matches!(self, Self::Withdrawn | Self::WithdrawnOnGreen)
    }

    /// Its name, as people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Rotated => "rotated",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Machine => "machine",
            Self::LoggedOut => "logged out",
            Self::Jwt => "jwt",
            Self::Withdrawn => "withdrawn",
            Self::WithdrawnOnGreen => "withdrawn on green",
        }
    }
}

/// One grant.
#[derive(Clone, Serialize, Deserialize)]
struct Canary {
    kind: Kind,
    subject: String,
    tokens: Vec<Kept>,
    /// The user's consents, as blue lists them.
    consents: Vec<(String, Vec<String>)>,
    /// A signed token, where the engine gives any, and blue's keys verify it.
    signed: Option<String>,
    /// As whom it is revoked later; of the other kinds nobody needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<Own>,
}

/// A client's id and secret. Never printed or kept in clear.
#[derive(Clone, Serialize, Deserialize)]
struct Own {
    id: String,
    secret: String,
}

/// All canaries of one probe.
#[derive(Clone, Serialize, Deserialize)]
pub struct Canaries {
    clients: Vec<String>,
    canaries: Vec<Canary>,
}

/// How a side must stand to tokens that blue has issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// As blue itself.
    AsOnBlue,
    /// It accepts none of them.
    None,
}

fn subject(owner: &str, kind: Kind) -> String {
    format!("{owner}-{}", kind.as_str().replace(' ', "-"))
}

impl Canaries {
    /// Makes all of them on blue, for clients of this owner.
    ///
    /// # Errors
    /// When blue does not do what belongs to one: nothing can be said of green then, and what was made stays for the caller to remove.
    pub async fn issue(engine: &Engine, owner: &str, scope: &str) -> Result<Self, OauthError> {
        let client = engine.create_client("cutover-canary", owner, scope).await?;
        let brief = engine.create_client("cutover-canary-brief", owner, scope).await?;
        let jwt = jwt_client(engine, owner, scope).await?;
        let (long, short) = (json!(LIFE), json!(SHORT_LIFE));
        let mut lasting = vec![(&client, &long), (&brief, &short)];
        lasting.extend(jwt.as_ref().map(|jwt| (jwt, &long)));
        for (client, life) in lasting {
            let lives = json!({
                "authorization_code_grant_access_token_lifespan": life, "client_credentials_grant_access_token_lifespan": life,
                "refresh_token_grant_access_token_lifespan": life,
            });
            engine.set_lifespans(&client.id, &lives).await?;
        }
        let mut canaries = Vec::new();
        for kind in Kind::ALL {
            let subject = subject(owner, kind);
            let client = match (kind, &jwt) {
                (Kind::Expired, _) => &brief,
                (Kind::Jwt, Some(jwt)) => jwt,
                (Kind::Jwt, None) => continue,
                _ => &client,
            };
            canaries.push(Canary::issue(kind, &Asking { engine, client, subject: &subject, scope }).await?);
        }
        let clients = [Some(client), Some(brief), jwt].into_iter().flatten().map(|client| client.id).collect();
        Ok(Self { clients, canaries })
    }

    /// The users who have made them, known by their owner alone, so that also those of a process that died are found.
    pub fn subjects(owner: &str) -> impl Iterator<Item = String> {
        Kind::ALL.into_iter().map(move |kind| subject(owner, kind))
    }

    /// The clients to whom they were issued.
    #[must_use]
    pub fn clients(&self) -> &[String] {
        &self.clients
    }

    /// As text, with every token in clear: for sealing alone.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("canaries have text keys and serialise")
    }

    /// From such a text.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What a side says of each; `now_s` by our own clock, for those whose time is over meanwhile.
    pub async fn look(&self, engine: &Engine, probe: &str, expected: Expected, now_s: i64) -> Vec<Reading> {
        let keys = engine.keys().await;
        let mut readings = Vec::new();
        for canary in &self.canaries {
            let looked = canary.look(engine, &keys, expected, now_s).await;
            let finding = looked.map_or_else(|error| error.finding(), |()| Finding::Held);
            readings.push(Reading::new(probe, format!("canary {}", canary.kind.as_str()), finding));
        }
        readings
    }
}

impl Canary {
    async fn issue(kind: Kind, asking: &Asking<'_>) -> Result<Self, OauthError> {
        let what = "make a canary";
        let engine = asking.engine;
        let mut tokens = Vec::new();
        let mut signed = None;
        match kind {
            Kind::Machine | Kind::Expired => {
                let answer = engine.token(what, asking.client, &[("grant_type", "client_credentials")]).await?;
                tokens.push(Engine::tokens(what, &answer)?.access);
            }
            _ => {
                let first = asking.grant(what).await?;
                signed.clone_from(&first.id);
                let refresh =
                    first.refresh.clone().ok_or_else(|| OauthError::unexpected(what, "no refresh token came"))?;
                tokens.extend(both(&first));
                match kind {
                    Kind::Rotated => {
                        let next = engine.refresh(what, asking.client, &refresh).await?;
                        tokens.extend(both(&Engine::tokens(what, &next)?));
                    }
                    Kind::Revoked => {
                        engine.revoke(what, asking.client, refresh.expose()).await?.expect(what, 200)?;
                    }
                    Kind::LoggedOut => engine.delete_logins(asking.subject).await?,
                    Kind::Jwt => signed = Some(first.access.clone()),
                    Kind::Live | Kind::Machine | Kind::Expired | Kind::Withdrawn | Kind::WithdrawnOnGreen => {}
                }
            }
        }
        let signed = signed.map(|token| token.expose().to_owned());
        let own = || Own { id: asking.client.id.clone(), secret: asking.client.secret.expose().to_owned() };
        let client = kind.is_withdrawn().then(own);
        let subject = asking.subject.to_owned();
        let canary = Self { kind, subject, tokens: Vec::new(), consents: Vec::new(), signed, client };
        canary.noted(engine, asking.client, tokens).await
    }

    /// What blue says of it from now on; it must already be what its name says.
    async fn noted(mut self, engine: &Engine, client: &Client, tokens: Vec<Secret>) -> Result<Self, OauthError> {
        let what = "see a canary on blue";
        if self.kind == Kind::Expired {
            wait_until_dead(engine, &tokens).await?;
        }
        let living = match self.kind {
            Kind::Live | Kind::LoggedOut | Kind::Jwt | Kind::Withdrawn | Kind::WithdrawnOnGreen => vec![true, true],
            Kind::Rotated => vec![false, false, true, true],
            Kind::Revoked => vec![false, false],
            Kind::Expired => vec![false],
            Kind::Machine => vec![true],
        };
        for (index, token) in tokens.iter().enumerate() {
            let said = engine.introspect(token).await?;
            let is_active = said["active"] == true;
            if living.get(index) != Some(&is_active) {
                let word = if is_active { "is active" } else { "is not active" };
                let why = format!(
                    "token {} of the canary `{}` {word}: blue itself is not as it should be",
                    index + 1,
                    self.kind.as_str()
                );
                return Err(OauthError::unexpected(what, why));
            }
            self.tokens.push(Kept::of(token.expose(), &said));
        }
        if !matches!(self.kind, Kind::Machine | Kind::Expired) {
            self.consents = engine.consents(&self.subject).await?;
            // A user who has logged out may or may not be shown it, by version; green is held to what blue shows.
            let is_listed = self.consents.iter().any(|(listed, _)| *listed == client.id);
            if !is_listed && self.kind == Kind::Live {
                return Err(OauthError::unexpected(what, "blue does not list the consent of a live grant"));
            }
        }
        if let Some(signed) = &self.signed {
            match jws::verify(signed, &engine.keys().await?) {
                // An engine may keep the keys of its access tokens to itself; green is held to what blue publishes.
                Err(_) if self.kind == Kind::Jwt => self.signed = None,
                verified => verified.map_err(|why| OauthError::unexpected(what, why))?,
            }
        }
        Ok(self)
    }

    async fn look(
        &self,
        engine: &Engine,
        keys: &Result<Value, OauthError>,
        expected: Expected,
        now_s: i64,
    ) -> Result<(), OauthError> {
        let what = "see a canary";
        for (index, kept) in self.tokens.iter().enumerate() {
            let said = engine.introspect(&Secret::new(kept.token.as_str())).await?;
            if let Err(why) = kept.judge(&said, expected, now_s) {
                return Err(OauthError::unexpected(what, format!("token {}: {why}", index + 1)));
            }
        }
        if expected == Expected::None {
            return Ok(());
        }
        // Of one that may or may not have been revoked, nobody knows what its user is shown either.
        let is_doubted = self.tokens.iter().any(|kept| kept.is_doubted);
        if !matches!(self.kind, Kind::Machine | Kind::Expired) && !is_doubted {
            let listed = engine.consents(&self.subject).await?;
            if listed != self.consents {
                let (now, before) = (listed.len(), self.consents.len());
                let why = format!("its user's consents are not those of blue ({now} are listed, {before} on blue)");
                return Err(OauthError::unexpected(what, why));
            }
        }
        match (&self.signed, keys) {
            (Some(signed), Ok(keys)) => jws::verify(signed, keys).map_err(|why| OauthError::unexpected(what, why)),
            (Some(_), Err(error)) => Err(OauthError::unexpected(what, crate::gates::said(error))),
            (None, _) => Ok(()),
        }
    }
}

/// A client that is given access tokens which others can verify by themselves. Where the engine gives it none, nothing stays of it.
async fn jwt_client(engine: &Engine, owner: &str, scope: &str) -> Result<Option<Client>, OauthError> {
    let what = "ask for a JWT";
    let client = engine.create_jwt_client("cutover-canary-jwt", owner, scope).await?;
    let answer = engine.token(what, &client, &[("grant_type", "client_credentials")]).await?;
    if jws::is_signed(Engine::tokens(what, &answer)?.access.expose()) {
        return Ok(Some(client));
    }
    engine.delete_client(&client.id).await?;
    Ok(None)
}

fn both(tokens: &Tokens) -> Vec<Secret> {
    [Some(tokens.access.clone()), tokens.refresh.clone()].into_iter().flatten().collect()
}

async fn wait_until_dead(engine: &Engine, tokens: &[Secret]) -> Result<(), OauthError> {
    let until = tokio::time::Instant::now() + EXPIRED_WITHIN;
    for token in tokens {
        while engine.is_active(token).await? {
            if tokio::time::Instant::now() >= until {
                let why = format!("a token that lives for {SHORT_LIFE} is active after {} s", EXPIRED_WITHIN.as_secs());
                return Err(OauthError::unexpected("see a canary on blue", why));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    Ok(())
}
