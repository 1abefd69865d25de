//! Whether the engines have the grace period that a plan relies on, by the versions that they tell.
//!
//! For how long an engine is set to bear with a refresh token used again it does not tell; the probes try that.

use super::said;
use crate::database::preflight::{Finding, Severity};
use crate::plan::{Plan, Refresh, Side};
use serde_json::Value;
use std::time::Duration;

/// First version of Ory Hydra with a grace period for refresh tokens.
const SINCE: (u64, u64) = (2, 3);
/// Longest wait for an engine's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands against relying on the engines; nothing where the plan does not. An engine that is too old, or of no version that can be read, is
/// an error; one that does not answer a warning, as green's may not have been started yet.
pub async fn engine_grace(http: &reqwest::Client, plan: &Plan) -> Vec<Finding> {
    let relies_on = |refresh: &Refresh| refresh.engine_grace().is_some();
    let Some(gateway) = plan.gateway.as_ref().filter(|gateway| gateway.refresh.as_ref().is_some_and(relies_on)) else {
        return Vec::new();
    };
    let (blue, green) = tokio::join!(version(http, &gateway.blue.admin), version(http, &gateway.green.admin));
    [(Side::Blue, blue), (Side::Green, green)].into_iter().filter_map(|(side, version)| judged(side, version)).collect()
}

async fn version(http: &reqwest::Client, admin: &str) -> Result<String, String> {
    // An engine that leaves TLS to a proxy in front of it wants to hear that there was one.
    let request = http.get(format!("{admin}/version")).timeout(PATIENCE).header("x-forwarded-proto", "https");
    let plain = |error: reqwest::Error| said(&error.without_url());
    let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(plain)?;
    let body: Value = answer.json().await.map_err(plain)?;
    body["version"].as_str().map(str::to_owned).ok_or_else(|| "GET /version names no version".to_owned())
}

fn judged(side: Side, version: Result<String, String>) -> Option<Finding> {
    let (severity, what, next) = match version {
        Ok(version) if has_grace(&version) => return None,
        Ok(version) => (
            Severity::Error,
            format!("{side}'s engine is of version {version}"),
            "take `gateway.refresh.coalesce` instead, then: cutover check PLAN",
        ),
        Err(why) => (
            Severity::Warning,
            format!("{side}'s engine does not tell its version: {why}"),
            "start it before the flip, which is refused without its answer",
        ),
    };
    let why = "`gateway.refresh.engine_grace` relies on its grace period, which Ory Hydra has from 2.3.0 on: without one, \
        a client that uses a refresh token again loses its session";
    Some(Finding { severity, server: side.as_str(), what, why: why.to_owned(), next: next.to_owned() })
}

/// Versions are told as `v2.3.0` or `25.4.0`; a build without a number may be of any age.
fn has_grace(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u64>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= SINCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hydra_has_a_grace_period_from_2_3_on() {
        for version in ["2.3.0", "v2.3.1", "v2.10.0", "25.4.0", "v26.2.0+build"] {
            assert!(has_grace(version), "{version}");
        }
        for version in ["1.11.10", "v2.2.0", "2.2.9-pre.3", "2", "master", ""] {
            assert!(!has_grace(version), "{version}");
        }
    }
}
