//! What a queue promises of each message: at least once, again when it was not acknowledged, and never lost.

use super::bench::{Bench, Kind, MOST, ROOM, SOON, VISIBILITY, leases, parcel, pull_some};
use cutover::revocations::queue::{Lane, Parcel, Stillness};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn body(text: &str) -> Vec<u8> {
    serde_json::json!({ "n": text }).to_string().into_bytes()
}

pub(super) async fn at_least_once_between_several_producers_and_consumers(bench: &Bench) {
    let expected: BTreeSet<Vec<u8>> =
        (0..4).flat_map(|producer| (0..20).map(move |n| body(&format!("{producer}-{n}")))).collect();
    let produced = join_all((0..4).map(|producer| async move {
        let queue = bench.queue();
        for chunk in (0..20).collect::<Vec<_>>().chunks(5) {
            let parcels: Vec<Parcel> = chunk.iter().map(|n| parcel(body(&format!("{producer}-{n}")))).collect();
            queue.publish(Lane::Live, &parcels, None).await.expect("it is published");
        }
    }));
    let seen: Mutex<BTreeSet<Vec<u8>>> = Mutex::default();
    let consumed = join_all((0..3).map(|_| async {
        let (queue, end) = (bench.queue(), Instant::now() + SOON);
        while seen.lock().expect("no panic").len() < 80 && Instant::now() < end {
            let pulled = queue.pull(Lane::Live, 7).await.expect("the queue answers");
            queue.ack(Lane::Live, &leases(&pulled)).await.expect("it is acknowledged");
            seen.lock().expect("no panic").extend(pulled.into_iter().map(|delivery| delivery.body));
            sleep(Duration::from_millis(5)).await;
        }
    }));
    tokio::join!(produced, consumed);
    assert_eq!(*seen.lock().expect("no panic"), expected);
    sleep(VISIBILITY).await;
    assert_eq!(bench.queue().pull(Lane::Live, 100).await.expect("the queue answers"), [], "all is acknowledged");
    let still = bench.queue().stillness().await.expect("the queue answers");
    let wanted = if bench.kind == Kind::Cloudflare { Stillness::Unprovable } else { Stillness::Empty };
    assert_eq!(still, wanted, "only what can be proved is said");
}

pub(super) async fn what_is_not_acknowledged_comes_again_and_not_before(bench: &Bench) {
    bench.publish(vec![body("one")]).await;
    let (first, second) = (bench.queue(), bench.queue());
    let pulled = pull_some(&*first, Lane::Live).await;
    let taken = Instant::now();
    let early = second.pull(Lane::Live, 10).await.expect("the queue answers");
    assert!(early.is_empty() || taken.elapsed() >= VISIBILITY, "it belongs to the first: {early:?}");
    assert_ne!(second.stillness().await.expect("the queue answers"), Stillness::Empty, "it is not done");
    let again = pull_some(&*second, Lane::Live).await;
    assert_eq!((again[0].body.clone(), again[0].attempts), (body("one"), 2));
    first.ack(Lane::Live, &leases(&pulled)).await.expect("a late acknowledgement is no error");
    second.ack(Lane::Live, &leases(&again)).await.expect("it is acknowledged");
    sleep(VISIBILITY + Duration::from_millis(100)).await;
    assert_eq!(second.pull(Lane::Live, 10).await.expect("the queue answers"), []);
}

pub(super) async fn what_is_given_back_comes_after_its_delay(bench: &Bench) {
    bench.publish(vec![body("one")]).await;
    let queue = bench.queue();
    let pulled = pull_some(&*queue, Lane::Live).await;
    let given_back = Instant::now();
    let delay = Duration::from_secs(1);
    queue.retry(&leases(&pulled), delay).await.expect("it is given back");
    let again = pull_some(&*queue, Lane::Live).await;
    assert!(given_back.elapsed() + Duration::from_millis(100) >= delay, "{:?}", given_back.elapsed());
    assert_eq!(again[0].body, body("one"));
    queue.retry(&leases(&again), Duration::ZERO).await.expect("it is given back");
    let third = pull_some(&*queue, Lane::Live).await;
    assert_eq!(third[0].attempts, 3);
    queue.ack(Lane::Live, &leases(&third)).await.expect("it is acknowledged");
}

pub(super) async fn what_comes_too_often_is_a_dead_letter_and_never_lost(bench: &Bench) {
    bench.publish(vec![body("one")]).await;
    let queue = bench.queue();
    for _ in 0..MOST {
        pull_some(&*queue, Lane::Live).await;
    }
    sleep(VISIBILITY + Duration::from_millis(50)).await;
    assert_eq!(queue.pull(Lane::Live, 10).await.expect("the queue answers"), [], "it is delivered no more");
    let dead = pull_some(&*queue, Lane::Dead).await;
    assert_eq!(dead[0].body, body("one"));
    let depth = queue.depth().await.expect("the queue answers");
    assert_eq!((depth.live, depth.dead), (0, 1));

    let back = [Parcel { id: dead[0].id.unwrap_or_else(uuid::Uuid::new_v4), body: dead[0].body.clone() }];
    queue.publish(Lane::Live, &back, None).await.expect("it is published again");
    queue.ack(Lane::Dead, &leases(&dead)).await.expect("it is acknowledged");
    let again = pull_some(&*queue, Lane::Live).await;
    assert_eq!(again[0].body, body("one"), "a dead letter that was put back is delivered");
    queue.ack(Lane::Live, &leases(&again)).await.expect("it is acknowledged");
    assert_eq!(bench.cloudflare.deleted(), 0);
}

pub(super) async fn a_full_queue_refuses_and_takes_again(bench: &Bench) {
    bench.publish((0..ROOM).map(|n| body(&n.to_string())).collect()).await;
    let queue = bench.queue();
    let more = [parcel(body("more"))];
    let error = queue.publish(Lane::Live, &more, None).await.expect_err("it is full");
    assert!(error.is_certainly_undone(), "nobody is left in doubt: {error}");
    let pulled = pull_some(&*queue, Lane::Live).await;
    queue.ack(Lane::Live, &leases(&pulled)).await.expect("it is acknowledged");
    queue.publish(Lane::Live, &more, None).await.expect("there is room again");
}
