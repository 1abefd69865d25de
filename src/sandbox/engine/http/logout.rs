//! `/oauth2/sessions/logout`: the browser asks, a screen says yes, the browser comes back and its login session is gone.
//!
//! Consents and tokens stay, as with the real engine. No screens are configured: the addresses are the engine's own, which it falls back to.

use super::super::fault::Fault;
use super::super::store::sessions::{self, Logout};
use super::super::token;
use super::authorize::back;
use super::credentials::session_cookie;
use super::{Engine, Shared};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

const PATH: &str = "/oauth2/sessions/logout";

#[derive(Deserialize)]
pub(super) struct Visit {
    logout_verifier: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Accepted {
    logout_challenge: String,
}

pub(super) async fn logout(
    State(engine): State<Shared>,
    Query(visit): Query<Visit>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    match visit.logout_verifier {
        Some(verifier) => end(&engine, &verifier).await,
        None => ask(&engine, session_cookie(&headers)).await,
    }
}

/// A browser that nobody has logged in is sent where one goes that has been logged out.
async fn ask(engine: &Engine, session: Option<String>) -> Result<Response, Fault> {
    let (version, issuer) = (engine.store.version, &engine.options.issuer);
    let db = engine.store.connection().await?;
    let redirect_url = format!("{issuer}/oauth2/fallbacks/logout/callback");
    let session = match session {
        Some(id) => sessions::remembered(&db, version, &id).await?,
        None => None,
    };
    let Some(session) = session else { return back(&redirect_url, &[]) };
    let (challenge, verifier) = (token::name(), token::name());
    let logout = Logout { challenge, verifier, session, request_url: format!("{issuer}{PATH}"), redirect_url };
    sessions::ask_logout(&db, version, &logout).await?;
    back(&format!("{issuer}/oauth2/fallbacks/logout"), &[("logout_challenge", &logout.challenge)])
}

async fn end(engine: &Engine, verifier: &str) -> Result<Response, Fault> {
    let mut db = engine.store.connection().await?;
    let tx = db.transaction().await?;
    let ended = sessions::log_out(&tx, engine.store.version, verifier).await?;
    let redirect_url = ended.ok_or_else(|| Fault::not_found("the logout"))?;
    tx.commit().await?;
    back(&redirect_url, &[])
}

pub(super) async fn accept(State(engine): State<Shared>, Query(by): Query<Accepted>) -> Result<Json<Value>, Fault> {
    let db = engine.store.connection().await?;
    let accepted = sessions::accept_logout(&db, engine.store.version, &by.logout_challenge).await?;
    let verifier = accepted.ok_or_else(|| Fault::not_found("the logout request"))?;
    Ok(Json(json!({ "redirect_to": format!("{}{PATH}?logout_verifier={verifier}", engine.options.issuer) })))
}
