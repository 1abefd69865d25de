//! A damaged journal is refused with its place.

use super::{begin, claim, control, resume};
use crate::harness::Place;
use cutover::journal::{Entry, Journal, JournalError, Kind, Log, RunInfo};
use serde_json::json;

async fn with_records() -> (Place, Journal, RunInfo) {
    let (place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let log = begin(&journal, &lease).await;
    // Numbers and key order that a store of values rather than of text would change.
    let body = json!({ "z": 1.50, "a": "ü \u{1}", "rows": 1e3 });
    log.append(Entry::of_step(Kind::Intent, "claim-sides", body.clone())).await.unwrap();
    log.append(Entry::of_step(Kind::Done, "claim-sides", body)).await.unwrap();
    let info = log.info().clone();
    lease.release().await.unwrap();
    (place, journal, info)
}

async fn damaged_at(statement: &str) -> i64 {
    let (place, journal, info) = with_records().await;
    assert_eq!(journal.check(&info).await.unwrap(), 3, "it is sound before");
    place.execute(statement).await;
    let info = journal.last_run(&info.plan).await.unwrap().unwrap();
    match journal.check(&info).await {
        Err(error @ JournalError::Corrupt(_)) => {
            assert!(error.hint().contains("do not run or roll back"), "{}", error.hint());
            let lease = journal.acquire(&claim(), &[]).await.unwrap();
            let resumed = journal.resume(&lease, &info.plan, &info.digest, json!(null)).await;
            assert!(matches!(resumed, Err(JournalError::Corrupt(_))), "a damaged run is not taken up");
            let JournalError::Corrupt(corruption) = error else { unreachable!() };
            corruption.seq
        }
        other => panic!("{statement}: {other:?}"),
    }
}

#[tokio::test]
async fn damage_is_found_at_its_place() {
    assert_eq!(damaged_at("update cutover.record set body = '{}' where seq = 2").await, 2);
    assert_eq!(damaged_at("update cutover.record set step = 'other' where seq = 3").await, 3);
    assert_eq!(damaged_at("update cutover.record set kind = 'done' where seq = 2").await, 2);
    assert_eq!(damaged_at("update cutover.record set at = at + interval '1 microsecond' where seq = 1").await, 1);
    assert_eq!(damaged_at("delete from cutover.record where seq = 2").await, 2);
    assert_eq!(damaged_at("update cutover.run set header = '{}'").await, 1);
    let reordered = "update cutover.record set seq = 5 - seq + 10 where seq > 1; update cutover.record set seq = seq - 10 where seq > 10";
    assert_eq!(damaged_at(reordered).await, 2);
}

#[tokio::test]
async fn records_come_back_as_they_were_written() {
    let (_place, journal, info) = with_records().await;
    let records = journal.records(&info).await.unwrap();
    let kinds: Vec<_> = records.iter().map(|record| (record.seq, record.kind)).collect();
    assert_eq!(kinds, [(1, Kind::Opened), (2, Kind::Intent), (3, Kind::Done)]);
    assert_eq!(records[1].body, json!({ "z": 1.50, "a": "ü \u{1}", "rows": 1e3 }));
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let log = resume(&journal, &lease).await;
    assert_eq!(log.records().await.unwrap()[..3], records);
}
