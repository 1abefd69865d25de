//! What the engine answers when it cannot do what was asked: JSON of RFC 6749, and 503 for everything that passes by itself.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// The caller's mistake, in the words of RFC 6749.
    Refused { status: StatusCode, error: &'static str, description: String },
    /// The database cannot take it now.
    Unavailable(String),
    /// Our mistake.
    Internal(String),
}

impl Fault {
    pub(super) fn bad(error: &'static str, description: impl Into<String>) -> Self {
        Self::Refused { status: StatusCode::BAD_REQUEST, error, description: description.into() }
    }

    pub(super) fn grant(description: impl Into<String>) -> Self {
        Self::bad("invalid_grant", description)
    }

    pub(super) fn client() -> Self {
        let description = "the client is unknown or did not authenticate".to_owned();
        Self::Refused { status: StatusCode::UNAUTHORIZED, error: "invalid_client", description }
    }

    pub(super) fn not_found(what: &str) -> Self {
        let description = format!("{what} does not exist");
        Self::Refused { status: StatusCode::NOT_FOUND, error: "not_found", description }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
        match error.code() {
            Some(code) if passes_by_itself(code) => Self::Unavailable(said),
            Some(&SqlState::FOREIGN_KEY_VIOLATION) => Self::grant("the grant or its client has just been removed"),
            Some(&SqlState::UNIQUE_VIOLATION) => Self::Refused {
                status: StatusCode::CONFLICT,
                error: "conflict",
                description: "it exists already".into(),
            },
            Some(code) => Self::Internal(format!("{}: {said}", code.code())),
            // No answer of the server: the connection broke.
            None => Self::Unavailable(said),
        }
    }
}

/// Read-only or fenced, locked, cancelled, overloaded, restarting, not migrated yet, or a conflict of transactions.
fn passes_by_itself(code: &SqlState) -> bool {
    let (code, class) = (code.code(), code.code().get(..2).unwrap_or_default());
    matches!(class, "08" | "53" | "57" | "40") || matches!(code, "25006" | "25P03" | "55P03" | "42P01" | "3D000")
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(source) => source.into(),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::Refused { status, error, description } => (status, error, description),
            Self::Unavailable(said) => {
                tracing::debug!(said, "answered 503");
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", said)
            }
            Self::Internal(said) => {
                tracing::error!(said, "answered 500");
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the engine failed; its log says why".into())
            }
        };
        let body = Json(serde_json::json!({ "error": error, "error_description": description }));
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
