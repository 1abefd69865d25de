//! The prober's own door: is it under way, and what has it seen.

use super::words::Report;
use super::{Prober, settle};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::Arc;
use tokio::sync::Mutex;

#[derive(Clone)]
struct Door {
    prober: Arc<Prober>,
    /// One end check at a time.
    settling: Arc<Mutex<()>>,
}

/// `GET /report`: what is known now. `POST /settle`: the end check, then the report.
pub(super) fn routes(prober: Arc<Prober>) -> Router {
    let door = Door { prober, settling: Arc::default() };
    Router::new().route("/report", get(report)).route("/settle", post(settled)).with_state(door)
}

async fn report(State(door): State<Door>) -> Json<Report> {
    Json(door.prober.history.lock().report())
}

async fn settled(State(door): State<Door>) -> Json<Report> {
    let _one = door.settling.lock().await;
    let report = settle::settle(&door.prober).await;
    let text = serde_json::to_vec_pretty(&report).unwrap_or_default();
    if let Err(error) = tokio::fs::write(&door.prober.report_file, text).await {
        tracing::warn!(%error, "the report could not be kept in a file");
    }
    Json(report)
}
