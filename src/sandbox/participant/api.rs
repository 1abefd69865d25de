//! The participant protocol over HTTP; see `traffic::protocol` for its words.

use super::{OrderError, Participant};
use crate::traffic::figures::{Figures, LONGEST_S};
use crate::traffic::protocol::{Order, Standing};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

/// `/cutover/v1/…`, to be merged into the system's own routes.
pub(crate) fn routes(participant: Participant) -> Router {
    Router::new()
        .route("/cutover/v1/state", get(state))
        .route("/cutover/v1/figures", get(figures))
        .route("/cutover/v1/{verb}", post(obey))
        .with_state(participant)
}

/// How far back figures are wanted.
#[derive(Deserialize)]
struct Back {
    #[serde(default = "an_hour")]
    seconds: u64,
}

fn an_hour() -> u64 {
    LONGEST_S
}

async fn figures(State(participant): State<Participant>, Query(back): Query<Back>) -> Json<Figures> {
    Json(participant.figures(back.seconds))
}

async fn state(State(participant): State<Participant>) -> Json<Standing> {
    Json(participant.standing().await)
}

async fn obey(State(participant): State<Participant>, Path(verb): Path<String>, Json(order): Json<Order>) -> Response {
    // The order is carried out even when the one who gave it has gone away: a half-obeyed order would be a guess.
    let task = tokio::spawn(async move {
        match verb.as_str() {
            "prepare" => Some(participant.prepare(&order).await),
            "hold" => Some(participant.hold(&order).await),
            "switch" => Some(participant.switch(&order).await),
            "verify" => Some(participant.verify(&order).await),
            "release" => Some(participant.release(&order).await),
            _ => None,
        }
    });
    match task.await {
        Ok(Some(Ok(standing))) => Json(standing).into_response(),
        Ok(Some(Err(error))) => refuse(error),
        Ok(None) => (StatusCode::NOT_FOUND, Json(json!({"error": "no such order"}))).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": error.to_string()}))).into_response(),
    }
}

fn refuse(error: OrderError) -> Response {
    match error {
        OrderError::Conflict(conflict) => (StatusCode::CONFLICT, Json(conflict)).into_response(),
        OrderError::NotNow(standing) => (StatusCode::SERVICE_UNAVAILABLE, Json(standing)).into_response(),
        OrderError::Failed(error) => (StatusCode::BAD_GATEWAY, Json(json!({"error": error}))).into_response(),
    }
}
