//! `POST /cutover/v1/revocations`: who may, what is understood, what an engine makes of it, and what the tables then say.

use super::engine::{Engine, Manner};
use super::http_sink::words;
use crate::gateway::world::{World, nowhere, to_green};
use crate::harness::eventually;
use crate::revocations::tables;
use cutover::plan::{Replay, Secret};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const TOKEN: &str = "a-token-made-by-chance";

async fn world(manner: Manner) -> (World, Engine) {
    world_by(Engine::start(manner).await, None).await
}

/// The same, with the plan's word on how its engine is told.
async fn world_by(engine: Engine, replay: Option<Replay>) -> (World, Engine) {
    let admin = engine.url.clone();
    let world = World::with(|config| {
        config.gateway.revocations_token = Some(Secret::new(TOKEN));
        config.gateway.blue.admin = admin;
        config.gateway.request_timeout = Duration::from_secs(2);
        config.replay = replay;
    })
    .await;
    *engine.database.lock().expect("no panic") = Some(world.pair.blue.url());
    (world, engine)
}

async fn post(world: &World, token: &str, body: &Value) -> (u16, Value) {
    let url = format!("http://{}/cutover/v1/revocations", world.gateway.addresses.control);
    let answer = world.http.post(url).bearer_auth(token).json(body).send().await.expect("the gateway answers");
    let is_later = answer.headers().contains_key("retry-after");
    let status = answer.status().as_u16();
    assert_eq!(is_later, status == 503, "one may come again after 503 alone");
    (status, answer.json().await.unwrap_or_default())
}

async fn add(world: &World, what: Value) -> (u16, Value) {
    let mut body = json!({ "because": "left the company", "actor": "hr" });
    body.as_object_mut().expect("an object").extend(what.as_object().expect("an object").clone());
    post(world, TOKEN, &body).await
}

async fn grant(world: &World, name: &str, subject: &str) {
    let sql = tables::blue_consent(name, "app", subject) + &tables::grant(name, name, "app", subject);
    world.pair.blue.execute(&sql).await;
}

/// What is left of a grant on blue.
async fn alive(world: &World, name: &str) -> i64 {
    let query = format!(
        "select (select count(*) from hydra_oauth2_access where request_id = '{name}') + (select count(*) from hydra_oauth2_refresh where request_id = '{name}' and active)
       + (select count(*) from hydra_oauth2_consent_request where challenge = '{name}')"
    );
    world.pair.blue.ask(&query).await
}

#[tokio::test]
async fn revocation_verbs_gateway_takes_one_from_outside_by_either_major_and_believes_tables_alone() {
    let (world, engine) = world(Manner::First).await;
    for (name, subject) in [("r1", "ann"), ("r2", "bob"), ("r3", "eve"), ("r4", "eve")] {
        grant(&world, name, subject).await;
    }
    let (status, said) = add(&world, json!({ "subject": "ann", "client": "app" })).await;
    assert_eq!((status, &said["outcome"], &said["seq"]), (200, &"executed".into(), &1.into()), "{said}");
    assert_eq!(alive(&world, "r1").await, 0);
    let id = said["id"].as_str().expect("an id");
    let kept = format!(
        "select door || ' ' || outcome || ' ' || (chain->'consents')::text from cutover.revocation where id = '{id}'"
    );
    // What became of it is written down soon after it is told.
    eventually(Duration::from_secs(10), "it is written down as executed", async || {
        (world.pair.control.ask::<String>(&kept).await == "consent executed [\"r1\"]").then_some(())
    })
    .await;
    let asked = "select actor || ': ' || because from cutover.revocation_asked";
    assert_eq!(world.pair.control.ask::<String>(asked).await, "hr: left the company");

    engine.behave(Manner::Second);
    let (status, said) = add(&world, json!({ "consent": "r2" })).await;
    assert_eq!((status, alive(&world, "r2").await), (200, 0), "an engine is told of a consent by its pair: {said}");

    engine.behave(Manner::Lies);
    let (status, said) = add(&world, json!({ "subject": "eve" })).await;
    assert_eq!((status, &said["outcome"]), (502, &"captured".into()), "{said}");
    assert!(said["error"].as_str().is_some_and(|why| why.contains("204") && why.contains("blue")), "{said}");

    engine.behave(Manner::Says(500));
    let (status, said) = add(&world, json!({ "subject": "eve" })).await;
    assert_eq!((status, &said["outcome"], &said["status"]), (502, &"captured".into(), &500.into()), "{said}");
    engine.behave(Manner::Dawdles);
    let (status, said) = add(&world, json!({ "subject": "eve" })).await;
    assert_eq!((status, &said["outcome"]), (502, &"captured".into()), "{said}");

    let elsewhere = Engine::start(Manner::Lies).await;
    engine.behave(Manner::LeadsAstray(elsewhere.url.clone()));
    let (status, said) = add(&world, json!({ "subject": "eve" })).await;
    assert_eq!((status, &said["outcome"], elsewhere.count()), (422, &"refused".into(), 0), "never followed: {said}");
    engine.behave(Manner::Says(401));
    assert_eq!(add(&world, json!({ "subject": "eve" })).await.0, 422, "the engine does not let the gateway in");

    engine.behave(Manner::First);
    let (status, said) = add(&world, json!({ "subject": "nobody & all=true" })).await;
    assert_eq!((status, alive(&world, "r3").await), (200, 3), "what names nothing kills nothing: {said}");
    assert_eq!(world.metric("cutover_revocations_captured_total").await, 8, "each was queued, whatever came of it");
}

#[tokio::test]
async fn revocation_verbs_gateway_tells_an_engine_with_an_api_of_its_own_in_the_plans_words() {
    let engine = Engine::start(Manner::First).await;
    let http = words(&engine.url, "http://127.0.0.1:1");
    let (world, engine) = world_by(engine, Some(Replay { http: Some(http), sql: Vec::new() })).await;
    for (name, subject) in [("r1", "ann"), ("r2", "bob")] {
        grant(&world, name, subject).await;
    }
    let (status, said) = add(&world, json!({ "subject": "ann", "client": "app" })).await;
    assert_eq!((status, &said["outcome"], alive(&world, "r1").await), (200, &"executed".into(), 0), "{said}");
    let (status, said) = add(&world, json!({ "consent": "r2" })).await;
    assert_eq!((status, &said["outcome"], alive(&world, "r2").await), (200, &"executed".into(), 0), "{said}");
    let (status, said) = add(&world, json!({ "session": "s1" })).await;
    assert_eq!((status, &said["outcome"]), (502, &"captured".into()), "{said}");
    assert!(said["error"].as_str().is_some_and(|why| why.contains("no request for this")), "{said}");
    let asked = ["ann", "bob"].map(|subject| format!("POST /base/grants?subject={subject}&client=app"));
    assert_eq!(*engine.asked.lock().expect("no panic"), asked, "Hydra's admin API is none of its");
}

#[tokio::test]
async fn revocation_verbs_gateway_lets_nobody_in_without_the_token_and_understands_one_form_alone() {
    let (world, engine) = world(Manner::First).await;
    let body = json!({ "subject": "ann", "because": "x", "actor": "y" });
    assert_eq!(post(&world, "another-token-altogether", &body).await.0, 401);
    for what in [
        json!({}),
        json!({ "token": "a.b" }),
        json!({ "subject": "a\u{0}b" }),
        json!({ "consent": "a", "session": "b" }),
    ] {
        assert_eq!(add(&world, what.clone()).await.0, 400, "{what}");
    }
    let url = format!("http://{}/cutover/v1/revocations", world.gateway.addresses.control);
    let raw = async |kind: &str, body: String| {
        let request = world.http.post(&url).bearer_auth(TOKEN).header("content-type", kind).body(body);
        request.send().await.expect("the gateway answers").status().as_u16()
    };
    assert_eq!(raw("text/plain", body.to_string()).await, 415);
    assert_eq!(raw("application/json", "{".to_owned()).await, 400);
    assert_eq!(raw("application/json", format!("{{\"subject\":\"{}\"}}", "x".repeat(20_000))).await, 413);
    assert_eq!(engine.count(), 0, "the engine never hears of it");
    eventually(Duration::from_secs(10), "the queue's tables are made", async || {
        world.pair.control.ask::<bool>("select to_regclass('cutover.revocation') is not null").await.then_some(())
    })
    .await;
    let queued: bool = world.pair.control.ask("select exists (select from cutover.revocation)").await;
    assert!(!queued, "and nothing is queued");

    let without = World::new().await;
    assert_eq!(post(&without, TOKEN, &body).await.0, 404, "without a token in the plan there is no such place");
    let cut_off = World::with(|config| {
        config.control = nowhere();
        config.gateway.revocations_token = Some(Secret::new(TOKEN));
    })
    .await;
    assert_eq!(post(&cut_off, TOKEN, &body).await.0, 503, "it cannot be queued");
    assert_eq!(cut_off.metric("cutover_revocations_refused_total").await, 1);
    assert_eq!(cut_off.metric("cutover_revocations_captured_total").await, 0);
}

#[tokio::test]
async fn revocation_verbs_gateway_holds_one_from_outside_like_any_other() {
    let (world, engine) = world(Manner::First).await;
    grant(&world, "r1", "ann").await;
    let order = to_green(2, Duration::from_secs(30));
    world.must("hold", &order).await;
    let world = Arc::new(world);
    let late = tokio::spawn({
        let world = Arc::clone(&world);
        async move { add(&world, json!({ "subject": "ann" })).await }
    });
    let held = "select exists (select from cutover.revocation)";
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!world.pair.control.ask::<bool>(held).await && engine.count() == 0 && !late.is_finished());
    world.must("switch", &order).await;
    world.must("release", &order).await;
    let (status, said) = late.await.expect("no panic");
    assert_eq!(said["outcome"], "executed", "green's engine was told: {status} {said}");
    assert_eq!(engine.count(), 0, "blue's was not");
    let live: String = world.pair.control.ask("select live from cutover.revocation").await;
    assert_eq!(live, "green");
}
