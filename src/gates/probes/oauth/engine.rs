//! One side's engine, spoken to as its clients, its users' browsers and its administrators speak to it: Ory Hydra 1.x and 2.x.
//!
//! Nothing is believed that was not answered. No redirect is followed by itself: the admin API of 2.x answers calls without its prefix by one
//! that may lead past a proxy, and would take credentials along.

use super::error::OauthError;
use crate::plan::{Secret, Upstream};
use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;

/// Largest answer that is read; discovery and key sets are far smaller.
const ANSWER_BYTES: usize = 1 << 20;
/// Most clients of ours that one look finds; a probe makes a few at a time.
const PAGE: usize = 100;
/// Where clients of ours have their users sent back to; nobody is there.
const REDIRECT_URI: &str = "https://cutover-probe.invalid/callback";

/// One side's engine.
#[derive(Debug, Clone)]
pub struct Engine {
    http: reqwest::Client,
    public: String,
    admin: String,
    timeout: Duration,
}

/// A client of the engine's.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// Where it has its users sent back to.
    pub redirect_uri: String,
}

/// What an engine answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) location: Option<String>,
    pub(super) cookies: Vec<(String, String)>,
}

/// Tokens of a grant.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    pub(super) access: Secret,
    pub(super) refresh: Option<Secret>,
    pub(super) id: Option<Secret>,
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// Refused by the engine itself, and not for want of it.
    pub(super) fn is_refused(&self) -> bool {
        (400..500).contains(&self.status) && self.status != 404 && self.status != 429
    }

    /// The engine's own words for its refusal; never a token.
    pub(super) fn words(&self) -> String {
        let text = |key: &str| self.body[key].as_str().unwrap_or_default();
        let all = format!("{} {} {}", text("error"), text("error_description"), text("error_hint"));
        all.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
    }

    /// Turns anything but this status into an error.
    pub(super) fn expect(self, what: &'static str, status: u16) -> Result<Value, OauthError> {
        if self.status == status { Ok(self.body) } else { Err(self.refusal(what)) }
    }

    pub(super) fn refusal(&self, what: &'static str) -> OauthError {
        if let (300..400, Some(location)) = (self.status, &self.location) {
            let to = Url::parse(location).map_or_else(|_| "another path".to_owned(), |url| url.authority().to_owned());
            return OauthError::Redirected { what, to };
        }
        OauthError::Refused { what, status: self.status, words: self.words() }
    }
}

impl Tokens {
    fn of(body: &Value) -> Option<Self> {
        let secret = |key: &str| body[key].as_str().filter(|text| !text.is_empty()).map(Secret::new);
        Some(Self { access: secret("access_token")?, refresh: secret("refresh_token"), id: secret("id_token") })
    }
}

impl Engine {
    /// The engine at these addresses. Whether its admin API lies under `/admin` is found out by a question that changes nothing.
    ///
    /// # Errors
    /// When neither place answers.
    pub async fn reach(http: &reqwest::Client, at: &Upstream, timeout: Duration) -> Result<Self, OauthError> {
        let bare = Self { http: http.clone(), public: at.public.clone(), admin: at.admin.clone(), timeout };
        let prefixed = Self { admin: format!("{}/admin", at.admin), ..bare.clone() };
        if prefixed.introspected("unknown").await?.status != 404 {
            prefixed.introspect(&Secret::new("unknown")).await?;
            return Ok(prefixed);
        }
        bare.introspect(&Secret::new("unknown")).await?;
        Ok(bare)
    }

    pub(super) fn public(&self) -> &str {
        &self.public
    }

    fn administer(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.admin))
    }

    pub(super) async fn send(&self, what: &'static str, request: RequestBuilder) -> Result<Answer, OauthError> {
        // An engine that leaves TLS to a proxy in front of it wants to hear that there was one.
        let request = request.timeout(self.timeout).header("x-forwarded-proto", "https");
        let silent = |source: reqwest::Error| OauthError::Silent { what, source: source.without_url() };
        let mut response = request.send().await.map_err(silent)?;
        let status = response.status().as_u16();
        let (location, cookies) = (location(&response), cookies(&response));
        let body = whole_body(&mut response).await.map_err(|why| OauthError::Unexpected { what, why })?;
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default(), location, cookies })
    }

    /// Makes a client with everything that the flows need.
    pub(super) async fn create_client(&self, name: &str, owner: &str, scope: &str) -> Result<Client, OauthError> {
        self.create(wanted(name, owner, scope)).await
    }

    /// The same, for one that asks for JWT access tokens. An engine without such a choice for each client gives it what all are given.
    pub(super) async fn create_jwt_client(&self, name: &str, owner: &str, scope: &str) -> Result<Client, OauthError> {
        let mut wanted = wanted(name, owner, scope);
        wanted["access_token_strategy"] = json!("jwt");
        self.create(wanted).await
    }

    async fn create(&self, wanted: Value) -> Result<Client, OauthError> {
        let what = "make a client";
        let made = self.send(what, self.administer(Method::POST, "/clients").json(&wanted)).await?.expect(what, 201)?;
        let text = |key: &str| made[key].as_str().map(str::to_owned);
        let missing = || OauthError::Unexpected { what, why: "the answer holds no id and secret".to_owned() };
        let (id, secret) = text("client_id").zip(text("client_secret")).ok_or_else(missing)?;
        Ok(Client { id, secret: Secret::new(secret), redirect_uri: REDIRECT_URI.to_owned() })
    }

    /// Removes a client with all its grants; one that is gone is no error.
    pub(super) async fn delete_client(&self, id: &str) -> Result<(), OauthError> {
        let what = "remove a client";
        let answer = self.send(what, self.administer(Method::DELETE, &format!("/clients/{}", encoded(id)))).await?;
        if matches!(answer.status, 204 | 404) { Ok(()) } else { Err(answer.refusal(what)) }
    }

    /// Ids of the clients of exactly this owner.
    pub(super) async fn clients_of(&self, owner: &str) -> Result<Vec<String>, OauthError> {
        let what = "list our clients";
        let page = PAGE.to_string();
        let asked = [("owner", owner), ("limit", &page), ("page_size", &page)];
        let listed =
            self.send(what, self.administer(Method::GET, "/clients").query(&asked)).await?.expect(what, 200)?;
        // An engine that does not know the filter lists everybody's.
        let ours = listed.as_array().into_iter().flatten().filter(|client| client["owner"] == owner);
        Ok(ours.filter_map(|client| client["client_id"].as_str().map(str::to_owned)).collect())
    }

    /// Sets how long the tokens of a client live.
    pub(super) async fn set_lifespans(&self, id: &str, lifespans: &Value) -> Result<(), OauthError> {
        let what = "set how long tokens of a client live";
        let path = format!("/clients/{}/lifespans", encoded(id));
        self.send(what, self.administer(Method::PUT, &path).json(lifespans)).await?.expect(what, 200).map(drop)
    }

    /// Asks the token endpoint as a client.
    pub(super) async fn token(
        &self,
        what: &'static str,
        client: &Client,
        form: &[(&str, &str)],
    ) -> Result<Answer, OauthError> {
        let request = self.http.post(format!("{}/oauth2/token", self.public)).form(form);
        self.send(what, as_client(request, client)).await
    }

    /// The tokens of an answer that must be one.
    pub(super) fn tokens(what: &'static str, answer: &Answer) -> Result<Tokens, OauthError> {
        if !answer.is_ok() {
            return Err(answer.refusal(what));
        }
        let missing = || OauthError::Unexpected { what, why: "the answer holds no access token".to_owned() };
        Tokens::of(&answer.body).ok_or_else(missing)
    }

    /// Refreshes.
    pub(super) async fn refresh(
        &self,
        what: &'static str,
        client: &Client,
        token: &Secret,
    ) -> Result<Answer, OauthError> {
        self.token(what, client, &[("grant_type", "refresh_token"), ("refresh_token", token.expose())]).await
    }

    /// Revokes a token as a client.
    pub(super) async fn revoke(&self, what: &'static str, client: &Client, token: &str) -> Result<Answer, OauthError> {
        let request = self.http.post(format!("{}/oauth2/revoke", self.public)).form(&[("token", token)]);
        self.send(what, as_client(request, client)).await
    }

    async fn introspected(&self, token: &str) -> Result<Answer, OauthError> {
        let request = self.administer(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
        self.send("introspect", request).await
    }

    /// What introspection says of a token.
    pub(super) async fn introspect(&self, token: &Secret) -> Result<Value, OauthError> {
        let what = "introspect";
        let said = self.introspected(token.expose()).await?.expect(what, 200)?;
        if said["active"].is_boolean() {
            return Ok(said);
        }
        Err(OauthError::Unexpected { what, why: "the answer does not say whether the token is active".to_owned() })
    }

    pub(super) async fn is_active(&self, token: &Secret) -> Result<bool, OauthError> {
        Ok(self.introspect(token).await?["active"] == true)
    }

    /// Which clients a person has let in, and for what, as the engine lists it.
    pub(super) async fn consents(&self, subject: &str) -> Result<Vec<(String, Vec<String>)>, OauthError> {
        let what = "list consents";
        let request = self.administer(Method::GET, "/oauth2/auth/sessions/consent").query(&[("subject", subject)]);
        let listed = self.send(what, request).await?.expect(what, 200)?;
        let mut consents: Vec<(String, Vec<String>)> = listed.as_array().into_iter().flatten().map(consent).collect();
        consents.sort();
        Ok(consents)
    }

    /// Ends a person's logins; one without any is no error.
    pub(super) async fn delete_logins(&self, subject: &str) -> Result<(), OauthError> {
        let what = "end a login";
        let request = self.administer(Method::DELETE, "/oauth2/auth/sessions/login").query(&[("subject", subject)]);
        let answer = self.send(what, request).await?;
        if matches!(answer.status, 204 | 404) { Ok(()) } else { Err(answer.refusal(what)) }
    }

    /// Takes back what a person has granted a client; one without any is no error.
    pub(super) async fn delete_consents(&self, subject: &str, client: &str) -> Result<(), OauthError> {
        let what = "take a consent back";
        let request = self.administer(Method::DELETE, "/oauth2/auth/sessions/consent");
        let answer = self.send(what, request.query(&[("subject", subject), ("client", client)])).await?;
        if matches!(answer.status, 204 | 404) { Ok(()) } else { Err(answer.refusal(what)) }
    }

    /// Answers a login or a consent in a person's place; gives where the browser goes next.
    pub(super) async fn accept(
        &self,
        what: &'static str,
        kind: &str,
        challenge: &str,
        answer: &Value,
    ) -> Result<String, OauthError> {
        let path = format!("/oauth2/auth/requests/{kind}/accept");
        let key = format!("{kind}_challenge");
        let request = self.administer(Method::PUT, &path).query(&[(key.as_str(), challenge)]).json(answer);
        let accepted = self.send(what, request).await?.expect(what, 200)?;
        let missing = || OauthError::Unexpected { what, why: "the answer holds no `redirect_to`".to_owned() };
        accepted["redirect_to"].as_str().map(str::to_owned).ok_or_else(missing)
    }

    /// A browser's visit to this side's own `/oauth2/auth`, wherever `address` says that it is.
    pub(super) async fn visit(&self, what: &'static str, address: &str, cookies: &str) -> Result<Answer, OauthError> {
        let wrong = || OauthError::Unexpected { what, why: "the address to go to is none of the engine's".to_owned() };
        let asked = Url::parse(address).map_err(|_| wrong())?;
        if !asked.path().ends_with("/oauth2/auth") {
            return Err(wrong());
        }
        let here = format!("{}/oauth2/auth?{}", self.public, asked.query().unwrap_or_default());
        let mut request = self.http.get(here);
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies);
        }
        self.send(what, request).await
    }

    /// The discovery document.
    pub(super) async fn discovery(&self) -> Result<Value, OauthError> {
        let what = "read the discovery document";
        let request = self.http.get(format!("{}/.well-known/openid-configuration", self.public));
        self.send(what, request).await?.expect(what, 200)
    }

    /// The public keys.
    pub(super) async fn keys(&self) -> Result<Value, OauthError> {
        let what = "read the public keys";
        let request = self.http.get(format!("{}/.well-known/jwks.json", self.public));
        self.send(what, request).await?.expect(what, 200)
    }
}

fn wanted(name: &str, owner: &str, scope: &str) -> Value {
    json!({
        "client_name": name, "owner": owner, "scope": scope, "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"], "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic",
    })
}

/// RFC 6749, 2.3.1: id and secret are encoded before they are put together.
fn as_client(request: RequestBuilder, client: &Client) -> RequestBuilder {
    request.basic_auth(encoded(&client.id), Some(encoded(client.secret.expose())))
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn consent(session: &Value) -> (String, Vec<String>) {
    let client = session.pointer("/consent_request/client/client_id").and_then(Value::as_str).unwrap_or_default();
    let scopes = session["grant_scope"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut scopes: Vec<String> = scopes.map(str::to_owned).collect();
    scopes.sort();
    (client.to_owned(), scopes)
}

fn location(response: &Response) -> Option<String> {
    response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn cookies(response: &Response) -> Vec<(String, String)> {
    let set = response.headers().get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = set.filter_map(|cookie| cookie.split(';').next()?.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// An answer's body, up to a bound.
pub(in super::super) async fn whole_body(response: &mut Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_BYTES => {
                return Err(format!("the answer is longer than {ANSWER_BYTES} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(crate::gates::said(&error.without_url())),
        }
    }
}
