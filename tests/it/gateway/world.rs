//! A gateway between two small engines of the test's own, over real registers and a real queue.

use crate::harness::{Pair, fresh_folder};
use crate::revocations::{install, tables};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cutover::gateway::{Addresses, Config, bind};
use cutover::plan::{Doors, Gateway, Listen, Queue, Secret, Side, Upstream};
use cutover::revocations::Ledger;
use cutover::traffic::protocol::{Order, Standing};
use cutover::traffic::register;
use futures_util::{StreamExt, stream};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// One side's engine: answers who it is, and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) side: Side,
    control: Secret,
    pub(crate) url: String,
    /// Method and path of every request, in order of arrival.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    /// Query and cookies of every visit to `/oauth2/auth`.
    pub(crate) visits: Arc<Mutex<Vec<(String, String)>>>,
    /// Query of every request to end login sessions, which are answered as revocations are.
    pub(crate) endings: Arc<Mutex<Vec<String>>>,
    /// Events that stood in the queue when a revocation arrived.
    pub(crate) queued_at_revoke: Arc<Mutex<Vec<i64>>>,
    /// What revocations are answered by.
    pub(crate) revoke_status: Arc<Mutex<u16>>,
    /// What token requests are answered by.
    pub(crate) token_status: Arc<Mutex<u16>>,
    /// Requests to `/slow` wait for a permit.
    pub(crate) slow: Arc<Semaphore>,
    /// Where there is one, revocations wait for a permit before they are answered.
    pub(crate) revoking: Arc<Mutex<Option<Arc<Semaphore>>>>,
    /// Where there is one, token requests wait for a permit and are granted new tokens; the number of grants so far.
    pub(crate) granting: Arc<Mutex<Option<Granting>>>,
}

/// Permits to grant tokens, and how often that was done.
type Granting = (Arc<Semaphore>, u32);

impl Engine {
    pub(crate) async fn start(side: Side, control: Secret) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let engine = Self {
            side,
            control,
            url,
            seen: Arc::default(),
            visits: Arc::default(),
            endings: Arc::default(),
            queued_at_revoke: Arc::default(),
            revoke_status: Arc::new(Mutex::new(200)),
            token_status: Arc::new(Mutex::new(200)),
            slow: Arc::new(Semaphore::new(0)),
            revoking: Arc::default(),
            granting: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(engine.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        engine
    }

    /// Grants tokens from now on, one request for each permit.
    pub(crate) fn grant(&self, permits: usize) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(permits));
        *self.granting.lock().expect("no panic") = Some((permits.clone(), 0));
        permits
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.seen.lock().expect("no panic").iter().filter(|seen| *seen == what).count()
    }
}

async fn answer(State(engine): State<Engine>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri().path());
    engine.seen.lock().expect("no panic").push(line);
    match request.uri().path() {
        "/version" => {
            let version = if engine.side == Side::Blue { "1.11.10" } else { "2.2.0" };
            axum::Json(serde_json::json!({ "version": version })).into_response()
        }
        "/oauth2/revoke" => revoke(&engine).await,
        path if path.ends_with("/oauth2/auth/sessions/login") => {
            let query = request.uri().query().unwrap_or_default().to_owned();
            engine.endings.lock().expect("no panic").push(query);
            status_of(*engine.revoke_status.lock().expect("no panic")).into_response()
        }
        "/oauth2/auth" => super::flows::authorize(&engine, &request),
        "/slow" => {
            engine.slow.acquire().await.expect("open").forget();
            engine.side.as_str().into_response()
        }
        "/echo" => echo(request).await.into_response(),
        "/oauth2/token" => {
            let status = *engine.token_status.lock().expect("no panic");
            let granting = engine.granting.lock().expect("no panic").as_ref().map(|(permits, _)| permits.clone());
            if let Some(permits) = granting {
                permits.acquire().await.expect("open").forget();
                return granted(&engine, status);
            }
            (status_of(status), echo(request).await).into_response()
        }
        "/broken/small" => ([("content-length", "9")], half(true)).into_response(),
        "/broken/streamed" => half(true).into_response(),
        "/plenty" => {
            Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(8192)))).into_response()
        }
        "/endless" => half(false).into_response(),
        path => match path.strip_prefix("/status/") {
            Some(status) => status_of(status.parse().expect("a number")).into_response(),
            None => engine.side.as_str().into_response(),
        },
    }
}

/// New tokens, or the error that an engine gives with such a status.
fn granted(engine: &Engine, status: u16) -> Response {
    if status != 200 {
        return (status_of(status), axum::Json(serde_json::json!({ "error": "invalid_grant" }))).into_response();
    }
    let mut granting = engine.granting.lock().expect("no panic");
    let (_, number) = granting.as_mut().expect("it grants");
    *number += 1;
    let body = serde_json::json!({ "access_token": format!("x.n{number}-access"), "refresh_token": format!("x.n{number}-refresh") });
    ([("cache-control", "no-store"), ("age", "3")], axum::Json(body)).into_response()
}

/// What was asked, headers and body.
async fn echo(request: Request) -> String {
    let headers = format!("{:?}", request.headers());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    format!("{headers}\n{}", String::from_utf8_lossy(&body))
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status")
}

/// A body that breaks off after one piece, or never comes to its end.
fn half(is_broken: bool) -> Body {
    let begun = stream::iter([Ok("half")]);
    let broken = stream::once(async {
        // What was begun must be on its way by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(std::io::Error::other("broken off"))
    });
    if is_broken { Body::from_stream(begun.chain(broken)) } else { Body::from_stream(begun.chain(stream::pending())) }
}

/// Revocations that are durable: under way in the queue, or arrived.
const QUEUED: &str = "select count(*) from (select id from cutover.revocation
union select id from cutover.message where convert_from(body, 'utf8')::jsonb ->> 'kind' = 'captured') q";

async fn revoke(engine: &Engine) -> Response {
    if let Ok(client) = cutover::database::client::connect(&engine.control, "control").await {
        let row = client.query_one(QUEUED, &[]).await.expect("the queue is there");
        engine.queued_at_revoke.lock().expect("no panic").push(row.get(0));
    }
    let permits = engine.revoking.lock().expect("no panic").clone();
    if let Some(permits) = permits {
        permits.acquire().await.expect("open").forget();
    }
    let status = *engine.revoke_status.lock().expect("no panic");
    status_of(status).into_response()
}

/// A gateway in a runtime of its own, so that it can die at once and whole.
pub(crate) struct Running {
    runtime: Option<Runtime>,
    pub(crate) addresses: Addresses,
}

impl Running {
    async fn start(config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let bound = runtime.spawn(bind(config)).await.expect("no panic").expect("the gateway starts");
        let addresses = bound.addresses();
        runtime.spawn(bound.serve(std::future::pending()));
        Self { runtime: Some(runtime), addresses }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// All of it.
pub(crate) struct World {
    pub(crate) pair: Pair,
    pub(crate) blue: Engine,
    pub(crate) green: Engine,
    pub(crate) http: reqwest::Client,
    pub(crate) gateway: Running,
    config: Config,
}

impl World {
    /// With registers: blue open at 1, green closed at 0, tables on both sides.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with changes to the gateway's configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let pair = Pair::shared().await;
        tables::create(&pair).await;
        for (place, side, epoch) in [(&pair.blue, Side::Blue, 1), (&pair.green, Side::Green, 0)] {
            register::install(&place.client().await, side, epoch, Uuid::nil()).await.expect("a register is installed");
        }
        Self::over(pair, change).await
    }

    /// Over databases as they are.
    pub(crate) async fn over(pair: Pair, change: impl FnOnce(&mut Config)) -> Self {
        let blue = Engine::start(Side::Blue, pair.control.url()).await;
        let green = Engine::start(Side::Green, pair.control.url()).await;
        let mut config = config(&pair, &blue, &green);
        change(&mut config);
        let gateway = Running::start(config.clone()).await;
        let http = cutover::traffic::http_client().expect("a client");
        Self { pair, blue, green, http, gateway, config }
    }

    /// Kills the gateway and starts it again over the same state file.
    pub(crate) async fn restart_gateway(&mut self) {
        self.gateway.runtime.take().expect("it runs").shutdown_background();
        self.gateway = Running::start(self.config.clone()).await;
    }

    /// A second gateway in front of the same engines, under another name.
    pub(crate) async fn second(&self, name: &str) -> Running {
        let mut config = self.config.clone();
        config.name = name.to_owned();
        config.gateway.state = fresh_folder("gateway").join("state.json");
        Running::start(config).await
    }

    /// Posts a form to a listener.
    pub(crate) async fn post(&self, at: SocketAddr, path: &str, form: &str) -> reqwest::Response {
        let request = self.http.post(format!("http://{at}{path}")).body(form.to_owned());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.send().await.expect("the gateway answers")
    }

    /// All that the gateway counts.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.gateway.addresses.control);
        self.http.get(url).send().await.expect("the gateway answers").text().await.expect("a body")
    }

    /// A sample of `/metrics`, 0 when it is not there.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.metrics().await;
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.map_or(0, |value| value.parse().expect("a number"))
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(&self.config.control, "plan", Side::Blue, crate::revocations::LIMIT)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.gateway.addresses.public);
        self.http.get(url).send().await.expect("the gateway answers")
    }

    pub(crate) async fn introspect(&self) -> reqwest::Response {
        let url = format!("http://{}/oauth2/introspect", self.gateway.addresses.admin);
        self.http.post(url).form(&[("token", "a.b")]).send().await.expect("the gateway answers")
    }

    pub(crate) async fn revoke(&self, token: &str) -> reqwest::Response {
        let url = format!("http://{}/oauth2/revoke", self.gateway.addresses.public);
        self.http.post(url).form(&[("token", token)]).send().await.expect("the gateway answers")
    }

    pub(crate) async fn order(&self, verb: &str, order: &Order) -> (u16, serde_json::Value) {
        let url = format!("http://{}/cutover/v1/{verb}", self.gateway.addresses.control);
        let response = self.http.post(url).json(order).send().await.expect("the gateway answers");
        (response.status().as_u16(), response.json().await.expect("it speaks JSON"))
    }

    /// An order that must be carried out.
    pub(crate) async fn must(&self, verb: &str, order: &Order) -> Standing {
        let (status, body) = self.order(verb, order).await;
        assert_eq!(status, 200, "{verb}: {body}");
        serde_json::from_value(body).expect("a standing")
    }

    pub(crate) async fn ask_control(&self, path: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.gateway.addresses.control);
        let response = self.http.get(url).send().await.expect("the gateway answers");
        response.json().await.expect("it speaks JSON")
    }
}

fn config(pair: &Pair, blue: &Engine, green: &Engine) -> Config {
    let anywhere = || "http://127.0.0.1:0".to_owned();
    let upstream = |engine: &Engine| Upstream { public: engine.url.clone(), admin: engine.url.clone() };
    Config {
        plan: "plan".to_owned(),
        name: "engine".to_owned(),
        control: pair.control.url(),
        queue: Queue::Postgres,
        replay: None,
        blue: pair.blue.url(),
        green: pair.green.url(),
        gateway: Gateway {
            listen: Listen { public: anywhere(), admin: anywhere(), control: anywhere() },
            blue: upstream(blue),
            green: upstream(green),
            doors: Doors::hydra(),
            routes: Vec::new(),
            revocations_token: None,
            state: fresh_folder("gateway").join("state.json"),
            held_requests: 1000,
            held_bytes: 64 << 20,
            request_timeout: Duration::from_secs(10),
            overlay_entries: 1000,
            refresh: None,
            flows: None,
        },
        hold: Duration::from_secs(30),
        patience: crate::revocations::LIMIT,
        head: Duration::from_secs(75),
        denied: Duration::from_secs(60),
        install: install(pair),
    }
}

/// An order to go to green at an epoch.
pub(crate) fn to_green(epoch: i64, hold: Duration) -> Order {
    let deadline_ms = u64::try_from(hold.as_millis()).expect("a short hold");
    Order { run: Uuid::nil(), epoch, nonce: Uuid::new_v4(), side: Side::Green, deadline_ms, resolvers: Vec::new() }
}

/// A place where nobody listens.
pub(crate) fn nowhere() -> Secret {
    Secret::new("postgres://nobody@127.0.0.1:1/none")
}
