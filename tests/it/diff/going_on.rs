//! A diff that is cut off goes on; one that ended begins anew; it gives blue's snapshot back in time, and a superseded one notes nothing.

use super::{Stage, mapping, said, whole};
use cutover::database::copy::ExportedSnapshot;
use cutover::database::diff::{self, Class, DiffError, DiffOptions, DiffProgress, Ended};
use cutover::database::term::{self, Term};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use uuid::Uuid;

/// Parts that a call tells of, by number; ends it after `most` of them.
async fn parts(stage: &Stage, options: &DiffOptions<'_>, most: usize) -> Vec<u64> {
    let (told, enough) = (Mutex::new(Vec::new()), tokio::sync::Notify::new());
    let snapshot = ExportedSnapshot::export(options.blue, "blue", &[]).await.expect("a snapshot of blue");
    let tell = |progress: DiffProgress<'_>| {
        let mut told = told.lock().expect("nobody panics");
        told.push(progress.done);
        assert_eq!(progress.parts, 5, "one for accounts, four for grants");
        if told.len() == most {
            enough.notify_one();
        }
    };
    let mapping = mapping();
    tokio::select! {
        ended = diff::diff(options, &mapping, snapshot.id(), &tell) => { ended.expect("it goes well"); }
        () = enough.notified() => {}
    }
    let mut green = stage.pair.green.client().await;
    diff::settle(&mut green, &stage.term, &mapping, &BTreeSet::new()).await.expect("what was found stands");
    told.into_inner().expect("nobody panics")
}

#[tokio::test]
async fn a_diff_that_is_cut_off_goes_on_and_one_that_ended_begins_anew() {
    let stage = Stage::filled().await;
    stage
        .pair
        .green
        .execute("update grants set state = 5 where id in ('g1', 'g2', 'g3', 'g4', 'g5', 'g6', 'g7', 'g8')")
        .await;
    let (blue, green) = (stage.pair.blue.url(), stage.pair.green.url());
    let options = DiffOptions { workers: 1, ..stage.options(&blue, &green) };
    let first = parts(&stage, &options, 2).await;
    assert_eq!(first, [1, 2]);
    assert_eq!(parts(&stage, &options, 9).await, [3, 4, 5], "what was compared is not compared again");
    let noted: String = stage
        .pair
        .green
        .ask("select string_agg(found->>'changed', ' ' order by green_table, part) from cutover.compared")
        .await;
    let changed: u32 = noted.split(' ').map(|count| count.parse::<u32>().expect("a count")).sum();
    assert_eq!(changed, 8, "{noted}");
    assert_eq!(parts(&stage, &options, 9).await, [1, 2, 3, 4, 5]);
    stage
        .pair
        .green
        .execute("update grants set state = case when id in ('g3', 'g6') then 6 else 1 end where state = 5")
        .await;
    assert_eq!(whole(&options).await.expect("compared").differences(), 0, "nothing of what was found before is kept");
}

#[tokio::test]
async fn many_differences_are_all_counted_and_few_of_them_listed() {
    let stage = Stage::filled().await;
    stage.pair.green.execute("update grants set state = state + 1, note = 'x' where id like 'g1%'; delete from grants where id like 'g2%'").await;
    let (blue, green) = (stage.pair.blue.url(), stage.pair.green.url());
    let found = whole(&DiffOptions { listed: 12, ..stage.options(&blue, &green) }).await.expect("compared");
    assert_eq!((found.changed, found.missing, found.extra, found.listed.len()), (1111, 1111, 0, 12));
    let is_whole = |(_, key, class, columns): (String, String, Class, Vec<String>)| match class {
        Class::Changed => key.starts_with("g1") && columns == ["state", "note"],
        _ => class == Class::Missing && key.starts_with("g2") && columns.is_empty(),
    };
    assert!(found.listed.iter().map(said).all(is_whole), "{:?}", found.listed);
}

#[tokio::test]
async fn a_snapshot_that_is_too_old_is_given_back_and_the_rest_is_compared_at_another() {
    let stage = Stage::filled().await;
    stage.pair.green.execute("delete from grants where id = 'g5'").await;
    let (blue, green) = (stage.pair.blue.url(), stage.pair.green.url());
    let mut options = stage.options(&blue, &green);
    options.throttle.snapshot = Duration::ZERO;
    let snapshot = ExportedSnapshot::export(&blue, "blue", &[]).await.expect("a snapshot of blue");
    let mut calls = 0;
    // A worker may have begun before the watch has said its first word, so that it comes to an end in any case.
    loop {
        calls += 1;
        match diff::diff(&options, &mapping(), snapshot.id(), &|_| ()).await.expect("it goes well") {
            Ended::Whole => break,
            Ended::Part { why } => assert!(why.contains("older than"), "{why}"),
        }
        assert!(calls < 20, "it does not get on");
        options.throttle.snapshot += Duration::from_millis(300);
    }
    let found = diff::found(&stage.pair.green.client().await, &mapping(), 10).await.expect("green answers");
    assert_eq!((found.missing, found.differences()), (1, 1));
}

#[tokio::test]
async fn whoever_was_superseded_notes_nothing() {
    let stage = Stage::filled().await;
    let next = Term { term: 2, nonce: Uuid::new_v4() };
    term::install(&stage.pair.green.client().await, &next).await.expect("another takes over");
    assert!(matches!(stage.diff().await, Err(DiffError::Term(_))));
    let noted: bool = stage.pair.green.ask("select to_regclass('cutover.compared') is not null").await;
    assert!(!noted);
}
