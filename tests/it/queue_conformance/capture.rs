//! From a gateway's producer to the proof that all is drained: barriers, numbers, lost answers and crashes.

use super::bench::{Bench, Breaking, Kind, SOON, captured, event, message, outcome};
use crate::harness::{eventually, fresh_folder};
use crate::revocations::{LIMIT, install};
use cutover::plan::{CloudflareQueue as Cloudflare, NatsQueue as NatsSettings, Secret};
use cutover::revocations::message::{Kind as Says, Message};
use cutover::revocations::queue::{CloudflareQueue, NatsQueue, PostgresQueue, Queue, Terms};
use cutover::revocations::{Outcome, Producer, Setup};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn drained_means_every_barrier_and_every_number(bench: &Bench) {
    let (north, south) = (bench.producer("north", bench.queue(), None), bench.producer("south", bench.queue(), None));
    for producer in [&north, &south] {
        for _ in 0..3 {
            let receipt = producer.append(captured()).await.expect("it is queued");
            producer.settle(receipt.id, Outcome::Executed, Some(200)).await;
        }
    }
    assert_eq!(north.barrier(2).await.expect("it is published"), 7, "three, their outcomes, and itself");
    let gateways = ["north", "south"];
    eventually(SOON, "north has arrived", async || {
        let reasons = bench.reasons(&gateways).await;
        let is_south = |reason: &String| reason.contains("south") && reason.contains("barrier");
        let is_north = |reason: &String| reason.contains("north");
        (reasons.iter().any(is_south) && !reasons.iter().any(is_north)).then_some(())
    })
    .await;
    south.barrier(2).await.expect("it is published");
    eventually(SOON, "all has arrived and is unproved", async || {
        let reasons = bench.reasons(&gateways).await;
        (reasons == ["6 revocations are not replayed", "6 revocations are not proved"]).then_some(())
    })
    .await;
    bench.prove_all().await;
    assert_eq!(bench.reasons(&gateways).await, [] as [String; 0]);

    let missing = "delete from cutover.received where seq = 4 and incarnation = \
                   (select incarnation from cutover.producer where gateway = 'south')";
    bench.pair.control.execute(missing).await;
    assert!(bench.reasons(&gateways).await[0].contains("6 messages up to number 7"));
}

pub(super) async fn clocks_of_producers_are_compared_with_nobodys(bench: &Bench) {
    let (slow, fast) = (bench.register("slow").await, bench.register("fast").await);
    let at = |mut message: Message, time: &str| {
        message.at = time.parse().expect("a time");
        message
    };
    let (one, two) = (event("slow", slow, 1), event("fast", fast, 1));
    let said = [
        at(message("slow", slow, 2, outcome(one.id, Outcome::Executed)), "1970-01-01T00:00:00Z"),
        at(message("fast", fast, 2, outcome(two.id, Outcome::Executed)), "2999-01-01T00:00:00Z"),
        at(message("slow", slow, 3, Says::Barrier { epoch: 2 }), "2999-01-01T00:00:00Z"),
        at(message("fast", fast, 3, Says::Barrier { epoch: 2 }), "1970-01-01T00:00:00Z"),
        at(one, "2999-01-01T00:00:00Z"),
        at(two, "1970-01-01T00:00:00Z"),
    ];
    bench.publish(said.iter().map(Message::to_bytes).collect()).await;
    bench.ledger().collect().await.expect("control and the queue answer");
    let executed = bench.ledger().pending(Duration::from_secs(60)).await.expect("control answers");
    assert_eq!(executed.len(), 2, "{executed:?}");
    bench.prove_all().await;
    assert_eq!(bench.reasons(&["slow", "fast"]).await, [] as [String; 0]);
}

pub(super) async fn an_unknown_publication_is_void_and_blocks_nothing(bench: &Bench) {
    for is_stored in [true, false] {
        let gateway = if is_stored { "stored" } else { "lost" };
        let breaking = Arc::new(Breaking::over(bench.queue()));
        let spool = fresh_folder("spool").join("state.spool");
        let producer = bench.producer(gateway, breaking.clone(), Some(spool));
        let first = producer.append(captured()).await.expect("it is queued");
        let fault = if is_stored { &breaking.after_publish } else { &breaking.before_publish };
        fault.store(true, Ordering::SeqCst);
        producer.append(captured()).await.expect_err("nobody knows whether it is queued: it must not be forwarded");
        fault.store(false, Ordering::SeqCst);
        let third = producer.append(captured()).await.expect("it is queued");
        assert_ne!(third.incarnation, first.incarnation, "an incarnation ends with the first doubt");
        producer.barrier(2).await.expect("it is published");
    }
    eventually(SOON, "all has arrived", async || {
        let reasons = bench.reasons(&["stored", "lost"]).await;
        (reasons == ["4 revocations are not replayed", "4 revocations are not proved"]).then_some(())
    })
    .await;
    assert_eq!(bench.count("cutover.revocation where outcome = 'refused'").await, 1, "the stored one is void");
}

/// A gateway that is killed between publication and answer, and started again with its spool file.
#[tokio::test]
async fn a_crashed_gateway_leaves_no_doubt_with_its_spool_and_all_of_it_without() {
    for kind in [Kind::Nats, Kind::Cloudflare] {
        let bench = Bench::new(kind).await;
        let spool = fresh_folder("spool").join("state.spool");
        let breaking = Arc::new(Breaking::over(bench.queue()));
        let dying = bench.producer("engine", breaking.clone(), Some(spool.clone()));
        dying.append(captured()).await.expect("it is queued");
        // The crash: the file is as it is between publication and answer.
        let as_crashed = spool.with_extension("crashed");
        let (from, to) = (spool.clone(), as_crashed.clone());
        *breaking.at_loss.lock().expect("no panic") = Some(Box::new(move || {
            std::fs::copy(from, to).expect("the spool is written before");
        }));
        breaking.before_publish.store(true, Ordering::SeqCst);
        let appended = tokio::time::timeout(Duration::from_secs(5), dying.append(captured())).await;
        assert!(!matches!(appended, Ok(Ok(_))));
        drop(dying);

        if kind == Kind::Cloudflare {
            let forgetful = bench.producer("engine", bench.queue(), None);
            forgetful.barrier(2).await.expect("it is published");
            eventually(SOON, "the lost end is told", async || {
                let reasons = bench.reasons(&["engine"]).await;
                reasons.iter().any(|reason| reason.contains("without saying where")).then_some(())
            })
            .await;
            drop(forgetful);
        }
        std::fs::copy(&as_crashed, &spool).expect("the spool as the crash left it");
        let again = bench.producer("engine", bench.queue(), Some(spool));
        again.barrier(2).await.expect("it is published");
        eventually(SOON, "what was on its way has arrived", async || {
            bench.ledger().collect().await.expect("control and the queue answer");
            (bench.count("cutover.revocation where outcome = 'captured'").await == 2).then_some(())
        })
        .await;
    }
}

pub(super) async fn a_queue_that_is_down_refuses_in_time(bench: &Bench) {
    let nowhere = Secret::new("postgres://nobody@127.0.0.1:1/none");
    let terms = Terms { limit: Duration::from_secs(2), ..Bench::terms() };
    let (control, queue): (Secret, Arc<dyn Queue>) = match bench.kind {
        Kind::Postgres => (nowhere.clone(), Arc::new(PostgresQueue::new(&nowhere, "plan", terms))),
        Kind::Cloudflare => {
            let settings = Cloudflare { api: "http://127.0.0.1:1".to_owned(), ..bench.cloudflare.settings() };
            (bench.pair.control.url(), Arc::new(CloudflareQueue::new(&settings, terms)))
        }
        Kind::Nats => {
            let settings = NatsSettings { url: Secret::new("nats://127.0.0.1:1"), stream: "none".to_owned() };
            (bench.pair.control.url(), Arc::new(NatsQueue::new(&settings, terms)))
        }
    };
    let (plan, gateway) = ("plan".to_owned(), "engine".to_owned());
    let limit = terms.limit;
    let producer =
        Producer::over(Setup { control, plan, gateway, limit, install: install(&bench.pair), queue, spool: None });
    let asked = Instant::now();
    producer.append(captured()).await.expect_err("there is no queue");
    assert!(asked.elapsed() < LIMIT, "{:?}", asked.elapsed());
    producer.barrier(2).await.expect_err("there is no queue");
}
