//! Canaries that are revoked while a run is under way: dead on both sides from then on, also where the first process died in between.

use super::canaries::{issued, look, migrated};
use super::{engine, probe};
use crate::harness::Place;
use crate::plan::{anything, whole};
use cutover::engine::{Context, Facts, Step as _, StepId};
use cutover::gates::probes::oauth::{Canaries, Expected, Kind, open};
use cutover::journal::Term;
use cutover::plan::{self, Flow, Listen, Probe, Secret, Side, Upstream};
use cutover::sandbox::engine::EngineVersion;
use cutover::steps::{Action, World, compile};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// Refresh tokens of the canary that is revoked while blue serves, and how many of them live.
const CHAIN: &str = "select count(*) from hydra_oauth2_refresh where subject like '%-withdrawn'";
const LIVING: &str = "select count(*) from hydra_oauth2_refresh where active and subject like '%-withdrawn'";

async fn count(place: &Place, query: &str) -> i64 {
    place.ask(query).await
}

#[tokio::test]
async fn a_canary_that_was_refreshed_and_revoked_must_be_dead_with_its_whole_chain() {
    let (place, world, at, mut canaries) = issued().await;
    let before = canaries.clone();
    let asked = probe(&at, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
    canaries.refresh(Kind::Withdrawn, &asked).await.expect("it is refreshed");
    canaries.revoke(Kind::Withdrawn, &asked, &asked).await.expect("it is revoked");
    assert_eq!((count(&place, CHAIN).await, count(&place, LIVING).await), (2, 0));
    assert_eq!(look(&canaries, &at, Expected::AsOnBlue).await, BTreeMap::new());
    let found = look(&before, &at, Expected::AsOnBlue).await;
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["canary withdrawn"],
        "who does not know of it calls it lost: {found:?}"
    );
    canaries.revoke(Kind::Withdrawn, &asked, &asked).await.expect("once more does no harm");

    drop(world);
    let (_world, at) = migrated(&place, true).await;
    let clean = look(&canaries, &at, Expected::AsOnBlue).await;
    assert_eq!(clean.keys().collect::<Vec<_>>(), ["canary logged out"], "{clean:?}");
    // The copy knew the first of its tokens, and what was revoked is the second: each alive again is named.
    for (which, token) in [("", 2), ("desc", 4)] {
        let one = format!(
            "update hydra_oauth2_refresh set active = not active where signature = (select signature from hydra_oauth2_refresh
             where subject like '%-withdrawn' order by requested_at {which} limit 1)"
        );
        place.execute(&one).await;
        let found = look(&canaries, &at, Expected::AsOnBlue).await;
        assert_eq!(found["canary withdrawn"], format!("see a canary: token {token}: is active, and must not be"));
        place.execute(&one).await;
    }
}

#[tokio::test]
async fn an_engine_that_says_yes_to_a_revocation_and_does_nothing_is_found() {
    let (_place, _world, at, mut canaries) = issued().await;
    let asked = probe(&at, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
    let (_other_place, _other_world, other) = engine(EngineVersion::V1).await;
    let public = super::tampering::tampering(&other.public, |answered| answered.status = 200).await;
    let door = probe(&Upstream { public, ..other }, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
    let error = canaries.revoke(Kind::Withdrawn, &door, &asked).await.expect_err("it lives").to_string();
    assert_eq!(error, "revoke a canary: token 1 is active 5 s after the revocation was taken");
}

#[tokio::test]
async fn a_canary_of_which_nobody_knows_may_be_dead_or_alive() {
    let (place, _world, at, mut canaries) = issued().await;
    canaries.doubt(Kind::WithdrawnOnGreen);
    assert_eq!(look(&canaries, &at, Expected::AsOnBlue).await, BTreeMap::new());
    place.execute("delete from hydra_oauth2_access where subject like '%-withdrawn-on-green'").await;
    place.execute("update hydra_oauth2_refresh set active = false where subject like '%-withdrawn-on-green'").await;
    assert_eq!(look(&canaries, &at, Expected::AsOnBlue).await, BTreeMap::new());
}

/// A plan's world with both sides at one engine, whose gateway is that engine too.
fn world_at(at: &Upstream) -> World {
    let mut plan = plan::parse(whole(), Path::new("."), &anything).expect("a plan");
    let control = "http://127.0.0.1:9".to_owned();
    let listen = Listen { public: at.public.clone(), admin: at.admin.clone(), control };
    plan.gateway.as_mut().expect("a gateway").listen = listen;
    plan.probes = vec![Probe::Oauth(Box::new(probe(at, &[Flow::Refresh]).plan))];
    let http = cutover::traffic::http_client().expect("a client");
    World { plan, http, gone: None, allowed_repairs: Default::default(), programs: None }
}

/// A step of that plan, and what it is given.
struct Given {
    world: World,
    facts: Facts,
    run: Uuid,
}

impl Given {
    async fn issued(at: &Upstream) -> Self {
        let mut given = Self { world: world_at(at), facts: Facts::default(), run: Uuid::new_v4() };
        given.make("issue-canaries", &[]).await;
        given
    }

    fn step(&self, id: &'static str) -> Action {
        compile(&self.world.plan).expect("a runbook").step(&StepId::new(id)).expect("the step").clone()
    }

    /// Makes a step that finds these notes, as a process that died has left them; gives its receipt.
    async fn make(&mut self, id: &'static str, notes: &[Value]) -> Value {
        let (step, term) = (self.step(id), Term { term: 1, nonce: Uuid::nil() });
        let context = Context::detached(self.run, term, step.id(), self.facts.clone());
        for note in notes {
            context.note(note.clone()).await.expect("it is kept in memory");
        }
        let made = step.forward(&self.world, &context).await;
        let receipt = made.unwrap_or_else(|error| panic!("{id}: {}", error.why())).into_body();
        self.facts.set(step.id(), receipt.clone());
        receipt
    }

    fn canaries(&self, receipt: &Value) -> Canaries {
        let Probe::Oauth(probe) = &self.world.plan.probes[0] else { panic!("OAuth") };
        let key = probe.canaries.as_ref().expect("a key");
        let sealed = receipt["canaries"][0]["sealed"].as_str().expect("sealed text");
        Canaries::of_text(&open(key, &self.run.to_string(), sealed).expect("the key")).expect("canaries")
    }
}

/// The note that stands before a refresh.
fn refreshing() -> Value {
    json!({ "phase": "refreshing", "probe": "engine" })
}

#[tokio::test]
async fn a_chain_whose_new_tokens_a_process_took_with_it_is_taken_back_by_its_consent() {
    let (place, _world, at) = engine(EngineVersion::V1).await;
    let mut given = Given::issued(&at).await;
    let issued = given.facts.receipt(&StepId::new("issue-canaries")).cloned().expect("a receipt");
    let asked = probe(&at, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
    given.canaries(&issued).refresh(Kind::Withdrawn, &asked).await.expect("it is refreshed, and nobody notes it");
    assert_eq!((count(&place, CHAIN).await, count(&place, LIVING).await), (2, 1));
    let receipt = given.make("revoke-canaries", &[refreshing()]).await;
    assert_eq!(receipt["canaries"][0]["by"], "consent", "{receipt}");
    assert_eq!(count(&place, LIVING).await, 0);
    assert_eq!(look(&given.canaries(&receipt), &at, Expected::AsOnBlue).await, BTreeMap::new());
}

#[tokio::test]
async fn a_refresh_that_was_noted_is_gone_on_from_and_its_revocation_may_have_been_made() {
    for is_revoked in [false, true] {
        let (place, _world, at) = engine(EngineVersion::V1).await;
        let mut given = Given::issued(&at).await;
        let issued = given.facts.receipt(&StepId::new("issue-canaries")).cloned().expect("a receipt");
        let asked = probe(&at, &[Flow::Refresh]).engine(Side::Blue).await.expect("it answers");
        let mut canaries = given.canaries(&issued);
        canaries.refresh(Kind::Withdrawn, &asked).await.expect("it is refreshed");
        let key = Secret::new("a secret of more than thirty-two characters");
        let sealed = cutover::gates::probes::oauth::seal(&key, &given.run.to_string(), &canaries.to_text());
        let refreshed = json!({ "phase": "refreshed", "probe": "engine", "sealed": sealed });
        if is_revoked {
            canaries.revoke(Kind::Withdrawn, &asked, &asked).await.expect("it is revoked");
        }
        let receipt = given.make("revoke-canaries", &[refreshing(), refreshed]).await;
        assert_eq!(
            (&receipt["canaries"][0]["by"], &receipt["canaries"][0]["through"]),
            (&json!("token"), &json!("gateway"))
        );
        assert_eq!((count(&place, CHAIN).await, count(&place, LIVING).await), (2, 0), "no third token was made");
        assert_eq!(look(&given.canaries(&receipt), &at, Expected::AsOnBlue).await, BTreeMap::new());
    }
}

#[tokio::test]
async fn on_the_way_back_a_canary_is_revoked_on_green_or_let_off() {
    let (place, world, at) = engine(EngineVersion::V1).await;
    let mut given = Given::issued(&at).await;
    given.make("revoke-canaries", &[]).await;
    let living = "select count(*) from hydra_oauth2_refresh where active and subject like '%-withdrawn-on-green'";
    assert_eq!(count(&place, living).await, 1);
    let mut ill = Given { world: world_at(&at), facts: given.facts.clone(), run: given.run };
    let receipt = given.make("revoke-canaries-on-green", &[]).await;
    assert_eq!((count(&place, living).await, &receipt["canaries"][0]["doubted"]), (0, &Value::Null));
    assert_eq!(look(&given.canaries(&receipt), &at, Expected::AsOnBlue).await, BTreeMap::new());

    // Green's engine has gone, and whoever goes back is not kept waiting for it.
    drop(world);
    let nowhere = Upstream { public: "http://127.0.0.1:9".into(), admin: "http://127.0.0.1:9".into() };
    let Probe::Oauth(oauth) = &mut ill.world.plan.probes[0] else { panic!("OAuth") };
    oauth.green = nowhere;
    let receipt = ill.make("revoke-canaries-on-green", &[]).await;
    assert!(receipt["canaries"][0]["doubted"].as_str().is_some_and(|why| why.contains("no answer")), "{receipt}");
    let alive = crate::sandbox_flows::world::World::serving(&place, EngineVersion::V1).await;
    let at = Upstream { public: alive.public.clone(), admin: alive.admin.clone() };
    assert_eq!(look(&ill.canaries(&receipt), &at, Expected::AsOnBlue).await, BTreeMap::new(), "dead or alive");
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_told_before_the_copy() {
    let (place, _world, at) = engine(EngineVersion::V1).await;
    let mut world = world_at(&at);
    world.plan.gateway.as_mut().expect("a gateway").listen.public = "http://127.0.0.1:9".into();
    world.plan.gateway.as_mut().expect("a gateway").listen.admin = "http://127.0.0.1:9".into();
    let given = Given { world, facts: Facts::default(), run: Uuid::new_v4() };
    let (step, term) = (given.step("issue-canaries"), Term { term: 1, nonce: Uuid::nil() });
    let context = Context::detached(given.run, term, step.id(), Facts::default());
    let error = step.forward(&given.world, &context).await.expect_err("nobody is there");
    assert!(error.why().starts_with("reach the place where clients revoke"), "{}", error.why());
    assert!(error.hint.contains("gateway.listen.public"), "{}", error.hint);
    assert_eq!(count(&place, "select count(*) from hydra_client").await, 0);
}

#[test]
fn canaries_are_revoked_after_the_copy_and_before_both_ways_back() {
    let plan = plan::parse(whole(), Path::new("."), &anything).expect("a plan");
    let runbook = compile(&plan).expect("a runbook");
    let at = |id: &'static str| runbook.place(&StepId::new(id)).unwrap_or_else(|| panic!("{id}"));
    let order = ["issue-canaries", "copy-rows", "revoke-canaries", "level-backlog", "probe-green", "flip"];
    assert!(order.map(at).is_sorted(), "{:?}", order.map(at));
    assert!(["flip", "revoke-canaries-on-green", "ready-to-return", "return"].map(at).is_sorted());
}
