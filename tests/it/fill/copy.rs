//! Filling green on real servers: the copy, its accounts and its refusals.

use crate::harness::Pair;
use crate::harness::fill::{copy_options, copy_whole};
use cutover::database::copy::{self, Copied, CopyError};
use cutover::database::mapping::{self, Mapping};
use cutover::database::term::{self, Term};
use cutover::database::{catalog, cleanup, client};
use cutover::plan::{self, Plan, Side};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// Columns whose values are easily bent on the way.
const ODD: &str = "
create type mood as enum ('calm', 'it''s \\ odd');
create table odd (
  id bigint generated always as identity primary key,
  text_value text, varchar_value varchar(40), empty text not null default '',
  json_value json, jsonb_value jsonb, list text[], numbers int[], bytes bytea,
  moment timestamptz, local timestamp, span interval, mood mood, amount numeric(12,4), real_value float8,
  doubled bigint generated always as (id * 2) stored, unique_id uuid);
insert into odd (text_value, varchar_value, empty, json_value, jsonb_value, list, numbers, bytes, moment, local, span, mood,
                 amount, real_value, unique_id) values
  (null, null, '', null, null, null, null, null, null, null, null, null, null, null, null),
  ('', '', '', '{\"a\": 1,  \"a\":2}', '{\"b\": [null, \"\\u00e9\"]}', '{}', '{1,null,3}', '\\x00ff5c', 'infinity', '-infinity',
   '1 year -2 days 03:04:05.6', 'calm', 0.1000, 0.1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
  (E'tab\\t newline\\n return\\r back\\\\slash \\\\N \\\\.', '\\N', '\\.', '\"\\\\n\"', '\"\\\\\"', array['a,b', '{', null, 'NULL', '\"'],
   array[]::int[], '\\x', '2026-03-29 01:30:00+00', '2026-03-29 02:30:00.123456', '-00:00:00.000001', 'it''s \\ odd',
   -99999999.9999, 'NaN', null);
insert into odd (text_value, bytes) values (repeat('large é ', 600000), decode(repeat('00ff', 500000), 'hex'));
insert into odd (real_value, moment) select 1 / n::float8, timestamptz '2020-01-01' + n * interval '7 hours' from generate_series(1, 5000) n;";
const EMPTY: &str = "truncate odd restart identity";
const ALL_TEXT: &str = "select md5(string_agg(o::text, '|' order by id)) from odd o";

fn plan_of(pair: &Pair, rest: &str) -> Plan {
    let text = format!(
        "version: 1\nname: fill\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: hydra }}\n  \
         green: {{ url: \"${{GREEN_URL}}\", role: hydra }}\nmigrate:\n  - command: {{ run: [\"true\"] }}\n{rest}"
    );
    let lookup = |name: &str| {
        let place = match name {
            "CONTROL_URL" => &pair.control,
            "BLUE_URL" => &pair.blue,
            _ => &pair.green,
        };
        Some(place.url().expose().to_owned())
    };
    plan::parse(&text, Path::new("."), &lookup).unwrap_or_else(|problems| panic!("{problems:?}"))
}

async fn resolved(pair: &Pair, plan: &Plan) -> Mapping {
    let (blue, green) = (pair.blue.client().await, pair.green.client().await);
    let blue = catalog::read(&blue).await.expect("blue's catalog");
    let values = mapping::ask_values(&green, &plan.values).await.expect("values");
    let green = catalog::read(&green).await.expect("green's catalog");
    mapping::resolve(plan, &blue, &green, &values).unwrap_or_else(|problems| panic!("{problems:?}"))
}

async fn claimed(pair: &Pair) -> Term {
    let term = Term { term: 1, nonce: Uuid::new_v4() };
    term::install(&pair.green.client().await, &term).await.expect("green takes our term");
    term
}

async fn copied(pair: &Pair, term: Term, mapping: &Mapping) -> Result<Vec<Copied>, CopyError> {
    let (blue, green) = (pair.blue.url(), pair.green.url());
    copy_whole(&copy_options(&blue, &green, term), mapping).await
}

#[tokio::test]
async fn fill_copies_odd_values_exactly() {
    let pair = Pair::shared().await;
    pair.blue.execute(ODD).await;
    pair.green.execute(&format!("{ODD}{EMPTY}")).await;
    let mapping = resolved(&pair, &plan_of(&pair, "")).await;
    let term = claimed(&pair).await;
    for round in 0..2 {
        let counted = copied(&pair, term, &mapping).await.expect("the copy");
        assert_eq!((counted.len(), counted[0].rows, counted[0].source_rows), (1, 5004, 5004), "round {round}");
        let (blue, green) = (pair.blue.ask::<String>(ALL_TEXT).await, pair.green.ask::<String>(ALL_TEXT).await);
        assert_eq!(blue, green, "round {round}: every value arrives as it was");
        let noted = copy::read_copied(&pair.green.client().await).await.expect("cutover.copied");
        assert_eq!(noted, Some(counted));
    }
}

#[tokio::test]
async fn fill_leaves_cleaned_rows_behind_and_accounts_for_them() {
    let pair = Pair::shared().await;
    let table = "create table token (id int primary key, owner int, expired boolean);";
    pair.blue
        .execute(&format!("{table} insert into token select n, n % 10, n % 5 = 0 from generate_series(1, 1000) n"))
        .await;
    pair.blue.execute("insert into token values (1001, null, null)").await;
    pair.green.execute(table).await;
    let rules = |cap: u64| {
        format!(
            "cleanup:\n  - {{ name: expired, table: token, where: expired, cap: {{ rows: {cap}, percent: 50 }}, because: dead }}\n  \
             - {{ name: ownerless, table: token, where: \"owner in (0, 1)\", cap: {{ rows: 100, percent: 50 }}, because: dead }}\n"
        )
    };
    let mapping = resolved(&pair, &plan_of(&pair, &rules(200))).await;
    let term = claimed(&pair).await;
    let counted = copied(&pair, term, &mapping).await.expect("the copy");
    let cleaned = vec![("expired".to_owned(), 200), ("ownerless".to_owned(), 100)];
    assert_eq!((counted[0].source_rows, counted[0].rows, &counted[0].cleaned), (1001, 701, &cleaned));
    assert_eq!(pair.green.ask::<i64>("select count(*) from token").await, 701);
    assert_eq!(pair.green.ask::<i64>("select count(*) from token where id = 1001").await, 1, "null is no reason");

    let mapping = resolved(&pair, &plan_of(&pair, &rules(199))).await;
    let previews = cleanup::preview(&mut pair.blue.client().await, &mapping).await.expect("a preview");
    let told: Vec<(&str, u64, u64, bool)> =
        previews.iter().map(|one| (one.rule.as_str(), one.rows, one.source_rows, one.is_over_cap)).collect();
    assert_eq!(told, [("expired", 200, 1001, true), ("ownerless", 100, 1001, false)]);
    copy::empty(&mut pair.green.client().await, &term, &mapping).await.expect("the copy is undone");
    let refused = copied(&pair, term, &mapping).await.expect_err("over the cap");
    assert!(refused.is_refused(), "{refused}");
    let words = refused.to_string();
    assert!(["expired", "200", "199", "public.token"].iter().all(|word| words.contains(word)), "{words}");
    assert_eq!(pair.green.ask::<i64>("select count(*) from token").await, 0, "nothing of it was copied");
}

#[tokio::test]
async fn fill_stops_when_another_has_taken_over() {
    let pair = Pair::shared().await;
    pair.blue.execute("create table one (id int primary key); insert into one values (1)").await;
    pair.green.execute("create table one (id int primary key); insert into one values (7)").await;
    let mapping = resolved(&pair, &plan_of(&pair, "")).await;
    claimed(&pair).await;
    let zombie = Term { term: 1, nonce: Uuid::new_v4() };
    let stopped = copied(&pair, zombie, &mapping).await.expect_err("another term stands");
    assert!(matches!(stopped, CopyError::Term(_)), "{stopped}");
    assert_eq!(pair.green.ask::<i32>("select id from one").await, 7, "not even emptied");
}

#[tokio::test]
async fn fill_sees_one_moment_of_blue() {
    let pair = Pair::shared().await;
    pair.blue.execute("create table one (id int primary key); insert into one values (1)").await;
    let snapshot = copy::ExportedSnapshot::export(&pair.blue.url(), "blue", &[]).await.expect("a snapshot");
    pair.blue.execute("insert into one values (2)").await;
    let mut other = client::connect(&pair.blue.url(), "blue").await.expect("a connection");
    let look = snapshot.look(&mut other).await.expect("a look through it");
    assert_eq!(look.query_one("select count(*) from one", &[]).await.expect("rows").get::<_, i64>(0), 1);
    drop(look);
    let id = snapshot.id().to_owned();
    drop(snapshot);
    let gone = format!("begin isolation level repeatable read; set transaction snapshot '{id}'");
    crate::harness::eventually(Duration::from_secs(5), "the snapshot ends with its owner", || async {
        let late = client::connect(&pair.blue.url(), "blue").await.expect("a connection");
        late.batch_execute(&gone).await.err()
    })
    .await;
}

/// Two catalogs in which every table has one thing wrong, and the words that must name it.
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("fine", "id int primary key, v text", "id int primary key, v text", ""),
    (
        "wider",
        "id int primary key, v varchar(9)",
        "id bigint primary key, v text, made int generated always as (1) stored",
        "",
    ),
    ("only_green", "", "id int primary key", "blue has no table public.only_green"),
    ("only_blue", "id int primary key", "", "nothing carries this table of blue"),
    ("green_keyless", "id int primary key", "id int not null", "green has no unique key"),
    ("nullable_key", "id int primary key", "id int unique", "green has no unique key"),
    ("blue_keyless", "id int not null", "id int primary key", "has no primary key"),
    ("losing", "id int primary key, secret text", "id int primary key", "green has no column for blue's secret"),
    ("unfed", "id int primary key", "id int primary key, extra text not null", "nothing gives column extra"),
    (
        "zoned",
        "id int primary key, at timestamp",
        "id int primary key, at timestamptz",
        "its value could change unseen",
    ),
    ("rekeyed", "id int primary key, name text", "name text primary key, id_kept text", "nothing gives column id_kept"),
];

#[tokio::test]
async fn fill_refuses_whatever_is_unmapped_or_ambiguous() {
    let pair = Pair::shared().await;
    for (name, blue, green, _) in WRONG {
        for (place, columns) in [(&pair.blue, blue), (&pair.green, green)] {
            if !columns.is_empty() {
                place.execute(&format!("create table {name} ({columns})")).await;
            }
        }
    }
    let plan = plan_of(&pair, "own: [nowhere]\n");
    let blue = catalog::read(&pair.blue.client().await).await.expect("blue's catalog");
    let green = catalog::read(&pair.green.client().await).await.expect("green's catalog");
    let problems = mapping::resolve(&plan, &blue, &green, &std::collections::BTreeMap::new()).expect_err("problems");
    for (name, _, _, words) in WRONG {
        let told: Vec<&str> = problems
            .iter()
            .filter(|problem| problem.table.name == *name)
            .map(|problem| problem.what.as_str())
            .collect();
        let is_told = told.iter().any(|what| what.contains(words));
        assert!(if words.is_empty() { told.is_empty() } else { is_told }, "{name}: {words:?} in {told:?}");
    }
    assert!(problems.iter().any(|problem| problem.table.name == "nowhere"), "a table the plan imagines");
}

#[tokio::test]
async fn fill_has_blue_judge_the_plans_sql() {
    let pair = Pair::shared().await;
    let table = "create table one (id int primary key, v text)";
    pair.blue.execute(table).await;
    pair.green.execute(table).await;
    let good = "carry:\n  one: { set: { v: \"upper(v)\" } }\n";
    let good = resolved(&pair, &plan_of(&pair, good)).await;
    let blue = pair.blue.client().await;
    assert_eq!(mapping::judge(&good, Side::Blue, &blue).await.expect("an answer"), []);
    let bad = "carry:\n  one: { set: { v: \"v || id_of_nobody\" } }\n\
               cleanup:\n  - { name: r, table: one, where: v, cap: { rows: 1, percent: 1 }, because: none }\n";
    let bad = resolved(&pair, &plan_of(&pair, bad)).await;
    let said: Vec<String> =
        mapping::judge(&bad, Side::Blue, &blue).await.expect("an answer").iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|said| said.contains("id_of_nobody")), "{said:?}");
    assert!(said.iter().any(|said| said.contains("cleanup rules")), "{said:?}");
}

#[tokio::test]
async fn fill_never_cuts_a_text_off() {
    let pair = Pair::shared().await;
    pair.blue
        .execute("create table one (id int primary key, v varchar(255)); insert into one values (1, repeat('x', 41))")
        .await;
    pair.green.execute("create table one (id int primary key, v varchar(40))").await;
    let term = claimed(&pair).await;
    for carry in ["", "carry:\n  one: { set: { v: \"v || ''\" } }\n"] {
        let mapping = resolved(&pair, &plan_of(&pair, carry)).await;
        let refused = copied(&pair, term, &mapping).await.expect_err("41 letters do not fit into 40");
        let CopyError::Server { source, .. } = &refused else { panic!("{refused}") };
        assert_eq!(source.code(), Some(&SqlState::STRING_DATA_RIGHT_TRUNCATION), "{refused}");
    }
}
