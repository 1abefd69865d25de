//! A flip that was decided is called off while green, alive, has not opened: blue opens at a higher epoch, systems that had turned come back and
//! obey the older one no more, nothing is left of the run, and the next one goes through.

use super::matrix::{FLIP, SYSTEMS, let_go, locked, served, standing};
use super::paused::run;
use super::phases::{OUT, serves_on};
use super::way_back::{LEFT, clean};
use crate::harness::sandbox::Sandbox;
use cutover::plan::Side;
use cutover::traffic::protocol::Order;
use serde_json::Value;
use uuid::Uuid;

const SEALED: &str = "select count(*) from cutover.register where state = 'sealed'";
const CLOSED: &str = "select count(*) from cutover.register where state = 'closed'";

/// The order that a process gives which has not heard that its flip was called off.
fn older(proposed: &Value) -> Order {
    Order {
        run: Uuid::nil(),
        epoch: proposed["epoch"].as_i64().expect("an epoch"),
        nonce: proposed["nonce"].as_str().and_then(|nonce| nonce.parse().ok()).expect("a nonce"),
        side: Side::Green,
        deadline_ms: 1000,
        resolvers: Vec::new(),
    }
}

/// A flip killed at this word after its decision, before green could open; what it had proposed.
async fn decided_and_killed(sandbox: &Sandbox, phase: &'static str) -> Order {
    // Whoever opens green waits for this.
    let kept = locked(sandbox, "GREEN_URL", "select from cutover.register for update").await;
    let mut flip = sandbox.start(FLIP.verb);
    let proposed = flip.until(FLIP.says("propose")).await;
    let (Some(proposed), Some(_)) = (proposed, flip.until(FLIP.says(phase)).await) else {
        panic!("it ended before it was {phase}: {:?}", flip.end().await);
    };
    assert!(flip.kill().await, "it ended before it was killed, {phase}");
    let_go(kept).await;
    let registers = (sandbox.ask("BLUE_URL", SEALED).await, sandbox.ask("GREEN_URL", CLOSED).await);
    assert_eq!(registers, (1, 1), "{phase}: blue is left and green is not open");
    older(&proposed["body"])
}

/// All systems have turned to green, and none serves.
async fn all_have_turned(sandbox: &Sandbox, order: &Order) {
    for system in SYSTEMS {
        let standing = standing(sandbox, system).await.expect("it answers");
        assert_eq!(
            (standing["side"].as_str(), standing["epoch"].as_i64()),
            (Some("green"), Some(order.epoch)),
            "{system}"
        );
        assert_ne!(standing["state"], "serving", "{system}: green is not open");
    }
}

/// All systems serve blue at one epoch above the order's, and the order moves none of them.
async fn refused_by_all(sandbox: &Sandbox, order: &Order) {
    let http = cutover::traffic::http_client().expect("a client");
    let mut epochs = Vec::new();
    for system in SYSTEMS {
        let before = standing(sandbox, system).await.expect("it answers");
        for verb in ["hold", "switch", "release"] {
            let url = format!("{}/cutover/v1/{verb}", sandbox.variable(system));
            let answer = http.post(url).json(order).send().await.expect("it answers");
            assert_eq!(answer.status(), 409, "{system} obeys a {verb} of epoch {}: {before}", order.epoch);
        }
        let after = standing(sandbox, system).await.expect("it answers");
        for word in ["side", "state", "epoch", "nonce"] {
            assert_eq!(after[word], before[word], "{system}: an order that is refused changes nothing: {after}");
        }
        assert_eq!((after["side"].as_str(), after["state"].as_str()), (Some("blue"), Some("serving")), "{system}");
        epochs.push(after["epoch"].as_i64().expect("an epoch"));
    }
    assert!(epochs[0] > order.epoch && epochs.iter().all(|epoch| *epoch == epochs[0]), "{order:?}: {epochs:?}");
}

async fn called_off_and_gone_through(tag: &str, phase: &'static str) {
    let sandbox = Sandbox::up(tag, 1000, 20).await;
    run(&sandbox).await;
    let order = decided_and_killed(&sandbox, phase).await;
    if phase == "opening" {
        all_have_turned(&sandbox, &order).await;
    }
    let (code, back) = sandbox.run("rollback --yes").await;
    assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (0, Some("done"), Some("blue")), "{back}");
    served(&sandbox, "blue").await;
    refused_by_all(&sandbox, &order).await;
    for side in ["BLUE_URL", "GREEN_URL"] {
        assert_eq!(sandbox.ask(side, LEFT).await, 0, "{phase}: nothing of ours is left at {side}");
    }
    serves_on(&sandbox).await;
    run(&sandbox).await;
    OUT.comes_through(&sandbox).await;
    clean(&sandbox, OUT.to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flip_called_off_when_all_have_turned_to_a_green_that_never_opened_leaves_nothing_and_the_next_goes_through()
{
    called_off_and_gone_through("called-off", "opening").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn a_flip_called_off_when_it_was_decided_and_nobody_has_turned_leaves_nothing_and_the_next_goes_through() {
    called_off_and_gone_through("called-off-early", "decided").await;
}
