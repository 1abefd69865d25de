//! Making, showing, changing and removing OAuth clients.

use super::super::fault::Fault;
use super::super::store::clients::{self, Client, Kept};
use super::super::store::lifespans;
use super::super::token;
use super::super::{assertion, jws};
use super::Shared;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use std::collections::BTreeMap;

const PAGE: i64 = 100;
const LARGEST_PAGE: i64 = 500;

#[derive(Deserialize)]
pub(super) struct Page {
    limit: Option<i64>,
    offset: Option<i64>,
    owner: Option<String>,
}

pub(super) async fn list(State(engine): State<Shared>, Query(page): Query<Page>) -> Result<Json<Vec<Client>>, Fault> {
    let limit = page.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let offset = page.offset.unwrap_or(0).max(0);
    let db = engine.store.connection().await?;
    Ok(Json(clients::list(&db, engine.store.version, page.owner.as_deref(), limit, offset).await?))
}

pub(super) async fn show(State(engine): State<Shared>, Path(id): Path<String>) -> Result<Json<Client>, Fault> {
    let found = clients::find(&engine.store.connection().await?, engine.store.version, &id).await?;
    found.map(|kept| Json(kept.client)).ok_or_else(|| Fault::not_found("the client"))
}

pub(super) async fn create(
    State(engine): State<Shared>,
    Json(mut client): Json<Client>,
) -> Result<(StatusCode, Json<Client>), Fault> {
    if client.client_id.is_empty() {
        client.client_id = uuid::Uuid::new_v4().to_string();
    }
    check(&client)?;
    let method = client.token_endpoint_auth_method.as_str();
    if !["none", assertion::METHOD].contains(&method) && client.client_secret.is_none() {
        client.client_secret = Some(token::name());
    }
    let secret_hash = client.client_secret.as_deref().map(token::hash_secret).unwrap_or_default();
    let id = client.client_id.clone();
    let secret = client.client_secret.clone();
    let db = engine.store.connection().await?;
    clients::insert(&db, engine.store.version, &Kept { client, secret_hash }).await?;
    let mut shown = reread(&engine, &id).await?;
    shown.client_secret = secret;
    Ok((StatusCode::CREATED, Json(shown)))
}

pub(super) async fn change(
    State(engine): State<Shared>,
    Path(id): Path<String>,
    Json(mut client): Json<Client>,
) -> Result<Json<Client>, Fault> {
    client.client_id = id.clone();
    check(&client)?;
    let db = engine.store.connection().await?;
    let old = clients::find(&db, engine.store.version, &id).await?.ok_or_else(|| Fault::not_found("the client"))?;
    let secret = client.client_secret.clone();
    let secret_hash = secret.as_deref().map_or(old.secret_hash, token::hash_secret);
    if !clients::update(&db, engine.store.version, &Kept { client, secret_hash }).await? {
        return Err(Fault::not_found("the client"));
    }
    drop(db);
    let mut shown = reread(&engine, &id).await?;
    shown.client_secret = secret;
    Ok(Json(shown))
}

pub(super) async fn delete(State(engine): State<Shared>, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    let gone = clients::delete(&engine.store.connection().await?, engine.store.version, &id).await?;
    if gone { Ok(StatusCode::NO_CONTENT) } else { Err(Fault::not_found("the client")) }
}

/// Sets how long the tokens of a client live: `{"client_credentials_grant_access_token_lifespan": "1h", …}`.
pub(super) async fn set_lifespans(
    State(engine): State<Shared>,
    Path(id): Path<String>,
    Json(asked): Json<BTreeMap<String, Option<String>>>,
) -> Result<Json<Client>, Fault> {
    let mut lives = BTreeMap::new();
    for (name, life) in &asked {
        let known = lifespans::NAMES.into_iter().find(|known| known == name);
        let read = life.as_deref().map(humantime::parse_duration).transpose().ok();
        let Some((known, life)) = known.zip(read) else {
            return Err(Fault::bad("invalid_request", "a lifespan is unknown or no length of time"));
        };
        lives.extend(life.map(|life| (known, life)));
    }
    if !lifespans::set(&engine.store.connection().await?, engine.store.version, &id, &lives).await? {
        return Err(Fault::not_found("the client"));
    }
    Ok(Json(reread(&engine, &id).await?))
}

async fn reread(engine: &Shared, id: &str) -> Result<Client, Fault> {
    let found = clients::find(&engine.store.connection().await?, engine.store.version, id).await?;
    found.map(|kept| kept.client).ok_or_else(|| Fault::not_found("the client"))
}

/// Refuses what the two schemas cannot both hold: version 1 joins lists by `|`, and its conversion does not escape.
fn check(client: &Client) -> Result<(), Fault> {
    let lists =
        [&client.redirect_uris, &client.grant_types, &client.response_types, &client.audience, &client.contacts];
    let odd = |text: &String| text.is_empty() || text.contains(['|', '"', '\\']);
    if lists.into_iter().flatten().any(odd) {
        return Err(Fault::bad("invalid_client_metadata", "members of lists must not be empty nor hold | \" \\"));
    }
    if !["", "jwt", "opaque"].contains(&client.access_token_strategy.as_str()) {
        return Err(Fault::bad("invalid_client_metadata", "access_token_strategy is not supported"));
    }
    let methods = ["client_secret_basic", "client_secret_post", "none", assertion::METHOD];
    let method = client.token_endpoint_auth_method.as_str();
    if !methods.contains(&method) {
        return Err(Fault::bad("invalid_client_metadata", "token_endpoint_auth_method is not supported"));
    }
    let is_signed = client.token_endpoint_auth_signing_alg == jws::ALGORITHM && client.jwks.is_some();
    if method == assertion::METHOD && !is_signed {
        let needed = "private_key_jwt needs jwks and, here, ES256 as token_endpoint_auth_signing_alg";
        return Err(Fault::bad("invalid_client_metadata", needed));
    }
    Ok(())
}
