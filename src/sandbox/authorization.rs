//! The authorization service: which app may act for which user, derived from the consents that the engine keeps.
//!
//! Owns policies in memory alone. They are derived anew for every question and, in the background, for every subject asked about
//! lately; a consent that is gone takes its policy with it.

use super::system::{Sorry, System, SystemError, SystemSettings, from_side, serve};
use super::upstream::{UpstreamError, json_of};
use crate::plan::Side;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Subjects that are kept; the one asked about first goes first.
const SUBJECTS_MAX: usize = 200;
/// How often all kept subjects are derived anew.
const POLL_EVERY: Duration = Duration::from_secs(10);
/// Pause between two subjects of one round.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// One app's leave to act for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Policy {
    client: String,
    scopes: Vec<String>,
}

/// Policies by subject, with the order in which subjects came.
#[derive(Debug, Default)]
struct Policies {
    by_subject: BTreeMap<String, Vec<Policy>>,
    order: std::collections::VecDeque<String>,
    purged: u64,
}

impl Policies {
    fn keep(&mut self, subject: &str, policies: Vec<Policy>) {
        let before = self.by_subject.insert(subject.to_owned(), policies);
        let now = self.by_subject.get(subject).map_or(0, Vec::len);
        match before {
            Some(before) => self.purged += before.len().saturating_sub(now) as u64,
            None => self.order.push_back(subject.to_owned()),
        }
        if self.order.len() > SUBJECTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_subject.remove(&oldest);
        }
    }
}

#[derive(Clone)]
struct Service {
    system: System,
    policies: Arc<Mutex<Policies>>,
}

/// Serves until the process ends.
///
/// # Errors
/// When its state file or its address cannot be used.
pub(crate) async fn run(settings: SystemSettings) -> Result<(), SystemError> {
    serve(settings, |system| {
        let service = Service { system, policies: Arc::default() };
        tokio::spawn(poll(service.clone()));
        Router::new()
            .route("/health", get(|| async { "ok" }))
            .route("/policies", get(list))
            .route("/purged", get(purged))
            .route("/check", get(check))
            .with_state(service)
    })
    .await
}

impl Service {
    fn policies(&self) -> MutexGuard<'_, Policies> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Derives one subject's policies from the engine's consents.
    async fn derive(&self, side: Side, subject: &str) -> Result<Vec<Policy>, UpstreamError> {
        let request = self.system.engine.admin(side, Method::GET, "/oauth2/auth/sessions/consent");
        let sessions = json_of("list consents", request.query(&[("subject", subject)])).await?;
        let policies: Vec<Policy> = sessions.as_array().into_iter().flatten().filter_map(policy).collect();
        self.policies().keep(subject, policies.clone());
        Ok(policies)
    }
}

/// The policy that one consent session gives.
fn policy(session: &Value) -> Option<Policy> {
    let client = session.pointer("/consent_request/client/client_id")?.as_str()?.to_owned();
    let scopes = session.get("grant_scope")?.as_array()?;
    let scopes = scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Policy { client, scopes })
}

#[derive(Deserialize)]
struct Asked {
    subject: String,
}

async fn list(State(service): State<Service>, Query(asked): Query<Asked>) -> Result<impl IntoResponse, Sorry> {
    let pass = service.system.enter().await?;
    Ok(from_side(pass.side, service.derive(pass.side, &asked.subject).await?))
}

#[derive(Deserialize)]
struct Question {
    subject: String,
    client: String,
}

async fn check(State(service): State<Service>, Query(question): Query<Question>) -> Result<Json<Value>, Sorry> {
    let pass = service.system.enter().await?;
    let policies = service.derive(pass.side, &question.subject).await?;
    let policy = policies.iter().find(|policy| policy.client == question.client);
    service.system.participant.count(pass.side, policy.is_none());
    Ok(Json(json!({"allow": policy.is_some(), "scopes": policy.map(|policy| &policy.scopes)})))
}

/// How many policies went away because their consent did: the number that goes wrong first when an engine forgets consents.
async fn purged(State(service): State<Service>) -> Json<Value> {
    Json(json!({"purged": service.policies().purged}))
}

/// Derives every kept subject anew, gently, for ever.
async fn poll(service: Service) {
    loop {
        tokio::time::sleep(POLL_EVERY).await;
        let subjects: Vec<String> = service.policies().order.iter().cloned().collect();
        for subject in subjects {
            let Ok(pass) = service.system.enter().await else { break };
            if let Err(error) = service.derive(pass.side, &subject).await {
                tracing::warn!(%error, "a subject's policies could not be derived; they stay as they are");
            }
            drop(pass);
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }
}
