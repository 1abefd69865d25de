//! The stand-in engine and its chain of migrations.

use crate::harness::Place;
use cutover::sandbox::engine::{EngineVersion, migrate};
use cutover::sandbox::seed::{SeedSize, fill};

#[tokio::test]
async fn the_chain_runs_over_a_filled_database_and_shows_its_deliberate_faults() {
    let place = Place::shared("seeded").await;
    let first = migrate(&place.application_url(), EngineVersion::V1).await.expect("version 1 migrates");
    assert_eq!((first.applied.len(), first.before), (3, 0));
    let seeded = fill(&place.url(), SeedSize { token_rows: 2_000, seed: 1 }).await.expect("the seed fills");
    assert!((1_900..2_100).contains(&(seeded.rows["hydra_oauth2_access"] + seeded.rows["hydra_oauth2_refresh"])));
    let second = migrate(&place.application_url(), EngineVersion::V2).await.expect("version 2 migrates");
    assert_eq!((second.applied[0], second.before), ("20150101000001_networks", 3));
    let again = migrate(&place.application_url(), EngineVersion::V2).await.expect("nothing is left to do");
    assert!(again.applied.is_empty());
    let used: i64 = place.ask("select count(*) from hydra_oauth2_flow where state = 6").await;
    let refused: i64 =
        place.ask("select count(*) from hydra_oauth2_flow where state = 128 and login_error = '{}'").await;
    assert!(used == 0 && refused > 400, "the fault of the states is gone: {used} used, {refused} refused");
    let lost: i64 = place
        .ask("select count(*) from hydra_oauth2_flow where subject = '' and consent_challenge_id is not null")
        .await;
    assert!(lost > 300, "the fault of the subjects is gone: {lost} lost");
}

#[tokio::test]
async fn two_seeds_differ_and_one_seed_repeats() {
    let mut sums = Vec::new();
    for seed in [1, 1, 2] {
        let place = Place::shared("seeded").await;
        migrate(&place.application_url(), EngineVersion::V1).await.expect("version 1 migrates");
        fill(&place.url(), SeedSize { token_rows: 200, seed }).await.expect("the seed fills");
        let sum = "select md5(string_agg(t::text, '' order by signature)) from hydra_oauth2_refresh t";
        sums.push(place.ask::<String>(sum).await);
    }
    assert_eq!(sums[0], sums[1]);
    assert_ne!(sums[1], sums[2]);
}
