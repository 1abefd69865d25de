//! The example plan's mapping, judged by a twin: the same rows taken through the engine's own migrations, with the known repairs.

use crate::harness::fill::{copy_options, copy_whole};
use crate::harness::{Pair, Place};
use cutover::database::catalog;
use cutover::database::mapping::{self, Equality, KeyColumn, Mapping, TableMapping};
use cutover::database::term::{self, Term};
use cutover::plan::{self, Plan, Side};
use cutover::sandbox::engine::{EngineVersion, migrate};
use cutover::sandbox::seed::{SeedSize, fill};
use std::collections::BTreeSet;
use std::path::Path;
use uuid::Uuid;

const SIZE: SeedSize = SeedSize { token_rows: 3_000, seed: 7 };

/// What `hydra-logical` does to a copy before the engine's migrations and after them: so its repairs agree with the mapping, too.
const REPAIR_BEFORE: &str = include_str!("../../plans/hydra-logical/before/V1__repair_requests.sql");
const REPAIR_AFTER: &str = include_str!("../../plans/hydra-logical/after/V1__states_of_flows.sql");

/// What the cleanup rules leave behind.
const LEFT_BEHIND: &str = "
delete from hydra_oauth2_access where client_id = 'legacy-batch';
delete from hydra_oauth2_logout_request where not was_used;";

pub(crate) fn plan_of(pair: &Pair) -> Plan {
    let lookup = |name: &str| {
        Some(match name {
            "CONTROL_URL" => pair.control.url().expose().to_owned(),
            "BLUE_URL" => pair.blue.url().expose().to_owned(),
            "GREEN_URL" => pair.green.url().expose().to_owned(),
            "GREEN_DSN" => pair.green.application_url().expose().to_owned(),
            "HYDRA_BIN" | "GATEWAY_STATE" => format!("/nowhere/{name}"),
            other => format!("http://{}.test:4444", other.replace('_', "-").to_lowercase()),
        })
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/hydra-1x-to-2x.yaml");
    plan::load(&path, &lookup).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub(crate) async fn seeded(place: &Place) {
    migrate(&place.application_url(), EngineVersion::V1).await.expect("version 1 migrates");
    fill(&place.url(), SIZE).await.expect("the seed fills");
}

async fn resolved(pair: &Pair) -> Mapping {
    let plan = plan_of(pair);
    let (blue, green) = (pair.blue.client().await, pair.green.client().await);
    let blue = catalog::read(&blue).await.expect("blue's catalog");
    let values = mapping::ask_values(&green, &plan.values).await.expect("values");
    let green = catalog::read(&green).await.expect("green's catalog");
    mapping::resolve(&plan, &blue, &green, &values).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(crate) async fn carried() -> (Pair, Mapping) {
    let pair = Pair::shared().await;
    seeded(&pair.blue).await;
    let mapping = carry(&pair).await;
    (pair, mapping)
}

/// Fills green from a blue of version 1.
pub(crate) async fn carry(pair: &Pair) -> Mapping {
    migrate(&pair.green.application_url(), EngineVersion::V2).await.expect("version 2 migrates an empty database");
    let mapping = resolved(pair).await;
    let term = Term { term: 1, nonce: Uuid::new_v4() };
    term::install(&pair.green.client().await, &term).await.expect("green takes our term");
    let (blue, green) = (pair.blue.url(), pair.green.url());
    // Secondary keys stand here, so the order of tables would matter: the copy's own connections may not be told otherwise.
    pair.green
        .execute(&format!(
            "alter role cutover in database {} set session_replication_role = replica",
            pair.green.database
        ))
        .await;
    copy_whole(&copy_options(&blue, &green, term), &mapping).await.expect("the copy");
    mapping
}

/// Every row as JSON text without what is random in each database.
async fn rows(place: &Place, table: &str) -> BTreeSet<String> {
    let query = format!("select (to_jsonb(t) - 'nid' - 'pk')::text from {table} t");
    place.client().await.query(&query, &[]).await.expect("rows").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_example_plan_gives_what_the_engine_would_have_given_without_its_faults() {
    let (pair, mapping) = carried().await;
    let twin = Place::shared("twin").await;
    seeded(&twin).await;
    twin.execute(LEFT_BEHIND).await;
    twin.execute(REPAIR_BEFORE).await;
    migrate(&twin.application_url(), EngineVersion::V2).await.expect("version 2 migrates the twin");
    twin.execute(REPAIR_AFTER).await;
    for table in mapping.carried() {
        let (green, wanted) = (rows(&pair.green, &table.name).await, rows(&twin, &table.name).await);
        assert!(!green.is_empty(), "{table} is empty");
        let extra: Vec<_> = green.difference(&wanted).take(2).collect();
        let missing: Vec<_> = wanted.difference(&green).take(2).collect();
        assert!(extra.is_empty() && missing.is_empty(), "{table}: extra {extra:#?}, missing {missing:#?}");
    }
    let states: i64 = pair.green.ask("select count(distinct state) from hydra_oauth2_flow").await;
    assert_eq!(states, 8, "the seed holds a flow in every state");
}

/// Every row that a select gives, as text.
async fn texts(place: &Place, table: &TableMapping, from: &str) -> BTreeSet<String> {
    let list: Vec<String> = table.columns.iter().map(|column| format!("q.{}::text", column.name)).collect();
    let query = format!("select row({})::text from ({from}) q", list.join(", "));
    place.client().await.query(&query, &[]).await.expect("rows").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_example_plan_takes_back_what_it_carried() {
    let (pair, forward) = carried().await;
    let plan = plan_of(&pair);
    let (blue, green) = (pair.blue.client().await, pair.green.client().await);
    let values = mapping::ask_values(&green, &plan.values).await.expect("values");
    let catalogs = (catalog::read(&blue).await.expect("blue's"), catalog::read(&green).await.expect("green's"));
    let back = mapping::resolve_back(&plan, &catalogs.0, &catalogs.1, &values);
    let back = back.unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(mapping::judge(&back, Side::Green, &green).await.expect("an answer"), []);
    let targets: Vec<String> = back.carried().iter().map(|name| name.name.clone()).collect();
    assert!(!targets.contains(&"hydra_oauth2_flow".to_owned()) && targets.len() == 11, "{targets:?}");
    assert!(back.captured().iter().all(|name| forward.carried().contains(name)), "all of it is captured on green");
    for table in &back.tables {
        let (keys, touch) = (names(&table.key), &table.touched_by[0]);
        let was = texts(&pair.blue, table, &format!("select * from {}", table.target.name)).await;
        let comes = texts(&pair.green, table, &table.select).await;
        assert!(!was.is_empty(), "{} is empty", table.target);
        match (&table.equality, table.spared.is_empty()) {
            (Equality::Equal, _) | (_, true) => assert_eq!(
                comes.symmetric_difference(&was).take(2).collect::<Vec<_>>(),
                Vec::<&String>::new(),
                "{}",
                table.target
            ),
            _ => assert!(comes.is_subset(&was), "{}", table.target),
        }
        match table.target.name.as_str() {
            "hydra_client" => assert_eq!(
                (keys, names(&touch.source_key), touch.back.join(" ")),
                ("id".into(), "id".into(), "id".into())
            ),
            "hydra_jwk" => assert_eq!(
                (keys, names(&touch.source_key), touch.back.join(" ")),
                ("sid kid".into(), "pk_deprecated".into(), "pk".into())
            ),
            "hydra_oauth2_access" => assert_eq!(
                table.equality,
                Equality::Stricter { active: Some("active".into()), chain: Some("request_id".into()) }
            ),
            _ => {}
        }
    }
}

fn names(columns: &[KeyColumn]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_example_plan_is_asked_by_key_through_indexes() {
    let (pair, mapping) = carried().await;
    let (blue, green) = (pair.blue.client().await, pair.green.client().await);
    for client in [&blue, &green] {
        client.batch_execute("set enable_seqscan = off").await.expect("set");
    }
    let sample = |kind: &str| if kind == "uuid" { Uuid::nil().to_string() } else { "1".to_owned() };
    for table in &mapping.tables {
        if let [key] = table.key.as_slice() {
            let list = format!("array['{}']::{}[]", sample(&key.type_sql), key.type_sql);
            through_indexes(&blue, &format!("select * from ({}) q where q.{} = any({list})", table.select, key.name))
                .await;
        }
        for touch in &table.touched_by {
            let same = |(back, key): (&String, &KeyColumn)| format!("{back} = '{}'", sample(&key.type_sql));
            let backs: Vec<String> = touch.back.iter().zip(&touch.source_key).map(same).collect();
            through_indexes(&green, &format!("select * from {} where {}", table.target.name, backs.join(" and ")))
                .await;
        }
    }
}

async fn through_indexes(client: &tokio_postgres::Client, question: &str) {
    let plan = client.query(&format!("explain {question}"), &[]).await.expect("explained");
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{question}:\n{}", plan.join("\n"));
}
