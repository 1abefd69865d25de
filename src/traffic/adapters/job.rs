//! One request to a job outside that is frozen or thawed: bounded, with its bearer token, redirects not followed.

use crate::plan::{HttpRequest, Secret};
use std::time::Duration;
use thiserror::Error;

/// Characters of a refusal's body that are told.
const BODY_CHARS: usize = 200;

/// Why a job did not do what it was told.
#[derive(Debug, Error)]
pub enum JobError {
    /// No answer; whether it was heard is unknown.
    #[error("{method} {place} was not answered")]
    Silent {
        /// The request's method.
        method: &'static str,
        /// Where it went, without what may be secret.
        place: String,
        /// What the network said.
        #[source]
        source: reqwest::Error,
    },
    /// Another answer than 2xx.
    #[error("{method} {place} was answered with {status}: {body}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// Where it went.
        place: String,
        /// The status.
        status: u16,
        /// The beginning of the body, without the token.
        body: String,
    },
}

/// Sends one request; only 2xx is a yes.
///
/// # Errors
/// No answer, or another one.
pub async fn tell_job(
    http: &reqwest::Client,
    request: &HttpRequest,
    bearer: Option<&Secret>,
    within: Duration,
) -> Result<(), JobError> {
    let place = place(&request.url);
    let method = request.method;
    let verb = reqwest::Method::from_bytes(method.as_bytes()).unwrap_or(reqwest::Method::POST);
    let mut sending = http.request(verb, &request.url).timeout(within);
    if let Some(bearer) = bearer {
        sending = sending.bearer_auth(bearer.expose());
    }
    let silent =
        |source: reqwest::Error| JobError::Silent { method, place: place.clone(), source: source.without_url() };
    let response = sending.send().await.map_err(silent)?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let mut body = response.text().await.unwrap_or_default();
    if let Some(bearer) = bearer {
        body = body.replace(bearer.expose(), "***");
    }
    let body = body.chars().take(BODY_CHARS).collect();
    Err(JobError::Refused { method, place, status: status.as_u16(), body })
}

/// Host and path: a query may hold what nobody else should see.
fn place(url: &str) -> String {
    let end = url.find('?').unwrap_or(url.len());
    url[..end].to_owned()
}
