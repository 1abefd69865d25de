//! The example plan's hot queries: both sides can plan every one, and green does it as well as blue, with few rows and with many.

use crate::harness::Pair;
use crate::plan_hydra::{carry, plan_of};
use cutover::database::hot_queries::{ask, worse};
use cutover::plan::Side;
use cutover::sandbox::engine::{EngineVersion, migrate};
use cutover::sandbox::seed::{SeedSize, fill};

async fn judged(token_rows: u32) -> (Pair, Vec<String>) {
    let pair = Pair::shared().await;
    migrate(&pair.blue.application_url(), EngineVersion::V1).await.expect("version 1 migrates");
    fill(&pair.blue.url(), SeedSize { token_rows, seed: 7 }).await.expect("the seed fills");
    let mapping = carry(&pair).await;
    pair.blue.execute("analyze").await;
    pair.green.execute("analyze").await;
    let found = found(&pair, &mapping).await;
    (pair, found)
}

async fn found(pair: &Pair, mapping: &cutover::database::mapping::Mapping) -> Vec<String> {
    let hot = plan_of(pair).hot_queries.expect("the plan's hot queries");
    assert!(hot.queries.len() >= 10 && hot.queries.iter().all(|query| query.accept.is_none()), "{hot:?}");
    let sources = |table: &_| {
        let carried = mapping.tables.iter().find(|carried| carried.target == *table);
        carried.map(|carried| carried.touched_by.iter().map(|touch| touch.source.clone()).collect()).unwrap_or_default()
    };
    let (mut blue, mut green) = (pair.blue.client().await, pair.green.client().await);
    let mut found = Vec::new();
    for query in &hot.queries {
        let on_blue = ask(&mut blue, Side::Blue, &query.name, &query.blue.text).await;
        let on_green = ask(&mut green, Side::Green, &query.name, &query.green.text).await;
        let (on_blue, on_green) = (on_blue.expect("blue plans it"), on_green.expect("green plans it"));
        let told = worse(&on_blue, &on_green, (&hot).into(), &sources);
        found.extend(told.iter().map(|worse| format!("{}: {worse}", query.name)));
    }
    found
}

#[tokio::test]
async fn hot_queries_of_the_example_pass_with_few_rows() {
    assert_eq!(judged(2_000).await.1, [""; 0]);
}

#[tokio::test]
async fn hot_queries_of_the_example_pass_with_many_rows_and_miss_each_index() {
    let (pair, told) = judged(60_000).await;
    assert_eq!(told, [""; 0]);
    let dropped = "drop index hydra_oauth2_access_request_id_idx; drop index hydra_oauth2_flow_consent_verifier_idx";
    pair.green.execute(dropped).await;
    let mapping = cutover::database::mapping::Mapping::default();
    let told = found(&pair, &mapping).await;
    for query in [
        "access-of-a-chain: green reads public.hydra_oauth2_access",
        "consent-by-verifier: green reads public.hydra_oauth2_flow",
    ] {
        assert!(told.iter().any(|worse| worse.starts_with(query)), "{query} in {told:#?}");
    }
}
