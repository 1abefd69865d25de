//! JSON Web Key Sets: the public half for everyone, the sets for the administrator.

use super::super::fault::Fault;
use super::super::store::keys;
use super::Shared;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Members of a key that nobody but its owner may see (RFC 7518).
const PRIVATE: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

pub(super) async fn public(State(engine): State<Shared>) -> Result<Json<Value>, Fault> {
    let mut found = keys::list(&engine.store.connection().await?, engine.store.version, None).await?;
    for key in &mut found {
        if let Some(members) = key.as_object_mut() {
            members.retain(|name, _| !PRIVATE.contains(&name.as_str()));
        }
    }
    Ok(Json(json!({ "keys": found })))
}

pub(super) async fn list(State(engine): State<Shared>, Path(set): Path<String>) -> Result<Json<Value>, Fault> {
    let found = keys::list(&engine.store.connection().await?, engine.store.version, Some(&set)).await?;
    if found.is_empty() { Err(Fault::not_found("the key set")) } else { Ok(Json(json!({ "keys": found }))) }
}

pub(super) async fn put(
    State(engine): State<Shared>,
    Path((set, kid)): Path<(String, String)>,
    Json(key): Json<Value>,
) -> Result<Json<Value>, Fault> {
    if key["kid"] != Value::String(kid.clone()) || !key["kty"].is_string() {
        return Err(Fault::bad(
            "invalid_request",
            "the body must be a JSON Web Key with `kty` and the `kid` of the path",
        ));
    }
    keys::put(&engine.store.connection().await?, engine.store.version, &set, &kid, &key).await?;
    Ok(Json(key))
}

pub(super) async fn delete_set(State(engine): State<Shared>, Path(set): Path<String>) -> Result<StatusCode, Fault> {
    keys::delete(&engine.store.connection().await?, engine.store.version, &set, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn delete_key(
    State(engine): State<Shared>,
    Path((set, kid)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    keys::delete(&engine.store.connection().await?, engine.store.version, &set, Some(&kid)).await?;
    Ok(StatusCode::NO_CONTENT)
}
