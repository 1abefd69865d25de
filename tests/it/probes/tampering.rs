//! A proxy between a probe and an engine that changes what is answered: an engine with a fault of the test's choice.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use std::sync::Arc;

/// One answer on its way back.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) path: String,
    pub(crate) form: String,
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) location: Option<String>,
}

type Tamper = Arc<dyn Fn(&mut Answered) + Send + Sync>;

#[derive(Clone)]
struct Between {
    engine: String,
    http: reqwest::Client,
    tamper: Tamper,
}

/// Serves on a free port until the test ends; gives its base URL.
pub(crate) async fn tampering(engine: &str, tamper: impl Fn(&mut Answered) + Send + Sync + 'static) -> String {
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let http = http.build().expect("a client");
    let between = Between { engine: engine.to_owned(), http, tamper: Arc::new(tamper) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(pass).with_state(between);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn pass(State(between): State<Between>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let sent = to_bytes(body, 1 << 20).await.expect("a small body");
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    // An engine that does not know this filter lists everybody's clients.
    let asked = path.replacen("owner=", "of=", 1);
    let mut onward = between.http.request(head.method, format!("{}{asked}", between.engine)).body(sent.to_vec());
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::COOKIE] {
        if let Some(value) = head.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let answer = onward.send().await.expect("the engine answers");
    let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    let form = String::from_utf8_lossy(&sent).into_owned();
    let mut answered = Answered { path, form, status, body: answer.json().await.unwrap_or_default(), location };
    (between.tamper)(&mut answered);
    let mut response = Response::new(Body::from(answered.body.to_string()));
    *response.status_mut() = StatusCode::from_u16(answered.status).expect("a status");
    if let Some(location) = answered.location {
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).expect("an address"));
    }
    response
}
