//! What the login and consent screens ask and answer, by challenge, through the admin API.

use super::super::fault::Fault;
use super::super::store::clients;
use super::super::store::grants::{self, ConsentAnswer, LoginAnswer, Question};
use super::{Engine, Shared};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(super) struct Login {
    login_challenge: String,
}

#[derive(Deserialize)]
pub(super) struct Consent {
    consent_challenge: String,
}

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct AcceptLogin {
    subject: String,
    remember: bool,
    remember_for: i32,
    acr: String,
    context: Value,
}

impl Default for AcceptLogin {
    fn default() -> Self {
        Self { subject: String::new(), remember: false, remember_for: 0, acr: String::new(), context: json!({}) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AcceptConsent {
    grant_scope: Vec<String>,
    grant_access_token_audience: Vec<String>,
    remember: bool,
    remember_for: i32,
    session: ConsentSession,
}

#[derive(Deserialize)]
#[serde(default)]
struct ConsentSession {
    access_token: Value,
    id_token: Value,
}

impl Default for ConsentSession {
    fn default() -> Self {
        Self { access_token: json!({}), id_token: json!({}) }
    }
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Refusal {
    fn text(&self) -> String {
        json!({ "error": self.error, "error_description": self.error_description }).to_string()
    }
}

pub(super) async fn login(State(engine): State<Shared>, Query(by): Query<Login>) -> Result<Json<Value>, Fault> {
    show(&engine, &asked_login(&engine, &by.login_challenge).await?).await
}

pub(super) async fn consent(State(engine): State<Shared>, Query(by): Query<Consent>) -> Result<Json<Value>, Fault> {
    show(&engine, &asked_consent(&engine, &by.consent_challenge).await?).await
}

async fn asked_login(engine: &Engine, challenge: &str) -> Result<Question, Fault> {
    let db = engine.store.connection().await?;
    grants::login(&db, engine.store.version, challenge).await?.ok_or_else(|| Fault::not_found("the login request"))
}

async fn asked_consent(engine: &Engine, challenge: &str) -> Result<Question, Fault> {
    let db = engine.store.connection().await?;
    let found = grants::consent(&db, engine.store.version, challenge).await?;
    found.map(|found| found.question).ok_or_else(|| Fault::not_found("the consent request"))
}

/// A question whose answer was used is gone.
async fn show(engine: &Engine, question: &Question) -> Result<Json<Value>, Fault> {
    if question.used {
        let description = "the answer to this question has been used".to_owned();
        return Err(Fault::Refused { status: StatusCode::GONE, error: "gone", description });
    }
    let db = engine.store.connection().await?;
    let client = clients::find(&db, engine.store.version, &question.client_id).await?.map(|kept| kept.client);
    Ok(Json(json!({
        "challenge": question.challenge,
        "subject": question.subject,
        "skip": question.skip,
        "client": client,
        "request_url": question.request_url,
        "requested_scope": question.requested_scope,
        "requested_access_token_audience": question.requested_audience,
        "session_id": question.login_session_id,
        "login_session_id": question.login_session_id,
        "login_challenge": question.login_challenge,
    })))
}

pub(super) async fn accept_login(
    State(engine): State<Shared>,
    Query(by): Query<Login>,
    Json(accept): Json<AcceptLogin>,
) -> Result<Json<Value>, Fault> {
    if accept.subject.is_empty() {
        return Err(Fault::bad("invalid_request", "subject must not be empty"));
    }
    let answer = LoginAnswer {
        subject: accept.subject,
        remember: accept.remember,
        remember_for_s: accept.remember_for,
        acr: accept.acr,
        context: accept.context,
        error: "{}".into(),
    };
    answer_login(&engine, &by.login_challenge, &answer).await
}

pub(super) async fn reject_login(
    State(engine): State<Shared>,
    Query(by): Query<Login>,
    Json(refusal): Json<Refusal>,
) -> Result<Json<Value>, Fault> {
    let answer = LoginAnswer {
        subject: String::new(),
        remember: false,
        remember_for_s: 0,
        acr: String::new(),
        context: json!({}),
        error: refusal.text(),
    };
    answer_login(&engine, &by.login_challenge, &answer).await
}

async fn answer_login(engine: &Engine, challenge: &str, answer: &LoginAnswer) -> Result<Json<Value>, Fault> {
    let login = asked_login(engine, challenge).await?;
    if login.skip && answer.error == "{}" && answer.subject != login.subject {
        return Err(Fault::bad("invalid_request", "the session that is gone on with is of another subject"));
    }
    let db = engine.store.connection().await?;
    if !grants::answer_login(&db, engine.store.version, challenge, answer).await? {
        return Err(used());
    }
    Ok(redirect(&login, "login_verifier"))
}

pub(super) async fn accept_consent(
    State(engine): State<Shared>,
    Query(by): Query<Consent>,
    Json(accept): Json<AcceptConsent>,
) -> Result<Json<Value>, Fault> {
    let answer = ConsentAnswer {
        granted_scope: accept.grant_scope,
        granted_audience: accept.grant_access_token_audience,
        remember: accept.remember,
        remember_for_s: accept.remember_for,
        access_token: accept.session.access_token,
        id_token: accept.session.id_token,
        error: "{}".into(),
    };
    answer_consent(&engine, &by.consent_challenge, &answer).await
}

pub(super) async fn reject_consent(
    State(engine): State<Shared>,
    Query(by): Query<Consent>,
    Json(refusal): Json<Refusal>,
) -> Result<Json<Value>, Fault> {
    let answer = ConsentAnswer {
        granted_scope: Vec::new(),
        granted_audience: Vec::new(),
        remember: false,
        remember_for_s: 0,
        access_token: json!({}),
        id_token: json!({}),
        error: refusal.text(),
    };
    answer_consent(&engine, &by.consent_challenge, &answer).await
}

async fn answer_consent(engine: &Engine, challenge: &str, answer: &ConsentAnswer) -> Result<Json<Value>, Fault> {
    let consent = asked_consent(engine, challenge).await?;
    if answer.granted_scope.iter().any(|scope| !consent.requested_scope.contains(scope)) {
        return Err(Fault::bad("invalid_scope", "a scope was granted that was not asked for"));
    }
    let db = engine.store.connection().await?;
    if !grants::answer_consent(&db, engine.store.version, challenge, answer).await? {
        return Err(used());
    }
    Ok(redirect(&consent, "consent_verifier"))
}

fn used() -> Fault {
    Fault::bad("invalid_request", "the question has been answered and its answer used")
}

fn redirect(question: &Question, parameter: &str) -> Json<Value> {
    let address = format!("{}&{parameter}={}", question.request_url, question.verifier);
    Json(json!({ "redirect_to": address }))
}
