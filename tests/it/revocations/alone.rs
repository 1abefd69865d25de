//! Going back without green: what the queue holds is replayed on blue by whoever may act, and by nobody whom another process has superseded.

use super::tables::{self, LIVING, grant};
use super::{captured, ledger_of, producer, token};
use crate::harness::Pair;
use crate::plan_hydra::plan_of;
use cutover::database::term::{self, Term};
use cutover::engine::{Context, Facts, FailureKind, Step as _};
use cutover::plan::Side;
use cutover::revocations::{Captured, Chain, Outcome};
use cutover::steps::abandon_green::{AbandonGreen, ID};
use cutover::steps::{Gone, World};
use cutover::traffic::register::{self, Change};
use std::time::Duration;
use uuid::Uuid;

/// The example plan's way back without green, with no system that would have to be asked.
fn world(pair: &Pair) -> World {
    let mut plan = plan_of(pair);
    plan.name = "plan".to_owned();
    plan.systems.clear();
    World {
        plan,
        http: cutover::traffic::http_client().expect("a client"),
        gone: Some(Gone::Said("its power is off".to_owned())),
        allowed_repairs: Default::default(),
        programs: None,
    }
}

/// Blue as an earlier try has left it: it lets our own login write, and is not open.
async fn closed(pair: &Pair, term: &Term) {
    let blue = pair.blue.client().await;
    term::install(&blue, term).await.expect("our term is installed");
    register::install(&blue, Side::Blue, 1, Uuid::nil()).await.expect("installed");
    for change in [Change::seal(1, 2, Uuid::nil()), Change::shut(2, 3, Uuid::nil())] {
        assert!(change.apply(&blue).await.expect("blue answers"));
    }
}

#[tokio::test]
async fn a_superseded_orchestrator_replays_nothing() {
    let pair = Pair::shared().await;
    tables::create(&pair).await;
    pair.blue.execute(&grant("r1", "t1", "app", "ann")).await;
    let producer = producer(&pair, "engine");
    let chain = Chain { requests: ["r1".to_owned()].into(), ..Chain::default() };
    let revoked = Captured { live: Side::Green, ..captured(&token("x.t1-access"), chain) };
    let receipt = producer.append(revoked).await.expect("it is queued");
    producer.settle(receipt.id, Outcome::Executed, Some(200)).await;
    producer.barrier(2).await.expect("the barrier is written");
    let ledger = ledger_of(&pair, Side::Green);
    ledger.collect().await.expect("control answers");

    let [older, ours] = [1, 2].map(|term| Term { term, nonce: Uuid::new_v4() });
    closed(&pair, &ours).await;
    let step = AbandonGreen { hold: Duration::from_secs(1), count_out: Duration::ZERO };
    let (world, run) = (world(&pair), Uuid::new_v4());
    let act = async |term| step.forward(&world, &Context::detached(run, term, ID, Facts::default())).await;
    let refused = act(older).await.expect_err("another has taken over");
    assert_eq!(refused.kind, FailureKind::Locked, "{}", refused.why());
    assert_eq!(pair.blue.ask::<i64>(LIVING).await, 2, "it has written nothing");
    assert_eq!(
        ledger.pending_ids(Duration::ZERO).await.expect("control answers"),
        [receipt.id],
        "nor noted that it had"
    );

    if let Err(error) = act(ours).await {
        panic!("whoever may act opens blue: {}", error.why());
    }
    assert_eq!(pair.blue.ask::<i64>(LIVING).await, 0);
    assert!(ledger.pending_ids(Duration::ZERO).await.expect("control answers").is_empty());
    let blue = register::read(&pair.blue.client().await).await.expect("blue answers").expect("a register");
    assert_eq!((blue.state, blue.epoch), (register::State::Open, 5), "{blue:?}");
}
