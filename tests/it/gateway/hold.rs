//! Routing, holding and releasing.

use super::world::{World, nowhere, to_green};
use crate::harness::{Pair, eventually};
use cutover::plan::Side;
use cutover::traffic::protocol::{Order, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn gateway_serves_a_blue_that_was_never_part_of_a_cutover() {
    let world = World::over(Pair::shared().await, |config| config.green = nowhere()).await;
    let response = world.get("/anything").await;
    assert_eq!(response.headers()["x-cutover-side"], "blue");
    assert_eq!(response.headers()["x-cutover-epoch"], "0");
    assert_eq!(response.text().await.expect("a body"), "blue");
}

#[tokio::test]
async fn gateway_passes_bodies_and_headers_but_not_those_that_are_ours() {
    let world = World::new().await;
    let url = format!("http://{}/echo", world.gateway.addresses.admin);
    let body = "x".repeat(300_000);
    let request = world.http.post(url).header("x-cutover-side", "green").header("x-mine", "kept").body(body.clone());
    let response = request.send().await.expect("the gateway answers");
    assert_eq!(response.headers()["x-cutover-side"], "blue");
    let text = response.text().await.expect("a body");
    assert!(!text.contains("x-cutover"), "{}", &text[..500]);
    assert!(text.contains("x-mine") && text.contains("x-forwarded-for") && text.ends_with(&body));
}

/// The second request hides in the first one's length; whoever obeys the length sees it, whoever obeys the chunks does not.
#[tokio::test]
async fn gateway_lets_no_second_request_hide_in_a_first() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.gateway.addresses.public).await.expect("it listens");
    let hidden = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let first = format!(
        "POST /first HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    stream.write_all(first.as_bytes()).await.expect("it is sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    assert_eq!(world.blue.count("GET /hidden"), 0, "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn gateway_holds_two_hundred_and_loses_none() {
    let world = Arc::new(World::new().await);
    let order = to_green(2, LONG);
    world.must("prepare", &order).await;
    assert_eq!(world.must("hold", &order).await.in_flight, 0);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            let response = if number % 10 == 0 { world.revoke("a.b").await } else { world.get("/work").await };
            (response.status().as_u16(), response.headers()["x-cutover-side"].to_str().expect("text").to_owned())
        });
    }
    let frozen = world.introspect().await;
    assert_eq!(frozen.text().await.expect("a body"), "blue", "introspection goes on from the side being left");
    let switched = world.must("switch", &order).await;
    assert_eq!((switched.state, switched.side), (State::Switched, Side::Green));
    let late = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.introspect().await.text().await.expect("a body") }
    });
    let verified = world.must("verify", &order).await;
    assert_eq!(verified.answered_by.as_deref(), Some("2.2.0"));
    assert_eq!(world.green.count("GET /work") + world.blue.count("GET /work"), 0, "nothing passes a hold");
    world.must("release", &order).await;
    let answers = tasks.join_all().await;
    assert!(answers.iter().all(|answer| *answer == (200, "green".to_owned())), "{answers:?}");
    assert_eq!(late.await.expect("no panic"), "green", "introspection was held from the switch on");
    assert_eq!(world.blue.count("POST /oauth2/revoke"), 0);
    assert_eq!(world.green.count("POST /oauth2/revoke"), 20);
}

#[tokio::test]
async fn gateway_refuses_more_than_it_may_hold() {
    let world = Arc::new(World::with(|config| config.gateway.held_requests = 3).await);
    let order = to_green(2, LONG);
    world.must("hold", &order).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { world.get("/work").await });
    }
    for _ in 0..2 {
        let refused = tasks.join_next().await.expect("two are refused").expect("no panic");
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
    }
    world.must("release", &Order { side: Side::Blue, ..order }).await;
    assert!(tasks.join_all().await.iter().all(|response| response.status() == 200));
}

/// Opens connections that each send this one request, until as many are held.
async fn held(world: &World, number: usize, request: &str) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..number {
        let mut client = TcpStream::connect(world.gateway.addresses.public).await.expect("it listens");
        client.write_all(request.as_bytes()).await.expect("it is sent");
        clients.push(client);
    }
    are_held(world, number as u64).await;
    clients
}

async fn are_held(world: &World, number: u64) {
    let is_so = async || (world.metric("cutover_gateway_held").await == number).then_some(());
    eventually(SOON, "as many are held", is_so).await;
}

#[tokio::test]
async fn gateway_gives_the_place_of_a_client_that_hung_up_to_the_next() {
    let world = Arc::new(World::with(|config| config.gateway.held_requests = 3).await);
    let order = to_green(2, LONG);
    world.must("hold", &order).await;
    let form = "grant_type=refresh_token&refresh_token=a.b";
    let posted = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let broken = &posted[..posted.len() - 1];
    for request in ["GET /gone HTTP/1.1\r\nhost: x\r\n\r\n", &posted, broken] {
        drop(held(&world, 3, request).await);
        are_held(&world, 0).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { world.get("/work").await.status().as_u16() });
    }
    are_held(&world, 3).await;
    world.must("release", &Order { side: Side::Blue, ..order }).await;
    assert_eq!(tasks.join_all().await, [200; 3]);
    assert_eq!((world.blue.count("GET /gone"), world.blue.count("POST /oauth2/token")), (0, 0));
}

/// What was read of a body while it was held reaches the engine, in its order and whole.
#[tokio::test]
async fn gateway_passes_on_a_body_that_was_held() {
    let world = Arc::new(World::new().await);
    let order = to_green(2, LONG);
    world.must("hold", &order).await;
    let sent = ["a".repeat(1000), "b".repeat(300_000)].concat();
    let waits = tokio::spawn({
        let url = format!("http://{}/echo", world.gateway.addresses.public);
        let request = world.http.post(url).body(sent.clone());
        async move { request.send().await.expect("the gateway answers").text().await.expect("a body") }
    });
    are_held(&world, 1).await;
    world.must("release", &Order { side: Side::Blue, ..order }).await;
    assert!(waits.await.expect("no panic").ends_with(&sent));
}

#[tokio::test]
async fn gateway_hold_waits_for_what_is_under_way() {
    let world = Arc::new(World::new().await);
    let slow = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.get("/slow").await.status().as_u16() }
    });
    eventually(SOON, "the slow request is under way", async || (world.blue.count("GET /slow") == 1).then_some(()))
        .await;
    let short = to_green(2, Duration::from_millis(400));
    let (status, body) = world.order("hold", &short).await;
    assert_eq!((status, body["in_flight"].as_u64()), (503, Some(1)), "it cannot drain in time: {body}");
    world.must("release", &Order { side: Side::Blue, ..short }).await;

    let long = to_green(3, LONG);
    let hold = tokio::spawn({
        let (world, long) = (Arc::clone(&world), long.clone());
        async move { world.must("hold", &long).await }
    });
    eventually(SOON, "the hold has begun", async || {
        (world.ask_control("/cutover/v1/state").await["state"] == "holding").then_some(())
    })
    .await;
    assert!(!hold.is_finished(), "one request is still under way");
    world.blue.slow.add_permits(1);
    assert_eq!(hold.await.expect("no panic").in_flight, 0);
    assert_eq!(slow.await.expect("no panic"), 200);
}
