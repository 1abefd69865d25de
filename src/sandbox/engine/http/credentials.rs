//! Which client is asking: HTTP Basic, body, or a public client by its id alone.

use super::super::fault::Fault;
use super::super::store::clients::{self, Kept};
use super::super::token;
use super::Engine;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The client that the request has proved to be.
pub(super) async fn client(
    engine: &Engine,
    headers: &HeaderMap,
    id: Option<&str>,
    secret: Option<&str>,
) -> Result<Kept, Fault> {
    let (id, secret) = match basic(headers) {
        Some((id, secret)) => (id, Some(secret)),
        None => (id.ok_or_else(Fault::client)?.to_owned(), secret.map(str::to_owned)),
    };
    let db = engine.store.connection().await?;
    let kept = clients::find(&db, engine.store.version, &id).await?.ok_or_else(Fault::client)?;
    let public = kept.client.token_endpoint_auth_method == "none";
    let proved = secret.is_some_and(|secret| token::is_secret(&kept.secret_hash, &secret));
    if public || proved { Ok(kept) } else { Err(Fault::client()) }
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decoded(id), form_decoded(secret)))
}

/// Both halves of the header are form-encoded (RFC 6749, 2.3.1).
fn form_decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// The cookie by which a browser's login session is known again, as the real engine calls it.
pub(super) const SESSION_COOKIE: &str = "oauth2_authentication_session";

/// The login session that a browser says it has.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION_COOKIE).map(|(_, id)| id.to_owned())
}

/// The bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
