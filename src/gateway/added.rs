//! Revocations that come by no door of the engine: `POST /cutover/v1/revocations` on the gateway's own listener, for systems that know of one
//! by other ways, and for people. One takes the same way as any other: through the gate, to the queue, to the engine; then the tables are asked.
//!
//! Without a token in the plan there is no such place.

use super::capture::Capture;
use super::config::Config;
use super::error::GatewayError;
use super::gate::{Gate, Pass};
use super::routes::Manner;
use super::upstream::chain_of;
use crate::plan::{Replay, Secret, Side};
use crate::revocations::hydra::{Class, Knock};
use crate::revocations::sinks::{self, Errand, Sink, SinkError};
use crate::revocations::{Because, Captured, Event, Link, Outcome, Receipt, Shape, Verdicts, Ways, Witness};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::Arc;
use url::Url;

/// Where revocations are added.
const PATH: &str = "/cutover/v1/revocations";
/// Largest request.
const BODY_BYTES: usize = 16 * 1024;
/// Longest identity, as long as an engine's columns; longest reason.
const ID_BYTES: usize = 255;
const REASON_BYTES: usize = 1000;

/// The means of adding a revocation.
pub(super) struct Added {
    token: Option<Secret>,
    gate: Arc<Gate>,
    capture: Arc<Capture>,
    verdicts: Verdicts,
    blue: Engine,
    green: Engine,
}

/// One side's engine, and its tables.
struct Engine {
    side: Side,
    sink: Box<dyn Sink>,
    link: Link,
    /// The plan's word on what else may be alive.
    replay: Option<Replay>,
}

impl Added {
    pub(super) fn new(config: &Config, gate: Arc<Gate>, capture: Arc<Capture>) -> Result<Arc<Self>, GatewayError> {
        let limit = config.gateway.request_timeout;
        let http = sinks::client(limit).map_err(|error| GatewayError::Failed(error.to_string()))?;
        let engine = |side: Side, admin: &str, url: &Secret| -> Result<Engine, GatewayError> {
            let wrong = |why: url::ParseError| {
                let (what, url) = (format!("{side}'s admin engine"), admin.to_owned());
                GatewayError::Address { what, url, why: why.to_string() }
            };
            let admin = Url::parse(admin).map_err(wrong)?;
            let sink = sinks::of_engine(http.clone(), config.replay.as_ref(), Some(admin), side, limit);
            let sink = sink.expect("an engine with an admin API can be told");
            let link = Link::new(url.clone(), side.as_str(), config.patience);
            Ok(Engine { side, sink, link, replay: config.replay.clone() })
        };
        Ok(Arc::new(Self {
            token: config.gateway.revocations_token.clone(),
            gate,
            capture,
            verdicts: Verdicts::new(&config.control, &config.plan, config.patience),
            blue: engine(Side::Blue, &config.gateway.blue.admin, &config.blue)?,
            green: engine(Side::Green, &config.gateway.green.admin, &config.green)?,
        }))
    }

    fn engine(&self, side: Side) -> &Engine {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

pub(super) fn router(added: Arc<Added>) -> Router {
    Router::new().route(PATH, post(add)).layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(added)
}

/// What is asked for; exactly one of the five forms.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    subject: Option<String>,
    client: Option<String>,
    consent: Option<String>,
    session: Option<String>,
    because: String,
    actor: String,
}

impl Asked {
    /// What is to be revoked, or a sentence for the caller.
    fn knock(&self) -> Result<Knock, &'static str> {
        let ids = [&self.subject, &self.client, &self.consent, &self.session];
        let is_sound = |text: &str, most: usize| {
            !text.trim().is_empty() && text.len() <= most && !text.chars().any(char::is_control)
        };
        if ids.into_iter().flatten().any(|id| !is_sound(id, ID_BYTES)) {
            return Err("an identity is 1 to 255 bytes without control characters");
        }
        if !is_sound(&self.because, REASON_BYTES) || !is_sound(&self.actor, ID_BYTES) {
            return Err(
                "`because` (1 to 1000 bytes) and `actor` (1 to 255 bytes) say why and who, without control characters",
            );
        }
        match (self.subject.clone(), self.client.clone(), self.consent.clone(), self.session.clone()) {
            (Some(subject), client, None, None) => Ok(Knock::Consents { subject, client }),
            (None, Some(client), None, None) => Ok(Knock::ClientTokens { client }),
            (None, None, Some(challenge), None) => Ok(Knock::Consent { challenge }),
            (None, None, None, Some(id)) => Ok(Knock::Session { id }),
            _ => Err("name `subject` and `client`, or one of `subject`, `client`, `consent` and `session`"),
        }
    }

    fn because(&self) -> Because {
        Because { who: self.actor.trim().to_owned(), why: self.because.trim().to_owned() }
    }
}

async fn add(State(added): State<Arc<Added>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(token) = &added.token else { return StatusCode::NOT_FOUND.into_response() };
    if !is_authenticated(token, &headers) {
        let said = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, said, problem("the bearer token is missing or wrong")).into_response();
    }
    if !is_json(&headers) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, problem("a revocation is application/json")).into_response();
    }
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, problem(&error.to_string())).into_response(),
    };
    let knock = match asked.knock() {
        Ok(knock) => knock,
        Err(why) => return (StatusCode::BAD_REQUEST, problem(why)).into_response(),
    };
    // It runs to its end even when its caller goes away: what is queued must also be executed.
    let task = tokio::spawn(async move { added.revoke(&knock, asked.because()).await });
    task.await.unwrap_or_else(|failed| {
        tracing::error!(%failed, "the task of an added revocation failed");
        come_again("the revocation could not be carried out")
    })
}

fn problem(why: &str) -> Json<Value> {
    Json(json!({ "error": why }))
}

/// 503: nothing was queued.
fn come_again(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], problem(why)).into_response()
}

/// Compares tags of both under keys that they are themselves, which takes as long wherever they differ.
fn is_authenticated(token: &Secret, headers: &HeaderMap) -> bool {
    const SAID: &[u8] = b"cutover revocations";
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((kind, shown)) = shown.split_once(' ') else { return false };
    let of = |key: &str| Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("an HMAC takes a key of any length");
    let tag = of(shown.trim()).chain_update(SAID).finalize().into_bytes();
    let is_right = of(token.expose()).chain_update(SAID).verify_slice(&tag).is_ok();
    is_right && kind.eq_ignore_ascii_case("bearer")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// What the engine was told and said, and what its tables say.
struct Told {
    outcome: Outcome,
    status: Option<u16>,
    why: Option<String>,
}

impl Added {
    async fn revoke(&self, knock: &Knock, because: Because) -> Response {
        let Ok(pass) = self.gate.enter(Manner::of(Class::Revocation), BODY_BYTES as u64).await else {
            return come_again("which engine serves is not settled, or too many requests are waiting for that");
        };
        let queued = self.capture.take(knock, &pass, because.who.clone()).await;
        let (receipt, what) = match queued {
            Ok(queued) => queued,
            Err(error) => {
                tracing::warn!(error = %chain_of(&error), door = knock.door().as_str(), "added revocation refused");
                return come_again("the revocation could not be recorded; nothing was revoked");
            }
        };
        if let Err(error) = self.verdicts.asked(receipt.id, because).await {
            tracing::warn!(error = %chain_of(&error), id = %receipt.id, "who asked for a revocation is not noted");
        }
        let told = self.execute(knock, &pass, event(&receipt, what)).await;
        if told.outcome != Outcome::Captured {
            // Its own words decide: an engine's status alone does not.
            let status = told.status.unwrap_or(200);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            self.capture.settle(receipt, knock.door(), &[], status).await;
        }
        drop(pass);
        answer(&receipt, &told)
    }

    /// Tells the engine, and asks its tables. An engine that cannot name what is meant has its own words for no.
    async fn execute(&self, knock: &Knock, pass: &Pass, event: Event) -> Told {
        let engine = self.engine(pass.side);
        let said = match self.tell(engine, knock).await {
            Ok(said) => said,
            Err(why) => return Told { outcome: Outcome::Captured, status: None, why: Some(why) },
        };
        match said {
            Err(error) if error.is_refusal() && error.status().is_some() => {
                Told { outcome: Outcome::Refused, status: error.status(), why: Some(error.to_string()) }
            }
            Err(error) => Told { outcome: Outcome::Captured, status: error.status(), why: Some(error.to_string()) },
            Ok(status) => match engine.alive(event).await {
                Ok(None) => Told { outcome: Outcome::Executed, status: Some(status), why: None },
                Ok(Some(alive)) => {
                    let why = format!("the engine answered {status}, and on {} {alive}", pass.side);
                    Told { outcome: Outcome::Captured, status: Some(status), why: Some(why) }
                }
                Err(why) => Told { outcome: Outcome::Captured, status: Some(status), why: Some(why) },
            },
        }
    }

    /// The inner result is the engine's; the outer one says that its tables could not be asked what to tell it.
    async fn tell(&self, engine: &Engine, knock: &Knock) -> Result<Result<u16, SinkError>, String> {
        let errand = match knock {
            Knock::Consents { subject, client } => {
                Errand::Consents { subject: subject.clone(), client: client.clone() }
            }
            Knock::ClientTokens { client } => Errand::ClientTokens { client: client.clone() },
            Knock::Consent { challenge } => engine.consent(challenge).await?,
            Knock::Session { id } => engine.session(id).await?,
            _ => return Err("no engine can be told this".to_owned()),
        };
        Ok(engine.sink.tell(&errand).await)
    }
}

impl Engine {
    /// A consent by its pair where that means nothing else, since few engines know one by its challenge.
    async fn consent(&self, challenge: &str) -> Result<Errand, String> {
        let (meant, by_challenge) = (challenge.to_owned(), Errand::Consent { challenge: challenge.to_owned() });
        let found = self
            .link
            .run("look for a consent", |client| async move {
                let shape = Shape::detect(&*client).await?;
                crate::revocations::live::only_consent(&*client, &shape, &meant).await
            })
            .await;
        found.map(|errand| errand.unwrap_or(by_challenge)).map_err(|error| chain_of(&error))
    }

    /// A login session by its subject where that means nothing else, since 1.x knows none by its id.
    async fn session(&self, id: &str) -> Result<Errand, String> {
        let (meant, by_id) = (id.to_owned(), Errand::Session { id: id.to_owned() });
        let found = self
            .link
            .run("look for a login session", |client| async move {
                let shape = Shape::detect(&*client).await?;
                crate::revocations::live::only_session(&*client, &shape, &meant).await
            })
            .await;
        found.map(|errand| errand.unwrap_or(by_id)).map_err(|error| chain_of(&error))
    }

    /// What of an event lives in the engine's tables.
    async fn alive(&self, event: Event) -> Result<Option<String>, String> {
        let (side, replay) = (self.side, self.replay.as_ref());
        let asked = self
            .link
            .run("ask for a revoked chain", |client| async move {
                let ways = Ways::of(&*client, side, replay).await?;
                Witness::ask(&*client, &ways, &[event]).await
            })
            .await;
        let found = asked.map_err(|error| chain_of(&error))?;
        Ok(found.alive.into_iter().chain(found.idle).next().map(|(_, why)| why))
    }
}

/// The event as if it were executed: that is what is to be found out.
fn event(receipt: &Receipt, what: Captured) -> Event {
    let captured_at = jiff::Timestamp::UNIX_EPOCH;
    let Receipt { id, incarnation, seq } = *receipt;
    Event { id, incarnation, seq, captured_at, what, outcome: Outcome::Executed }
}

/// Only what is dead on the side that serves is answered by 200.
fn answer(receipt: &Receipt, told: &Told) -> Response {
    let status = match told.outcome {
        Outcome::Executed => StatusCode::OK,
        Outcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Captured => StatusCode::BAD_GATEWAY,
    };
    let Receipt { id, incarnation, seq } = receipt;
    let mut body = json!({ "id": id, "incarnation": incarnation, "seq": seq, "outcome": told.outcome.as_str(), "status": told.status });
    if let Some(why) = &told.why {
        body["error"] = json!(why);
    }
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn asked(body: Value) -> Result<Knock, String> {
        let asked: Asked = serde_json::from_value(body).map_err(|error| error.to_string())?;
        asked.knock().map_err(str::to_owned)
    }

    #[test]
    fn a_request_names_one_thing_and_says_why_and_who() {
        let with = |what: Value| {
            let mut body = json!({ "because": "left the company", "actor": "hr" });
            body.as_object_mut().expect("an object").extend(what.as_object().expect("an object").clone());
            asked(body)
        };
        let pair = Knock::Consents { subject: "ann".into(), client: Some("app".into()) };
        assert_eq!(with(json!({ "subject": "ann", "client": "app" })), Ok(pair));
        assert_eq!(with(json!({ "session": "s1" })), Ok(Knock::Session { id: "s1".into() }));
        for what in [
            json!({}),
            json!({ "subject": "" }),
            json!({ "subject": "a\nb" }),
            json!({ "subject": "x".repeat(256) }),
            json!({ "subject": "ann", "session": "s1" }),
            json!({ "consent": "c1", "session": "s1" }),
            json!({ "token": "a.b" }),
            json!({ "client": 7 }),
        ] {
            assert!(with(what.clone()).is_err(), "{what}");
        }
        assert!(asked(json!({ "subject": "ann", "because": " ", "actor": "hr" })).is_err());
        assert!(asked(json!({ "subject": "ann", "because": "x" })).is_err());
    }

    #[test]
    fn only_the_whole_token_lets_one_in() {
        let token = Secret::new("a-token-made-by-chance");
        let shown = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a value");
            is_authenticated(&token, &HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
        };
        assert!(shown("Bearer a-token-made-by-chance") && shown("bearer a-token-made-by-chance"));
        for wrong in [
            "Bearer a-token-made-by-chanc",
            "Bearer ",
            "Bearer",
            "Basic a-token-made-by-chance",
            "a-token-made-by-chance",
        ] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!is_authenticated(&token, &HeaderMap::new()));
    }
}
