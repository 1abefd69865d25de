//! An engine's admin API as far as a sink meets it, with the manners that a test asks for: 1.x or 2.x, honest, lying, failing, leading astray.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cutover::plan::Secret;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// How it behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Manner {
    /// 1.x: knows no `/admin`, and does what it says.
    First,
    /// 2.x: answers a call without `/admin` by a redirect, and does what it says.
    Second,
    /// Says 204 and does nothing.
    Lies,
    /// Sends everybody to another host.
    LeadsAstray(String),
    /// Answers by a status.
    Says(u16),
    /// Answers too late.
    Dawdles,
}

/// The engine; what it was asked is kept.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) url: String,
    pub(super) manner: Arc<Mutex<Manner>>,
    pub(super) database: Arc<Mutex<Option<Secret>>>,
    /// Method, path and query of each request.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    /// Headers and body of each request.
    pub(super) heard: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Engine {
    pub(super) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let manner = Arc::new(Mutex::new(manner));
        let engine = Self { url, manner, database: Arc::default(), asked: Arc::default(), heard: Arc::default() };
        let router = Router::new().fallback(answer).with_state(engine.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        engine
    }

    pub(super) fn behave(&self, manner: Manner) {
        *self.manner.lock().expect("no panic") = manner;
    }

    pub(super) fn count(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }
}

async fn answer(State(engine): State<Engine>, request: Request) -> Response {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    engine.asked.lock().expect("no panic").push(format!("{} {path}?{query}", request.method()));
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    engine.heard.lock().expect("no panic").push((head.headers, String::from_utf8_lossy(&body).into_owned()));
    let manner = engine.manner.lock().expect("no panic").clone();
    let is_admin = path.starts_with("/admin/");
    match manner {
        Manner::First if is_admin => StatusCode::NOT_FOUND.into_response(),
        Manner::Second if !is_admin => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("/admin{path}"))]).into_response()
        }
        Manner::First | Manner::Second if path.ends_with("/sessions/login") => {
            end(&engine, &query, manner == Manner::Second).await.into_response()
        }
        Manner::First | Manner::Second => revoke(&engine, &query).await.into_response(),
        Manner::Lies => StatusCode::NO_CONTENT.into_response(),
        Manner::LeadsAstray(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("{to}{path}?{query}"))]).into_response()
        }
        Manner::Says(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Manner::Dawdles => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

/// Ends login sessions: one by `sid`, where the version knows such a thing, else all of a subject.
async fn end(engine: &Engine, query: &str, knows_sid: bool) -> StatusCode {
    let database = engine.database.lock().expect("no panic").clone().expect("the engine's database");
    let value = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let (column, named) = match (value("sid").filter(|_| knows_sid), value("subject")) {
        (Some(sid), _) => ("id", sid),
        (None, Some(subject)) => ("subject", subject),
        (None, None) => return StatusCode::BAD_REQUEST,
    };
    let db = cutover::database::client::connect(&database, "engine").await.expect("the database answers");
    let statement = format!("delete from hydra_oauth2_authentication_session where {column} = $1");
    db.execute(&statement, &[&named]).await.expect("the statement runs");
    StatusCode::NO_CONTENT
}

/// Revokes consents of a subject, to one client or to all, in the 1.x tables.
async fn revoke(engine: &Engine, query: &str) -> StatusCode {
    let database = engine.database.lock().expect("no panic").clone().expect("the engine's database");
    let value = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let (subject, client) = (value("subject"), value("client"));
    let db = cutover::database::client::connect(&database, "engine").await.expect("the database answers");
    let consents = "select challenge from hydra_oauth2_consent_request where subject = $1 and ($2::text is null or client_id = $2)";
    for statement in [
        format!("delete from hydra_oauth2_access where request_id in ({consents})"),
        format!("update hydra_oauth2_refresh set active = false where request_id in ({consents})"),
        format!("delete from hydra_oauth2_consent_request where challenge in ({consents})"),
    ] {
        db.execute(&statement, &[&subject, &client]).await.expect("the statement runs");
    }
    StatusCode::NO_CONTENT
}
