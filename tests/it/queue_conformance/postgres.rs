//! The default queue: what its server adds, a fence of incarnations and leases that end with their session; and what a person may answer for.

use super::bench::{Bench, Kind, SOON, event, leases, message, parcel, pull_some};
use crate::harness::eventually;
use cutover::revocations::Again;
use cutover::revocations::message::{Kind as Says, Message};
use cutover::revocations::queue::{Lane, PostgresQueue, Terms};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

#[tokio::test]
async fn a_consumer_that_was_killed_keeps_nobody_waiting() {
    let bench = Bench::new(Kind::Postgres).await;
    bench.publish(vec![b"{}".to_vec()]).await;
    let terms = Terms { visibility: Duration::from_secs(600), ..Bench::terms() };
    let killed = PostgresQueue::new(&bench.pair.control.url(), "plan", terms);
    let held = pull_some(&killed, Lane::Live).await;
    let other = bench.queue();
    assert_eq!(other.pull(Lane::Live, 10).await.expect("it answers"), [], "it is held");
    drop(killed);
    let asked = Instant::now();
    let again = pull_some(&*other, Lane::Live).await;
    assert!(asked.elapsed() < SOON, "long before the lease is over");
    assert_eq!((again[0].body.clone(), again[0].attempts), (held[0].body.clone(), 2));
    other.ack(Lane::Live, &leases(&held)).await.expect("an old lease is no error");
    let waiting = other.depth().await.expect("it answers").live;
    assert_eq!(waiting, 1, "and takes nothing away from who holds it now");
    other.ack(Lane::Live, &leases(&again)).await.expect("it is acknowledged");
}

#[tokio::test]
async fn an_ended_incarnation_cannot_publish_any_more() {
    let bench = Bench::new(Kind::Postgres).await;
    let incarnation = bench.register("engine").await;
    let (queue, parcels) = (bench.queue(), [parcel(event("engine", incarnation, 1).to_bytes())]);
    bench.pair.control.execute("update cutover.producer set ended_at = now()").await;
    let error = queue.publish(Lane::Live, &parcels, Some(incarnation)).await.expect_err("it was ended");
    assert!(error.is_certainly_undone(), "{error}");
    assert_eq!(bench.count("cutover.message").await, 0);
}

#[tokio::test]
async fn a_person_answers_for_what_is_lost_and_a_message_is_looked_at_again() {
    let bench = Bench::new(Kind::Postgres).await;
    let (ended, alive) = (bench.register("engine").await, bench.register("engine").await);
    let unknown = Uuid::new_v4();
    let early = event("engine", unknown, 1);
    let said = [event("engine", ended, 2), message("engine", alive, 1, Says::Barrier { epoch: 2 }), early.clone()];
    bench.publish(said.iter().map(Message::to_bytes).collect()).await;
    let end = format!("update cutover.producer set ended_at = now() where incarnation = '{ended}'");
    bench.pair.control.execute(&end).await;
    bench.ledger().collect().await.expect("control answers");
    bench.prove_all().await;
    let ledger = bench.ledger();
    let reasons = bench.reasons(&["engine"]).await;
    assert_eq!(reasons.len(), 2, "the first message is missing, and one is dead: {reasons:?}");

    assert!(!ledger.waive_end(alive, "no").await.expect("control answers"), "one that is alive speaks for itself");
    assert!(ledger.waive_end(ended, "its disk is gone").await.expect("control answers"));
    let dead = ledger.dead().await.expect("control answers")[0].0;
    let Again::StillDead(why) = ledger.read_again(dead).await.expect("control answers") else {
        panic!("it is still not believed");
    };
    assert!(why.contains("has registered"), "{why}");
    let register = format!(
        "insert into cutover.producer (incarnation, plan, gateway, ended_at) values ('{unknown}', 'plan', 'engine', now())"
    );
    bench.pair.control.execute(&register).await;
    assert_eq!(ledger.read_again(dead).await.expect("control answers"), Again::TakenIn, "now it is");
    eventually(SOON, "it is an event like others", async || {
        let events = ledger.effective(Duration::ZERO).await.expect("control answers");
        events.iter().any(|event| event.id == early.id).then_some(())
    })
    .await;
    bench.prove_all().await;
    assert_eq!(bench.reasons(&["engine"]).await, [] as [String; 0]);

    bench.publish(vec![b"nothing of ours".to_vec()]).await;
    ledger.collect().await.expect("control answers");
    let dead = ledger.dead().await.expect("control answers")[0].0;
    assert!(ledger.waive_message(dead, "somebody's test").await.expect("control answers"));
    assert_eq!(bench.reasons(&["engine"]).await, [] as [String; 0]);
}
