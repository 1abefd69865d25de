//! Asking the prober what it saw.

use super::environment::{EnvironmentError, Layout, Variables};
use super::http;
use super::prober::Report;
use std::time::Duration;
use thiserror::Error;

/// The prober's end check is bounded by less than this.
const PATIENCE: Duration = Duration::from_secs(200);

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The folder.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The prober does not answer.
    #[error("ask the prober at {url}: {source}; its last report, if it made one, is {last}")]
    NoAnswer {
        /// Where.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
        /// The file of its last report.
        last: String,
    },
}

/// Lets the prober make its end check, which stops nothing, and takes its report.
///
/// # Errors
/// When no sandbox runs in the folder or the prober does not answer.
pub async fn report(layout: &Layout) -> Result<Report, ReportError> {
    let url = format!("{}/settle", Variables::read(layout)?.get("PROBER_CONTROL")?);
    let last = layout.prober().join("report.json").display().to_string();
    let asked = http::client().post(&url).timeout(PATIENCE).send().await;
    let answer = asked.and_then(reqwest::Response::error_for_status);
    let fail = |source| ReportError::NoAnswer { url: url.clone(), source, last: last.clone() };
    answer.map_err(fail)?.json().await.map_err(fail)
}
