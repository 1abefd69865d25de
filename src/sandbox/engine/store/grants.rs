//! Logins and consents in words that both versions share; each version's tables are spoken to in a file of its own.

use super::super::EngineVersion;
use super::super::fault::Fault;
use super::{flows, requests, sessions};
use deadpool_postgres::{GenericClient, Transaction};
use serde_json::Value;

/// A question to the login or consent screen, and what is known of its answer.
#[derive(Debug, Clone)]
pub(in super::super) struct Question {
    pub(in super::super) challenge: String,
    pub(in super::super) verifier: String,
    pub(in super::super) client_id: String,
    /// The user, once known.
    pub(in super::super) subject: String,
    pub(in super::super) request_url: String,
    pub(in super::super) skip: bool,
    pub(in super::super) requested_scope: Vec<String>,
    pub(in super::super) requested_audience: Vec<String>,
    pub(in super::super) login_session_id: Option<String>,
    pub(in super::super) login_challenge: Option<String>,
    /// Answered, and the answer used.
    pub(in super::super) used: bool,
    /// The answer's error: `{}` for a success, nothing when unanswered.
    pub(in super::super) error: Option<String>,
}

/// A login screen's answer.
#[derive(Debug, Clone)]
pub(in super::super) struct LoginAnswer {
    pub(in super::super) subject: String,
    pub(in super::super) remember: bool,
    pub(in super::super) remember_for_s: i32,
    pub(in super::super) acr: String,
    pub(in super::super) context: Value,
    pub(in super::super) error: String,
}

/// A consent screen's answer.
#[derive(Debug, Clone)]
pub(in super::super) struct ConsentAnswer {
    pub(in super::super) granted_scope: Vec<String>,
    pub(in super::super) granted_audience: Vec<String>,
    pub(in super::super) remember: bool,
    pub(in super::super) remember_for_s: i32,
    pub(in super::super) access_token: Value,
    pub(in super::super) id_token: Value,
    pub(in super::super) error: String,
}

/// A consent that stands, as the list of a subject's consents shows it.
#[derive(Debug, Clone)]
pub(in super::super) struct Granted {
    pub(in super::super) question: Question,
    pub(in super::super) answer: ConsentAnswer,
    pub(in super::super) handled_at: String,
}

macro_rules! by_version {
    ($version:expr, $call:ident ( $($argument:expr),* )) => {
        match $version {
            EngineVersion::V1 => requests::$call($($argument),*).await,
            EngineVersion::V2 => flows::$call($($argument),*).await,
        }
    };
}

/// Keeps a new login question.
pub(in super::super) async fn ask_login<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    login: &Question,
) -> Result<(), Fault> {
    by_version!(version, ask_login(db, login))
}

/// The login question of a challenge.
pub(in super::super) async fn login<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    challenge: &str,
) -> Result<Option<Question>, Fault> {
    by_version!(version, login(db, "challenge", challenge))
}

/// The login question of a verifier.
pub(in super::super) async fn login_by_verifier<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    verifier: &str,
) -> Result<Option<Question>, Fault> {
    by_version!(version, login(db, "verifier", verifier))
}

/// Keeps the login screen's answer; a later answer replaces one that was not used.
pub(in super::super) async fn answer_login<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    challenge: &str,
    answer: &LoginAnswer,
) -> Result<bool, Fault> {
    by_version!(version, answer_login(db, challenge, answer))
}

/// Uses an answered login once, in its session; whether the browser is to remember it, and nothing when the login had been used.
pub(in super::super) async fn use_login(
    tx: &Transaction<'_>,
    version: EngineVersion,
    login: &Question,
    session: &str,
) -> Result<Option<bool>, Fault> {
    let (use_login, login_session) = match version {
        EngineVersion::V1 => (requests::USE_LOGIN, requests::LOGIN_SESSION),
        EngineVersion::V2 => (flows::USE_LOGIN, flows::LOGIN_SESSION),
    };
    let used = tx.query_opt(&tx.prepare_cached(use_login).await?, &[&login.challenge]).await?;
    let Some(remembers) = used.map(|row| row.get(0)) else { return Ok(None) };
    sessions::open(tx, version, session, &login.subject, remembers).await?;
    tx.execute(&tx.prepare_cached(login_session).await?, &[&login.challenge, &session]).await?;
    Ok(Some(remembers))
}

/// Keeps a new consent question; it names its login.
pub(in super::super) async fn ask_consent(
    tx: &Transaction<'_>,
    version: EngineVersion,
    consent: &Question,
) -> Result<(), Fault> {
    by_version!(version, ask_consent(tx, consent))
}

/// The consent of a challenge, with its answer when it has one.
pub(in super::super) async fn consent<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    challenge: &str,
) -> Result<Option<Granted>, Fault> {
    by_version!(version, consent(db, "challenge", challenge))
}

/// The consent of a verifier, with its answer when it has one.
pub(in super::super) async fn consent_by_verifier<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    verifier: &str,
) -> Result<Option<Granted>, Fault> {
    by_version!(version, consent(db, "verifier", verifier))
}

/// Keeps the consent screen's answer.
pub(in super::super) async fn answer_consent<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    challenge: &str,
    answer: &ConsentAnswer,
) -> Result<bool, Fault> {
    by_version!(version, answer_consent(db, challenge, answer))
}

/// Uses an answered consent once; `false` when it had been used.
pub(in super::super) async fn use_consent(
    tx: &Transaction<'_>,
    version: EngineVersion,
    challenge: &str,
) -> Result<bool, Fault> {
    let text = match version {
        EngineVersion::V1 => requests::USE_CONSENT,
        EngineVersion::V2 => flows::USE_CONSENT,
    };
    Ok(tx.execute(&tx.prepare_cached(text).await?, &[&challenge]).await? == 1)
}

/// Consents of a subject that stand and were given by hand, newest first; of one client or of all.
pub(in super::super) async fn granted<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    subject: &str,
    client: Option<&str>,
) -> Result<Vec<Granted>, Fault> {
    by_version!(version, granted(db, subject, client))
}

/// Removes a subject's consents of one client or of all; their tokens go with them.
pub(in super::super) async fn revoke_consents<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    subject: &str,
    client: Option<&str>,
) -> Result<u64, Fault> {
    let text = match version {
        EngineVersion::V1 => requests::REVOKE_CONSENTS,
        EngineVersion::V2 => flows::REVOKE_CONSENTS,
    };
    Ok(db.execute(&db.prepare_cached(text).await?, &[&subject, &client]).await?)
}
