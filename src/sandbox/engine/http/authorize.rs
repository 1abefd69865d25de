//! `/oauth2/auth`: the browser's way from the client to login, to consent and back with a code.
//!
//! Three visits to one address: with nothing (asks for a login), with `login_verifier` (asks for a consent), with `consent_verifier`
//! (issues the code). Each visit is one transaction.

use super::super::fault::Fault;
use super::super::store::clients;
use super::super::store::grants::{self, Granted, Question};
use super::super::store::sessions;
use super::super::store::tokens::{self, Session, Table, TokenRow};
use super::super::token::{self, Kind};
use super::Shared;
use super::credentials::{SESSION_COOKIE, session_cookie};
use axum::RequestExt;
use axum::extract::{Form, Query, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Visit {
    client_id: String,
    response_type: String,
    redirect_uri: String,
    scope: String,
    audience: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
    prompt: String,
    login_verifier: Option<String>,
    consent_verifier: Option<String>,
}

pub(super) async fn authorize(
    State(engine): State<Shared>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Fault> {
    let bad = |_| Fault::bad("invalid_request", "the parameters cannot be read");
    let session = session_cookie(request.headers());
    let (visit, query) = if request.method() == axum::http::Method::POST {
        let Form(pairs) = request.extract::<Form<Vec<(String, String)>>, _>().await.map_err(|_| bad(()))?;
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        (serde_urlencoded(&query)?, query)
    } else {
        let query = query.unwrap_or_default();
        (serde_urlencoded(&query)?, query)
    };
    match (&visit.login_verifier, &visit.consent_verifier) {
        (_, Some(verifier)) => issue_code(&engine, &visit, verifier).await,
        (Some(verifier), None) => ask_consent(&engine, verifier).await,
        (None, None) => ask_login(&engine, &visit, &query, session).await,
    }
}

fn serde_urlencoded(query: &str) -> Result<Visit, Fault> {
    let address = format!("http://engine/?{query}")
        .parse()
        .map_err(|_| Fault::bad("invalid_request", "the query cannot be read"))?;
    Query::try_from_uri(&address)
        .map(|Query(visit)| visit)
        .map_err(|_| Fault::bad("invalid_request", "the parameters cannot be read"))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A browser whose login is remembered need not show it again; without a screen (`prompt=none`) no other is let in.
async fn ask_login(engine: &Shared, visit: &Visit, query: &str, session: Option<String>) -> Result<Response, Fault> {
    let db = engine.store.connection().await?;
    let version = engine.store.version;
    let kept = clients::find(&db, version, &visit.client_id).await?.ok_or_else(Fault::client)?;
    if !kept.client.redirect_uris.contains(&visit.redirect_uri) {
        return Err(Fault::bad("invalid_request", "redirect_uri is not one of the client's"));
    }
    if visit.response_type != "code" {
        return back(&visit.redirect_uri, &[("error", "unsupported_response_type"), ("state", &visit.state)]);
    }
    if !visit.code_challenge.is_empty() && visit.code_challenge_method != "S256" {
        return back(&visit.redirect_uri, &[("error", "invalid_request"), ("state", &visit.state)]);
    }
    let allowed = words(&kept.client.scope);
    if words(&visit.scope).iter().any(|scope| !allowed.contains(scope)) {
        return back(&visit.redirect_uri, &[("error", "invalid_scope"), ("state", &visit.state)]);
    }
    let session = match session.filter(|_| visit.prompt != "login") {
        Some(id) => sessions::remembered(&db, version, &id).await?,
        None => None,
    };
    if visit.prompt == "none" && session.is_none() {
        return back(&visit.redirect_uri, &[("error", "login_required"), ("state", &visit.state)]);
    }
    let login = Question {
        challenge: token::name(),
        verifier: token::name(),
        client_id: visit.client_id.clone(),
        subject: session.as_ref().map(|session| session.subject.clone()).unwrap_or_default(),
        request_url: format!("{}/oauth2/auth?{query}", engine.options.issuer),
        skip: session.is_some(),
        requested_scope: words(&visit.scope),
        requested_audience: words(&visit.audience),
        login_session_id: session.map(|session| session.id),
        login_challenge: None,
        used: false,
        error: None,
    };
    grants::ask_login(&db, version, &login).await?;
    back(&engine.options.login_url, &[("login_challenge", &login.challenge)])
}

async fn ask_consent(engine: &Shared, verifier: &str) -> Result<Response, Fault> {
    let version = engine.store.version;
    let mut db = engine.store.connection().await?;
    let login =
        grants::login_by_verifier(&db, version, verifier).await?.ok_or_else(|| Fault::not_found("the login"))?;
    if let Some(refusal) = refused(&login)? {
        return Ok(refusal);
    }
    let remembered = remembered(&db, version, &login).await?;
    let session = login.login_session_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let consent = Question {
        challenge: token::name(),
        verifier: token::name(),
        skip: remembered,
        login_session_id: Some(session.clone()),
        login_challenge: Some(login.challenge.clone()),
        ..login.clone()
    };
    let tx = db.transaction().await?;
    let Some(remembers) = grants::use_login(&tx, version, &login, &session).await? else {
        return Err(Fault::bad("invalid_request", "the login has been used or was not answered"));
    };
    grants::ask_consent(&tx, version, &consent).await?;
    tx.commit().await?;
    let mut onward = back(&engine.options.consent_url, &[("consent_challenge", &consent.challenge)])?;
    if remembers && !login.skip {
        let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax");
        let cookie = HeaderValue::from_str(&cookie).map_err(|error| Fault::Internal(error.to_string()))?;
        onward.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(onward)
}

/// Whether the user has given this client all of these scopes before and asked to be remembered.
async fn remembered<C: deadpool_postgres::GenericClient>(
    db: &C,
    version: super::super::EngineVersion,
    login: &Question,
) -> Result<bool, Fault> {
    let granted = grants::granted(db, version, &login.subject, Some(&login.client_id)).await?;
    Ok(granted.iter().any(|old| {
        old.answer.remember && login.requested_scope.iter().all(|scope| old.answer.granted_scope.contains(scope))
    }))
}

/// Sends the browser back to the client with the screen's refusal; an unanswered question is an error of the caller.
fn refused(question: &Question) -> Result<Option<Response>, Fault> {
    match question.error.as_deref() {
        None => Err(Fault::bad("invalid_request", "the question has not been answered")),
        Some("{}") => Ok(None),
        Some(error) => {
            let error: serde_json::Value = serde_json::from_str(error).unwrap_or_default();
            let visit = visit_of(&question.request_url);
            let name = error["error"].as_str().unwrap_or("access_denied");
            back(&visit.redirect_uri, &[("error", name), ("state", &visit.state)]).map(Some)
        }
    }
}

fn visit_of(request_url: &str) -> Visit {
    Url::parse(request_url).ok().and_then(|url| serde_urlencoded(url.query()?).ok()).unwrap_or_default()
}

async fn issue_code(engine: &Shared, visit: &Visit, verifier: &str) -> Result<Response, Fault> {
    let version = engine.store.version;
    let mut db = engine.store.connection().await?;
    let consent =
        grants::consent_by_verifier(&db, version, verifier).await?.ok_or_else(|| Fault::not_found("the consent"))?;
    if let Some(refusal) = refused(&consent.question)? {
        return Ok(refusal);
    }
    let asked = visit_of(&consent.question.request_url);
    if visit.client_id != asked.client_id || visit.redirect_uri != asked.redirect_uri {
        return Err(Fault::bad("invalid_request", "the request is not the one that was consented to"));
    }
    let code = token::mint(version, Kind::Code, &engine.options.secret);
    let mut row = code_row(engine, &consent, &asked);
    row.signature = code.stored;
    let tx = db.transaction().await?;
    if !grants::use_consent(&tx, version, &consent.question.challenge).await? {
        return Err(Fault::bad("invalid_request", "the consent has been used"));
    }
    tokens::insert(&tx, version, Table::Code, &row).await?;
    if !asked.code_challenge.is_empty() {
        tokens::insert(&tx, version, Table::Pkce, &row).await?;
    }
    if consent.answer.granted_scope.iter().any(|scope| scope == "openid") {
        tokens::insert(&tx, version, Table::Oidc, &row).await?;
    }
    tx.commit().await?;
    let scope = consent.answer.granted_scope.join(" ");
    back(&asked.redirect_uri, &[("code", &code.token), ("scope", &scope), ("state", &asked.state)])
}

/// The row of a code; the request id of a user's grant is its consent challenge.
fn code_row(engine: &Shared, consent: &Granted, asked: &Visit) -> TokenRow {
    let Granted { question, answer, .. } = consent;
    let life = jiff::SignedDuration::try_from(engine.options.lives.code).unwrap_or(jiff::SignedDuration::ZERO);
    let expires_at = BTreeMap::from([("authorize_code".to_owned(), jiff::Timestamp::now() + life)]);
    let form_data = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("redirect_uri", &asked.redirect_uri)
        .append_pair("code_challenge", &asked.code_challenge)
        .append_pair("code_challenge_method", &asked.code_challenge_method)
        .finish();
    TokenRow {
        signature: String::new(),
        request_id: question.challenge.clone(),
        issued_at_s: 0,
        client_id: question.client_id.clone(),
        scope: question.requested_scope.join("|"),
        granted_scope: answer.granted_scope.join("|"),
        form_data,
        session: Session { subject: question.subject.clone(), expires_at, extra: answer.access_token.clone() },
        subject: question.subject.clone(),
        active: true,
        requested_audience: question.requested_audience.join("|"),
        granted_audience: answer.granted_audience.join("|"),
        challenge_id: Some(question.challenge.clone()),
    }
}

/// A redirect of the browser to `address` with more parameters.
pub(super) fn back(address: &str, parameters: &[(&str, &str)]) -> Result<Response, Fault> {
    let mut url =
        Url::parse(address).map_err(|_| Fault::bad("invalid_request", "an address to go back to is not a URL"))?;
    url.query_pairs_mut().extend_pairs(parameters.iter().filter(|(_, value)| !value.is_empty()));
    let location = HeaderValue::from_str(url.as_str()).map_err(|error| Fault::Internal(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((StatusCode::FOUND, headers).into_response())
}
