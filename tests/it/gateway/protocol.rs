//! Orders of the past, restarts, holds that end without word, and the answer to "which side, now?".

use super::world::{World, nowhere, to_green};
use crate::harness::eventually;
use cutover::plan::{Secret, Side};
use cutover::traffic::protocol::{Order, State};
use cutover::traffic::register::Change;
use std::time::Duration;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const TRIES: usize = 3;

async fn state_of(world: &World) -> String {
    world.ask_control("/cutover/v1/state").await["state"].as_str().expect("a state").to_owned()
}

#[tokio::test]
async fn gateway_refuses_orders_of_the_past_and_of_another_proposal() {
    let world = World::new().await;
    let order = to_green(5, LONG);
    let standing = world.must("prepare", &order).await;
    assert_eq!((standing.epoch, standing.state, standing.side), (5, State::Prepared, Side::Blue));
    assert_eq!(world.must("prepare", &order).await, standing, "a repeated order changes nothing");
    let (status, body) = world.order("prepare", &to_green(4, LONG)).await;
    assert_eq!((status, body["epoch"].as_i64()), (409, Some(5)));
    let (status, body) = world.order("hold", &Order { nonce: Uuid::new_v4(), ..order.clone() }).await;
    assert_eq!((status, body["nonce"].as_str()), (409, Some(order.nonce.to_string().as_str())));
    let (status, _) = world.order("switch", &order).await;
    assert_eq!(status, 409, "nothing is held yet");
    world.must("hold", &order).await;
    world.must("release", &Order { side: Side::Blue, ..order.clone() }).await;
    world.must("release", &Order { side: Side::Blue, ..order.clone() }).await;
    let (status, _) = world.order("release", &order).await;
    assert_eq!(status, 409, "it was released to blue");
    let (status, _) = world.order("hold", &order).await;
    assert_eq!(status, 409, "its time is over");
}

#[tokio::test]
async fn gateway_remembers_its_epoch_over_a_restart() {
    let mut world = World::new().await;
    let order = to_green(5, LONG);
    world.must("prepare", &order).await;
    world.must("release", &Order { side: Side::Blue, ..order.clone() }).await;
    world.restart_gateway().await;
    assert_eq!(world.get("/work").await.text().await.expect("a body"), "blue");
    let (status, _) = world.order("prepare", &to_green(4, LONG)).await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn gateway_restarted_while_holding_obeys_the_register_alone() {
    let mut world = World::new().await;
    let order = to_green(2, LONG);
    world.must("prepare", &order).await;
    world.must("hold", &order).await;
    world.restart_gateway().await;
    let refused = world.get("/work").await;
    assert_eq!(refused.status(), 503, "blue is still open below the flip's epoch: nothing is decided");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(world.introspect().await.status(), 503, "not even introspection");
    // The flip was decided by another, and green has opened.
    let (blue, green) = (world.pair.blue.client().await, world.pair.green.client().await);
    assert!(Change::seal(1, 2, order.nonce).apply(&blue).await.expect("blue answers"));
    assert_eq!(world.get("/work").await.status(), 503, "sealed, but green is not open yet");
    assert!(Change::open(0, 2, order.nonce).apply(&green).await.expect("green answers"));
    eventually(SOON, "green is served", async || {
        let response = world.get("/work").await;
        (response.status() == 200 && response.headers()["x-cutover-side"] == "green").then_some(())
    })
    .await;
    assert_eq!(world.must("release", &order).await.side, Side::Green, "the late release finds it done");
}

/// The answer to a request in a hold that nobody ends, where green's register is, or elsewhere.
async fn held_without_word(green: Option<Secret>) -> (World, Order, reqwest::Response) {
    // What is held is refused when the write, or the state file, takes long: on a machine that stalls not the gateway's fault. So it is
    // tried again.
    for _ in 0..TRIES {
        let elsewhere = green.clone();
        let world = World::with(|config| config.green = elsewhere.unwrap_or(config.green.clone())).await;
        let order = to_green(2, Duration::from_millis(800));
        world.must("hold", &order).await;
        let held = world.get("/work").await;
        if held.status() != 503 {
            return (world, order, held);
        }
    }
    panic!("what was held was refused each time, though a write settles it");
}

#[tokio::test]
async fn gateway_hold_without_word_is_settled_by_a_write_against_the_flip() {
    // The write is to blue's register: it settles it also when green cannot be asked.
    for green in [None, Some(nowhere())] {
        let (world, order, held) = held_without_word(green).await;
        assert_eq!(held.status(), 200);
        assert_eq!(held.headers()["x-cutover-side"], "blue", "held, and then served by the side that stands");
        assert_eq!(held.headers()["x-cutover-epoch"], "2");
        let blue = world.pair.blue.client().await;
        assert!(!Change::seal(1, 2, order.nonce).apply(&blue).await.expect("blue answers"), "the late decision loses");
    }
}

#[tokio::test]
async fn gateway_hold_without_word_refuses_when_a_decision_has_left_nothing_open() {
    let world = World::new().await;
    let (blue, green) = (world.pair.blue.client().await, world.pair.green.client().await);
    let order = to_green(2, Duration::from_secs(4));
    world.must("hold", &order).await;
    assert!(Change::seal(1, 2, order.nonce).apply(&blue).await.expect("blue answers"));
    assert_eq!(world.get("/work").await.status(), 503, "held to the end: the write comes too late, and green may open");
    assert_eq!(world.blue.count("GET /work"), 0);
    assert!(Change::open(0, 2, order.nonce).apply(&green).await.expect("green answers"));
    eventually(SOON, "green is served", async || {
        let response = world.get("/work").await;
        (response.status() == 200 && response.headers()["x-cutover-side"] == "green").then_some(())
    })
    .await;
}

#[tokio::test]
async fn gateway_restarted_in_a_hold_that_nobody_ends_settles_it_after_the_plans_hold() {
    let mut world = World::with(|config| config.hold = Duration::from_millis(700)).await;
    let order = to_green(2, LONG);
    world.must("hold", &order).await;
    world.restart_gateway().await;
    assert_eq!(world.get("/work").await.status(), 503, "the hold may still have an owner");
    eventually(SOON, "blue is served again", async || (world.get("/work").await.status() == 200).then_some(())).await;
    let blue = world.pair.blue.client().await;
    assert!(!Change::seal(1, 2, order.nonce).apply(&blue).await.expect("blue answers"), "the late decision loses");
}

#[tokio::test]
async fn gateway_hold_without_word_follows_a_decision_that_it_missed() {
    // What is held is refused when the registers cannot be read, or the state file not be written, soon after the hold's end: rightly,
    // and on a machine that stalls not the gateway's fault. So it is tried again.
    for _ in 0..TRIES {
        let world = World::new().await;
        let (blue, green) = (world.pair.blue.client().await, world.pair.green.client().await);
        let order = to_green(2, Duration::from_secs(4));
        world.must("hold", &order).await;
        assert!(Change::seal(1, 2, order.nonce).apply(&blue).await.expect("blue answers"));
        assert!(Change::open(0, 2, order.nonce).apply(&green).await.expect("green answers"));
        let held = world.get("/work").await;
        if held.status() == 503 {
            eventually(SOON, "green is served", async || (world.get("/work").await.status() == 200).then_some(()))
                .await;
            continue;
        }
        assert_eq!(held.headers()["x-cutover-side"], "green", "held, and then served by who is open");
        assert_eq!(held.headers()["x-cutover-epoch"], "2");
        return;
    }
    panic!("what was held was refused each time, though the flip was decided");
}

#[tokio::test]
async fn gateway_without_a_register_in_reach_refuses_and_says_so() {
    let world = World::with(|config| {
        config.blue = nowhere();
        config.green = nowhere();
    })
    .await;
    assert_eq!(world.get("/work").await.status(), 503);
    let resolution = world.ask_control("/resolve").await;
    assert_eq!((resolution["side"].as_str(), resolution["state"].as_str()), (None, Some("unreachable")));
    assert_eq!(state_of(&world).await, "refusing");
}

#[tokio::test]
async fn gateway_resolves_by_the_registers_and_never_guesses() {
    let world = World::new().await;
    let ask = async || {
        let resolution = world.ask_control("/resolve").await;
        (resolution["side"].as_str().map(str::to_owned), resolution["epoch"].as_i64(), resolution["state"].clone())
    };
    assert_eq!(ask().await, (Some("blue".to_owned()), Some(1), "open".into()));
    let (blue, green) = (world.pair.blue.client().await, world.pair.green.client().await);
    assert!(Change::seal(1, 2, Uuid::nil()).apply(&blue).await.expect("blue answers"));
    assert_eq!(ask().await, (None, Some(2), "undecided".into()));
    assert!(Change::open(0, 2, Uuid::nil()).apply(&green).await.expect("green answers"));
    assert_eq!(ask().await, (Some("green".to_owned()), Some(2), "open".into()));
}

#[tokio::test]
async fn gateway_resolves_after_a_finalize_what_it_serves() {
    let world = World::new().await;
    world.must("release", &to_green(2, LONG)).await;
    for place in [&world.pair.blue, &world.pair.green] {
        place.execute("drop table cutover.register cascade").await;
    }
    let resolution = world.ask_control("/resolve").await;
    assert_eq!(resolution, serde_json::json!({"side": "green", "epoch": 2, "state": "open"}));
}

#[tokio::test]
async fn gateway_accepts_no_proposal_for_an_engine_that_does_not_answer() {
    let world = World::with(|config| {
        let dead = "http://127.0.0.1:1".to_owned();
        config.gateway.green = cutover::plan::Upstream { public: dead.clone(), admin: dead };
    })
    .await;
    let (status, body) = world.order("prepare", &to_green(2, LONG)).await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(world.get("/work").await.status(), 200);
}
