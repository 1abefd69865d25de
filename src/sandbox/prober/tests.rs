//! The prober's rules on histories of a flip and its way back, told by an engine of straw that answers as it is bidden.

mod ended;
mod given_up;
mod sessions;

use super::actions::{self, Asked};
use super::settle::ask_apps;
use super::turns::Origin;
use super::words::{Door, Seen};
use super::{Client, Doors, History, Prober};
use crate::plan::{Secret, Side};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const BLUE: Origin = Origin { side: Side::Blue, epoch: 1 };
const GREEN: Origin = Origin { side: Side::Green, epoch: 2 };
const BACK: Origin = Origin { side: Side::Blue, epoch: 3 };
const AGAIN: Origin = Origin { side: Side::Green, epoch: 4 };

/// What the straw engine answers, and from where.
struct Bidden {
    at: Origin,
    answers: BTreeMap<&'static str, (u16, Value)>,
}

/// A prober before a straw engine.
struct World {
    prober: Prober,
    bidden: Arc<Mutex<Bidden>>,
}

/// The systems behind the gateway do not say where they are; the gateway does.
async fn answer(State(bidden): State<Arc<Mutex<Bidden>>>, request: Request) -> Response {
    let bidden = bidden.lock().expect("nobody panicked");
    let path = request.uri().path();
    let (status, body) = bidden.answers.get(path).cloned().unwrap_or((500, Value::Null));
    let mut response = (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response();
    if !matches!(path, "/check" | "/consents") {
        let headers = response.headers_mut();
        headers.insert("x-cutover-side", bidden.at.side.as_str().parse().expect("a word"));
        headers.insert("x-cutover-epoch", bidden.at.epoch.into());
    }
    response
}

impl World {
    async fn new(name: &str) -> Self {
        let bidden = Arc::new(Mutex::new(Bidden { at: BLUE, answers: BTreeMap::new() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("its address"));
        let router = Router::new().fallback(answer).with_state(bidden.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (public, admin, dashboard, authorization) = (base.clone(), base.clone(), base.clone(), base.clone());
        let client = Client::new(Doors { public, admin, control: base, dashboard, authorization });
        let file = std::env::temp_dir().join(format!("cutover-prober-{name}-{}.jsonl", std::process::id()));
        let history = History::open(&file).expect("a file");
        std::fs::remove_file(&file).expect("it is there");
        let [blue, green, revocations_token] = ["unused"; 3].map(Secret::new);
        let prober = Prober { client, history, blue, green, revocations_token, report_file: file, is_in_place: false };
        let world = Self { prober, bidden };
        world.prober.history.lock().ledger.add_app("app".into(), "secret".into(), "app".into(), true);
        world.bid("/oauth2/introspect", 200, json!({"active": true}));
        world
    }

    fn bid(&self, path: &'static str, status: u16, body: Value) {
        self.bidden.lock().expect("nobody panicked").answers.insert(path, (status, body));
    }

    /// Traffic is there from now on, and the load has seen it.
    async fn turn(&self, at: Origin) {
        self.bidden.lock().expect("nobody panicked").at = at;
        self.prober.introspect("nothing").await;
    }

    /// A client is issued tokens where traffic is.
    async fn issue(&self) -> usize {
        self.bid("/oauth2/token", 200, json!({"access_token": "access", "refresh_token": "refresh"}));
        actions::issue(&self.prober).await.expect("an app");
        self.prober.history.lock().ledger.chains.len() - 1
    }

    /// The only chain is refreshed where traffic is.
    async fn refresh(&self) {
        self.bid("/oauth2/token", 200, json!({"access_token": "access.2", "refresh_token": "refresh.2"}));
        actions::refresh(&self.prober).await.expect("a chain that is free");
    }

    /// A user gives consent where traffic is, and its code becomes tokens.
    async fn grant(&self) {
        self.bid("/consents", 201, json!({"code": "code", "browser": "session=1"}));
        self.bid("/oauth2/token", 200, json!({"access_token": "access", "refresh_token": "refresh"}));
        actions::grant(&self.prober).await.expect("an app");
    }

    async fn revoke(&self, chain: usize) {
        let now = self.prober.client.now_us();
        let mut state = self.prober.history.lock();
        state.ledger.chains[chain].fate.doom(now);
        state.ledger.chain_revoked(chain, now, "a test");
    }

    fn all_unknown(&self) {
        self.bid("/oauth2/introspect", 200, json!({"active": false}));
        self.bid("/oauth2/token", 400, json!({"error": "invalid_grant"}));
        self.bid("/userinfo", 401, json!({"error": "request_unauthorized"}));
        self.bid("/check", 200, json!({"allow": false}));
    }

    async fn introspected(&self, chain: usize, asked: Asked) -> bool {
        let token = self.prober.history.lock().ledger.chains[chain].access.clone();
        actions::ask_about(&self.prober, chain, &token, asked).await
    }

    /// What the end check misses of clients.
    async fn lost_apps(&self) -> Vec<String> {
        let lost = Mutex::default();
        ask_apps(&self.prober, &lost).await;
        lost.into_inner().expect("nobody panicked").into_iter().collect()
    }

    fn seen(&self) -> Seen {
        self.prober.history.lock().report().prober
    }

    /// How often a door was used.
    fn uses(&self, door: Door) -> u64 {
        self.seen().doors.get(&door).copied().unwrap_or(0)
    }
}
