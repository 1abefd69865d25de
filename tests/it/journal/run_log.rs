//! Records are written once and in order, whatever happens to the connection or to the one who waits.

use super::{DIGEST, PLAN, begin, claim, control, resume};
use cutover::journal::{Entry, JournalError, Kind, Log};
use serde_json::json;
use std::pin::pin;
use std::task::Poll;

const CUT_ALL_OTHERS: &str = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";

fn opened(place: i32) -> Entry {
    Entry::of_run(Kind::Opened, json!({ "place": place }))
}

#[tokio::test]
async fn a_run_is_continued_only_under_its_digest() {
    let (_place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    assert!(journal.resume(&lease, PLAN, DIGEST, json!(null)).await.unwrap().is_none());
    let run = begin(&journal, &lease).await.run();
    match journal.begin(&lease, PLAN, DIGEST, &json!({}), json!(null)).await {
        Err(JournalError::Unfinished { run: unfinished }) => assert_eq!(unfinished, run),
        other => panic!("{other:?}"),
    }
    match journal.resume(&lease, PLAN, "sha256:two", json!(null)).await {
        Err(JournalError::Changed { was, now, .. }) => assert_eq!((was.as_str(), now.as_str()), (DIGEST, "sha256:two")),
        other => panic!("{other:?}"),
    }
    assert_eq!(resume(&journal, &lease).await.run(), run);
}

#[tokio::test]
async fn a_broken_connection_neither_loses_nor_doubles_a_record() {
    let (place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let log = begin(&journal, &lease).await;
    for place_of in 0..8 {
        let cut = place.execute(CUT_ALL_OTHERS);
        let (_, record) = tokio::join!(cut, log.append(opened(place_of)));
        assert_eq!(record.unwrap().seq, i64::from(place_of) + 2);
    }
    let places: Vec<_> = log.records().await.unwrap()[1..].iter().map(|record| record.body["place"].clone()).collect();
    assert_eq!(json!(places), json!([0, 1, 2, 3, 4, 5, 6, 7]));
}

#[tokio::test]
async fn a_reader_outlives_a_connection_that_breaks_under_it() {
    let (place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let log = begin(&journal, &lease).await;
    for _ in 0..8 {
        let ((), records) = tokio::join!(place.execute(CUT_ALL_OTHERS), log.records());
        assert_eq!(records.unwrap().len(), 1);
    }
}

/// Gives something up after so many looks at it, of which each but the first follows an answer: however fast the machine is, the first are too
/// early.
async fn is_done_within(looks: i32, future: impl Future) -> bool {
    let mut future = pin!(future);
    let mut left = looks;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn an_append_cut_off_half_way_leaves_a_sound_chain() {
    let (_place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let log = begin(&journal, &lease).await;
    let mut cut_off = 0;
    for place in 0..40 {
        cut_off += usize::from(!is_done_within(place / 4, log.append(opened(place))).await);
        log.append(opened(place)).await.unwrap();
    }
    assert!(cut_off > 4, "too few were cut off to show anything: {cut_off}");
    let records = journal.check(log.info()).await.unwrap();
    assert!((81 - cut_off..=81).contains(&records), "{records} records, {cut_off} cut off");
}
