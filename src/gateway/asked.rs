//! The gate for a proxy that stays in front (nginx's `auth_request`): which side, now? Held while everything is held, never a guess.
//!
//! What passes by it is the proxy's, and unseen from here: neither counted as in flight nor looked through for revocations.

use super::gate::{Pass, Refusal};
use super::participant::Participant;
use super::routes::Manner;
use crate::revocations::hydra::Class;
use crate::traffic::protocol::PROBE;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// The header that names the side.
const SIDE: &str = "x-cutover-side";
/// The header that names its epoch.
const EPOCH: &str = "x-cutover-epoch";

/// `GET /cutover/v1/gate`: 200 with the side and its epoch, at once or when the hold ends; 503 when that is not settled.
pub(super) async fn gate(State(participant): State<Arc<Participant>>, headers: HeaderMap) -> Response {
    let passed = match is_orchestrator(&participant, &headers).await {
        true => participant.gate.glance(),
        false => participant.gate.enter(Manner::of(Class::Other), 0).await,
    };
    match passed {
        Ok(pass) => goes_to(&pass),
        Err(Refusal::Full) => refused("too many requests are held"),
        Err(Refusal::Unsettled) => refused("which side serves is not settled"),
    }
}

/// The orchestrator verifies inside the hold; only it and the participants know the proposal's nonce.
async fn is_orchestrator(participant: &Participant, headers: &HeaderMap) -> bool {
    let Some(said) = headers.get(PROBE) else { return false };
    let nonce = participant.position.lock().await.stand.nonce;
    !nonce.is_nil() && said.as_bytes() == nonce.to_string().as_bytes()
}

fn goes_to(pass: &Pass) -> Response {
    let told = [(SIDE, pass.side.as_str().to_owned()), (EPOCH, pass.epoch.to_string())];
    (StatusCode::OK, [(CACHE_CONTROL, "no-store")], told, "").into_response()
}

fn refused(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1"), (CACHE_CONTROL, "no-store")], why).into_response()
}
