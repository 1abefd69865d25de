//! Blue's schema on green: all kinds of things in it, owners and grants, what is refused, what is dropped again, and a copy cut off.

use crate::harness::{APPLICATION, Pair, Place};
use cutover::database::schema::{Noted, PgDump, SchemaCopy, SchemaError, SchemaStanding, verify};
use cutover::database::term::{self, Term};
use cutover::database::{catalog, claim, client, mapping, preflight};
use cutover::plan::{Plan, Side, TableName};
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

const BLUE: &str = r#"
create schema other;
create type mood as enum ('calm', 'it''s loud');
create type other.pair as (a integer, b text);
create domain word as text check (value <> '') default 'none';
create sequence numbers start 7 increment 3;
create function other.twice(n integer) returns integer language sql immutable begin atomic select case when true then n * 2 end; end;
create function touch() returns trigger language plpgsql as $$ begin new.note := 'a;b $ c'; return new; end $$;
create table person (
  id bigint generated always as identity primary key, serial serial, mood mood not null default 'calm', pair other.pair, name word,
  upper text generated always as (upper(name)) stored, note text default E'back\\slash', number bigint default nextval('numbers'),
  constraint "odd; name" check (id > 0));
comment on table person is 'people; and ''more''';
comment on column person.name is 'a name';
create table other."Mixed Case" (person bigint references person (id) on delete cascade deferrable, day date not null, primary key (person, day));
create table event (id bigint, at timestamptz not null, primary key (id, at)) partition by range (at);
create table event_2025 partition of event for values from ('2025-01-01') to ('2026-01-01');
create table event_rest partition of event default;
create index event_at on event (at);
create unique index person_name on person (lower(name)) where mood = 'calm';
create trigger touch before insert on person for each row execute function touch();
create view loud as select id, name from person where mood <> 'calm';
create materialized view counted as select count(*) as people from person;
create rule no_more as on insert to loud do instead (select 1; select other.twice(2));
create statistics person_stats on mood, number from person;
alter table person enable row level security;
create policy everybody on person using (true);
create table schema_migration (version varchar(48) primary key, version_self integer not null default 0);
insert into schema_migration select n::text, n from generate_series(1, 3) n;
insert into person (name) values ('Ann');
grant select (id, name) on person to pg_monitor;
grant select, update on other."Mixed Case" to public;
grant usage on schema other to pg_monitor with grant option;
revoke execute on function other.twice from public;
grant usage on sequence numbers to pg_monitor"#;

/// Blue with all of that, owned by the application but for one table of another owner; green claimed.
async fn pair() -> (Pair, Uuid, Term) {
    let pair = Pair::shared().await;
    pair.blue.execute(&format!("grant create on schema public to {APPLICATION}")).await;
    pair.blue.application().await.batch_execute(BLUE).await.expect("blue's schema");
    pair.blue.execute("create table ours (id integer primary key)").await;
    let (run, term) = (Uuid::new_v4(), Term { term: 1, nonce: Uuid::new_v4() });
    let mut green = pair.green.client().await;
    claim::claim(&mut green, run, Side::Green).await.expect("green is claimed");
    term::install(&green, &term).await.expect("green takes our term");
    (pair, run, term)
}

fn own() -> [TableName; 2] {
    ["schema_migration", "networks"].map(|name| TableName { schema: "public".to_owned(), name: name.to_owned() })
}

async fn dump(pair: &Pair) -> String {
    let program = PgDump::find(None, &pair.blue.client().await).await.expect("a pg_dump as new as the server");
    program.schema(&pair.blue.url(), Duration::from_secs(30)).await.expect("blue's schema")
}

async fn copy(pair: &Pair, run: Uuid, term: Term, dump: &str) -> Result<Noted, SchemaError> {
    let copy = SchemaCopy { run, term, roles: (APPLICATION, APPLICATION), own: &own() };
    copy.apply(&pair.blue.client().await, &mut pair.green.client().await, dump).await
}

fn plan(pair: &Pair, more: &str) -> Plan {
    let text = format!(
        "version: 1\nname: fits\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: hydra }}\n  green: {{ url: \"${{GREEN_URL}}\", role: hydra }}\ncopy: {{ method: logical }}\n{more}"
    );
    let url = |name: &str| match name {
        "CONTROL_URL" => Some(pair.control.url().expose().to_owned()),
        "BLUE_URL" => Some(pair.blue.url().expose().to_owned()),
        _ => Some(pair.green.url().expose().to_owned()),
    };
    cutover::plan::parse(&text, Path::new("."), &url).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// All that pg_dump says of a database, owners and grants included, but for what is random in it.
async fn told(place: &Place) -> String {
    let variables = client::variables(&place.url(), "a database").expect("a URL");
    let mut command = tokio::process::Command::new("pg_dump");
    command.args(["--schema-only", "--exclude-schema=cutover"]);
    command.envs(variables.iter().map(|(name, value)| (name, value.expose())));
    let output = command.output().await.expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

async fn objects(place: &Place) -> i64 {
    place.ask("select (select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace where nspname in ('public', 'other'))
                 + (select count(*) from pg_proc p join pg_namespace n on n.oid = pronamespace where nspname in ('public', 'other'))
                 + (select count(*) from pg_type t join pg_namespace n on n.oid = typnamespace where nspname in ('public', 'other'))").await
}

#[tokio::test]
async fn green_gets_all_of_blue_s_schema_with_owners_and_grants_and_gives_it_back() {
    let (pair, run, term) = pair().await;
    pair.green.execute("create function helper() returns integer language sql as 'select 1'").await;
    let before = objects(&pair.green).await;
    let green = pair.green.client().await;
    assert_eq!(verify(&green, run).await.expect("an answer"), SchemaStanding::Absent);

    let noted = copy(&pair, run, term, &dump(&pair).await).await.expect("the copy");
    let refused = pair.green.application().await.batch_execute("delete from person").await.expect_err("it is closed");
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"), "{refused}");
    pair.green.execute("drop function helper(); drop function cutover.fence() cascade").await;
    let (blue_says, green_says) = (told(&pair.blue).await, told(&pair.green).await);
    for (blue, green) in blue_says.lines().zip(green_says.lines()) {
        assert_eq!(blue, green);
    }
    assert_eq!(blue_says.len(), green_says.len());
    assert_eq!((noted.own_rows, pair.green.ask::<i64>("select count(*) from schema_migration").await), (3, 3));
    assert_eq!(pair.green.ask::<i64>("select count(*) from person").await, 0, "no other rows come");
    assert_eq!(verify(&green, run).await.expect("an answer"), SchemaStanding::Present(noted.clone()));
    let again = copy(&pair, run, term, &dump(&pair).await).await.expect("made twice");
    assert_eq!(again, noted);
    let another = verify(&green, Uuid::new_v4()).await.expect("an answer");
    assert!(matches!(another, SchemaStanding::Foreign(_)), "{another:?}");

    pair.green.execute("create table stranger (id integer primary key)").await;
    assert!(matches!(verify(&green, run).await.expect("an answer"), SchemaStanding::Changed(_)));
    let undo = SchemaCopy { run, term, roles: (APPLICATION, APPLICATION), own: &[] };
    let older = SchemaCopy { term: Term { term: 1, nonce: Uuid::new_v4() }, ..undo };
    assert!(older.remove(&mut pair.green.client().await).await.is_err(), "an older process drops nothing");
    for _ in 0..2 {
        undo.remove(&mut pair.green.client().await).await.expect("the undo");
    }
    assert_eq!(pair.green.ask::<i64>("select count(*) from stranger").await, 0, "what it did not make stays");
    pair.green
        .execute("drop table stranger; create function helper() returns integer language sql as 'select 1'")
        .await;
    assert_eq!(objects(&pair.green).await, before, "nothing else of it is left");
    assert_eq!(verify(&green, run).await.expect("an answer"), SchemaStanding::Absent);
}

#[tokio::test]
async fn a_copy_that_fails_or_is_cut_off_leaves_nothing_and_is_made_again() {
    let (pair, run, term) = pair().await;
    let (dump, before) = (dump(&pair).await, objects(&pair.green).await);
    let failing = format!("{dump}\nCREATE TABLE public.last (a public.no_such_type);");
    let error = copy(&pair, run, term, &failing).await.expect_err("the last statement fails");
    assert!(
        error.to_string().contains("CREATE TABLE public.last") && error.to_string().contains("nothing was changed"),
        "{error}"
    );
    assert_eq!(objects(&pair.green).await, before);

    let slow = format!("{dump}\nSELECT 1;\nDO 'begin perform pg_sleep(60); end';");
    let cut = tokio::time::timeout(Duration::from_secs(3), copy(&pair, run, term, &slow)).await;
    assert!(cut.is_err(), "it was under way");
    // A process that is killed takes its connections along; ours lives on.
    pair.green.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'DO %pg_sleep(60)%' and pid <> pg_backend_pid()").await;
    let made = copy(&pair, run, term, &dump).await.expect("made again");
    assert!(made.made.len() > 15, "{made:?}");

    let superseded = Term { term: 1, nonce: Uuid::new_v4() };
    let error = copy(&pair, run, superseded, &dump).await.expect_err("another has taken over");
    assert!(error.to_string().contains("taken over"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_copied_and_a_green_that_is_not_empty_are_refused() {
    let (pair, run, term) = pair().await;
    pair.blue.execute("create cast (text as mood) with inout").await;
    let error = copy(&pair, run, term, &dump(&pair).await).await.expect_err("a cast stays behind");
    assert!(error.is_refused() && error.to_string().contains("create cast (text as"), "{error}");
    pair.blue.execute("drop cast (text as mood)").await;
    pair.green.execute("create table stranger (id integer)").await;
    let error = copy(&pair, run, term, &dump(&pair).await).await.expect_err("green is not empty");
    assert!(error.is_refused() && error.to_string().contains("table public.stranger"), "{error}");
}

#[tokio::test]
async fn check_says_at_once_that_no_pg_dump_fits() {
    let (pair, _, _) = pair().await;
    let plan = plan(&pair, "");
    let about = |findings: Vec<preflight::Finding>| {
        findings
            .into_iter()
            .find(|finding| finding.what.contains("pg_dump"))
            .map(|finding| format!("{} {}", finding.what, finding.next))
    };
    assert_eq!(about(preflight::check(&plan, None, None).await), None);
    let said = about(preflight::check(&plan, None, Some(Path::new("/nowhere"))).await).expect("a finding");
    assert!(said.contains("there is none") && said.contains("postgresql-client-"), "{said}");
    let green = preflight::check(&plan, None, None).await;
    assert!(green.iter().all(|finding| !finding.what.contains("not empty")), "{green:?}");
}

#[tokio::test]
async fn a_login_without_a_superuser_s_rights_copies_and_gives_back() {
    let (pair, run, term) = pair().await;
    pair.blue.execute("drop table ours").await;
    let server = &pair.blue.server;
    server.create_role("copying_login", "").await.expect("a role");
    for place in [&pair.blue, &pair.green] {
        let database = &place.database;
        place
            .execute(&format!(
                "grant {APPLICATION} to copying_login; grant create on database {database} to copying_login;
                 grant set on parameter session_replication_role to copying_login"
            ))
            .await;
    }
    pair.green.execute("alter schema cutover owner to copying_login; alter table cutover.milestone owner to copying_login; alter table cutover.term owner to copying_login").await;
    let (blue, green) =
        (server.url("copying_login", &pair.blue.database), server.url("copying_login", &pair.green.database));
    let program = PgDump::find(None, &pair.blue.client().await).await.expect("a pg_dump");
    let dump = program.schema(&blue, Duration::from_secs(30)).await.expect("blue's schema");
    let blue = client::connect(&blue, "blue").await.expect("blue lets us in");
    let mut green = client::connect(&green, "green").await.expect("green lets us in");
    let copy = SchemaCopy { run, term, roles: (APPLICATION, APPLICATION), own: &own() };
    let noted = copy.apply(&blue, &mut green, &dump).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(noted.made.len() > 15 && noted.own_rows == 3, "{noted:?}");
    pair.green.execute("drop function cutover.fence() cascade").await;
    assert_eq!(told(&pair.green).await, told(&pair.blue).await);
    copy.remove(&mut green).await.expect("the undo");
    assert_eq!(verify(&green, run).await.expect("an answer"), SchemaStanding::Absent);
}

#[tokio::test]
async fn a_partitioned_table_is_refused_before_a_row_is_copied() {
    let (pair, _, _) = pair().await;
    let catalog = catalog::read(&pair.blue.client().await).await.expect("blue's catalog");
    let problems =
        |more: &str| mapping::resolve_one_to_one(&plan(&pair, more), &catalog, &catalog).err().unwrap_or_default();
    let told = problems("own: [schema_migration]\n");
    assert!(told.iter().any(|problem| problem.to_string().contains("public.event: it is partitioned")), "{told:?}");
    let told = problems("own: [schema_migration]\ndrop: [event]\n");
    assert_eq!(told, [], "what nobody carries may be as it likes");
}
