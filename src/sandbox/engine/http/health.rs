//! Who answers, whether it is well, and what it offers.

use super::super::fault::Fault;
use super::super::{assertion, jws};
use super::Shared;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

pub(super) async fn version(State(engine): State<Shared>) -> Json<Value> {
    Json(json!({ "version": engine.options.named.unwrap_or(engine.options.version.full()) }))
}

pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

pub(super) async fn ready(State(engine): State<Shared>) -> Result<Json<Value>, Fault> {
    engine.store.ready().await?;
    Ok(Json(json!({ "status": "ok" })))
}

pub(super) async fn discovery(State(engine): State<Shared>) -> Json<Value> {
    let issuer = &engine.options.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/oauth2/auth"),
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none", assertion::METHOD],
        "token_endpoint_auth_signing_alg_values_supported": [jws::ALGORITHM],
        "subject_types_supported": ["public"],
        "scopes_supported": ["offline_access", "offline", "openid"],
    }))
}
