//! What clients do, one function a flow: each ends well when the engine did all that belongs to it, and refused all that it must refuse.

use super::engine::{Client, Engine, Tokens};
use super::error::OauthError;
use super::grant::{Asking, verifier};
use crate::plan::{Flow, Secret};
use serde_json::Value;
use std::time::Duration;

/// A moment that a grace period must be over by: engines count in whole seconds.
const AFTER_GRACE: Duration = Duration::from_millis(1500);

/// Everything that the flows need on one side.
pub(super) struct Trial<'a> {
    pub(super) engine: &'a Engine,
    pub(super) client: &'a Client,
    /// Another client, where one could be made.
    pub(super) stranger: Option<&'a Client>,
    pub(super) subject: &'a str,
    pub(super) scope: &'a str,
    /// How long a refresh token may be used again.
    pub(super) grace: Option<Duration>,
}

impl Trial<'_> {
    /// Tries one flow. What is published is compared elsewhere.
    pub(super) async fn run(&self, flow: Flow) -> Result<(), OauthError> {
        match flow {
            Flow::Discovery | Flow::Keys => Ok(()),
            Flow::Introspect => self.introspect().await,
            Flow::ClientCredentials => self.client_credentials().await,
            Flow::CodePkce => self.code_pkce().await,
            Flow::Refresh => self.refreshed().await,
            Flow::Reuse => self.reuse().await,
            Flow::Revoke => self.revoke().await,
        }
    }

    fn asking(&self) -> Asking<'_> {
        Asking { engine: self.engine, client: self.client, subject: self.subject, scope: self.scope }
    }

    async fn granted(&self, what: &'static str) -> Result<(Tokens, Secret), OauthError> {
        let tokens = self.asking().grant(what).await?;
        let refresh = tokens.refresh.clone();
        let refresh = refresh.ok_or_else(|| OauthError::unexpected(what, "no refresh token came"))?;
        Ok((tokens, refresh))
    }

    async fn is_dead(&self, what: &'static str, which: &str, token: &Secret) -> Result<(), OauthError> {
        match self.engine.is_active(token).await? {
            false => Ok(()),
            true => Err(OauthError::unexpected(what, format!("{which} is still active"))),
        }
    }

    async fn is_live(&self, what: &'static str, which: &str, token: &Secret) -> Result<(), OauthError> {
        match self.engine.is_active(token).await? {
            true => Ok(()),
            false => Err(OauthError::unexpected(what, format!("{which} is not active"))),
        }
    }

    /// A token of this user and this client, as the engine says it.
    async fn is_ours(&self, what: &'static str, subject: &str, token: &Secret) -> Result<(), OauthError> {
        let said = self.engine.introspect(token).await?;
        let client = self.client.id.as_str();
        let of = |key: &str| said[key].as_str().unwrap_or_default();
        let mut wrong = Vec::new();
        if said["active"] != true {
            return Err(OauthError::unexpected(what, "a fresh access token is not active"));
        }
        if of("sub") != subject {
            wrong.push("sub");
        }
        if of("client_id") != client {
            wrong.push("client_id");
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(OauthError::unexpected(what, format!("introspection says another {}", wrong.join(" and "))))
    }

    async fn client_credentials(&self) -> Result<(), OauthError> {
        let what = "get a token by client credentials";
        let form = [("grant_type", "client_credentials")];
        let answer = self.engine.token(what, self.client, &form).await?;
        let tokens = Engine::tokens(what, &answer)?;
        self.is_ours(what, &self.client.id, &tokens.access).await?;
        let wrong = Client { secret: Secret::new("not-the-secret"), ..self.client.clone() };
        let answer = self.engine.token("use a wrong secret", &wrong, &form).await?;
        if answer.is_refused() { Ok(()) } else { Err(answer.refusal("use a wrong secret")) }
    }

    async fn code_pkce(&self) -> Result<(), OauthError> {
        let what = "exchange a code with a wrong verifier";
        let code = self.asking().code(&verifier()).await?;
        let answer = self.asking().exchange(what, &code, &verifier()).await?;
        if !answer.is_refused() {
            return Err(answer.refusal(what));
        }
        let what = "exchange a code";
        let right = verifier();
        let code = self.asking().code(&right).await?;
        let tokens = Engine::tokens(what, &self.asking().exchange(what, &code, &right).await?)?;
        self.is_ours(what, self.subject, &tokens.access).await?;
        let what = "exchange a code again";
        let again = self.asking().exchange(what, &code, &right).await?;
        if !again.is_refused() {
            return Err(again.refusal(what));
        }
        self.is_dead(what, "the access token of a code that was used twice", &tokens.access).await
    }

    async fn refreshed(&self) -> Result<(), OauthError> {
        let what = "refresh";
        let (_, refresh) = self.granted("make a grant to refresh").await?;
        let next = Engine::tokens(what, &self.engine.refresh(what, self.client, &refresh).await?)?;
        self.is_ours(what, self.subject, &next.access).await?;
        let refresh = next.refresh.ok_or_else(|| OauthError::unexpected(what, "no refresh token came"))?;
        self.is_live(what, "the new refresh token", &refresh).await
    }

    async fn reuse(&self) -> Result<(), OauthError> {
        let (_, first) = self.granted("make a grant to refresh").await?;
        let what = "refresh";
        let next = Engine::tokens(what, &self.engine.refresh(what, self.client, &first).await?)?;
        if let Some(grace) = self.grace {
            let what = "use a refresh token again inside the grace period";
            Engine::tokens(what, &self.engine.refresh(what, self.client, &first).await?)?;
            tokio::time::sleep(grace + AFTER_GRACE).await;
        }
        let what = "use a refresh token again";
        let again = self.engine.refresh(what, self.client, &first).await?;
        if !again.is_refused() {
            return Err(again.refusal(what));
        }
        // A stolen token was used twice: nobody may go on with this chain.
        self.is_dead(what, "the access token of the chain", &next.access).await?;
        match &next.refresh {
            Some(refresh) => self.is_dead(what, "the refresh token of the chain", refresh).await,
            None => Ok(()),
        }
    }

    async fn revoke(&self) -> Result<(), OauthError> {
        let (tokens, refresh) = self.granted("make a grant to revoke").await?;
        if let Some(stranger) = self.stranger {
            // Whatever is answered, what counts is what became of the token.
            self.engine.revoke("revoke as another client", stranger, refresh.expose()).await?;
            self.is_live("revoke as another client", "the token, as it must be,", &tokens.access).await?;
        }
        let what = "revoke";
        self.engine.revoke(what, self.client, refresh.expose()).await?.expect(what, 200)?;
        self.is_dead(what, "the refresh token", &refresh).await?;
        self.is_dead(what, "the access token", &tokens.access).await?;
        let what = "revoke an unknown token";
        self.engine.revoke(what, self.client, "unknown.token").await?.expect(what, 200).map(drop)
    }

    async fn introspect(&self) -> Result<(), OauthError> {
        let what = "introspect";
        let tokens = self.asking().grant("make a grant to introspect").await?;
        self.is_ours(what, self.subject, &tokens.access).await?;
        let said = self.engine.introspect(&tokens.access).await?;
        let words = |text: &str| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        if words(said["scope"].as_str().unwrap_or_default()) != words(self.scope) {
            return Err(OauthError::unexpected(what, format!("the scope is {}", shown(&said["scope"]))));
        }
        self.is_dead(what, "a token that nobody has issued", &Secret::new("unknown.token")).await
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
