//! What the plan says of single routes: what passes a hold, and in which order the held are let go.

use super::world::{World, to_green};
use crate::harness::eventually;
use cutover::plan::{Listener, Route, RoutePath, Side};
use cutover::traffic::protocol::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

fn route(path: &str, passes: bool, priority: Option<u8>) -> Route {
    Route { listener: Listener::Public, path: RoutePath::parse(path).expect("a path"), passes, priority }
}

async fn with(routes: Vec<Route>) -> Arc<World> {
    Arc::new(World::with(|config| config.gateway.routes = routes).await)
}

fn asking(world: &Arc<World>, path: &'static str) -> impl Future<Output = String> + Send + 'static {
    let world = Arc::clone(world);
    async move { world.get(path).await.text().await.expect("a body") }
}

async fn holds(world: &World, requests: u64) {
    eventually(SOON, "they are held", async || (world.metric("cutover_gateway_held").await == requests).then_some(()))
        .await;
}

#[tokio::test]
async fn gateway_passes_a_route_through_a_hold_to_the_side_being_left() {
    let world = with(vec![route("/.well-known/*", true, None), route("/slow", true, None)]).await;
    let order = to_green(2, LONG);
    world.must("hold", &order).await;
    assert_eq!(world.get("/.well-known/jwks.json").await.text().await.expect("a body"), "blue");

    let posted = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.post(world.gateway.addresses.public, "/.well-known/jwks.json", "a=b").await.status() }
    });
    let disguised = tokio::spawn(asking(&world, "/.well-known/%2e%2e/userinfo-of-another"));
    holds(&world, 2).await;
    let slow = tokio::spawn(asking(&world, "/slow"));
    eventually(SOON, "it is under way", async || (world.blue.count("GET /slow") == 1).then_some(())).await;
    let (status, body) = world.order("switch", &order).await;
    assert_eq!(status, 503, "what passes keeps the gate from turning: {body}");
    assert!(body.to_string().contains("1 requests that pass a hold"), "{body}");
    world.blue.slow.add_permits(1);
    assert_eq!(slow.await.expect("no panic"), "blue");
    assert_eq!(world.must("switch", &order).await.state, State::Switched);

    let late = tokio::spawn(asking(&world, "/.well-known/jwks.json"));
    holds(&world, 3).await;
    world.must("release", &order).await;
    assert_eq!(late.await.expect("no panic"), "green", "once the gate has turned it waits like the rest");
    assert_eq!((posted.await.expect("no panic").as_u16(), disguised.await.expect("no panic")), (200, "green".into()));
    assert_eq!(world.blue.count("POST /.well-known/jwks.json"), 0);
}

#[tokio::test]
async fn gateway_lets_the_plans_first_go_first() {
    let world = with(vec![route("/urgent", false, Some(1))]).await;
    let order = to_green(2, LONG);
    world.must("hold", &order).await;
    let mut held = JoinSet::new();
    for _ in 0..100 {
        held.spawn(asking(&world, "/work"));
    }
    holds(&world, 100).await;
    for _ in 0..3 {
        held.spawn(asking(&world, "/urgent"));
    }
    holds(&world, 103).await;
    world.must("release", &order).await;
    assert!(held.join_all().await.iter().all(|side| side == Side::Green.as_str()));
    let seen = world.green.seen.lock().expect("no panic").clone();
    let last = seen.iter().rposition(|line| line == "GET /urgent");
    // The held leave in steps of 32, ten milliseconds apart.
    assert!(last.is_some_and(|last| last < 64), "{seen:?}");
}
