//! The tables come to be once, whoever opens the journal.

use crate::harness::Place;
use cutover::journal::{Journal, embedded_migrations};

#[tokio::test]
async fn many_may_open_the_journal_at_once() {
    let place = Place::shared("control").await;
    let url = place.url();
    assert!(Journal::look(&url).await.unwrap().is_none(), "looking creates nothing");
    let (one, two, three) = tokio::join!(Journal::open(&url), Journal::open(&url), Journal::open(&url));
    assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
    assert!(Journal::look(&url).await.unwrap().is_some());
    let applied: i64 = place.ask("select count(*) from cutover.cutover_schema_history").await;
    assert_eq!(applied, embedded_migrations().len() as i64);
}

#[test]
fn every_migration_in_the_folder_is_embedded() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/control");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.map(|name| name.trim_end_matches(".sql").to_owned()).collect();
    let version = |name: &String| name.trim_start_matches('V').split('_').next().unwrap().parse::<u32>().unwrap();
    names.sort_by_key(version);
    assert_eq!(names, embedded_migrations(), "list the new file in src/journal/schema.rs");
}
