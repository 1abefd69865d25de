//! The queue: numbers without gaps, lost connections, two gateways of one name, dead letters.

use super::{LIMIT, captured, install, ledger, producer, token};
use crate::harness::{Pair, eventually};
use cutover::plan::{Secret, Side};
use cutover::revocations::queue::{Lane, Parcel, PostgresQueue, Queue as _, Terms};
use cutover::revocations::{Chain, Drained, Known, Ledger, Outcome, Producer, Verdicts, drained};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn revocations_are_numbered_without_gaps_whoever_appends_at_once() {
    let pair = Pair::shared().await;
    let producer = producer(&pair, "engine");
    let appends = (0..100).map(|_| {
        let producer = producer.clone();
        async move { producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued") }
    });
    let receipts = futures_util::future::join_all(appends).await;
    let numbers: BTreeSet<i64> = receipts.iter().map(|receipt| receipt.seq).collect();
    assert_eq!(numbers, (1..=100).collect());
    ledger(&pair).collect().await.expect("control answers");
    assert_eq!(ledger(&pair).counts().await.expect("control answers").captured, 100);
}

#[tokio::test]
async fn revocations_go_on_after_control_has_ended_the_connection() {
    let pair = Pair::shared().await;
    let producer = producer(&pair, "engine");
    let first = producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued");
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()";
    let _: i64 = pair.control.ask(end).await;
    let second = producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued all the same");
    let is_same = second.incarnation == first.incarnation;
    assert_eq!(second.seq, 2, "after the first, or after its closing: {is_same}");
    ledger(&pair).collect().await.expect("control answers");
    assert_eq!(ledger(&pair).counts().await.expect("control answers").captured, 2, "nothing twice, nothing lost");
}

#[tokio::test]
async fn what_one_who_takes_messages_in_cannot_keep_is_free_for_others_at_once() {
    const SHORT: Duration = Duration::from_millis(500);
    let pair = Pair::shared().await;
    let (control, side) = (pair.control.url(), Side::Blue);
    install(&pair)().await.expect("our tables");
    let queue = PostgresQueue::new(&control, "plan", Terms::standard(LIMIT));
    let parcel = Parcel { id: Uuid::new_v4(), body: b"no message".to_vec() };
    queue.publish(Lane::Live, &[parcel], None).await.expect("it is queued");
    let turn = pair.control.client().await;
    turn.execute("select pg_advisory_lock(hashtextextended('cutover.received plan', 0))", &[]).await.expect("locked");
    let one = Ledger::new(&control, "plan", side, SHORT);
    one.collect().await.expect_err("somebody else's turn does not end");
    turn.execute("select pg_advisory_unlock_all()", &[]).await.expect("let go");
    let other = Ledger::new(&control, "plan", side, 4 * SHORT);
    other.collect().await.expect("the first has given it back");
    assert_eq!(other.dead().await.expect("control answers").len(), 1);
    drop(one);
}

#[tokio::test]
async fn a_second_gateway_of_one_name_ends_the_first() {
    let pair = Pair::shared().await;
    let first = producer(&pair, "engine");
    first.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued");
    let second = producer(&pair, "engine");
    second.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued");
    assert!(first.barrier(2).await.is_err(), "an ended incarnation may not declare anything");
    let standings = ledger(&pair).producers(2).await.expect("control answers");
    assert_eq!(standings.iter().filter(|standing| standing.is_ended).count(), 1, "{standings:?}");
}

#[tokio::test]
async fn what_the_engine_refused_is_never_replayed_and_what_is_under_way_waits() {
    let pair = Pair::shared().await;
    let producer = producer(&pair, "engine");
    let append = async || producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued");
    let (executed, refused, unknown) = (append().await, append().await, append().await);
    producer.settle(executed.id, Outcome::Executed, Some(200)).await;
    producer.settle(refused.id, Outcome::Refused, Some(401)).await;
    producer.barrier(2).await.expect("the barrier is written");
    let ids = async |settle| {
        let events = ledger(&pair).pending(settle).await.expect("control answers");
        events.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    // Outside a hold nobody waits for messages that another consumer, here the producer's own, is just taking.
    ledger(&pair).collect().await.expect("control answers");
    assert_eq!(ids(Duration::from_secs(60)).await, [executed.id]);
    assert_eq!(ids(Duration::ZERO).await, [executed.id, unknown.id]);
}

#[tokio::test]
async fn what_has_arrived_is_counted_once_and_what_is_missing_afterwards_is_seen() {
    let pair = Pair::shared().await;
    let (producer, counted) = (producer(&pair, "engine"), ledger(&pair));
    let append = async || producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued").id;
    let numbers = async |ledger: &Ledger| {
        ledger.collect().await.expect("control answers");
        let standings = ledger.producers(2).await.expect("control answers");
        assert_eq!(standings.len(), 1, "{standings:?}");
        (standings[0].count, standings[0].first, standings[0].last, standings[0].last_event)
    };
    for _ in 0..3 {
        append().await;
    }
    assert_eq!(numbers(&counted).await, (3, 1, 3, 3));
    // Nothing ever takes a number away: only so can it be seen that those which were counted are not read again.
    pair.control.execute("delete from cutover.received where seq = 2").await;
    assert_eq!(numbers(&ledger(&pair)).await, (2, 1, 3, 3), "one who begins anew reads all of them");
    append().await;
    assert_eq!(numbers(&counted).await, (4, 1, 4, 4));
    append().await;
    append().await;
    counted.collect().await.expect("control answers");
    pair.control.execute("delete from cutover.received where seq = 5").await;
    assert_eq!(numbers(&counted).await, (5, 1, 6, 6), "the fifth is missing");
    assert_eq!(numbers(&counted).await, (5, 1, 6, 6), "and it stays so");
    pair.control.execute("update cutover.producer set closed_seq = 3").await;
    assert_eq!(numbers(&counted).await, (3, 1, 6, 6), "what is above the closing number is void, counted or not");
}

#[tokio::test]
async fn the_worker_knows_what_counts_although_it_is_told_only_what_has_changed() {
    let pair = Pair::shared().await;
    let (producer, ledger) = (producer(&pair, "engine"), ledger(&pair));
    let append = async || producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued").id;
    let settle = async |id, outcome| producer.settle(id, outcome, Some(200)).await;
    let (mut known, mut settled) = (Known::default(), Duration::from_secs(60));
    let mut counts = async |settle, ids: &[Uuid]| {
        ledger.collect().await.expect("control answers");
        known.refresh(&ledger, settle).await.expect("control answers");
        let (mut ids, now) = (ids.to_vec(), known.unproved());
        ids.sort_unstable();
        assert_eq!(now, ids);
    };
    let (first, second, third) = (append().await, append().await, append().await);
    settle(first, Outcome::Executed).await;
    counts(settled, &[first]).await;
    counts(settled, &[first]).await;
    settle(second, Outcome::Executed).await;
    let fourth = append().await;
    settle(fourth, Outcome::Executed).await;
    counts(settled, &[first, second, fourth]).await;
    // Under a hold nothing is in flight, and what nobody knows of counts; refused after all it does not.
    settled = Duration::ZERO;
    counts(settled, &[first, second, third, fourth]).await;
    settle(third, Outcome::Refused).await;
    counts(settled, &[first, second, fourth]).await;
    for _ in 0..5 {
        ledger.failed(first, "it is poison").await.expect("control answers");
    }
    counts(settled, &[second, fourth]).await;
    let verdicts = Verdicts::new(&pair.control.url(), "plan", LIMIT);
    assert!(verdicts.put_back(first).await.expect("control answers"));
    counts(settled, &[first, second, fourth]).await;
}

#[tokio::test]
async fn a_queue_out_of_reach_refuses_in_time() {
    let nowhere = Secret::new("postgres://nobody@127.0.0.1:1/none");
    let install =
        Arc::new(|| -> futures_util::future::BoxFuture<'static, Result<(), String>> { Box::pin(async { Ok(()) }) });
    let producer = Producer::start(&nowhere, "plan", "engine", LIMIT, install);
    assert!(producer.append(captured(&token("a.b"), Chain::default())).await.is_err());
}

#[tokio::test]
async fn a_queue_is_drained_only_with_every_barrier_and_without_gaps_or_dead_letters() {
    let pair = Pair::shared().await;
    let producer = producer(&pair, "engine");
    let receipt = producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued");
    producer.settle(receipt.id, Outcome::Executed, Some(200)).await;
    let ledger = ledger(&pair);
    let judged = async || drained(&ledger, 2, &["engine".to_owned()]).await.expect("control answers");
    let reasons = async || match judged().await {
        Drained::Yes => Vec::new(),
        Drained::No(reasons) => reasons,
    };
    assert!(reasons().await.iter().any(|reason| reason.contains("has not written its barrier")));
    producer.barrier(2).await.expect("the barrier is written");
    assert!(reasons().await.iter().any(|reason| reason.contains("not replayed")), "{:?}", reasons().await);
    ledger.replayed(&[receipt.id]).await.expect("control answers");
    assert!(reasons().await.iter().any(|reason| reason.contains("not proved")), "{:?}", reasons().await);
    ledger.proved(&[receipt.id]).await.expect("control answers");
    assert_eq!(judged().await, Drained::Yes);

    pair.control.execute("update cutover.received set seq = 5 where seq = 3").await;
    assert!(reasons().await.iter().any(|reason| reason.contains("up to number 5")), "a gap");
    pair.control.execute("update cutover.received set seq = 3 where seq = 5").await;
    for _ in 0..5 {
        ledger.failed(receipt.id, "it is poison").await.expect("control answers");
    }
    assert!(reasons().await.iter().any(|reason| reason.contains("dead")), "a dead letter");
    assert_eq!(ledger.dead().await.expect("control answers"), [(receipt.id, "it is poison".to_owned())]);
}

#[tokio::test]
async fn an_event_that_cannot_be_understood_is_dead_and_keeps_nobody_else() {
    let pair = Pair::shared().await;
    let producer = producer(&pair, "engine");
    for _ in 0..2 {
        producer.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued");
    }
    let ledger = ledger(&pair);
    ledger.collect().await.expect("control answers");
    pair.control.execute("update cutover.revocation set door = 'window' where seq = 1").await;
    let pending = ledger.pending(Duration::ZERO).await.expect("control answers");
    assert_eq!(pending.iter().map(|event| event.seq).collect::<Vec<_>>(), [2]);
    eventually(SOON, "the other is a dead letter", async || {
        let dead = ledger.dead().await.expect("control answers");
        (dead.len() == 1).then_some(())
    })
    .await;
}
