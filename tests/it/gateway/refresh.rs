//! Refreshes that are one: concurrent, repeated, orphaned, and across a change-over.

use super::world::{World, to_green};
use crate::harness::eventually;
use cutover::plan::{Coalesce, Refresh};
use cutover::traffic::protocol::State;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const ASKED: &str = "POST /oauth2/token";

async fn coalescing() -> Arc<World> {
    let coalesce = Coalesce { ttl: Duration::from_secs(30), public: false };
    Arc::new(World::with(|config| config.gateway.refresh = Some(Refresh::Coalesce(coalesce))).await)
}

fn refresh(world: &World, secret: &str, token: &str) -> reqwest::RequestBuilder {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let url = format!("http://{}/oauth2/token", world.gateway.addresses.public);
    world.http.post(url).basic_auth("app", Some(secret)).form(&form)
}

/// Status, body and side of a refresh.
async fn refreshed(world: &World, token: &str) -> (u16, String, String) {
    let answer = refresh(world, "secret", token).send().await.expect("the gateway answers");
    let side = answer.headers()["x-cutover-side"].to_str().expect("text").to_owned();
    (answer.status().as_u16(), answer.text().await.expect("a body"), side)
}

async fn asked(world: &World, times: usize) {
    eventually(SOON, "the engine is asked", async || (world.blue.count(ASKED) == times).then_some(())).await;
}

async fn in_flight(world: &World) -> u64 {
    world.ask_control("/cutover/v1/state").await["in_flight"].as_u64().expect("a number")
}

#[tokio::test]
async fn gateway_sends_a_hundred_equal_refreshes_once() {
    let world = coalescing().await;
    let permits = world.blue.grant(0);
    let many: Vec<_> = (0..100)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { refreshed(&world, "x.t1").await })
        })
        .collect();
    eventually(SOON, "all are in flight", async || (in_flight(&world).await == 100).then_some(())).await;
    permits.add_permits(100);
    for one in many {
        let (status, body, side) = one.await.expect("no panic");
        assert_eq!((status, side.as_str()), (200, "blue"));
        assert!(body.contains("n1-access"), "{body}");
    }
    assert_eq!(world.blue.count(ASKED), 1);
    let again = refresh(&world, "secret", "x.t1").send().await.expect("the gateway answers");
    assert_eq!(again.headers()["x-cutover-shared"], "again");
    assert!(again.headers()["cache-control"] == "no-store" && !again.headers().contains_key("age"));
    assert_eq!(world.metric("cutover_refresh_shared_total{client=\"app\",how=\"beside\"}").await, 99);
    assert_eq!(world.metric("cutover_refresh_shared_total{client=\"app\",how=\"again\"}").await, 1);

    let thief = refresh(&world, "a guess", "x.t1").send().await.expect("the gateway answers");
    assert!(
        thief.text().await.expect("a body").contains("n2-access"),
        "without the credential it is the engine's to judge"
    );
    let url = format!("http://{}/oauth2/token", world.gateway.addresses.public);
    for times in [3, 4] {
        let form = [("grant_type", "refresh_token"), ("refresh_token", "x.t9"), ("client_id", "spa")];
        world.http.post(&url).form(&form).send().await.expect("the gateway answers");
        assert_eq!(world.blue.count(ASKED), times, "a client that proves nothing shares nothing");
    }
}

#[tokio::test]
async fn gateway_finishes_a_refresh_whose_client_has_gone() {
    let world = coalescing().await;
    let permits = world.blue.grant(0);
    let leader = {
        let world = world.clone();
        tokio::spawn(async move { refreshed(&world, "x.t1").await })
    };
    asked(&world, 1).await;
    leader.abort();
    let follower = {
        let world = world.clone();
        tokio::spawn(async move { refreshed(&world, "x.t1").await })
    };
    eventually(SOON, "the follower waits", async || (in_flight(&world).await == 2).then_some(())).await;
    permits.add_permits(9);
    assert!(follower.await.expect("no panic").1.contains("n1-access"));
    assert_eq!(world.blue.count(ASKED), 1);
}

#[tokio::test]
async fn gateway_gives_a_retry_across_the_flip_the_answer_that_was_lost() {
    let world = coalescing().await;
    let permits = world.blue.grant(0);
    let first = {
        let world = world.clone();
        tokio::spawn(async move { refreshed(&world, "x.t1").await })
    };
    asked(&world, 1).await;
    let beside = {
        let world = world.clone();
        tokio::spawn(async move { refreshed(&world, "x.t1").await })
    };
    eventually(SOON, "both are in flight", async || (in_flight(&world).await == 2).then_some(())).await;
    let order = to_green(2, SOON);
    let hold = {
        let (world, order) = (world.clone(), order.clone());
        tokio::spawn(async move { world.must("hold", &order).await })
    };
    eventually(SOON, "it holds", async || {
        (world.ask_control("/cutover/v1/state").await["state"] == "holding").then_some(())
    })
    .await;
    assert!(!hold.is_finished(), "a hold waits for those who wait for another's answer");
    permits.add_permits(9);
    let lost = first.await.expect("no panic");
    assert_eq!(beside.await.expect("no panic"), lost);
    let held = hold.await.expect("no panic");
    assert_eq!((held.state, held.in_flight), (State::Holding, 0));

    let retry = {
        let world = world.clone();
        tokio::spawn(async move { refreshed(&world, "x.t1").await })
    };
    eventually(SOON, "the retry is held", async || (world.metric("cutover_gateway_held").await == 1).then_some(()))
        .await;
    world.must("switch", &order).await;
    world.must("release", &order).await;
    let (status, body, side) = retry.await.expect("no panic");
    assert_eq!((status, body, side.as_str()), (lost.0, lost.1, "green"));
    assert_eq!((world.blue.count(ASKED), world.green.count(ASKED)), (1, 0), "no engine saw the token again");
}

#[tokio::test]
async fn gateway_keeps_no_answer_but_a_grant_and_no_grant_that_was_revoked() {
    let world = coalescing().await;
    world.blue.grant(100);
    for (status, times) in [(400, [1, 2]), (500, [3, 4])] {
        *world.blue.token_status.lock().expect("no panic") = status;
        for times in times {
            assert_eq!(refreshed(&world, "x.t1").await.0, status);
            assert_eq!(world.blue.count(ASKED), times, "asked anew");
        }
    }
    *world.blue.token_status.lock().expect("no panic") = 200;
    let granted = refreshed(&world, "x.t1").await.1;
    assert_eq!(refreshed(&world, "x.t1").await.1, granted);
    let token: serde_json::Value = serde_json::from_str(&granted).expect("JSON");
    assert_eq!(world.revoke(token["refresh_token"].as_str().expect("a token")).await.status(), 200);
    let (status, body, _) = refreshed(&world, "x.t1").await;
    assert!(status == 400 && body.contains("invalid_grant"), "{status} {body}");
    assert_eq!(world.metric("cutover_refresh_kept").await, 0);
    assert_eq!(world.blue.count(ASKED), 5);
}
