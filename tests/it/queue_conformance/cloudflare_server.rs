//! A strict local server of Cloudflare Queues: takes only what the published schema has, keeps its limits, and has its traps. A late
//! acknowledgement succeeds, bodies of JSON come as base64, order is not kept, and at `max_retries` a message is deleted for good when
//! there is no dead-letter queue.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cutover::plan::{CloudflareQueue as Settings, Secret};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use uuid::Uuid;

pub(super) const TOKEN: &str = "token-of-this-account";
const ACCOUNT: &str = "account-1";
const LONGEST_MS: u64 = 43_200_000;

/// What the server is to do wrong, or is set up for.
#[derive(Debug, Clone, Default)]
pub(super) struct Traits {
    /// Answers so many requests with 429 and this many seconds.
    pub(super) too_many: u32,
    pub(super) retry_after_s: u64,
    /// Sends every request elsewhere, with 307.
    pub(super) elsewhere: Option<String>,
    /// Stores so many publications and answers 500.
    pub(super) lost_answers: u32,
    /// Every request is answered with 503.
    pub(super) is_down: bool,
    /// Leases last this long whatever was asked.
    pub(super) visibility: Option<Duration>,
    /// The consumer has no dead-letter queue.
    pub(super) has_no_dead_letters: bool,
    /// The consumer's dead-letter queue is another one.
    pub(super) has_other_dead_letters: bool,
    /// The consumer is a Worker.
    pub(super) is_pushed: bool,
    /// Messages that a queue may hold.
    pub(super) room: Option<usize>,
    /// Deliveries before a message is dead.
    pub(super) max_retries: u32,
}

struct Message {
    body: Value,
    kind: &'static str,
    attempts: u32,
    visible_at: Instant,
    leases: Vec<String>,
}

#[derive(Default)]
struct Queues {
    messages: HashMap<String, Vec<Message>>,
    /// Messages that were deleted because nobody wanted them.
    deleted: usize,
    calls: HashMap<String, u32>,
    authorized: usize,
}

/// The server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    state: Arc<Mutex<Queues>>,
    pub(super) traits: Arc<Mutex<Traits>>,
}

impl Server {
    pub(super) async fn start(traits: Traits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = Self { url, state: Arc::default(), traits: Arc::new(Mutex::new(traits)) };
        let queue = "/accounts/{account}/queues/{queue}";
        let router = Router::new()
            .route(queue, get(describe))
            .route(&format!("{queue}/messages/{{verb}}"), post(act))
            .fallback(async || problem(StatusCode::NOT_FOUND, 7003, "no route for that URI"))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            api: self.url.clone(),
            account: ACCOUNT.to_owned(),
            queue: "queue-1".to_owned(),
            dead_letter_queue: "queue-2".to_owned(),
            token: Secret::new(TOKEN),
        }
    }

    /// Requests that carried the token, to whatever path.
    pub(super) fn authorized(&self) -> usize {
        self.state.lock().expect("no panic").authorized
    }

    pub(super) fn deleted(&self) -> usize {
        self.state.lock().expect("no panic").deleted
    }

    pub(super) fn calls(&self, verb: &str) -> u32 {
        self.state.lock().expect("no panic").calls.get(verb).copied().unwrap_or(0)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Traits)) {
        change(&mut self.traits.lock().expect("no panic"));
    }

    /// What is answered before anything is looked at.
    fn before(&self, headers: &HeaderMap) -> Option<Response> {
        let mut traits = self.traits.lock().expect("no panic");
        let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !authorization.is_empty() {
            self.state.lock().expect("no panic").authorized += 1;
        }
        if let Some(elsewhere) = &traits.elsewhere {
            let location = [("location", elsewhere.clone())];
            return Some((StatusCode::TEMPORARY_REDIRECT, location).into_response());
        }
        if traits.is_down {
            return Some(problem(StatusCode::SERVICE_UNAVAILABLE, 1, "down"));
        }
        if authorization != format!("Bearer {TOKEN}") {
            return Some(problem(StatusCode::FORBIDDEN, 10000, "Authentication error"));
        }
        if traits.too_many > 0 {
            traits.too_many -= 1;
            let mut response = problem(StatusCode::TOO_MANY_REQUESTS, 10429, "Too many requests");
            response.headers_mut().insert("retry-after", traits.retry_after_s.into());
            return Some(response);
        }
        None
    }
}

fn problem(status: StatusCode, code: u32, message: &str) -> Response {
    let errors = json!([{ "code": code, "message": message }]);
    (status, axum::Json(json!({ "success": false, "errors": errors, "messages": [], "result": null }))).into_response()
}

fn done(result: Value) -> Response {
    axum::Json(json!({ "success": true, "errors": [], "messages": [], "result": result })).into_response()
}

async fn describe(
    State(server): State<Server>,
    Path((account, queue)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = server.before(&headers) {
        return response;
    }
    let traits = server.traits.lock().expect("no panic").clone();
    let (name, dead) = match queue.as_str() {
        "queue-1" if traits.has_no_dead_letters => ("revocations", None),
        "queue-1" if traits.has_other_dead_letters => ("revocations", Some("somebody-elses")),
        "queue-1" => ("revocations", Some("revocations-dead")),
        "queue-2" => ("revocations-dead", None),
        _ => return problem(StatusCode::NOT_FOUND, 11001, "queue not found"),
    };
    if account != ACCOUNT {
        return problem(StatusCode::NOT_FOUND, 7003, "no such account");
    }
    let kind = if traits.is_pushed { "worker" } else { "http_pull" };
    let settings = json!({ "batch_size": 100, "max_retries": traits.max_retries, "visibility_timeout_ms": 30000 });
    let mut consumer = json!({ "type": kind, "queue_id": queue, "settings": settings });
    if let Some(dead) = dead {
        consumer["dead_letter_queue"] = json!(dead);
    }
    done(json!({ "queue_id": queue, "queue_name": name, "consumers": [consumer], "producers": [] }))
}

async fn act(
    State(server): State<Server>,
    Path((account, queue, verb)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    *server.state.lock().expect("no panic").calls.entry(verb.clone()).or_default() += 1;
    if let Some(response) = server.before(&headers) {
        return response;
    }
    if account != ACCOUNT || !matches!(queue.as_str(), "queue-1" | "queue-2") {
        return problem(StatusCode::NOT_FOUND, 11001, "queue not found");
    }
    if headers.get("content-type").is_none_or(|kind| kind != "application/json") {
        return problem(StatusCode::BAD_REQUEST, 10100, "the body must be application/json");
    }
    server.expire();
    let result = match verb.as_str() {
        "batch" => server.publish(&queue, &body),
        "pull" => server.pull(&queue, &body),
        "ack" => server.ack(&queue, &body),
        "peek" => server.peek(&queue, &body),
        _ => Err("no such action".to_owned()),
    };
    match result {
        Ok(response) => response,
        Err(why) => problem(StatusCode::BAD_REQUEST, 10026, &why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    messages: Vec<Published>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    body: Value,
    content_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pull {
    #[serde(default = "five")]
    batch_size: usize,
    #[serde(default = "half_a_minute")]
    visibility_timeout_ms: u64,
}

fn five() -> usize {
    5
}

fn half_a_minute() -> u64 {
    30_000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acks {
    acks: Vec<Lease>,
    retries: Vec<Retry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    lease_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    lease_id: String,
    #[serde(default)]
    delay_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peek {
    batch_size: usize,
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

impl Server {
    fn publish(&self, queue: &str, body: &[u8]) -> Result<Response, String> {
        let batch: Batch = parse(body)?;
        if batch.messages.is_empty() || batch.messages.len() > 100 {
            return Err(format!("{} messages in a batch", batch.messages.len()));
        }
        if body.len() > 256 * 1024 {
            return Err(format!("a batch of {} bytes", body.len()));
        }
        let mut traits = self.traits.lock().expect("no panic");
        let mut state = self.state.lock().expect("no panic");
        let messages = state.messages.entry(queue.to_owned()).or_default();
        if traits.room.is_some_and(|room| messages.len() + batch.messages.len() > room) {
            return Err("the queue is full".to_owned());
        }
        let mut accepted = Vec::new();
        for Published { body, content_type } in batch.messages {
            let kind = match content_type.as_deref() {
                None | Some("json") => "json",
                Some("text") if body.is_string() => "text",
                other => return Err(format!("content type {other:?}")),
            };
            if body.to_string().len() > 128 * 1024 {
                return Err("a message of more than 128 KB".to_owned());
            }
            accepted.push(Message { body, kind, attempts: 0, visible_at: Instant::now(), leases: Vec::new() });
        }
        messages.extend(accepted);
        if traits.lost_answers > 0 {
            traits.lost_answers -= 1;
            return Ok(problem(StatusCode::INTERNAL_SERVER_ERROR, 1, "the answer was lost"));
        }
        Ok(done(json!({ "metadata": { "metrics": { "backlog_count": messages.len() } } })))
    }

    fn pull(&self, queue: &str, body: &[u8]) -> Result<Response, String> {
        let pull: Pull = parse(body)?;
        if !(1..=100).contains(&pull.batch_size) || pull.visibility_timeout_ms > LONGEST_MS {
            return Err(format!("a pull of {} for {} ms", pull.batch_size, pull.visibility_timeout_ms));
        }
        let traits = self.traits.lock().expect("no panic");
        let asked = Duration::from_millis(pull.visibility_timeout_ms);
        let visible_at = Instant::now() + traits.visibility.unwrap_or(asked);
        let mut state = self.state.lock().expect("no panic");
        let messages = state.messages.entry(queue.to_owned()).or_default();
        // Youngest first: nobody may rely on an order.
        let visible = messages.iter_mut().rev().filter(|message| message.visible_at <= Instant::now());
        let leased = visible.take(pull.batch_size).map(|message| {
            message.attempts += 1;
            message.visible_at = visible_at;
            let lease = Uuid::new_v4().to_string();
            message.leases.push(lease.clone());
            let body = match (message.kind, &message.body) {
                ("text", Value::String(text)) => text.clone(),
                (_, body) => STANDARD.encode(body.to_string()),
            };
            json!({
                "id": Uuid::new_v4().simple().to_string(), "body": body, "attempts": message.attempts, "lease_id": lease,
                "timestamp_ms": 1_689_615_013_586_u64,
                "metadata": { "CF-sourceMessageSource": "http", "CF-Content-Type": message.kind },
            })
        });
        let leased: Vec<Value> = leased.collect();
        Ok(done(json!({ "message_backlog_count": messages.len(), "messages": leased })))
    }

    fn ack(&self, queue: &str, body: &[u8]) -> Result<Response, String> {
        let answers: Acks = parse(body)?;
        let mut state = self.state.lock().expect("no panic");
        let messages = state.messages.entry(queue.to_owned()).or_default();
        let (mut acked, mut retried) = (0, 0);
        for Lease { lease_id } in answers.acks {
            // Any lease ever given will do, however late.
            let before = messages.len();
            messages.retain(|message| !message.leases.contains(&lease_id));
            acked += before - messages.len();
        }
        for Retry { lease_id, delay_seconds } in answers.retries {
            for message in messages.iter_mut().filter(|message| message.leases.last() == Some(&lease_id)) {
                message.visible_at = Instant::now() + Duration::from_secs(delay_seconds);
                retried += 1;
            }
        }
        Ok(done(json!({ "ackCount": acked, "retryCount": retried, "warnings": {} })))
    }

    fn peek(&self, queue: &str, body: &[u8]) -> Result<Response, String> {
        let Peek { batch_size } = parse(body)?;
        let state = self.state.lock().expect("no panic");
        let count = state.messages.get(queue).map_or(0, Vec::len);
        let messages = vec![json!({}); count.min(batch_size)];
        Ok(done(json!({ "message_backlog_count": count, "messages": messages })))
    }

    /// Messages that came often enough and were not acknowledged in time are dead, or gone.
    fn expire(&self) {
        let traits = self.traits.lock().expect("no panic").clone();
        let mut state = self.state.lock().expect("no panic");
        let now = Instant::now();
        let is_over = |message: &Message| message.attempts >= traits.max_retries && message.visible_at <= now;
        let messages = std::mem::take(state.messages.entry("queue-1".to_owned()).or_default());
        let (over, kept): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_over);
        state.messages.insert("queue-1".to_owned(), kept);
        if traits.has_no_dead_letters {
            state.deleted += over.len();
            return;
        }
        // The dead-letter queue has none of its own.
        let dead = state.messages.entry("queue-2".to_owned()).or_default();
        let before = dead.len();
        dead.retain(|message| !is_over(message));
        let gone = before - dead.len();
        state.deleted += gone;
        let dead = state.messages.entry("queue-2".to_owned()).or_default();
        dead.extend(over.into_iter().map(|message| Message { attempts: 0, leases: Vec::new(), ..message }));
    }
}
