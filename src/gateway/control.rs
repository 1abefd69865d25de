//! The gateway's own listener: the participant protocol, the answer to "which side, now?" for other participants, and the figures.

use super::figures::Tallies;
use super::metrics::Metrics;
use super::participant::{Participant, Refused};
use crate::traffic::figures::LONGEST_S;
use crate::traffic::protocol::{Order, Resolution, Standing};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;
use tokio::time::Instant;

pub(super) fn router(participant: Arc<Participant>, tallies: Arc<Tallies>, metrics: Arc<Metrics>) -> Router {
    let told = Router::new().route("/cutover/v1/figures", get(figures)).with_state(tallies);
    let measured = Router::new()
        .route("/metrics", get(measured))
        .route("/ready", get(ready))
        .route("/healthz", get(async || "ok"))
        .with_state(metrics);
    Router::new()
        .route("/cutover/v1/state", get(state))
        .route("/cutover/v1/{verb}", post(order))
        .route("/resolve", get(resolve))
        .route("/cutover/v1/gate", get(super::asked::gate))
        .with_state(participant)
        .merge(told)
        .merge(measured)
}

async fn measured(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.text().await).into_response()
}

/// Whether requests are answered here: a side is settled. A hold is no reason to send clients elsewhere: they would be held there too.
async fn ready(State(metrics): State<Arc<Metrics>>) -> Response {
    if metrics.gate.is_closed() {
        let why = "which side serves is not settled: every request is refused";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    let overlay = if metrics.overlay.is_loaded() { "loaded" } else { "not loaded: control was not to be had" };
    format!("ready; deny overlay {overlay}").into_response()
}

/// How far back figures are wanted.
#[derive(Deserialize)]
struct Back {
    seconds: Option<String>,
}

async fn figures(State(tallies): State<Arc<Tallies>>, Query(back): Query<Back>) -> Response {
    match seconds_of(back.seconds.as_deref()) {
        Some(seconds) => Json(tallies.last(seconds, Instant::now())).into_response(),
        None => {
            let why = format!("seconds must be a whole number from 1 to {LONGEST_S}");
            (StatusCode::BAD_REQUEST, why).into_response()
        }
    }
}

fn seconds_of(asked: Option<&str>) -> Option<u64> {
    let seconds = asked.map_or(Some(LONGEST_S), |text| text.parse().ok())?;
    (1..=LONGEST_S).contains(&seconds).then_some(seconds)
}

async fn state(State(participant): State<Arc<Participant>>) -> Json<Standing> {
    Json(participant.standing().await)
}

async fn resolve(State(participant): State<Arc<Participant>>) -> Json<Resolution> {
    let readings = participant.registers.read().await;
    Json(readings.resolution(&participant.position.lock().await.stand))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_a_second_to_an_hour() {
        assert_eq!(seconds_of(None), Some(LONGEST_S));
        assert_eq!((seconds_of(Some("1")), seconds_of(Some("3600"))), (Some(1), Some(3600)));
        for asked in ["0", "3601", "-1", "1.5", "", "all"] {
            assert_eq!(seconds_of(Some(asked)), None, "{asked}");
        }
    }
}
