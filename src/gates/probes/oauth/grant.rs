//! A user's grant by code and PKCE, with nobody at the screens: the login and the consent are answered through the admin API, as an engine's
//! own login and consent application does it, and the browser's redirects are gone by hand.

use super::engine::{Answer, Client, Engine, Tokens};
use super::error::OauthError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use url::Url;
use uuid::Uuid;

/// Who grants what to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) engine: &'a Engine,
    pub(super) client: &'a Client,
    pub(super) subject: &'a str,
    pub(super) scope: &'a str,
}

/// The challenge of a verifier (RFC 7636, S256).
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// A verifier of 64 characters.
pub(super) fn verifier() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

impl Asking<'_> {
    /// A whole grant.
    pub(super) async fn grant(&self, what: &'static str) -> Result<Tokens, OauthError> {
        let verifier = verifier();
        let code = self.code(&verifier).await?;
        Engine::tokens(what, &self.exchange(what, &code, &verifier).await?)
    }

    /// Exchanges a code.
    pub(super) async fn exchange(&self, what: &'static str, code: &str, verifier: &str) -> Result<Answer, OauthError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.client.redirect_uri.as_str()),
            ("code_verifier", verifier),
        ];
        self.engine.token(what, self.client, &form).await
    }

    /// A browser's way through login and consent; gives the code.
    pub(super) async fn code(&self, verifier: &str) -> Result<String, OauthError> {
        let state = Uuid::new_v4().simple().to_string();
        let mut browser = Browser { engine: self.engine, cookies: BTreeMap::new() };
        let asked = self.address(&state, verifier)?;
        let login = browser.go("ask for a code", &asked, "login_challenge").await?;
        let answer = json!({ "subject": self.subject, "remember": false, "remember_for": 0 });
        let next = self.engine.accept("accept a login", "login", &login, &answer).await?;
        let consent = browser.go("go on from the login", &next, "consent_challenge").await?;
        let scopes: Vec<&str> = self.scope.split_whitespace().collect();
        let session = json!({ "access_token": {}, "id_token": {} });
        let answer = json!({ "grant_scope": scopes, "remember": true, "remember_for": 0, "session": session });
        let next = self.engine.accept("accept a consent", "consent", &consent, &answer).await?;
        let what = "go on from the consent";
        let end = browser.end(what, &next).await?;
        if value(&end, "state").as_deref() != Some(state.as_str()) {
            return Err(OauthError::unexpected(what, "the state that came back is not the one that was sent"));
        }
        value(&end, "code").ok_or_else(|| OauthError::unexpected(what, "no code came back"))
    }

    fn address(&self, state: &str, verifier: &str) -> Result<String, OauthError> {
        let challenge = challenge(verifier);
        let parameters = [
            ("client_id", self.client.id.as_str()),
            ("redirect_uri", self.client.redirect_uri.as_str()),
            ("response_type", "code"),
            ("scope", self.scope),
            ("state", state),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        let address = Url::parse_with_params(&format!("{}/oauth2/auth", self.engine.public()), parameters);
        address.map(Into::into).map_err(|_| OauthError::unexpected("ask for a code", "the address is none"))
    }
}

/// A browser, as far as an engine needs one: it keeps cookies.
struct Browser<'a> {
    engine: &'a Engine,
    cookies: BTreeMap<String, String>,
}

impl Browser<'_> {
    /// Visits the engine and is sent elsewhere; gives what the address says by this name.
    async fn go(&mut self, what: &'static str, address: &str, name: &str) -> Result<String, OauthError> {
        let to = self.end(what, address).await?;
        value(&to, name).ok_or_else(|| OauthError::unexpected(what, format!("was not sent on with a `{name}`")))
    }

    async fn end(&mut self, what: &'static str, address: &str) -> Result<Url, OauthError> {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = self.engine.visit(what, address, &cookies.join("; ")).await?;
        self.cookies.extend(answer.cookies.iter().cloned());
        let location = match (&answer.location, answer.status) {
            (Some(location), 302 | 303) => location,
            _ => return Err(answer.refusal(what)),
        };
        let to = Url::parse(location).map_err(|_| OauthError::unexpected(what, "was sent to no address"))?;
        match value(&to, "error") {
            None => Ok(to),
            Some(error) => {
                let described = value(&to, "error_description").unwrap_or_default();
                let words: String = format!("{error} {described}").chars().take(200).collect();
                Err(OauthError::unexpected(what, format!("was sent back with {words}")))
            }
        }
    }
}

fn value(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pkce_follows_the_appendix_of_its_rfc() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        assert!((43..=128).contains(&verifier().len()));
    }
}
