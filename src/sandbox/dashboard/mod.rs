//! The developer dashboard: clients and their owners, the consent screen, the apps a user has connected.
//!
//! Keeps nothing of its own; everything stands in the engine, reached through the gateway. Holds with the others during a flip.

mod clients;
mod consent;

use super::system::{System, SystemError, SystemSettings, serve};
use axum::Router;
use axum::routing::{delete, get, post};

/// Serves until the process ends.
///
/// # Errors
/// When its state file or its address cannot be used.
pub(crate) async fn run(settings: SystemSettings) -> Result<(), SystemError> {
    serve(settings, api).await
}

fn api(system: System) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/clients", get(clients::list).post(clients::create))
        .route("/clients/{id}", get(clients::show).put(clients::edit).delete(clients::remove))
        .route("/clients/{id}/secret", post(clients::change_secret))
        .route("/consent", get(consent::screen))
        .route("/consents", post(consent::give))
        .route("/apps", get(consent::connected))
        .route("/apps/{id}", delete(consent::take_away))
        .with_state(system)
}
