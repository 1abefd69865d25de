//! An assertion by which a client proves who it is is good for one use on both sides together: used before the copy, in the window or on green,
//! it is refused by whoever serves afterwards.

use crate::harness::sandbox::Sandbox;
use crate::harness::signer::{Signer, form};
use reqwest::StatusCode;
use serde_json::Value;

/// A client that signs, and the door through which it asks.
struct Asking {
    signer: Signer,
    endpoint: String,
    http: reqwest::Client,
}

impl Asking {
    async fn new(sandbox: &Sandbox) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let (signer, endpoint) = (Signer::new("signs"), format!("{}/oauth2/token", sandbox.variable("GATEWAY_PUBLIC")));
        let clients = format!("{}/clients", sandbox.variable("BLUE_ADMIN"));
        let made = http.post(clients).json(&signer.registration()).send().await.expect("blue's engine answers");
        assert_eq!(made.status(), StatusCode::CREATED, "{:?}", made.text().await);
        Self { signer, endpoint, http }
    }

    /// Which side answers to an assertion of this name, and what.
    async fn asks(&self, jti: &str) -> (String, StatusCode, Value) {
        let assertion = self.signer.assertion(&self.endpoint, jti);
        let answer = self.http.post(&self.endpoint).form(&form(&assertion)).send().await.expect("the gateway answers");
        let side = answer.headers().get("x-cutover-side").and_then(|side| side.to_str().ok()).unwrap_or_default();
        let (side, status) = (side.to_owned(), answer.status());
        (side, status, answer.json().await.expect("JSON"))
    }

    async fn is_taken(&self, jti: &str, on: &str) {
        let (side, status, said) = self.asks(jti).await;
        assert_eq!((side.as_str(), status), (on, StatusCode::OK), "{jti}: {said}");
    }

    async fn is_known(&self, jti: &str, on: &str) {
        let (side, status, said) = self.asks(jti).await;
        let known = (on, StatusCode::BAD_REQUEST, Some("jti_known"));
        assert_eq!((side.as_str(), status, said["error"].as_str()), known, "{jti} was used before: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_that_one_side_has_taken_is_refused_by_the_other() {
    let sandbox = Sandbox::up("assertions", 1000, 10).await;
    let client = Asking::new(&sandbox).await;
    client.is_taken("before the copy", "blue").await;
    client.is_known("before the copy", "blue").await;
    let (code, said) = sandbox.run("run").await;
    assert_eq!(code, 0, "{said}");
    client.is_taken("in the window", "blue").await;

    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    for jti in ["before the copy", "in the window"] {
        client.is_known(jti, "green").await;
    }
    client.is_taken("on green", "green").await;

    let (code, said) = sandbox.run("rollback --yes").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("blue")), "{said}");
    for jti in ["before the copy", "in the window", "on green"] {
        client.is_known(jti, "blue").await;
    }
    client.is_taken("back on blue", "blue").await;
}
