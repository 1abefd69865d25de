//! Figures: what clients were answered on each side, as an orchestrator hears of it.

use super::world::{World, to_green};
use crate::harness::eventually;
use cutover::plan::{Adapter, Control, Gateways, System};
use cutover::traffic::adapters::{AdapterError, Participant};
use cutover::traffic::figures::{Answers, Figures, LONGEST_S};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);
/// Longer than a gateway keeps what control said of revocations.
const LATER: Duration = Duration::from_secs(40);
const REFRESH: &str = "grant_type=refresh_token&refresh_token=x.r1";

async fn ask(world: &World, seconds: u64) -> Result<Figures, AdapterError> {
    let control = format!("http://{}", world.gateway.addresses.control);
    let gateway = Control { name: "engine".to_owned(), url: control };
    let adapter = Adapter::Gateway(Gateways { controls: vec![gateway], count_out: None });
    let system = System { name: "engine".to_owned(), adapter, behind: None, answers: BTreeMap::new() };
    let figures = Participant::of(&system, &world.http)[0].figures(seconds, SOON).await?;
    Ok(figures.expect("a gateway has figures"))
}

async fn figures(world: &World) -> Figures {
    ask(world, LONGEST_S).await.expect("the gateway answers")
}

/// Waits until so many were counted: what is streamed ends a moment after its client has all of it.
async fn counted(world: &World, requests: u64) -> Answers {
    eventually(SOON, "the requests are counted", async || {
        Some(figures(world).await.blue).filter(|blue| blue.requests >= requests)
    })
    .await
}

/// Posts a form to the token endpoint; gives the status and what the engine saw.
async fn token(world: &World, form: &str) -> (u16, String) {
    let url = format!("http://{}/oauth2/token", world.gateway.addresses.public);
    let kind = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    let request = world.http.post(url).header(kind.0, kind.1).body(form.to_owned());
    let response = request.send().await.expect("the gateway answers");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

/// Posts by hand: `pieces` as chunks.
async fn chunked(world: &World, path: &str, pieces: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(world.gateway.addresses.public).await.expect("it listens");
    let kind = "content-type: application/x-www-form-urlencoded";
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    for piece in pieces {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(chunk.as_bytes()).await.expect("it is sent");
        // Apart, so that they arrive one by one.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await;
    read.expect("the connection is closed").expect("text");
    answer
}

#[tokio::test]
async fn gateway_counts_what_the_engine_answered() {
    let world = World::new().await;
    assert_eq!(figures(&world).await.blue, Answers::default());
    for (path, status) in
        [("/work", 200), ("/work", 200), ("/status/404", 404), ("/status/500", 500), ("/version", 200)]
    {
        assert_eq!(world.get(path).await.status(), status);
    }
    assert_eq!(world.revoke("a.b").await.status(), 200);
    let seen = figures(&world).await;
    assert_eq!(
        (seen.blue.requests, seen.blue.failed, seen.blue.refreshes),
        (5, 1, 0),
        "no version, and a 404 is an answer"
    );
    assert!(seen.blue.p95_ms.is_some_and(|p95_ms| p95_ms > 0.0 && p95_ms < 10_000.0), "{seen:?}");
    assert_eq!(seen.green, Answers::default());
    assert!(seen.seconds < 60, "no further back than its start: {seen:?}");
}

#[tokio::test]
async fn gateway_counts_an_engine_that_does_not_answer_as_failed() {
    let world = World::with(|config| {
        config.gateway.request_timeout = Duration::from_millis(400);
        config.gateway.blue.admin = "http://127.0.0.1:1".to_owned();
    })
    .await;
    assert_eq!(world.introspect().await.status(), 502);
    assert_eq!(world.get("/slow").await.status(), 504);
    let slow = format!("http://{}/slow", world.gateway.addresses.public);
    let posted = world.http.post(slow).body("all of it was sent").send().await.expect("the gateway answers");
    assert_eq!(posted.status(), 504);
    let blue = figures(&world).await.blue;
    assert_eq!((blue.requests, blue.failed), (3, 3));
    assert!(
        blue.p95_ms.is_some_and(|p95_ms| (340.0..5000.0).contains(&p95_ms)),
        "as long as it was waited for: {blue:?}"
    );
}

#[tokio::test]
async fn gateway_does_not_blame_the_engine_for_a_client_that_sends_half() {
    let world = World::with(|config| config.gateway.request_timeout = Duration::from_millis(400)).await;
    for path in ["/echo", "/oauth2/token"] {
        let silent = chunked(&world, path, &["half"]).await;
        assert!(answer(silent).await.starts_with("HTTP/1.1 408"), "{path}");
    }
    let mut broken = chunked(&world, "/echo", &["half"]).await;
    broken.write_all(b"no chunk\r\n").await.expect("it is sent");
    let _ = broken.read_to_end(&mut Vec::new()).await;
    assert_eq!(world.get("/work").await.status(), 200);
    let blue = figures(&world).await.blue;
    assert_eq!((blue.requests, blue.failed), (1, 0), "{blue:?}");
    assert_eq!(world.blue.count("POST /oauth2/token"), 0, "a form that has not come is not passed on");
}

#[tokio::test]
async fn gateway_counts_an_answer_that_breaks_off_as_failed() {
    let world = World::new().await;
    assert_eq!(world.get("/broken/small").await.status(), 502);
    let streamed = world.get("/broken/streamed").await;
    assert_eq!(streamed.status(), 200, "its head had gone out");
    assert!(streamed.bytes().await.is_err());
    let blue = counted(&world, 2).await;
    assert_eq!((blue.requests, blue.failed), (2, 2));
}

#[tokio::test]
async fn gateway_counts_an_answer_that_runs_out_of_time_as_failed() {
    let world = World::with(|config| config.gateway.request_timeout = Duration::from_millis(400)).await;
    assert!(world.get("/endless").await.bytes().await.is_err());
    let blue = counted(&world, 1).await;
    assert_eq!((blue.requests, blue.failed), (1, 1));
}

#[tokio::test]
async fn gateway_does_not_blame_the_engine_for_a_client_that_goes_away() {
    let world = World::new().await;
    let mut response = world.get("/endless").await;
    assert!(response.chunk().await.expect("it has begun").is_some());
    assert_eq!(figures(&world).await.blue.requests, 0, "it is still being answered");
    drop(response);
    let blue = counted(&world, 1).await;
    assert_eq!((blue.requests, blue.failed), (1, 0));
    let waited = tokio::time::timeout(Duration::from_millis(300), world.get("/slow")).await;
    assert!(waited.is_err(), "it gives up before the engine has begun");
    let blue = counted(&world, 2).await;
    assert_eq!((blue.requests, blue.failed), (2, 0));
    assert!(blue.p95_ms.is_some_and(|p95_ms| p95_ms > 200.0), "but an engine that lets them wait is seen: {blue:?}");
}

#[tokio::test]
async fn gateway_tells_refreshes_from_those_that_were_refused() {
    let world = World::new().await;
    assert_eq!(token(&world, REFRESH).await.0, 200);
    assert_eq!(token(&world, "grant_type=client_credentials").await.0, 200);
    *world.blue.token_status.lock().expect("no panic") = 400;
    assert_eq!(token(&world, REFRESH).await.0, 400);
    assert_eq!(token(&world, "grant_type=authorization_code&code=c").await.0, 400);
    *world.blue.token_status.lock().expect("no panic") = 503;
    assert_eq!(token(&world, REFRESH).await.0, 503);
    let blue = figures(&world).await.blue;
    assert_eq!((blue.requests, blue.failed), (5, 1));
    assert_eq!((blue.refreshes, blue.refused_refreshes), (2, 1), "{blue:?}");
}

#[tokio::test]
async fn gateway_passes_token_requests_on_as_they_came() {
    let world = World::new().await;
    let (_, seen) = token(&world, REFRESH).await;
    assert!(seen.ends_with(&format!("\n{REFRESH}")), "{seen}");
    assert!(seen.contains(&format!(r#""content-length": "{}""#, REFRESH.len())), "{seen}");
    let (first, second) = REFRESH.split_at(9);
    let whole = chunked(&world, "/oauth2/token", &[first, second]).await;
    let seen = finished(whole).await;
    assert!(seen.ends_with(&format!("\n{REFRESH}")), "{seen}");
    assert_eq!(figures(&world).await.blue.refreshes, 2);
}

#[tokio::test]
async fn gateway_passes_large_forms_on_and_looks_for_no_refresh() {
    let world = World::new().await;
    let large = format!("{REFRESH}&state={}", "x".repeat(100_000));
    let (status, seen) = token(&world, &large).await;
    assert!(status == 200 && seen.ends_with(&large), "declared larger than what is read");
    let (first, second) = large.split_at(70_000);
    let seen = finished(chunked(&world, "/oauth2/token", &[first, second]).await).await;
    assert!(seen.starts_with("HTTP/1.1 200") && seen.ends_with(&large), "found larger than what is read");
    assert_eq!(world.blue.count("POST /oauth2/token"), 2, "each once");
    let blue = counted(&world, 2).await;
    assert_eq!((blue.requests, blue.failed, blue.refreshes), (2, 0, 0));
}

async fn finished(mut stream: TcpStream) -> String {
    stream.write_all(b"0\r\n\r\n").await.expect("it is sent");
    answer(stream).await
}

#[tokio::test]
async fn gateway_keeps_the_figures_of_both_sides_apart() {
    let world = World::new().await;
    assert_eq!(world.get("/work").await.status(), 200);
    let order = to_green(2, SOON);
    for verb in ["prepare", "hold", "switch", "verify", "release"] {
        world.must(verb, &order).await;
    }
    *world.green.token_status.lock().expect("no panic") = 401;
    assert_eq!(token(&world, REFRESH).await.0, 401);
    assert_eq!(world.get("/status/500").await.status(), 500);
    let seen = figures(&world).await;
    assert_eq!((seen.blue.requests, seen.blue.failed, seen.blue.refreshes), (1, 0, 0));
    assert_eq!((seen.green.requests, seen.green.failed), (2, 1));
    assert_eq!((seen.green.refreshes, seen.green.refused_refreshes), (1, 1));
}

#[tokio::test]
async fn gateway_does_not_count_what_it_refused_itself() {
    let world = World::with(|config| config.gateway.held_requests = 0).await;
    let order = to_green(2, SOON);
    world.must("hold", &order).await;
    assert_eq!(world.get("/work").await.status(), 503);
    world.must("release", &order).await;
    let url = format!("http://{}/oauth2/revoke", world.gateway.addresses.public);
    assert_eq!(world.http.post(url).body("no form").send().await.expect("the gateway answers").status(), 415);
    let seen = figures(&world).await;
    assert_eq!((seen.blue, seen.green), (Answers::default(), Answers::default()));
}

/// What `/metrics` says of where revocations stand.
async fn standing(world: &World) -> Vec<String> {
    let text = world.metrics().await;
    let told = text.lines().filter_map(|line| line.strip_prefix("cutover_revocations_"));
    told.filter(|line| !line.contains("_total")).map(str::to_owned).collect()
}

#[tokio::test]
async fn gateway_tells_where_revocations_stand_in_control_and_nothing_when_that_does_not_say_it() {
    let world = World::new().await;
    let control = &world.pair.control;
    for token in 1..=7 {
        assert_eq!(world.revoke(&format!("a.{token}")).await.status(), 200);
    }
    eventually(SOON, "all of them are in control", async || {
        (control.ask::<i64>("select count(*) from cutover.revocation").await == 7).then_some(())
    })
    .await;
    control
        .execute(
            "with numbered as (select id, row_number() over (order by seq) as n from cutover.revocation)
update cutover.revocation r set replayed_at = case when n <= 6 then captured_at end,
  proved_at = case when n in (2, 3) then captured_at end, dead_at = case when n in (4, 5, 6) then captured_at end,
  captured_at = captured_at - case when n in (3, 7) then interval '1 hour' else interval '0' end
from numbered where numbered.id = r.id",
        )
        .await;
    let told =
        eventually(LATER, "control says it", async || Some(standing(&world).await).filter(|told| !told.is_empty()))
            .await;
    assert_eq!(told[..3], ["replayed 1", "proved 2", "dead 3"]);
    let oldest_s = told[3].strip_prefix("oldest_unproved_seconds ").map(|age| age.parse::<f64>().expect("a number"));
    assert!(oldest_s.is_some_and(|oldest_s| (3600.0..3700.0).contains(&oldest_s)), "{told:?}");

    control.execute("alter table cutover.revocation rename to elsewhere").await;
    assert_eq!(standing(&world).await, told, "control counts once for all who ask within some seconds");
    eventually(LATER, "what was once true is told no more", async || standing(&world).await.is_empty().then_some(()))
        .await;
    assert_eq!(world.metric("cutover_revocations_captured_total").await, 7, "what it counts itself is told still");
}

#[tokio::test]
async fn gateway_says_what_it_can_be_asked_for_and_forgets_at_a_restart() {
    let mut world = World::new().await;
    assert_eq!(world.get("/work").await.status(), 200);
    assert_eq!(
        world.ask_control("/cutover/v1/figures").await["blue"]["requests"],
        1,
        "an hour, unless asked otherwise"
    );
    for seconds in [0, LONGEST_S + 1] {
        let refused = ask(&world, seconds).await.expect_err("it cannot be told").to_string();
        assert!(refused.contains("400") && refused.contains("from 1 to 3600"), "{refused}");
    }
    world.restart_gateway().await;
    assert_eq!(figures(&world).await.blue, Answers::default());
}

#[tokio::test]
async fn gateway_tells_refreshes_by_client_once_the_engine_has_answered_it_and_who_is_turned_away() {
    let world = World::new().await;
    let answers = |status: u16| *world.blue.token_status.lock().expect("no panic") = status;
    let from = async |client: &str| token(&world, &format!("{REFRESH}&client_id={client}")).await.0;
    answers(401);
    assert_eq!(from("a-stranger").await, 401);
    answers(200);
    for client in ["an-app", "an-app", "another"] {
        assert_eq!(from(client).await, 200);
    }
    let url = format!("http://{}/oauth2/token", world.gateway.addresses.public);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let basic = world.http.post(url).header(kind.0, kind.1).basic_auth("an-app", Some("a secret")).body(REFRESH);
    assert_eq!(basic.send().await.expect("the gateway answers").status(), 200);
    answers(400);
    assert_eq!(from("an-app").await, 400);
    counted(&world, 6).await;
    let seen = figures(&world).await;
    let told: Vec<_> = seen.blue_clients.iter().map(|one| (one.client.as_str(), one.refreshes, one.refused)).collect();
    assert_eq!(told, [("an-app", 4, 1), ("another", 1, 0)]);
    assert_eq!((seen.green_clients.len(), seen.blue.forbidden, seen.blue.refused_refreshes), (0, 1, 2));
    let text = serde_json::to_string(&seen).expect("JSON");
    assert!(!text.contains("secret") && !text.contains("stranger"), "{text}");
}

#[tokio::test]
async fn a_system_that_counts_nothing_says_nothing_and_one_that_breaks_is_told() {
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    for (status, is_none) in [(404, true), (405, true), (500, false)] {
        let status = axum::http::StatusCode::from_u16(status).expect("a status");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = axum::Router::new().fallback(move || async move { status });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let system = |adapter| System { name: "a".to_owned(), adapter, behind: None, answers: BTreeMap::new() };
        let ask = async |adapter| {
            let http = cutover::traffic::http_client().expect("a client");
            Participant::of(&system(adapter), &http)[0].figures(60, SOON).await
        };
        let said = ask(Adapter::Participant { url: url.clone() }).await;
        assert_eq!(said.as_ref().is_ok_and(Option::is_none), is_none, "{status}: {said:?}");
        let gateway = Control { name: "a".to_owned(), url };
        assert!(
            ask(Adapter::Gateway(Gateways { controls: vec![gateway], count_out: None })).await.is_err(),
            "a gateway counts: {status}"
        );
    }
}
