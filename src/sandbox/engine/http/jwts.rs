//! Access tokens that others can verify by themselves (JWT): signed by the engine's own key, and known by their row like any other.

use super::super::AccessTokens;
use super::super::fault::Fault;
use super::super::jws::{self, Signed};
use super::super::store::clients::Client;
use super::super::store::keys;
use super::super::store::tokens::TokenRow;
use super::super::token::{self, Minted};
use super::Engine;
use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Where the real engine keeps the keys of its access tokens.
const SET: &str = "hydra.jwt.access-token";

/// Whether a client is given such tokens: as it says itself, else as the engine is configured.
pub(super) fn are_given(engine: &Engine, client: &Client) -> bool {
    match client.access_token_strategy.as_str() {
        "" => engine.options.access_tokens == AccessTokens::Jwt,
        own => own == "jwt",
    }
}

/// A token that says what its row holds.
pub(super) async fn mint(
    engine: &Engine,
    tx: &Transaction<'_>,
    row: &TokenRow,
    expires_at: Timestamp,
) -> Result<Minted, Fault> {
    let key = signing_key(engine, tx).await?;
    let list = |text: &str| text.split('|').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let now_s = Timestamp::now().as_second();
    let claims = json!({
        "iss": engine.options.issuer, "sub": row.subject, "client_id": row.client_id, "jti": uuid::Uuid::new_v4(),
        "aud": list(&row.granted_audience), "scp": list(&row.granted_scope), "ext": row.session.extra,
        "iat": now_s, "nbf": now_s, "exp": expires_at.as_second(),
    });
    let failed = || Fault::Internal("the engine's own key signs nothing".into());
    let token = jws::sign(&key, &claims).ok_or_else(failed)?;
    let stored = Signed::read(&token).map(|signed| token::digest(signed.signature())).ok_or_else(failed)?;
    Ok(Minted { token, stored })
}

/// The engine's key, made when it is first needed.
async fn signing_key(engine: &Engine, tx: &Transaction<'_>) -> Result<Value, Fault> {
    let version = engine.store.version;
    let found = keys::list(tx, version, Some(SET)).await?;
    if let Some(key) = found.into_iter().find(|key| key["d"].is_string()) {
        return Ok(key);
    }
    let kid = token::name();
    let key = jws::make_key(&kid).ok_or_else(|| Fault::Internal("no key could be made".into()))?;
    keys::put(tx, version, SET, &kid, &key).await?;
    Ok(key)
}

/// Under what a presented token is stored, if it is one that the engine's keys have signed. Both versions keep a digest of its signature.
pub(super) async fn stored<C: GenericClient>(engine: &Engine, db: &C, text: &str) -> Result<Option<String>, Fault> {
    let Some(signed) = Signed::read(text) else { return Ok(None) };
    let keys = keys::list(db, engine.store.version, Some(SET)).await?;
    Ok(signed.is_by(&keys).then(|| token::digest(signed.signature())))
}
