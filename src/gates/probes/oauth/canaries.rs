//! Canaries: grants made on blue before the copy, each in a state that must still be what it is on green, and again on blue after a way back.
//!
//! They are only ever looked at: introspected, and listed among their user's consents. That writes nothing, so a closed green can be asked.

use super::super::super::probe::{Finding, Reading};
use super::engine::{Client, Engine, Tokens};
use super::error::OauthError;
use super::grant::Asking;
use super::jws;
use crate::plan::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a token of a canary may live: longer than any window, so that it says something to the end.
const LIFE: &str = "720h";
/// The life of a token that is to expire at once, and how long it is waited for.
const SHORT_LIFE: &str = "1s";
const EXPIRED_WITHIN: Duration = Duration::from_secs(10);
/// Near its end a token may be either.
const NEAR_S: i64 = 60;

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
}

impl Kind {
    const ALL: [Self; 6] = [Self::Live, Self::Rotated, Self::Revoked, Self::Expired, Self::Machine, Self::LoggedOut];

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
        }
    }
}

/// One token, and what blue said of it. Never printed or kept in clear.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    token: String,
    is_active: bool,
    /// What introspection said besides: subject, client, scope, audience, end.
    said: Value,
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

/// The parts of introspection that must be the same on both sides.
fn identity(said: &Value) -> Value {
    let words = |value: &Value| {
        let mut words: Vec<String> = value.as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    };
    json!({
        "sub": said["sub"], "client_id": said["client_id"], "scope": words(&said["scope"]), "aud": said["aud"], "exp": said["exp"],
    })
}

impl Canaries {
    /// Makes all of them on blue, for clients of this owner.
    ///
    /// # Errors
    /// When blue does not do what belongs to one: nothing can be said of green then, and what was made stays for the caller to remove.
    pub async fn issue(engine: &Engine, owner: &str, scope: &str) -> Result<Self, OauthError> {
        let client = engine.create_client("cutover-canary", owner, scope).await?;
        let brief = engine.create_client("cutover-canary-brief", owner, scope).await?;
        let (long, short) = (json!(LIFE), json!(SHORT_LIFE));
        for (client, life) in [(&client, &long), (&brief, &short)] {
            let lives = json!({
                "authorization_code_grant_access_token_lifespan": life, "client_credentials_grant_access_token_lifespan": life,
                "refresh_token_grant_access_token_lifespan": life,
            });
            engine.set_lifespans(&client.id, &lives).await?;
        }
        let mut canaries = Vec::new();
        for kind in Kind::ALL {
            let subject = subject(owner, kind);
            let client = if kind == Kind::Expired { &brief } else { &client };
            canaries.push(Canary::issue(kind, &Asking { engine, client, subject: &subject, scope }).await?);
        }
        Ok(Self { clients: vec![client.id, brief.id], canaries })
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
                    Kind::Live | Kind::Machine | Kind::Expired => {}
                }
            }
        }
        let signed = signed.map(|token| token.expose().to_owned());
        let canary =
            Self { kind, subject: asking.subject.to_owned(), tokens: Vec::new(), consents: Vec::new(), signed };
        canary.noted(engine, asking.client, tokens).await
    }

    /// What blue says of it from now on; it must already be what its name says.
    async fn noted(mut self, engine: &Engine, client: &Client, tokens: Vec<Secret>) -> Result<Self, OauthError> {
        let what = "see a canary on blue";
        if self.kind == Kind::Expired {
            wait_until_dead(engine, &tokens).await?;
        }
        let living = match self.kind {
            Kind::Live | Kind::LoggedOut => vec![true, true],
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
            self.tokens.push(Kept { token: token.expose().to_owned(), is_active, said: identity(&said) });
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
            jws::verify(signed, &engine.keys().await?).map_err(|why| OauthError::unexpected(what, why))?;
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
        if !matches!(self.kind, Kind::Machine | Kind::Expired) {
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

impl Kept {
    fn judge(&self, said: &Value, expected: Expected, now_s: i64) -> Result<(), String> {
        let is_active = said["active"] == true;
        let ends_s = self.said["exp"].as_i64().filter(|end| *end > 0);
        let is_over = ends_s.is_some_and(|end| now_s >= end - NEAR_S);
        match (self.is_active && expected == Expected::AsOnBlue, is_active) {
            (false, true) if !self.is_active => Err("is active, and must not be".to_owned()),
            (false, true) => Err("is active, and the plan says that this side accepts none of blue's".to_owned()),
            (true, false) if !is_over => Err("is not active any more".to_owned()),
            (true, true) if ends_s.is_some_and(|end| now_s > end + NEAR_S) => Err("is active after its end".to_owned()),
            (true, true) => {
                let found = identity(said);
                let names = ["sub", "client_id", "scope", "aud", "exp"];
                let other: Vec<&str> =
                    names.into_iter().filter(|name| !is_same(&found[*name], &self.said[*name])).collect();
                if other.is_empty() { Ok(()) } else { Err(format!("has another {} than on blue", other.join(", "))) }
            }
            _ => Ok(()),
        }
    }
}

/// Nothing and an empty list are one audience.
fn is_same(one: &Value, other: &Value) -> bool {
    let is_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    one == other || (is_nothing(one) && is_nothing(other))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(is_active: bool, exp: i64) -> Kept {
        let said = identity(&json!({ "sub": "s", "client_id": "c", "scope": "b a", "aud": null, "exp": exp }));
        Kept { token: "t".into(), is_active, said }
    }

    fn said(change: &str, value: Value) -> Value {
        let mut said =
            json!({ "active": true, "sub": "s", "client_id": "c", "scope": "a b", "aud": [], "exp": 10_000 });
        said[change] = value;
        said
    }

    #[test]
    fn gates_hold_a_canary_to_what_blue_said() {
        let judge = |kept: &Kept, said: &Value| kept.judge(said, Expected::AsOnBlue, 1_000).err().unwrap_or_default();
        let (live, dead) = (kept(true, 10_000), kept(false, 0));
        assert_eq!(judge(&live, &said("active", json!(true))), "");
        assert!(judge(&live, &json!({ "active": false })).contains("not active any more"));
        for (name, value) in [("sub", json!("")), ("client_id", json!("d")), ("scope", json!("a")), ("exp", json!(9))] {
            assert_eq!(judge(&live, &said(name, value)), format!("has another {name} than on blue"));
        }
        assert_eq!(judge(&dead, &json!({ "active": false })), "");
        assert!(judge(&dead, &said("active", json!(true))).contains("must not be"));
    }

    #[test]
    fn gates_know_that_a_canary_ends_by_itself() {
        let at = |now, said: &Value| kept(true, 10_000).judge(said, Expected::AsOnBlue, now);
        let (dead, live) = (json!({ "active": false }), said("active", json!(true)));
        assert!(at(9_900, &dead).is_err());
        assert_eq!((at(9_950, &dead), at(9_950, &live)), (Ok(()), Ok(())), "near its end either will do");
        assert_eq!(at(10_100, &dead), Ok(()));
        assert!(at(10_100, &live).is_err());
    }

    #[test]
    fn gates_can_be_told_that_a_side_accepts_none() {
        let judge = |kept: &Kept, said: &Value| kept.judge(said, Expected::None, 1_000);
        assert_eq!(judge(&kept(true, 10_000), &json!({ "active": false })), Ok(()));
        assert!(judge(&kept(true, 10_000), &said("active", json!(true))).is_err());
        assert!(judge(&kept(false, 0), &said("active", json!(true))).is_err());
    }
}
