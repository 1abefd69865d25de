//! Sequences, migrations and accounts on real databases.

use crate::harness::{APPLICATION, Pair, Place, eventually, fresh_folder};
use cutover::database::account::{analyze, analyzed, count, judge};
use cutover::database::migrate::{
    Applied, Apply, MigrateError, Pace, Source, command, engine_versions, refinery_folder,
};
use cutover::database::sequences::{Outcome, behind, carry};
use cutover::database::term::{self, Term};
use cutover::plan::{Secret, TableName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use uuid::Uuid;

async fn claimed(place: &Place) -> Term {
    let term = Term { term: 1, nonce: Uuid::new_v4() };
    term::install(&place.client().await, &term).await.expect("the term is installed");
    term
}

const SEQUENCES: &str = "
create table account (id serial primary key, code int generated always as identity (increment 10));
create table gone (id serial primary key);
create sequence lonely;
create sequence downwards increment -1 minvalue -1000 maxvalue -1;
create sequence small maxvalue 5;
create table unused (id bigserial primary key)";

#[tokio::test]
async fn database_sequences_are_carried_ahead_and_never_back() {
    let pair = Pair::shared().await;
    pair.blue.execute(SEQUENCES).await;
    pair.blue.execute("insert into account select from generate_series(1, 7); insert into gone select").await;
    pair.blue.execute("select nextval('lonely'), nextval('lonely'), nextval('downwards'), nextval('small')").await;
    pair.green.execute(&SEQUENCES.replace("create table gone (id serial primary key);", "")).await;
    pair.green.execute("alter sequence account_id_seq rename to renamed; select setval('lonely', 5000)").await;
    let term = claimed(&pair.green).await;
    let (blue, mut green) = (pair.blue.client().await, pair.green.client().await);
    let none = BTreeMap::new();

    let late = behind(&blue, &green, &none).await.expect("compared");
    assert_eq!(late.len(), 4, "{late:?}");
    let carried = carry(&blue, &mut green, &term, 100, &none).await.expect("carried");
    let told: BTreeMap<String, (i64, Outcome)> =
        carried.iter().map(|one| (one.sequence.name.clone(), (one.value, one.outcome))).collect();
    assert_eq!(told["renamed"], (107, Outcome::Set));
    assert_eq!(told["account_code_seq"], (61 + 1000, Outcome::Set));
    assert_eq!(told["lonely"], (5000, Outcome::Ahead));
    assert_eq!(told["downwards"], (-101, Outcome::Set));
    assert_eq!(told["small"], (5, Outcome::Set));
    assert_eq!(told["unused_id_seq"], (101, Outcome::Set));
    assert_eq!(told["gone_id_seq"], (1, Outcome::OwnerDropped));
    assert_eq!(behind(&blue, &green, &none).await.expect("compared"), Vec::<String>::new());
    let next: i64 = pair.green.ask("select nextval('unused_id_seq')").await;
    assert_eq!(next, 101, "an unused sequence gives the value itself first");
    let next: i64 = pair.green.ask("select nextval('downwards')").await;
    assert_eq!(next, -102);

    let again = carry(&blue, &mut green, &term, 100, &none).await.expect("carried again");
    assert!(again.iter().all(|one| one.outcome != Outcome::Set), "{again:?}");
    let other = Term { term: 2, nonce: Uuid::new_v4() };
    let refused = carry(&blue, &mut green, &other, 100, &none).await.expect_err("another holds the term");
    assert!(refused.to_string().contains("another process has taken over"), "{refused}");
}

const PATIENCE: Duration = Duration::from_secs(20);

fn folder_of(files: &[(&str, &str)]) -> PathBuf {
    let folder = fresh_folder("migrations");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    folder
}

fn of(folder: &Path) -> Source<'_> {
    Source { name: "folder", folder, history: None }
}

async fn migrate(place: &Place, term: &Term, folder: &Path) -> Result<Applied, MigrateError> {
    let url = place.url();
    refinery_folder(&apply(&url, term, Some(APPLICATION), &|_| {}), of(folder)).await
}

fn apply<'a>(url: &'a Secret, term: &'a Term, owner: Option<&'a str>, tell: &'a (dyn Fn(&str) + Sync)) -> Apply<'a> {
    Apply { url, side: "green", term, owner, pace: Pace::closed(PATIENCE), tell }
}

/// How many files were applied, and how many indexes built concurrently.
fn counts(applied: &Applied) -> (u64, u64) {
    (applied.applied, applied.indexes_concurrent)
}

const TABLE: (&str, &str) = ("V1__table.sql", "create table grant_made (id bigint primary key, subject text);");
const INDEX: (&str, &str) = (
    "V2__index.sql",
    "-- cutover: no-transaction\ninsert into grant_made values (1, 'a;b'); -- once\n
     create unique index concurrently grant_subject on grant_made (subject);\ncreate index if not exists other on grant_made (id);",
);

#[tokio::test]
async fn database_migrations_run_once_and_build_indexes_concurrently() {
    let green = Place::shared("green").await;
    let term = claimed(&green).await;
    let folder = folder_of(&[TABLE, INDEX]);
    let applied = migrate(&green, &term, &folder).await.expect("applied");
    assert_eq!(counts(&applied), (2, 1));
    let valid: bool = green.ask("select indisvalid from pg_index where indexrelid = 'grant_subject'::regclass").await;
    assert!(valid);
    let owner: String = green.ask("select tableowner::text from pg_tables where tablename = 'grant_made'").await;
    assert_eq!(owner, APPLICATION);
    let notes: i64 = green.ask("select count(*) from cutover.migration_statement").await;
    assert_eq!(notes, 0, "the notes of a whole file are forgotten");
    assert_eq!(migrate(&green, &term, &folder).await.expect("again"), Applied::default());

    std::fs::write(folder.join(TABLE.0), "select 1").expect("a file");
    let error = migrate(&green, &term, &folder).await.expect_err("an applied file has changed");
    assert!(error.to_string().contains("V1__table differs"), "{error}");
}

#[tokio::test]
async fn database_migrations_repair_an_invalid_index_and_go_on_where_they_stopped() {
    let green = Place::shared("green").await;
    let term = claimed(&green).await;
    let folder = folder_of(&[TABLE]);
    migrate(&green, &term, &folder).await.expect("applied");
    green.execute("insert into grant_made values (7, 'twice'), (8, 'twice')").await;
    let left = green.client().await;
    left.batch_execute("create unique index concurrently grant_subject on grant_made (subject)")
        .await
        .expect_err("twice");
    let valid: bool = green.ask("select indisvalid from pg_index where indexrelid = 'grant_subject'::regclass").await;
    assert!(!valid, "the leftover is there");

    std::fs::write(folder.join(INDEX.0), INDEX.1).expect("a file");
    let error = migrate(&green, &term, &folder).await.expect_err("still twice");
    assert!(matches!(&error, MigrateError::Duplicates { file, .. } if file == "V2__index"), "{error:?}");
    assert!(error.to_string().contains("(twice) 2 times, in rows 7 and 8"), "{error}");
    let gone: bool = green.ask("select to_regclass('grant_subject') is null").await;
    assert!(gone, "a refused build leaves no invalid index behind");

    left.batch_execute("create unique index concurrently grant_subject on grant_made (subject)")
        .await
        .expect_err("twice");
    green.execute("delete from grant_made where id = 8").await;
    let applied = migrate(&green, &term, &folder).await.expect("repaired");
    assert_eq!(counts(&applied), (1, 1));
    let rows: i64 = green.ask("select count(*) from grant_made where id = 1").await;
    assert_eq!(rows, 1, "what was done before was not done again");
}

#[tokio::test]
async fn database_migrations_wait_for_locks_and_obey_the_term() {
    let green = Place::shared("green").await;
    let term = claimed(&green).await;
    let folder = folder_of(&[TABLE]);
    migrate(&green, &term, &folder).await.expect("applied");
    std::fs::write(folder.join("V2__more.sql"), "alter table grant_made add more text").expect("a file");
    let other = green.application().await;
    other.batch_execute("begin; lock table grant_made in share mode").await.expect("locked");
    let told = Mutex::new(Vec::new());
    let tell = |line: &str| told.lock().expect("unpoisoned").push(line.to_owned());
    let url = green.url();
    let ours = apply(&url, &term, None, &tell);
    let run = refinery_folder(&ours, of(&folder));
    let release = async {
        eventually(PATIENCE, "the runner names who is in the way", || async {
            told.lock()
                .expect("unpoisoned")
                .iter()
                .any(|line| line.contains("waiting; in the way: backend"))
                .then_some(())
        })
        .await;
        other.batch_execute("commit").await.expect("released");
    };
    let (applied, ()) = tokio::join!(run, release);
    assert_eq!(applied.expect("applied").applied, 1);

    std::fs::write(folder.join("V3__later.sql"), "create table later ()").expect("a file");
    let older = Term { term: 1, nonce: Uuid::new_v4() };
    assert!(matches!(migrate(&green, &older, &folder).await, Err(MigrateError::Term(_))));
    let absent: bool = green.ask("select to_regclass('public.later') is null").await;
    assert!(absent);
    refinery_folder(&ours, of(&folder)).await.expect("applied as our own login");
    let present: bool = green.ask("select to_regclass('public.later') is not null").await;
    assert!(present, "not in the schema that is called as our login");
}

#[tokio::test]
async fn database_migrations_refuse_what_would_be_skipped() {
    let green = Place::shared("green").await;
    let term = claimed(&green).await;
    for (name, text) in [
        ("001_init.sql", "select 1"),
        ("V2_one_underscore.sql", "select 1"),
        ("V2__a-dash.sql", "select 1"),
        ("V1.1__part.sql", "select 1"),
        ("V2__ends.sql", "create table x (); commit;"),
        ("V2__nameless.sql", "create index concurrently on grant_made (id)"),
    ] {
        let folder = folder_of(&[TABLE, (name, text)]);
        let error = migrate(&green, &term, &folder).await.expect_err(name);
        let said = error.to_string();
        assert!(matches!(&error, MigrateError::Folder(_)) && said.contains(name), "{name}: {said}");
    }
    let absent: bool = green.ask("select to_regclass('grant_made') is null").await;
    assert!(absent, "nothing was applied");
    assert_eq!(engine_versions(&green.client().await).await.expect("counted"), None);
    green
        .execute("create table public.schema_migration (version text); insert into public.schema_migration values ('1'), ('2')")
        .await;
    assert_eq!(engine_versions(&green.client().await).await.expect("counted"), Some(2));
}

const ACCOUNTED: &str = "
create table grant_made (id int primary key);
create table flow (id int, at int, primary key (id, at)) partition by range (at);
create table flow_1 partition of flow for values from (0) to (50);
create table flow_2 partition of flow for values from (50) to (1000);
create table cutover.copied (green_table text, first_block bigint, end_block bigint, attempts integer not null default 1,
  rows bigint, source_rows bigint, cleaned_by_rule jsonb not null default '[]', snapshot text, file text);
insert into cutover.copied (green_table, first_block, rows, source_rows, cleaned_by_rule)
values ('public.grant_made', 0, 300, 310, '[[\"orphans\", 10]]'), ('public.flow', 0, 100, 100, '[]')";

#[tokio::test]
async fn database_accounts_for_rows_and_knows_what_is_analyzed() {
    let green = Place::shared("green").await;
    let term = claimed(&green).await;
    green.execute(&format!("set search_path = public; {ACCOUNTED}")).await;
    let table = |name: &str| TableName { schema: "public".to_owned(), name: name.to_owned() };
    let tables = [table("grant_made"), table("flow")];
    let client = green.client().await;
    assert!(!analyzed(&client, &tables).await.expect("read"), "nothing was analyzed");
    analyze(&green.url(), &term, &tables, 2, &|_| {}).await.expect("analyzed");
    let rows =
        "insert into grant_made select generate_series(1, 300); insert into flow select 1, generate_series(0, 98)";
    green.execute(rows).await;
    eventually(PATIENCE, "rows that came later make statistics stale", || async {
        (!analyzed(&client, &tables).await.expect("read")).then_some(())
    })
    .await;
    analyze(&green.url(), &term, &tables, 2, &|_| {}).await.expect("analyzed");
    assert!(analyzed(&client, &tables).await.expect("read"));
    assert!(!analyzed(&client, &[table("absent")]).await.expect("read"));

    let found = judge(&count(&client, &tables).await.expect("counted"));
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["public.flow: green has 99 rows, it received 100"]);
    green.execute("insert into flow values (2, 7)").await;
    assert!(judge(&count(&client, &tables).await.expect("counted")).is_empty());
}

fn words(run: &[&str]) -> Vec<String> {
    run.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn database_commands_show_no_secret() {
    let env = BTreeMap::from([
        ("DSN".to_owned(), Secret::new("postgres://hydra:p%40ssword@green/hydra")),
        ("TOKEN".to_owned(), Secret::new("moon shine")),
    ]);
    let told = Mutex::new(Vec::new());
    let tell = |line: &str| told.lock().expect("unpoisoned").push(line.to_owned());
    let script = "echo to $DSN with $TOKEN; echo password p@ssword p%40ssword >&2; exit 3";
    let run = words(&["sh", "-c", script]);
    let error = command(&run, &env, Path::new("/"), PATIENCE, &tell).await.expect_err("it exits with 3");
    let shown = format!("{error} {error:?} {told:?}");
    assert!(shown.contains("to *** with ***") && shown.contains("password *** ***"), "{shown}");
    for secret in ["p%40ssword", "p@ssword", "moon"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let run = words(&["sh", "-c", "echo one; echo two; pwd"]);
    let last = command(&run, &BTreeMap::new(), Path::new("/"), PATIENCE, &|_| {}).await.expect("it ends well");
    assert_eq!(last, ["one", "two", "/"]);
    let run = words(&["/nowhere/at/all"]);
    let error = command(&run, &env, Path::new("/"), PATIENCE, &|_| {}).await;
    assert!(matches!(error, Err(MigrateError::Start { .. })));
}

#[tokio::test]
async fn database_commands_end_with_all_their_children_at_the_deadline() {
    let mark = format!("cutover-test-{}", Uuid::new_v4());
    let script = format!("sh -c 'while true; do sleep 1; done' {mark} & echo begun; wait");
    let run = words(&["sh", "-c", &script]);
    let error = command(&run, &BTreeMap::new(), Path::new("/"), Duration::from_secs(1), &|_| {}).await;
    let error = error.expect_err("it does not end by itself");
    assert!(matches!(&error, MigrateError::Deadline { last, .. } if last == &["begun"]), "{error:?}");
    eventually(PATIENCE, "no child is left", || async { (!lives(&mark)).then_some(()) }).await;
}

#[tokio::test]
async fn database_commands_leave_nothing_behind_that_holds_their_output() {
    let mark = format!("cutover-test-{}", Uuid::new_v4());
    let script = format!("sh -c 'while true; do sleep 1; done' {mark} & echo done");
    let run = words(&["sh", "-c", &script]);
    let last = command(&run, &BTreeMap::new(), Path::new("/"), PATIENCE, &|_| {}).await.expect("it ends");
    assert_eq!(last, ["done"]);
    eventually(PATIENCE, "no child is left", || async { (!lives(&mark)).then_some(()) }).await;
}

fn lives(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("a Linux system").flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(mark))
}
