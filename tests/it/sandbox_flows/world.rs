//! An engine on real tables, and a browser, a client and an administrator in one person.

use crate::harness::Place;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cutover::plan::Secret;
use cutover::sandbox::engine::{AccessTokens, EngineOptions, EngineVersion, TokenLives, serve};
use cutover::sandbox::servers::free_port;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::oneshot;
use url::Url;

/// RFC 7636, appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Where the test's client is sent back to.
pub(crate) const CALLBACK: &str = "https://app.example/callback";

/// A client as it was made.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// One engine on one database.
pub(crate) struct World {
    pub(crate) public: String,
    pub(crate) admin: String,
    pub(crate) http: reqwest::Client,
    _end: oneshot::Sender<()>,
}

/// A status with its JSON body.
pub(crate) type Answer = (StatusCode, Value);

pub(crate) fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER.as_bytes()))
}

fn address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port().expect("a port is free")).into()
}

impl World {
    /// Serves `version` on `place`, which is migrated to it, until dropped.
    pub(crate) async fn serving(place: &Place, version: EngineVersion) -> Self {
        Self::giving(AccessTokens::Opaque, place, version).await
    }

    /// The same, with access tokens of this kind for clients that do not say it themselves.
    pub(crate) async fn giving(access_tokens: AccessTokens, place: &Place, version: EngineVersion) -> Self {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let (public, admin) = (address(), address());
        let options = EngineOptions {
            named: None,
            version,
            dsn: place.application_url(),
            public,
            admin,
            issuer: "http://issuer.example".into(),
            login_url: "http://screens.example/login".into(),
            consent_url: "http://screens.example/consent".into(),
            secret: Secret::new("the system secret of both sides"),
            connections: 5,
            lives: TokenLives::default(),
            access_tokens,
        };
        let (end, ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let ended = async {
                let _ = ended.await;
            };
            serve(options, ended).await.expect("the engine serves");
        });
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let http = http.timeout(Duration::from_secs(60)).build().expect("a client");
        let prefix = if version == EngineVersion::V2 { "/admin" } else { "" };
        let world =
            Self { public: format!("http://{public}"), admin: format!("http://{admin}{prefix}"), http, _end: end };
        let alive = format!("{}/health/alive", world.public);
        let client = world.http.clone();
        crate::harness::eventually(Duration::from_secs(10), "the engine is alive", async || {
            client.get(&alive).send().await.ok()
        })
        .await;
        world
    }

    async fn answer(request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.expect("the engine answers");
        let status = answer.status();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// Asks the admin API.
    pub(crate) async fn administer(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.http.request(method, format!("{}{path}", self.admin));
        Self::answer(if let Some(body) = body { request.json(&body) } else { request }).await
    }

    /// Makes a client that may do everything.
    pub(crate) async fn register(&self) -> Registered {
        self.register_for("").await
    }

    /// The same, for access tokens of a kind, as the engine calls it.
    pub(crate) async fn register_for(&self, strategy: &str) -> Registered {
        let (status, made) = self
            .administer(
                Method::POST,
                "/clients",
                Some(json!({
                    "client_name": "A test", "owner": "someone", "redirect_uris": [CALLBACK, "https://app.example/other"],
                    "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
                    "scope": "openid offline_access read", "metadata": { "verified": true },
                    "access_token_strategy": strategy,
                })),
            )
            .await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Registered { id: text("client_id"), secret: text("client_secret") }
    }

    /// Asks the token endpoint as the client.
    pub(crate) async fn token(&self, client: &Registered, form: &[(&str, &str)]) -> Answer {
        let request = self.http.post(format!("{}/oauth2/token", self.public)).form(form);
        Self::answer(request.basic_auth(&client.id, Some(&client.secret))).await
    }

    /// Asks the token endpoint with nothing but a form.
    pub(crate) async fn token_of(&self, form: &[(&str, &str)]) -> Answer {
        Self::answer(self.http.post(format!("{}/oauth2/token", self.public)).form(form)).await
    }

    /// Goes where a redirect of the engine points, on this engine's own address; gives the next address.
    async fn follow(&self, address: &str) -> Url {
        let local = address.replace("http://issuer.example", &self.public);
        let answer = self.http.get(local).send().await.expect("the engine answers");
        assert_eq!(answer.status(), StatusCode::FOUND, "{:?}", answer.text().await);
        let location = answer.headers()["location"].to_str().expect("an address");
        Url::parse(location).expect("an address")
    }

    fn value(url: &Url, name: &str) -> String {
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    /// A browser's way to the consent screen; gives the consent challenge.
    pub(crate) async fn ask_consent(&self, client: &Registered, subject: &str) -> String {
        let asked = Url::parse_with_params(
            &format!("{}/oauth2/auth", self.public),
            [
                ("client_id", client.id.as_str()),
                ("redirect_uri", CALLBACK),
                ("response_type", "code"),
                ("scope", "openid offline_access read"),
                ("state", "a-state-of-mine"),
                ("code_challenge", &challenge()),
                ("code_challenge_method", "S256"),
            ],
        )
        .expect("an address");
        let login = Self::value(&self.follow(asked.as_str()).await, "login_challenge");
        let (status, shown) =
            self.administer(Method::GET, &format!("/oauth2/auth/requests/login?login_challenge={login}"), None).await;
        assert_eq!((status, shown["client"]["client_id"].as_str()), (StatusCode::OK, Some(client.id.as_str())));
        let path = format!("/oauth2/auth/requests/login/accept?login_challenge={login}");
        let (_, accepted) = self.administer(Method::PUT, &path, Some(json!({ "subject": subject }))).await;
        let back = accepted["redirect_to"].as_str().expect("an address").to_owned();
        Self::value(&self.follow(&back).await, "consent_challenge")
    }

    /// The consent request of a challenge.
    pub(crate) async fn consent_request(&self, challenge: &str) -> Value {
        let path = format!("/oauth2/auth/requests/consent?consent_challenge={challenge}");
        self.administer(Method::GET, &path, None).await.1
    }

    /// A browser's way through login and consent; gives the code.
    pub(crate) async fn code(&self, client: &Registered, subject: &str) -> String {
        let consent = self.ask_consent(client, subject).await;
        let path = format!("/oauth2/auth/requests/consent/accept?consent_challenge={consent}");
        let answer = json!({ "grant_scope": ["openid", "offline_access", "read"], "remember": true, "remember_for": 0,
            "session": { "access_token": { "tier": "gold" } } });
        let (status, accepted) = self.administer(Method::PUT, &path, Some(answer)).await;
        assert_eq!(status, StatusCode::OK, "{accepted}");
        let back = accepted["redirect_to"].as_str().expect("an address").to_owned();
        let end = self.follow(&back).await;
        assert_eq!(Self::value(&end, "state"), "a-state-of-mine");
        Self::value(&end, "code")
    }

    /// Exchanges a code.
    pub(crate) async fn exchange(&self, client: &Registered, code: &str, verifier: &str) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", verifier),
        ];
        self.token(client, &form).await
    }

    /// A whole grant; gives access and refresh token.
    pub(crate) async fn grant(&self, client: &Registered, subject: &str) -> (String, String) {
        let code = self.code(client, subject).await;
        pair(&self.exchange(client, &code, VERIFIER).await)
    }

    /// Refreshes.
    pub(crate) async fn refresh(&self, client: &Registered, token: &str) -> Answer {
        self.token(client, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// Revokes.
    pub(crate) async fn revoke(&self, client: &Registered, token: &str) -> StatusCode {
        let request = self.http.post(format!("{}/oauth2/revoke", self.public)).form(&[("token", token)]);
        Self::answer(request.basic_auth(&client.id, Some(&client.secret))).await.0
    }

    /// Introspects.
    pub(crate) async fn introspect(&self, token: &str) -> Value {
        let request = self.http.post(format!("{}/oauth2/introspect", self.admin)).form(&[("token", token)]);
        let (status, said) = Self::answer(request).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        said
    }

    /// Whether a token is active.
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        self.introspect(token).await["active"] == json!(true)
    }

    /// What userinfo says.
    pub(crate) async fn userinfo(&self, token: &str) -> Answer {
        Self::answer(self.http.get(format!("{}/userinfo", self.public)).bearer_auth(token)).await
    }
}

/// Access and refresh token of a token answer.
pub(crate) fn pair((status, body): &Answer) -> (String, String) {
    assert_eq!(*status, StatusCode::OK, "{body}");
    let text = |name: &str| body[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}
