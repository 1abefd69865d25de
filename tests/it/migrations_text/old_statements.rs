//! What a server's own statistics say of its clients, and whether that lives with the next schema: for a login that is no superuser.

use super::rewriting::Made;
use crate::harness::{Place, server_with};
use cutover::database::client::connect;
use cutover::database::migrations::compat::{CompatError, Fate, from_statistics};
use cutover::database::old_statements::{Asking, OldError, clear, judge};
use cutover::database::scratch::{Scratch, ScratchError};
use cutover::plan::{Compat, Live, Migration, MigrationSource, Secret, TableName};
use std::sync::Arc;
use std::time::Duration;

const SCHEMA: &str = "create table note (id bigint primary key, body text not null)";
const TOOL: &str = "watcher";

/// A database whose clients are counted, and our login there.
async fn counted() -> (Place, Secret) {
    let server = server_with("statistics", &[("shared_preload_libraries", "pg_stat_statements")]).await;
    server.create_role(TOOL, "createdb in role pg_read_all_data").await.expect("a login of ours");
    let place = Place::fresh(Arc::new(server), "counted").await;
    place.execute("create extension pg_stat_statements").await;
    let application = place.application().await;
    application.batch_execute(SCHEMA).await.expect("the schema");
    for id in 1..=3_i64 {
        application.query("select * from note where id = $1", &[&id]).await.expect("asked");
        application.query("select body from note where id = $1", &[&id]).await.expect("asked");
    }
    application.batch_execute("select id from note where body = 'secret'").await.expect("asked");
    let url = place.server.url(TOOL, &place.database);
    (place, url)
}

async fn judged(url: &Secret, folder: &Made) -> Result<Vec<cutover::database::migrations::compat::Judged>, OldError> {
    let versions = TableName { schema: "public".to_owned(), name: "schema_migration".to_owned() };
    let source = MigrationSource::Engine { folder: folder.0.clone(), versions };
    let (name, live) = ("expand".to_owned(), Live::default());
    let migrations = [Migration { name, after_copy: false, live, contract: false, source }];
    let compat = Compat { statements: Vec::new(), statistics: true };
    let bound = Duration::from_secs(60);
    let asking = Asking { blue: url, programs: None, migrations: &migrations, compat: &compat, bound };
    judge(&asking, &|_| {}).await
}

#[tokio::test]
async fn migrations_compat_reads_what_clients_really_send_and_says_when_it_may_not() {
    let (place, url) = counted().await;
    let folder = Made::of(&[("20200101000001_kind.up.sql", "alter table note add column kind text")]);
    let client = connect(&url, "blue").await.expect("our login connects");
    let hidden = from_statistics(&client).await.expect_err("others' statements are not shown to it");
    assert!(matches!(hidden, CompatError::Hidden { calls } if calls >= 7), "{hidden:?}");
    let hidden = judged(&url, &folder).await.expect_err("so nobody can tell");
    assert!(matches!(hidden, OldError::Compat(CompatError::Hidden { .. })), "{hidden:?}");

    place.execute(&format!("grant pg_read_all_stats to {TOOL}")).await;
    let found = from_statistics(&client).await.expect("shown").expect("the extension is there");
    let star = found.iter().find(|one| one.sql == "select * from note where id = $1").expect("what clients sent");
    assert_eq!((star.calls, star.from.as_str()), (Some(3), "pg_stat_statements"));

    let judged = judged(&url, &folder).await.expect("both were asked");
    let of = |sql: &str| {
        judged.iter().find(|one| one.statement.contains(sql)).unwrap_or_else(|| panic!("{sql}: {judged:?}"))
    };
    let star = of("select * from note");
    assert_eq!((star.fate, star.calls), (Fate::Breaks, Some(3)), "{star:?}");
    assert_eq!(star.explicit.as_deref(), Some("select id, body from note where id = $1"));
    assert_eq!(of("select body from note").fate, Fate::Same);
    // Our login may not create the extension on the copy; that is no fault of the migrations.
    assert_eq!(of("pg_stat_statements").fate, Fate::Unjudged);
    assert!(judged.iter().all(|one| !one.statement.contains("secret")), "{judged:?}");
    assert_eq!(place.ask::<i64>("select count(*) from pg_database where datname like 'cutover%'").await, 0);
}

const COPIES: &str = "select count(*) from pg_database where datname like 'cutover_compat_%'";

#[tokio::test]
async fn migrations_compat_takes_away_the_copy_that_a_dead_process_left_and_nobody_else_s() {
    let server = server_with("copies", &[]).await;
    let place = Place::fresh(Arc::new(server), "copied").await;
    let url = place.url();
    let number: i64 = place.ask("select oid::int8 from pg_database where datname = current_database()").await;
    let name = format!("cutover_compat_{number}");
    clear(&url).await.expect("nothing is there, and that is well");

    let left = Scratch::create(&url, &name).await.expect("a copy is begun");
    let inside = connect(&left.url(), "the copy").await.expect("somebody is in it still");
    inside.batch_execute(SCHEMA).await.expect("a schema");
    drop(left);
    clear(&url).await.expect("it goes, whoever is in it");
    assert_eq!(place.ask::<i64>(COPIES).await, 0);

    // Made and not marked yet when the process died: nothing is in it.
    place.execute(&format!("create database {name}")).await;
    clear(&url).await.expect("it goes");
    assert_eq!(place.ask::<i64>(COPIES).await, 0);

    place.execute(&format!("create database {name}")).await;
    let theirs = url.expose().replace(&format!("/{}", place.database), &format!("/{name}"));
    connect(&Secret::new(theirs), "theirs")
        .await
        .expect("a database")
        .batch_execute(SCHEMA)
        .await
        .expect("a table of somebody's");
    clear(&url).await.expect("it is none of ours");
    assert_eq!(place.ask::<i64>(COPIES).await, 1);
    assert!(matches!(Scratch::create(&url, &name).await, Err(ScratchError::Foreign { .. })));
}
