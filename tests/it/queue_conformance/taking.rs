//! Out of a queue into control: whatever comes twice, late, broken or from a liar.

use super::bench::{Bench, Breaking, MOST, SOON, VISIBILITY, event, message, outcome, pull_some};
use crate::harness::eventually;
use cutover::revocations::Outcome;
use cutover::revocations::message::{Kind as Says, Message};
use cutover::revocations::queue::Lane;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;
use uuid::Uuid;

async fn take(bench: &Bench) {
    bench.ledger().collect().await.expect("control and the queue answer");
}

fn bodies(messages: &[&Message]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| message.to_bytes()).collect()
}

pub(super) async fn duplicates_and_reordering_change_nothing(bench: &Bench) {
    let incarnation = bench.register("engine").await;
    let (first, second) = (event("engine", incarnation, 1), event("engine", incarnation, 2));
    let refused = message("engine", incarnation, 3, outcome(first.id, Outcome::Refused));
    let executed = message("engine", incarnation, 4, outcome(second.id, Outcome::Executed));
    let barrier = message("engine", incarnation, 5, Says::Barrier { epoch: 2 });
    bench.publish(bodies(&[&barrier, &executed, &refused])).await;
    take(bench).await;
    assert_eq!(bench.count("cutover.revocation").await, 0);
    assert!(bench.reasons(&["engine"]).await.iter().any(|reason| reason.contains("3 messages up to number 5")));
    bench.publish(bodies(&[&second, &first])).await;
    take(bench).await;
    bench.publish(bodies(&[&first, &refused, &barrier, &second, &executed])).await;
    take(bench).await;
    let events = bench.ledger().effective(Duration::ZERO).await.expect("control answers");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((events[0].id, events[0].outcome, events[0].seq), (second.id, Outcome::Executed, 2));
    assert_eq!(bench.count("cutover.revocation where outcome = 'refused'").await, 1, "the outcome came first");
    assert_eq!(bench.count("cutover.dead_message").await, 0);
    bench.prove_all().await;
    assert_eq!(bench.reasons(&["engine"]).await, [] as [String; 0]);
}

pub(super) async fn poison_is_kept_with_its_reason_and_keeps_nobody_else(bench: &Bench) {
    let incarnation = bench.register("engine").await;
    let good = event("engine", incarnation, 1);
    let stranger = event("engine", Uuid::new_v4(), 1);
    let mut twin = event("engine", incarnation, 1);
    twin.id = Uuid::from_u128(7);
    let mut hostile = event("engine", incarnation, 2);
    if let Says::Captured { what, .. } = &mut hostile.kind {
        what.chain.requests.insert("\0; drop table".to_owned());
    }
    let mut tomorrow: serde_json::Value = serde_json::from_slice(&good.to_bytes()).expect("JSON");
    tomorrow["v"] = 2.into();
    let mut elsewhere = event("engine", incarnation, 3);
    elsewhere.plan = "other".to_owned();
    bench.publish(bodies(&[&good])).await;
    take(bench).await;
    let mut poison = bodies(&[&stranger, &twin, &hostile, &elsewhere]);
    poison.extend([tomorrow.to_string().into_bytes(), b"no JSON at all".to_vec()]);
    let fine = event("engine", incarnation, 4);
    poison.extend(bodies(&[&fine]));
    bench.publish(poison.clone()).await;
    take(bench).await;
    bench.publish(poison).await;
    take(bench).await;
    assert_eq!(bench.count("cutover.revocation").await, 2, "the good ones");
    let dead = bench.ledger().dead().await.expect("control answers");
    let reasons: Vec<&str> = dead.iter().map(|(_, why)| why.as_str()).collect();
    let expected = [
        "has registered the incarnation",
        "has the same number",
        "control cannot store it",
        "the plan \"other\"",
        "version 2",
        "no message of ours",
    ];
    for why in expected {
        assert!(reasons.iter().any(|reason| reason.contains(why)), "{why}: {reasons:#?}");
    }
    assert_eq!(dead.len(), expected.len(), "each once: {reasons:#?}");
    assert!(bench.reasons(&["engine"]).await.iter().any(|reason| reason.contains("6 revocations are dead")));
}

pub(super) async fn a_crash_between_effect_and_acknowledgement_has_one_effect(bench: &Bench) {
    let incarnation = bench.register("engine").await;
    let one = event("engine", incarnation, 1);
    bench.publish(bodies(&[&one])).await;
    let breaking = Arc::new(Breaking::over(bench.queue()));
    breaking.at_ack.store(true, Ordering::SeqCst);
    let crashed = bench.collector(breaking.clone());
    eventually(SOON, "it was taken and not acknowledged", async || crashed.collect().await.is_err().then_some(()))
        .await;
    assert_eq!(bench.count("cutover.revocation").await, 1);
    let ledger = bench.ledger();
    ledger.replayed(&[one.id]).await.expect("control answers");
    drop(crashed);
    // The dead one's lease ends; then the message comes again.
    sleep(VISIBILITY).await;
    take(bench).await;
    assert_eq!(bench.count("cutover.revocation").await, 1);
    assert_eq!(bench.count("cutover.revocation where replayed_at is null").await, 0, "what was done stays done");
    assert_eq!(bench.count("cutover.received").await, 1);
    sleep(VISIBILITY).await;
    assert_eq!(bench.queue().pull(Lane::Live, 10).await.expect("the queue answers"), [], "now it is acknowledged");
}

pub(super) async fn two_consumers_at_once_take_each_message_once(bench: &Bench) {
    let incarnation = bench.register("engine").await;
    let events: Vec<Message> = (1..=60).map(|seq| event("engine", incarnation, seq)).collect();
    let outcomes: Vec<Message> = events
        .iter()
        .zip(61..)
        .map(|(event, seq)| message("engine", incarnation, seq, outcome(event.id, Outcome::Executed)))
        .collect();
    let all: Vec<&Message> = outcomes.iter().chain(&events).collect();
    for chunk in all.chunks(30) {
        bench.publish(bodies(chunk)).await;
    }
    let (first, second) = (bench.ledger(), bench.ledger());
    let (one, other) = tokio::join!(first.collect(), second.collect());
    one.expect("it takes its share");
    other.expect("it takes its share");
    eventually(SOON, "all is taken", async || {
        take(bench).await;
        (bench.count("cutover.received").await == 120).then_some(())
    })
    .await;
    assert_eq!(bench.count("cutover.revocation where outcome = 'executed'").await, 60, "no outcome passed its event");
    assert_eq!(bench.count("cutover.early_outcome").await, 0);
    assert_eq!(bench.count("cutover.dead_message").await, 0);
}

pub(super) async fn dead_letters_are_taken_all_the_same(bench: &Bench) {
    let incarnation = bench.register("engine").await;
    bench.publish(bodies(&[&event("engine", incarnation, 1)])).await;
    let queue = bench.queue();
    for _ in 0..MOST {
        pull_some(&*queue, Lane::Live).await;
    }
    sleep(VISIBILITY + Duration::from_millis(50)).await;
    eventually(SOON, "it is taken from the dead letters", async || {
        take(bench).await;
        (bench.count("cutover.revocation").await == 1).then_some(())
    })
    .await;
    assert_eq!(queue.depth().await.expect("the queue answers").dead, 0);
    assert_eq!(bench.cloudflare.deleted(), 0);
}

pub(super) async fn a_strange_gateway_cannot_speak_for_another(bench: &Bench) {
    let (engine, other) = (bench.register("engine").await, bench.register("other").await);
    let early = event("engine", engine, 1);
    let late = event("engine", engine, 2);
    let lies = [
        message("other", other, 1, outcome(early.id, Outcome::Refused)),
        message("other", other, 2, outcome(late.id, Outcome::Refused)),
        message("other", other, 3, Says::Closed { incarnation: engine, last: 0 }),
        message("engine", other, 4, Says::Barrier { epoch: 2 }),
    ];
    bench.publish(bodies(&[&early])).await;
    take(bench).await;
    bench.publish(bodies(&lies.iter().collect::<Vec<_>>())).await;
    take(bench).await;
    bench.publish(bodies(&[&late])).await;
    take(bench).await;
    assert_eq!(bench.count("cutover.revocation where outcome = 'captured'").await, 2, "both still count");
    let dead = bench.ledger().dead().await.expect("control answers");
    assert_eq!(dead.len(), 2, "the closing and the borrowed name: {dead:?}");
}
