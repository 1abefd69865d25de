//! Introspection, and the administrator's doors of revocation.

use super::super::EngineVersion;
use super::super::fault::Fault;
use super::super::store::grants::{self, Granted};
use super::super::store::{clients, sessions, tokens};
use super::super::token::Kind;
use super::Shared;
use super::tokens::presented;
use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize)]
pub(super) struct Introspect {
    token: String,
}

pub(super) async fn introspect(
    State(engine): State<Shared>,
    Form(form): Form<Introspect>,
) -> Result<Json<Value>, Fault> {
    let db = engine.store.connection().await?;
    let Some((kind, row)) = presented(&engine, &db, &form.token).await? else {
        return Ok(Json(json!({ "active": false })));
    };
    let name = if kind == Kind::Refresh { "refresh_token" } else { "access_token" };
    if !row.is_live(name) {
        return Ok(Json(json!({ "active": false })));
    }
    let list = |text: &str| text.split('|').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let expires = row.session.expires_at.get(name).map_or(0, |at| at.as_second());
    Ok(Json(json!({
        "active": true,
        "scope": row.granted_scope.replace('|', " "),
        "client_id": row.client_id,
        "sub": row.subject,
        "exp": expires,
        "iat": row.issued_at_s,
        "nbf": row.issued_at_s,
        "aud": list(&row.granted_audience),
        "iss": engine.options.issuer,
        "token_type": "Bearer",
        "token_use": name,
        "ext": row.session.extra,
    })))
}

#[derive(Deserialize)]
pub(super) struct OfClient {
    client_id: String,
}

pub(super) async fn delete_tokens(
    State(engine): State<Shared>,
    Query(of): Query<OfClient>,
) -> Result<StatusCode, Fault> {
    let db = engine.store.connection().await?;
    tokens::delete_access_of_client(&db, engine.store.version, &of.client_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct OfSubject {
    subject: String,
    client: Option<String>,
    #[serde(default)]
    all: bool,
}

pub(super) async fn list_consents(
    State(engine): State<Shared>,
    Query(of): Query<OfSubject>,
) -> Result<Json<Vec<Value>>, Fault> {
    let version = engine.store.version;
    let db = engine.store.connection().await?;
    let granted = grants::granted(&db, version, &of.subject, of.client.as_deref()).await?;
    let mut known = BTreeMap::new();
    for consent in &granted {
        let id = &consent.question.client_id;
        if !known.contains_key(id) {
            known.insert(id.clone(), clients::find(&db, version, id).await?.map(|kept| kept.client));
        }
    }
    Ok(Json(granted.iter().map(|consent| shown(consent, &json!(known[&consent.question.client_id]))).collect()))
}

fn shown(consent: &Granted, client: &Value) -> Value {
    let Granted { question, answer, handled_at } = consent;
    json!({
        "consent_request": {
            "challenge": question.challenge,
            "subject": question.subject,
            "client": client,
            "skip": question.skip,
            "requested_scope": question.requested_scope,
            "requested_access_token_audience": question.requested_audience,
            "login_session_id": question.login_session_id,
            "login_challenge": question.login_challenge,
        },
        "grant_scope": answer.granted_scope,
        "grant_access_token_audience": answer.granted_audience,
        "remember": answer.remember,
        "remember_for": answer.remember_for_s,
        "session": { "access_token": answer.access_token, "id_token": answer.id_token },
        "handled_at": handled_at,
    })
}

/// Answers 204 when nothing was there, as the real engine does.
pub(super) async fn delete_consents(
    State(engine): State<Shared>,
    Query(of): Query<OfSubject>,
) -> Result<StatusCode, Fault> {
    if of.client.is_none() && !of.all {
        return Err(Fault::bad("invalid_request", "name a client, or say all=true"));
    }
    let db = engine.store.connection().await?;
    grants::revoke_consents(&db, engine.store.version, &of.subject, of.client.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose login sessions end, or which one; what is empty is not named.
#[derive(Deserialize)]
pub(super) struct OfSessions {
    #[serde(default)]
    sid: String,
    #[serde(default)]
    subject: String,
}

/// By `sid` the one session, whatever else is named, else all of the subject's. 1.x passes over `sid`. Answers 204 when nothing was there.
pub(super) async fn delete_sessions(
    State(engine): State<Shared>,
    Query(of): Query<OfSessions>,
) -> Result<StatusCode, Fault> {
    let version = engine.store.version;
    let is_one = version == EngineVersion::V2 && !of.sid.is_empty();
    if !is_one && of.subject.is_empty() {
        return Err(Fault::bad("invalid_request", "name a subject, or from 2.x on a sid"));
    }
    let db = engine.store.connection().await?;
    if is_one {
        sessions::end_one(&db, version, &of.sid).await?;
    } else {
        sessions::end_all(&db, version, &of.subject).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
