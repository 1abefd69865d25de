//! An engine with an API of its own, told in the plan's words: what arrives there, what its answers mean, and who never hears of it.

use super::engine::{Engine, Manner};
use cutover::plan::{ReplayHttp, ReplayPiece, ReplayRequest, Secret, Side};
use cutover::revocations::sinks::{Errand, HttpSink, Sink, SinkError, client};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_millis(500);
const CREDENTIAL: &str = "Bearer a-credential-made-by-chance";
const SUBJECT: &str = "a-subject";

/// What a plan says of the engines at two addresses.
pub(super) fn words(blue: &str, green: &str) -> ReplayHttp {
    let text = |text: &str| ReplayPiece::Text(text.to_owned());
    let consents = ReplayRequest {
        method: "POST",
        path: vec![text("/grants?subject="), ReplayPiece::Subject, text("&client="), ReplayPiece::Client],
        body: BTreeMap::from([("user".to_owned(), vec![text("id:"), ReplayPiece::Subject])]),
    };
    let path = vec![text("/users/"), ReplayPiece::Subject, text("/sessions")];
    let sessions = ReplayRequest { method: "PUT", path, body: BTreeMap::new() };
    ReplayHttp {
        blue: format!("{blue}/base"),
        green: format!("{green}/base"),
        headers: BTreeMap::from([("authorization".to_owned(), Secret::new(CREDENTIAL))]),
        consents: Some(consents),
        sessions: Some(sessions),
        client_tokens: None,
    }
}

fn sink(plan: &ReplayHttp, side: Side) -> HttpSink {
    HttpSink::new(client(LIMIT).expect("a client"), plan.clone(), side, LIMIT)
}

fn consents(subject: &str, client: &str) -> Errand {
    Errand::Consents { subject: subject.to_owned(), client: Some(client.to_owned()) }
}

/// What comes of telling the engine at an address.
async fn told(url: &str) -> SinkError {
    sink(&words(url, url), Side::Blue).tell(&consents(SUBJECT, "app")).await.expect_err("no success")
}

#[tokio::test]
async fn revocation_verbs_http_says_the_plans_words_on_one_side_and_values_stay_values() {
    let (blue, green) = (Engine::start(Manner::Lies).await, Engine::start(Manner::Says(200)).await);
    let plan = words(&blue.url, &green.url);
    let on_blue = sink(&plan, Side::Blue);
    let subject = "a/../b?c=d&e \"";
    assert_eq!(on_blue.tell(&consents(subject, "x&y=z #")).await.expect("success"), 204);
    let sessions = Errand::Sessions { subject: subject.to_owned() };
    assert_eq!(on_blue.tell(&sessions).await.expect("success"), 204);
    let asked = [
        "POST /base/grants?subject=a%2F..%2Fb%3Fc%3Dd%26e%20%22&client=x%26y%3Dz%20%23",
        "PUT /base/users/a%2F..%2Fb%3Fc%3Dd%26e%20%22/sessions?",
    ];
    assert_eq!(*blue.asked.lock().expect("no panic"), asked);
    let heard = blue.heard.lock().expect("no panic").clone();
    assert!(heard.iter().all(|(headers, _)| headers["authorization"] == CREDENTIAL), "{heard:?}");
    assert_eq!(heard[0].0["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_str(&heard[0].1).expect("JSON");
    assert_eq!(body, serde_json::json!({ "user": format!("id:{subject}") }));
    assert_eq!((heard[1].0.get("content-type"), heard[1].1.as_str()), (None, ""), "the plan gives it no body");

    for errand in [
        Errand::ClientTokens { client: "app".to_owned() },
        Errand::Consent { challenge: "c1".to_owned() },
        Errand::Consents { subject: "ann".to_owned(), client: None },
        consents("..", "app"),
    ] {
        let said = on_blue.tell(&errand).await;
        assert!(matches!(said, Err(SinkError::Unsaid)), "{errand:?}: {said:?}");
    }
    assert_eq!((blue.count(), green.count()), (2, 0), "what cannot be said is not asked");
    assert_eq!(sink(&plan, Side::Green).tell(&consents("ann", "app")).await.expect("success"), 200);
    assert_eq!((blue.count(), green.count()), (2, 1));
}

#[tokio::test]
async fn revocation_verbs_http_takes_nothing_but_success_for_success_and_says_what_it_was() {
    let engine = Engine::start(Manner::Lies).await;
    let statuses = [(401, true), (403, true), (404, true), (409, true), (500, false), (503, false)];
    for (status, is_refusal) in statuses {
        engine.behave(Manner::Says(status));
        let error = told(&engine.url).await;
        assert_eq!((error.status(), error.is_refusal()), (Some(status), is_refusal), "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    assert_eq!(engine.count(), statuses.len(), "each was asked once");

    let error = told("http://127.0.0.1:1").await;
    assert_eq!((error.status(), error.is_refusal()), (None, false), "what it did is not known");
    let said = error.to_string();
    assert!(said.starts_with("the engine cannot be asked: ") && said.contains("refused"), "{said}");
    assert!(!said.contains(SUBJECT), "whose tokens they are belongs into no log: {said}");
}

#[tokio::test]
async fn revocation_verbs_http_is_led_to_no_other_host_and_no_credential_reaches_it() {
    let elsewhere = Engine::start(Manner::Lies).await;
    let engine = Engine::start(Manner::LeadsAstray(elsewhere.url.clone())).await;
    let error = told(&engine.url).await;
    assert!(matches!(error, SinkError::Redirected(307)) && error.is_refusal(), "{error}");
    assert_eq!((engine.count(), elsewhere.count()), (1, 0));
}

#[tokio::test]
async fn revocation_verbs_http_waits_for_a_slow_engine_no_longer_than_its_limit() {
    let engine = Engine::start(Manner::Dawdles).await;
    let began = Instant::now();
    let error = told(&engine.url).await;
    assert!(matches!(error, SinkError::Slow(limit) if limit == LIMIT) && !error.is_refusal(), "{error}");
    assert!(began.elapsed() >= LIMIT && began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(engine.count(), 1, "it was asked");
}
