//! The gateway's own listener: the participant protocol, and the answer to "which side, now?" for other participants.

use super::participant::{Participant, Refused};
use crate::traffic::protocol::{Order, Resolution, Standing};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;

pub(super) fn router(participant: Arc<Participant>) -> Router {
    Router::new()
        .route("/cutover/v1/state", get(state))
        .route("/cutover/v1/{verb}", post(order))
        .route("/resolve", get(resolve))
        .with_state(participant)
}

async fn state(State(participant): State<Arc<Participant>>) -> Json<Standing> {
    Json(participant.standing().await)
}

async fn resolve(State(participant): State<Arc<Participant>>) -> Json<Resolution> {
    let readings = participant.registers.read().await;
    Json(readings.resolution(&participant.position.lock().await.stored))
}

/// Orders run to their end even when the orchestrator's connection breaks: a half-obeyed order would be a guess.
async fn order(
    State(participant): State<Arc<Participant>>,
    Path(verb): Path<String>,
    Json(order): Json<Order>,
) -> Response {
    let task = tokio::spawn(async move { obey(&participant, &verb, &order).await });
    match task.await {
        Ok(Some(result)) => answer(result),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(failed) => (StatusCode::INTERNAL_SERVER_ERROR, failed.to_string()).into_response(),
    }
}

async fn obey(participant: &Arc<Participant>, verb: &str, order: &Order) -> Option<Result<Standing, Refused>> {
    Some(match verb {
        "prepare" => participant.prepare(order).await,
        "hold" => participant.hold(order).await,
        "switch" => participant.switch(order).await,
        "verify" => participant.verify(order).await,
        "release" => participant.release(order).await,
        _ => return None,
    })
}

fn answer(result: Result<Standing, Refused>) -> Response {
    match result {
        Ok(standing) => Json(standing).into_response(),
        Err(Refused::Conflict(conflict)) => (StatusCode::CONFLICT, Json(conflict)).into_response(),
        Err(Refused::NotNow { why, standing }) => {
            tracing::warn!(%why, "an order was not carried out");
            let mut body = serde_json::to_value(&standing).unwrap_or_default();
            body["error"] = why.into();
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
        Err(Refused::File(error)) => {
            tracing::error!(%error, "an order was not carried out");
            (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
        }
    }
}
