//! Canaries: made on the first version, looked at again there and after the engine's own migrations; each damage is named.

use super::tampering::tampering;
use super::{broken, engine, probe};
use crate::harness::Place;
use crate::sandbox_flows::world::World;
use cutover::gates::probes::oauth::{Canaries, Expected, open, seal};
use cutover::plan::{Flow, Side, Upstream};
use cutover::sandbox::engine::{AccessTokens, EngineVersion, migrate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

const OWNER: &str = "cutover-canary-of-a-test";
const KINDS: [&str; 8] =
    ["live", "rotated", "revoked", "expired", "machine", "logged out", "withdrawn", "withdrawn on green"];
/// Where the engine gives JWTs.
const KINDS_WITH_JWT: [&str; 9] =
    ["live", "rotated", "revoked", "expired", "machine", "logged out", "jwt", "withdrawn", "withdrawn on green"];

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Canaries on an engine of the first version, with a person's client beside them.
pub(super) async fn issued() -> (Place, World, Upstream, Canaries) {
    let (place, world, at) = engine(EngineVersion::V1).await;
    let client = world.register().await;
    world.grant(&client, "somebody").await;
    let asked = probe(&at, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
    let canaries = Canaries::issue(&asked, OWNER, "openid offline_access").await.expect("blue is sound");
    (place, world, at, canaries)
}

pub(super) async fn look(canaries: &Canaries, at: &Upstream, expected: Expected) -> BTreeMap<String, String> {
    look_for(&KINDS, canaries, at, expected).await
}

/// The same, for canaries of these kinds.
async fn look_for(kinds: &[&str], canaries: &Canaries, at: &Upstream, expected: Expected) -> BTreeMap<String, String> {
    let engine = probe(at, &[Flow::Refresh]).engine(Side::Green).await.expect("it answers");
    let readings = canaries.look(&engine, "engine", expected, now_s()).await;
    assert_eq!(
        readings.iter().map(|one| one.question.clone()).collect::<Vec<_>>(),
        kinds.iter().map(|kind| format!("canary {kind}")).collect::<Vec<_>>()
    );
    broken(&readings)
}

/// The same rows under the second version, after the engine's own migrations and, when asked for, what repairs their fault.
pub(super) async fn migrated(place: &Place, is_repaired: bool) -> (World, Upstream) {
    migrate(&place.application_url(), EngineVersion::V2).await.expect("it migrates");
    if is_repaired {
        place.execute("update hydra_oauth2_flow set state = 6 where state = 128 and consent_was_used").await;
        place
            .execute(
                "update hydra_oauth2_flow f set subject = a.subject from hydra_oauth2_refresh a where a.challenge_id = f.consent_challenge_id",
            )
            .await;
    }
    let world = World::serving(place, EngineVersion::V2).await;
    let admin = world.admin.trim_end_matches("/admin").to_owned();
    let at = Upstream { public: world.public.clone(), admin };
    (world, at)
}

#[tokio::test]
async fn canaries_hold_where_they_were_made_and_go_without_a_trace() {
    let (place, _world, at, canaries) = issued().await;
    assert_eq!(look(&canaries, &at, Expected::AsOnBlue).await, BTreeMap::new());
    let probe = probe(&at, &[Flow::Refresh]);
    assert_eq!(probe.standing(Side::Blue, OWNER).await.expect("it answers"), {
        let mut clients = canaries.clients().to_vec();
        clients.sort();
        clients
    });
    assert_eq!(probe.sweep(Side::Blue, OWNER).await.expect("it answers"), 2);
    let left: i64 =
        place.ask("select (select count(*) from hydra_client) + (select count(*) from hydra_oauth2_access)").await;
    assert_eq!(left, 2, "a person's client and its token");
}

#[tokio::test]
async fn the_engine_s_own_fault_is_seen_by_its_consents_and_not_by_its_tokens() {
    let (place, world, _at, canaries) = issued().await;
    drop(world);
    let (_world, at) = migrated(&place, false).await;
    let found = look(&canaries, &at, Expected::AsOnBlue).await;
    // A revoked or untouched grant: every consent of a fresh login is lost, though each of its tokens is as it was.
    assert!(found.contains_key("canary live") && found.contains_key("canary rotated"), "{found:?}");
    assert!(
        found.values().all(|why| why.contains("its user's consents are not those of blue (0 are listed, 1 on blue)")),
        "{found:?}"
    );
    assert!(!found.contains_key("canary machine") && !found.contains_key("canary expired"), "{found:?}");
}

#[tokio::test]
async fn each_damage_to_a_canary_is_named() {
    let (place, world, _at, canaries) = issued().await;
    drop(world);
    let (_world, at) = migrated(&place, true).await;
    let clean = look(&canaries, &at, Expected::AsOnBlue).await;
    // Its login went with its session, and the engine's migrations drop the consent that had lost its login.
    assert_eq!(clean.keys().collect::<Vec<_>>(), ["canary logged out"], "{clean:?}");
    let damaged = async |statement: &str| {
        place.execute(statement).await;
        look(&canaries, &at, Expected::AsOnBlue).await
    };
    let found = damaged("update hydra_oauth2_refresh set active = true").await;
    assert_eq!(found["canary rotated"], "see a canary: token 2: is active, and must not be");
    assert_eq!(found["canary revoked"], "see a canary: token 2: is active, and must not be");
    assert!(!found.contains_key("canary live"), "{found:?}");
    let found = damaged("update hydra_oauth2_access set subject = ''").await;
    assert_eq!(found["canary live"], "see a canary: token 1: has another sub than on blue");
    let found = damaged("update hydra_oauth2_access set session_data = replace(session_data, '202', '302')").await;
    assert_eq!(found["canary machine"], "see a canary: token 1: has another sub, exp than on blue");
    let found = damaged("update hydra_oauth2_access set active = false").await;
    assert_eq!(found["canary machine"], "see a canary: token 1: is not active any more");
}

#[tokio::test]
async fn a_side_that_is_to_accept_none_of_blue_s_is_held_to_it() {
    let (_place, _world, at, canaries) = issued().await;
    let found = look(&canaries, &at, Expected::None).await;
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        [
            "canary live",
            "canary logged out",
            "canary machine",
            "canary rotated",
            "canary withdrawn",
            "canary withdrawn on green"
        ]
    );
    assert!(found["canary live"].contains("the plan says that this side accepts none of blue's"), "{found:?}");
    let (_other_place, _other_world, other) = engine(EngineVersion::V2).await;
    assert_eq!(look(&canaries, &other, Expected::None).await, BTreeMap::new());
}

/// An engine whose keys are published nowhere.
async fn hiding_keys(at: &Upstream) -> Upstream {
    let public = tampering(&at.public, |answered| {
        if answered.path.ends_with("/jwks.json") {
            answered.body = json!({ "keys": [] });
        }
    });
    Upstream { public: public.await, admin: at.admin.clone() }
}

/// The canary that holds a JWT, as it is kept.
fn jwt_of(canaries: &Canaries) -> Value {
    let kept: Value = serde_json::from_str(&canaries.to_text()).expect("JSON");
    let all = kept["canaries"].as_array().expect("a list");
    all.iter().find(|canary| canary["kind"] == "jwt").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_jwt_is_watched_where_the_engine_gives_any() {
    let place = Place::shared("probed").await;
    migrate(&place.application_url(), EngineVersion::V1).await.expect("it migrates");
    let world = World::giving(AccessTokens::Jwt, &place, EngineVersion::V1).await;
    let at = Upstream { public: world.public.clone(), admin: world.admin.clone() };
    let asked = probe(&at, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
    let canaries = Canaries::issue(&asked, OWNER, "openid offline_access").await.expect("blue is sound");
    assert_eq!(canaries.clients().len(), 3);
    let found = async |at: &Upstream| look_for(&KINDS_WITH_JWT, &canaries, at, Expected::AsOnBlue).await;
    assert_eq!(found(&at).await, BTreeMap::new());

    drop(world);
    let (_world, at) = migrated(&place, true).await;
    let clean = found(&at).await;
    assert_eq!(clean.keys().collect::<Vec<_>>(), ["canary logged out"], "{clean:?}");
    let unpublished = found(&hiding_keys(&at).await).await;
    assert_eq!(unpublished.keys().collect::<Vec<_>>(), ["canary jwt", "canary logged out"], "{unpublished:?}");
    assert!(unpublished["canary jwt"].contains("the key that it names is not published"), "{unpublished:?}");
    place.execute("delete from hydra_oauth2_access where subject like '%-jwt'").await;
    assert_eq!(found(&at).await["canary jwt"], "see a canary: token 1: is not active any more");
}

#[tokio::test]
async fn a_client_that_asks_for_a_jwt_is_one_canary_among_opaque_ones() {
    let (place, _world, at) = engine(EngineVersion::V2).await;
    let issue = async |at: &Upstream, owner: &str| {
        let asked = probe(at, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
        Canaries::issue(&asked, owner, "openid offline_access").await.expect("blue is sound")
    };
    let canaries = issue(&at, OWNER).await;
    assert_eq!(look_for(&KINDS_WITH_JWT, &canaries, &at, Expected::AsOnBlue).await, BTreeMap::new());
    let signed = jwt_of(&canaries)["signed"].as_str().map(str::to_owned);
    assert!(signed.is_some_and(|token| token.split('.').count() == 3));
    let jwts = canaries.to_text().matches("\"eyJ").count();
    assert_eq!(jwts, 2, "one token, kept as what is asked and as what is verified");

    // Who keeps the keys of access tokens to itself is not called unsound for it.
    let hidden = issue(&hiding_keys(&at).await, "cutover-canary-of-another").await;
    assert_eq!((&jwt_of(&hidden)["kind"], &jwt_of(&hidden)["signed"]), (&json!("jwt"), &Value::Null));
    assert_eq!(look_for(&KINDS_WITH_JWT, &hidden, &at, Expected::AsOnBlue).await, BTreeMap::new());
    for owner in [OWNER, "cutover-canary-of-another"] {
        assert_eq!(probe(&at, &[Flow::Refresh]).sweep(Side::Blue, owner).await.expect("it answers"), 3);
    }
    assert_eq!(place.ask::<i64>("select count(*) from hydra_client").await, 0);
}

#[tokio::test]
async fn a_blue_that_is_not_sound_makes_no_canaries() {
    let (_place, _world, at) = engine(EngineVersion::V1).await;
    let admin = tampering(&at.admin, |answered| {
        if answered.path.ends_with("/introspect") && answered.form.len() > 40 {
            answered.body = json!({ "active": true });
        }
    })
    .await;
    let faulty = probe(&Upstream { admin, ..at }, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
    let error = Canaries::issue(&faulty, OWNER, "openid offline_access").await.err().expect("refused").to_string();
    assert_eq!(
        error,
        "see a canary on blue: token 1 of the canary `rotated` is active: blue itself is not as it should be"
    );
}

#[tokio::test]
async fn no_token_is_kept_in_clear() {
    let (_place, _world, at, canaries) = issued().await;
    let key = cutover::plan::Secret::new("a secret of more than thirty-two characters");
    let run = Uuid::new_v4().to_string();
    let sealed = seal(&key, &run, &canaries.to_text());
    let tokens: Vec<String> = serde_json::from_str::<serde_json::Value>(&canaries.to_text())
        .expect("JSON")
        .pointer("/canaries")
        .and_then(|all| all.as_array().cloned())
        .into_iter()
        .flatten()
        .flat_map(|one| one["tokens"].as_array().cloned().unwrap_or_default())
        .map(|token| token["token"].as_str().expect("a token").to_owned())
        .collect();
    assert_eq!(tokens.len(), 2 + 4 + 2 + 1 + 1 + 2 + 2 + 2);
    assert!(tokens.iter().all(|token| !sealed.contains(token.as_str())));
    let opened = Canaries::of_text(&open(&key, &run, &sealed).expect("the same key")).expect("canaries");
    assert_eq!(look(&opened, &at, Expected::AsOnBlue).await, BTreeMap::new(), "another process sees the same");
}
