//! Which client is asking: HTTP Basic, body, an assertion that it has signed, or a public client by its id alone.

use super::super::assertion::{self, Assertion};
use super::super::fault::Fault;
use super::super::store::assertions;
use super::super::store::clients::{self, Kept};
use super::super::token;
use super::Engine;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

/// What a form says of who is asking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimed<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) secret: Option<&'a str>,
    pub(super) assertion_type: Option<&'a str>,
    pub(super) assertion: Option<&'a str>,
}

/// The client that the request has proved to be.
pub(super) async fn client(engine: &Engine, headers: &HeaderMap, claimed: Claimed<'_>) -> Result<Kept, Fault> {
    match claimed.assertion_type.unwrap_or_default() {
        "" => {}
        assertion::TYPE => return asserted(engine, claimed).await,
        _ => return Err(Fault::bad("invalid_request", "the client_assertion_type is not supported")),
    }
    let (id, secret) = match basic(headers) {
        Some((id, secret)) => (id, Some(secret)),
        None => (claimed.id.ok_or_else(Fault::client)?.to_owned(), claimed.secret.map(str::to_owned)),
    };
    let db = engine.store.connection().await?;
    let kept = clients::find(&db, engine.store.version, &id).await?.ok_or_else(Fault::client)?;
    let is_proved = match kept.client.token_endpoint_auth_method.as_str() {
        "none" => true,
        // Whoever signs is not believed by a secret.
        assertion::METHOD => false,
        _ => secret.is_some_and(|secret| token::is_secret(&kept.secret_hash, &secret)),
    };
    if is_proved { Ok(kept) } else { Err(Fault::client()) }
}

/// The client that has signed the assertion, which is used from now on whatever is answered.
async fn asserted(engine: &Engine, claimed: Claimed<'_>) -> Result<Kept, Fault> {
    let text = claimed.assertion.ok_or_else(|| Fault::bad("invalid_request", "client_assertion is missing"))?;
    let read = Assertion::read(text).ok_or_else(Fault::client)?;
    let id = claimed.id.unwrap_or(read.subject());
    let (db, version) = (engine.store.connection().await?, engine.store.version);
    let kept = clients::find(&db, version, id).await?.ok_or_else(Fault::client)?;
    let is_signed = kept.client.jwks.as_ref().is_some_and(|keys| read.is_signed_by(keys));
    if kept.client.token_endpoint_auth_method != assertion::METHOD || !is_signed || !read.is_of(id, Timestamp::now()) {
        return Err(Fault::client());
    }
    if !assertions::use_once(&db, version, &read.stored(), read.expires_at_s()).await? {
        return Err(Fault::bad("jti_known", "the assertion has been used before"));
    }
    // As in the real engine only now: one that was made for another endpoint is used up all the same.
    let is_for_us = read.is_for(&format!("{}/oauth2/token", engine.options.issuer));
    if is_for_us { Ok(kept) } else { Err(Fault::client()) }
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
