//! Messages go from one queue to another, dead letters too, and none is lost on the way.

use super::bench::{Bench, Breaking, Kind, SOON, VISIBILITY, event, pull_some};
use cutover::revocations::queue::{Lane, move_all};
use std::sync::atomic::Ordering;
use tokio::time::sleep;

#[tokio::test]
async fn messages_move_between_all_queues_and_arrive() {
    let bench = Bench::new(Kind::Postgres).await;
    let incarnation = bench.register("engine").await;
    let queue = |kind: Kind| bench.queue_of(kind);
    let (postgres, cloudflare, nats) = (queue(Kind::Postgres), queue(Kind::Cloudflare), queue(Kind::Nats));
    bench.publish((1..=7).map(|seq| event("engine", incarnation, seq).to_bytes()).collect()).await;
    let dead = [super::bench::parcel(b"\"not ours\"".to_vec())];
    postgres.publish(Lane::Dead, &dead, None).await.expect("it is published");
    // Every ordered pair once.
    let way = [&postgres, &nats, &cloudflare, &postgres, &cloudflare, &nats, &postgres];
    for pair in way.windows(2) {
        let moved = move_all(&**pair[0], &**pair[1], SOON).await.expect("they move");
        assert_eq!((moved.live, moved.dead), (7, 1), "from {} to {}", pair[0].name(), pair[1].name());
    }
    bench.ledger().collect().await.expect("control answers");
    assert_eq!(bench.count("cutover.revocation").await, 7);
    assert_eq!(bench.count("cutover.dead_message").await, 1, "the dead letter came along");
}

#[tokio::test]
async fn a_move_that_breaks_off_leaves_messages_in_both_and_goes_on() {
    let bench = Bench::new(Kind::Postgres).await;
    let incarnation = bench.register("engine").await;
    bench.publish((1..=3).map(|seq| event("engine", incarnation, seq).to_bytes()).collect()).await;
    let breaking = Breaking::over(bench.queue());
    breaking.at_ack.store(true, Ordering::SeqCst);
    let nats = bench.queue_of(Kind::Nats);
    move_all(&breaking, &*nats, SOON).await.expect_err("it broke off");
    sleep(VISIBILITY).await;
    breaking.at_ack.store(false, Ordering::SeqCst);
    let moved = move_all(&breaking, &*nats, SOON).await.expect("it goes on");
    assert_eq!(moved.live, 3);
    let there = pull_some(&*nats, Lane::Live).await;
    assert!(there.len() >= 3, "{there:?}");
}
