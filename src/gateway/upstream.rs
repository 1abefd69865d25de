//! The engines behind the gateway, each with connections of its own, so that nothing of one side is used for the other.
//!
//! A request is sent once. The only repetitions: one that never left because its connection was found closed, and a bodiless GET or HEAD
//! whose connection ended under it, which is sent once more.

use super::answer::{Body, full};
use super::error::GatewayError;
use super::pool::{IDLE, Pool, SendError};
use crate::plan::{Gateway, Side};
use crate::revocations::hydra::Listener;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri};
use std::sync::Arc;
use tokio::time::interval;

const VERSION_BYTES: usize = 16 * 1024;

/// The engines of both sides.
pub(super) struct Upstreams {
    blue: Engine,
    green: Engine,
}

struct Engine {
    public: Base,
    admin: Base,
}

/// Where an engine listens, and the path before its own paths.
struct Base {
    pool: Pool,
    prefix: String,
}

impl Upstreams {
    pub(super) fn new(gateway: &Gateway) -> Result<Self, GatewayError> {
        let engine = |side: &str, public: &str, admin: &str| -> Result<Engine, GatewayError> {
            Ok(Engine {
                public: Base::parse(&format!("{side}'s public engine"), public)?,
                admin: Base::parse(&format!("{side}'s admin engine"), admin)?,
            })
        };
        Ok(Self {
            blue: engine("blue", &gateway.blue.public, &gateway.blue.admin)?,
            green: engine("green", &gateway.green.public, &gateway.green.admin)?,
        })
    }

    /// Sends a request whose head is already cleaned, and gives the engine's head with its body still to come.
    pub(super) async fn send(
        &self,
        side: Side,
        listener: Listener,
        mut head: Parts,
        body: Body,
    ) -> Result<Response<Incoming>, SendError> {
        let base = self.engine(side).base(listener);
        base.point(&mut head.uri);
        head.version = hyper::Version::HTTP_11;
        say_chunked(&mut head, &body);
        let again = is_repeatable(&head, &body).then(|| head.clone());
        match (base.pool.send(Request::from_parts(head, body)).await, again) {
            (Err(SendError::Broke(_)), Some(head)) => {
                // A box, so that a request which is sent once is not as large as two.
                Box::pin(base.pool.send(Request::from_parts(head, full(Bytes::new())))).await
            }
            (answer, _) => answer,
        }
    }

    /// Closes, for as long as it is let run, connections that nobody has used for long.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut tick = interval(IDLE);
        loop {
            tick.tick().await;
            for engine in [&self.blue, &self.green] {
                engine.public.pool.sweep();
                engine.admin.pool.sweep();
            }
        }
    }

    /// Asks the engine of a side for its version, by the way that clients' requests take.
    pub(super) async fn version(&self, side: Side) -> Result<String, String> {
        let mut why = String::new();
        for listener in [Listener::Admin, Listener::Public] {
            match self.version_at(side, listener).await {
                Ok(version) => return Ok(version),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn version_at(&self, side: Side, listener: Listener) -> Result<String, String> {
        let request = Request::get("/version").body(()).map_err(|error| error.to_string())?;
        let (head, ()) = request.into_parts();
        let response = self.send(side, listener, head, full(Bytes::new())).await.map_err(|error| chain_of(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("GET /version answered {status}"));
        }
        let body = Limited::new(response.into_body(), VERSION_BYTES);
        let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        value["version"].as_str().map(str::to_owned).ok_or_else(|| "GET /version names no version".to_owned())
    }

    fn engine(&self, side: Side) -> &Engine {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

impl Engine {
    fn base(&self, listener: Listener) -> &Base {
        match listener {
            Listener::Public => &self.public,
            Listener::Admin => &self.admin,
        }
    }
}

impl Base {
    fn parse(what: &str, url: &str) -> Result<Self, GatewayError> {
        let wrong =
            |why: &str| GatewayError::Address { what: what.to_owned(), url: url.to_owned(), why: why.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong("not an address"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("the gateway speaks plain http to an engine"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("it names no host"))?;
        let to = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        Ok(Self { pool: Pool::new(to, host), prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Makes of the client's target its path and query at this engine; whatever host the client named in it is left behind.
    fn point(&self, uri: &mut Uri) {
        if self.prefix.is_empty() && uri.authority().is_none() && uri.path_and_query().is_some() {
            return;
        }
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = format!("{}{path}", self.prefix);
        // Two parts of a path are a path.
        *uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    }
}

/// The HTTP library leaves out the body of a GET or a HEAD whose length is not known, unless the head says that it is there.
fn say_chunked(head: &mut Parts, body: &Body) {
    use hyper::body::Body as _;
    let is_bodiless = head.method == Method::GET || head.method == Method::HEAD;
    if is_bodiless && !body.is_end_stream() && body.size_hint().exact().is_none() {
        head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn is_repeatable(head: &Parts, body: &Body) -> bool {
    use hyper::body::Body as _;
    (head.method == Method::GET || head.method == Method::HEAD) && body.is_end_stream()
}

/// An error with its causes, for a log line.
pub(super) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
