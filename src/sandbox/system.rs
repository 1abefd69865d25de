//! What both internal systems share: a participant in front of every request, and how errors are answered.

use super::http;
use super::participant::{MemoryError, Participant, Pass, Refused, Settings, routes};
use super::upstream::{Upstream, UpstreamError};
use crate::plan::Side;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use std::path::PathBuf;
use thiserror::Error;

/// What a system is started with.
#[derive(Debug, Clone)]
pub(crate) struct SystemSettings {
    /// Where it listens, `127.0.0.1:port`.
    pub(crate) listen: String,
    /// The gateway's public listener.
    pub(crate) public: String,
    /// The gateway's admin listener.
    pub(crate) admin: String,
    /// File of its participant.
    pub(crate) state_file: PathBuf,
    /// Whether both sides' engines speak one version.
    pub(crate) is_in_place: bool,
}

/// Why a system ended.
#[derive(Debug, Error)]
pub enum SystemError {
    /// Its state file cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Its address is taken.
    #[error("listen: {0}")]
    Listen(#[from] std::io::Error),
}

/// A system: its participant and its way to the engine.
#[derive(Clone)]
pub(crate) struct System {
    pub(crate) participant: Participant,
    pub(crate) engine: Upstream,
}

impl System {
    /// Waits for the participant's leave to work.
    pub(crate) async fn enter(&self) -> Result<Pass, Sorry> {
        self.participant.enter().await.map_err(Sorry::Refused)
    }
}

/// An answer that names the side it came from, as the gateway's do.
pub(crate) fn from_side<T>(side: Side, body: T) -> ([(&'static str, &'static str); 1], Json<T>) {
    ([("x-cutover-side", side.as_str())], Json(body))
}

/// Starts a system that serves `api` beside the participant protocol, until the process ends.
pub(crate) async fn serve(settings: SystemSettings, api: impl FnOnce(System) -> Router) -> Result<(), SystemError> {
    let engine = Upstream::new(&settings.public, &settings.admin, settings.is_in_place);
    let participant_settings =
        Settings { state_file: settings.state_file, engine_admin: engine.admin_base().to_owned() };
    let participant = Participant::start(participant_settings, http::client())?;
    let system = System { participant: participant.clone(), engine };
    let listener = tokio::net::TcpListener::bind(&settings.listen).await?;
    Ok(axum::serve(listener, api(system).merge(routes(participant))).await?)
}

/// Why a request was not answered with a success.
#[derive(Debug)]
pub(crate) enum Sorry {
    /// The participant refuses: nobody knows which side is served.
    Refused(Refused),
    /// The engine did not do it.
    Engine(UpstreamError),
}

impl From<UpstreamError> for Sorry {
    fn from(error: UpstreamError) -> Self {
        Self::Engine(error)
    }
}

impl IntoResponse for Sorry {
    fn into_response(self) -> Response {
        let busy = |error: String| {
            let retry = [(header::RETRY_AFTER, "1")];
            (StatusCode::SERVICE_UNAVAILABLE, retry, Json(json!({"error": error}))).into_response()
        };
        match self {
            Self::Refused(_) => busy("held: no side is known to be open".to_owned()),
            Self::Engine(UpstreamError::Status { status: 503, what, .. }) => {
                busy(format!("{what}: the engine refuses"))
            }
            Self::Engine(UpstreamError::Status { status, body, .. }) if (400..500).contains(&status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                (status, Json(body)).into_response()
            }
            Self::Engine(error) => {
                tracing::warn!(%error, "the engine did not do it");
                (StatusCode::BAD_GATEWAY, Json(json!({"error": error.to_string()}))).into_response()
            }
        }
    }
}
