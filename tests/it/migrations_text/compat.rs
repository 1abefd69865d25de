//! Statements of an old engine on a new schema.

use crate::harness::Place;
use cutover::database::migrations::compat::{Asked, Fate, Judged, check, from_statistics, is_in_the_way};

const OLD: &str = "create table client (pk serial primary key, id varchar(40) not null, name text, made_at timestamp);
create table gone (id int); create type mood as enum ('a');";
const NEW: &str = "create table client (pk bigint primary key, id varchar(40) not null, name text, made_at timestamptz, nid uuid not null, note text);
create type mood as enum ('a');";

async fn judged(statements: &[&str]) -> Vec<Judged> {
    let (old, new) = (Place::shared("old").await, Place::shared("new").await);
    old.execute(OLD).await;
    new.execute(NEW).await;
    let asked: Vec<Asked> = statements
        .iter()
        .map(|sql| Asked { from: "test".into(), line: None, sql: (*sql).to_owned(), calls: None })
        .collect();
    check(&old.client().await, &new.client().await, &asked).await.expect("both answer")
}

#[tokio::test]
async fn migrations_compat_tells_what_breaks_and_what_changes() {
    let cases = [
        (
            "select * from client where id = $1",
            Fate::Breaks,
            "`*` gives more columns: nid, note",
            Some("select pk, id, name, made_at from client where id = $1"),
        ),
        ("select name from client where id = $1", Fate::Same, "", None),
        ("select pk from client", Fate::Changes, "column pk is int8, it was int4", None),
        ("select name from client where pk = $1", Fate::Changes, "parameter $1 is int8, it was int4", None),
        ("select made_at from client", Fate::Changes, "timestamptz", None),
        ("select id from gone", Fate::Breaks, "does not exist", None),
        (
            "insert into client values ($1, $2, $3)",
            Fate::Breaks,
            "nid refuses null",
            Some("insert into client (pk, id, name) values ($1, $2, $3)"),
        ),
        ("insert into client (id) values ($1)", Fate::Breaks, "nid refuses null and has no default", None),
        (
            "delete from client where id = $1 returning *",
            Fate::Breaks,
            "more columns",
            Some("delete from client where id = $1 returning pk, id, name, made_at"),
        ),
        ("select $1::mood", Fate::Same, "", None),
        ("select nowhere from client", Fate::Unjudged, "the old schema does not take it", None),
    ];
    let found = judged(&cases.iter().map(|case| case.0).collect::<Vec<_>>()).await;
    for ((sql, fate, why, explicit), found) in cases.iter().zip(&found) {
        assert_eq!(found.fate, *fate, "{sql}: {found:?}");
        assert!(found.why.join("; ").contains(why), "{sql}: {:?}", found.why);
        if explicit.is_some() {
            assert_eq!(found.explicit.as_deref(), *explicit, "{sql}");
        }
        assert_eq!(is_in_the_way(found), *fate >= Fate::Changes, "{sql}");
    }
}

#[tokio::test]
async fn migrations_compat_without_statistics_says_so() {
    let place = Place::shared("quiet").await;
    assert!(from_statistics(&place.client().await).await.expect("the server answers").is_none());
}
