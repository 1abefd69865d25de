//! An engine with an API of its own, told by the plan's requests: values are encoded where they stand, never put into a text that they could
//! break out of.

use super::{Errand, Sink, SinkError, sent};
use crate::plan::{ReplayHttp, ReplayPiece, ReplayRequest, Side};
use futures_util::future::BoxFuture;
use reqwest::{Client, Method};
use serde_json::{Map, Value};
use std::time::Duration;
use url::Url;

/// The API of one side's engine, as the plan says it.
pub struct HttpSink {
    http: Client,
    plan: ReplayHttp,
    side: Side,
    limit: Duration,
}

/// The values of one request.
struct Values<'a> {
    subject: Option<&'a str>,
    client: Option<&'a str>,
}

impl HttpSink {
    /// The engine of `side`, asked through `http` (see [`super::client`]), which waits for at most `limit`.
    #[must_use]
    pub fn new(http: Client, plan: ReplayHttp, side: Side, limit: Duration) -> Self {
        Self { http, plan, side, limit }
    }

    async fn ask(&self, errand: &Errand) -> Result<u16, SinkError> {
        let (request, values) = match errand {
            Errand::Consents { subject, client } => {
                (&self.plan.consents, Values { subject: Some(subject), client: client.as_deref() })
            }
            Errand::Sessions { subject } => (&self.plan.sessions, Values { subject: Some(subject), client: None }),
            Errand::ClientTokens { client } => {
                (&self.plan.client_tokens, Values { subject: None, client: Some(client) })
            }
            Errand::Consent { .. } | Errand::Session { .. } => (&None, Values { subject: None, client: None }),
        };
        let request = request.as_ref().ok_or(SinkError::Unsaid)?;
        let address = address(self.plan.base(self.side), request, &values)?;
        let method = Method::from_bytes(request.method.as_bytes()).unwrap_or(Method::POST);
        let mut call = self.http.request(method, address);
        for (name, value) in &self.plan.headers {
            call = call.header(name, value.expose());
        }
        if !request.body.is_empty() {
            call = call.json(&body(request, &values)?);
        }
        sent(call, self.limit).await
    }
}

impl Sink for HttpSink {
    fn tell<'a>(&'a self, errand: &'a Errand) -> BoxFuture<'a, Result<u16, SinkError>> {
        Box::pin(self.ask(errand))
    }
}

/// A value that an address would take for a step in its path is not said at all.
fn address(base: &str, request: &ReplayRequest, values: &Values<'_>) -> Result<Url, SinkError> {
    let mut text = base.to_owned();
    for piece in &request.path {
        match values.of(piece)? {
            value if matches!(piece, ReplayPiece::Text(_)) => text.push_str(value),
            "." | ".." => return Err(SinkError::Unsaid),
            value => text.extend(url::form_urlencoded::byte_serialize(value.as_bytes()).map(|part| match part {
                // A form's blank is a plus sign, which a path takes for itself.
                "+" => "%20",
                part => part,
            })),
        }
    }
    Url::parse(&text).map_err(|error| SinkError::Unreachable(error.to_string()))
}

fn body(request: &ReplayRequest, values: &Values<'_>) -> Result<Value, SinkError> {
    let mut body = Map::new();
    for (member, pieces) in &request.body {
        let mut text = String::new();
        for piece in pieces {
            text.push_str(values.of(piece)?);
        }
        body.insert(member.clone(), Value::String(text));
    }
    Ok(Value::Object(body))
}

impl Values<'_> {
    fn of<'b>(&'b self, piece: &'b ReplayPiece) -> Result<&'b str, SinkError> {
        match piece {
            ReplayPiece::Text(text) => Ok(text),
            ReplayPiece::Subject => self.subject.ok_or(SinkError::Unsaid),
            ReplayPiece::Client => self.client.ok_or(SinkError::Unsaid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn request() -> ReplayRequest {
        let text = |text: &str| ReplayPiece::Text(text.to_owned());
        let path = vec![text("/users/"), ReplayPiece::Subject, text("/apps?app="), ReplayPiece::Client];
        let body = BTreeMap::from([("user".to_owned(), vec![text("id:"), ReplayPiece::Subject])]);
        ReplayRequest { method: "POST", path, body }
    }

    #[test]
    fn hostile_values_stay_where_they_are_put() {
        let values = Values { subject: Some("a/../b?c=d&e \"\r\n"), client: Some("x&app=y#z") };
        let address = address("http://engine:1/base", &request(), &values).expect("an address");
        assert_eq!(address.host_str(), Some("engine"));
        assert_eq!(address.path(), "/base/users/a%2F..%2Fb%3Fc%3Dd%26e%20%22%0D%0A/apps");
        let pairs: Vec<_> = address.query_pairs().into_owned().collect();
        assert_eq!(pairs, [("app".to_owned(), "x&app=y#z".to_owned())]);
        let said = body(&request(), &values).expect("a body").to_string();
        let read: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(read["user"], "id:a/../b?c=d&e \"\r\n");
    }

    #[test]
    fn what_cannot_be_said_is_not_said() {
        for subject in [Some(".."), Some("."), None] {
            let values = Values { subject, client: Some("app") };
            assert!(matches!(address("http://engine:1", &request(), &values), Err(SinkError::Unsaid)), "{subject:?}");
        }
    }
}
