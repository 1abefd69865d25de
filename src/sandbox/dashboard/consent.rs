//! The consent screen, giving consent, the connected apps, and taking one away.

use super::clients::Shown;
use crate::plan::Side;
use crate::sandbox::system::{Sorry, System};
use crate::sandbox::upstream::{UpstreamError, json_of, redirect_of};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use reqwest::{Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Permissions in words that a user understands.
const PERMISSIONS: [(&str, &str); 5] = [
    ("openid", "Know who you are"),
    ("offline_access", "Keep access while you are away"),
    ("photos.read", "See your photos"),
    ("photos.write", "Change and delete your photos"),
    ("email", "See your e-mail address"),
];

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    client_id: String,
    #[serde(default)]
    scope: String,
}

#[derive(Debug, Serialize)]
struct Permission {
    scope: String,
    text: String,
}

/// The consent screen as data.
#[derive(Debug, Serialize)]
pub(super) struct Screen {
    app_name: String,
    owner: String,
    verified: bool,
    permissions: Vec<Permission>,
}

/// `GET /consent?client_id=&scope=`: what the user is asked.
pub(super) async fn screen(State(system): State<System>, Query(asked): Query<Asked>) -> Result<Json<Screen>, Sorry> {
    let pass = system.enter().await?;
    let request = system.engine.admin(pass.side, Method::GET, &format!("/clients/{}", asked.client_id));
    let client = Shown::from_engine(&json_of("show a client", request).await?);
    let scope = if asked.scope.is_empty() { client.scope } else { asked.scope };
    let permissions = scope.split_whitespace().map(permission).collect();
    Ok(Json(Screen { app_name: client.name, owner: client.owner, verified: client.verified, permissions }))
}

fn permission(scope: &str) -> Permission {
    let known = PERMISSIONS.iter().find(|(name, _)| *name == scope);
    let text = known.map_or_else(|| format!("Use {scope:?}"), |(_, text)| (*text).to_owned());
    Permission { scope: scope.to_owned(), text }
}

/// A user's yes, with what the app sent the browser with.
#[derive(Debug, Deserialize)]
pub(super) struct Yes {
    subject: String,
    client_id: String,
    scope: String,
    redirect_uri: String,
    state: String,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

/// `POST /consents`: signs the user in, accepts the consent, and hands out the code that the browser would carry to the app, with the
/// cookies that the browser keeps.
pub(super) async fn give(
    State(system): State<System>,
    Json(yes): Json<Yes>,
) -> Result<(StatusCode, Json<Value>), Sorry> {
    let pass = system.enter().await?;
    let mut browser = Browser { system: &system, side: pass.side, cookies: BTreeMap::new() };
    let back = browser.consent(&yes).await?;
    let code = value_of(&back, "code").ok_or(UpstreamError::Answer { what: "give consent", lacks: "a code" })?;
    let state = value_of(&back, "state");
    Ok((StatusCode::CREATED, Json(json!({"code": code, "state": state, "browser": browser.cookies()}))))
}

fn value_of(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The user's browser as far as one grant needs it.
struct Browser<'a> {
    system: &'a System,
    side: Side,
    cookies: BTreeMap<String, String>,
}

impl Browser<'_> {
    /// Login, then consent; the URL that leads back to the app.
    async fn consent(&mut self, yes: &Yes) -> Result<url::Url, UpstreamError> {
        let at_login = self.go("begin a grant", &authorize(yes)).await?;
        let challenge = needed(&at_login, "login_challenge", "begin a grant")?;
        let login = json!({"subject": yes.subject, "remember": true, "remember_for": 0});
        let next = self.accept("accept a login", "login", "login_challenge", &challenge, &login).await?;
        let at_consent = self.go("follow a login", &next).await?;
        let challenge = needed(&at_consent, "consent_challenge", "follow a login")?;
        let scopes: Vec<&str> = yes.scope.split_whitespace().collect();
        let consent = json!({"grant_scope": scopes, "remember": true, "remember_for": 0, "session": {}});
        let next = self.accept("accept a consent", "consent", "consent_challenge", &challenge, &consent).await?;
        self.go("follow a consent", &next).await
    }

    /// Opens a path of the public API and says where it leads.
    async fn go(&mut self, what: &'static str, path_and_query: &str) -> Result<url::Url, UpstreamError> {
        let mut request = self.system.engine.browse(path_and_query);
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookies());
        }
        let (location, answer) = redirect_of(what, request).await?;
        self.keep_cookies(&answer);
        Ok(location)
    }

    /// All that it keeps, as it shows them.
    fn cookies(&self) -> String {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        cookies.join("; ")
    }

    fn keep_cookies(&mut self, answer: &Response) {
        let set = answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
        let pairs = set.filter_map(|cookie| cookie.split(';').next()?.split_once('='));
        self.cookies.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    /// Accepts a login or consent request at the admin API; the path and query that the browser opens next.
    async fn accept(
        &self,
        what: &'static str,
        request: &str,
        parameter: &str,
        challenge: &str,
        body: &Value,
    ) -> Result<String, UpstreamError> {
        let path = format!("/oauth2/auth/requests/{request}/accept");
        let request = self.system.engine.admin(self.side, Method::PUT, &path);
        let answer = json_of(what, request.query(&[(parameter, challenge)]).json(body)).await?;
        let next = answer.get("redirect_to").and_then(Value::as_str).and_then(|next| url::Url::parse(next).ok());
        let next = next.ok_or(UpstreamError::Answer { what, lacks: "redirect_to" })?;
        // The gateway stands where the engine believes itself to be: only path and query of its own address are used.
        Ok(format!("{}?{}", next.path(), next.query().unwrap_or_default()))
    }
}

fn authorize(yes: &Yes) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("response_type", "code").append_pair("client_id", &yes.client_id);
    query.append_pair("scope", &yes.scope).append_pair("redirect_uri", &yes.redirect_uri);
    query.append_pair("state", &yes.state);
    for (name, value) in
        [("code_challenge", &yes.code_challenge), ("code_challenge_method", &yes.code_challenge_method)]
    {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("/oauth2/auth?{}", query.finish())
}

fn needed(url: &url::Url, name: &'static str, what: &'static str) -> Result<String, UpstreamError> {
    value_of(url, name).ok_or(UpstreamError::Answer { what, lacks: name })
}

#[derive(Debug, Deserialize)]
pub(super) struct User {
    subject: String,
}

/// One app that a user has connected.
#[derive(Debug, Serialize)]
pub(super) struct Connected {
    client_id: String,
    app_name: String,
    owner: String,
    verified: bool,
    permissions: Vec<Permission>,
}

/// `GET /apps?subject=`: the apps a user has connected.
pub(super) async fn connected(
    State(system): State<System>,
    Query(user): Query<User>,
) -> Result<Json<Vec<Connected>>, Sorry> {
    let pass = system.enter().await?;
    let request = system.engine.admin(pass.side, Method::GET, "/oauth2/auth/sessions/consent");
    let sessions = json_of("list consents", request.query(&[("subject", &user.subject)])).await?;
    Ok(Json(sessions.as_array().into_iter().flatten().filter_map(connection).collect()))
}

fn connection(session: &Value) -> Option<Connected> {
    let client = Shown::from_engine(session.pointer("/consent_request/client")?);
    let scopes = session.get("grant_scope").and_then(Value::as_array);
    let permissions = scopes.into_iter().flatten().filter_map(Value::as_str).map(permission).collect();
    let Shown { client_id, name, owner, verified, .. } = client;
    Some(Connected { client_id, app_name: name, owner, verified, permissions })
}

/// `DELETE /apps/{client_id}?subject=`: takes an app away, with every token it has for this user.
pub(super) async fn take_away(
    State(system): State<System>,
    Path(client): Path<String>,
    Query(user): Query<User>,
) -> Result<StatusCode, Sorry> {
    let pass = system.enter().await?;
    let request = system.engine.admin(pass.side, Method::DELETE, "/oauth2/auth/sessions/consent");
    json_of("revoke a consent", request.query(&[("subject", &user.subject), ("client", &client)])).await?;
    Ok(StatusCode::NO_CONTENT)
}
