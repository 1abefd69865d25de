//! What the way back may give up and what it may not, and whose an answer or a write in flight is.

use super::{AGAIN, BACK, BLUE, GREEN, World};
use crate::plan::Side;
use crate::sandbox::prober::actions::{self, Asked};
use crate::sandbox::prober::settle::{ask_consents, ask_revoked};
use crate::sandbox::prober::writers::Met;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;

#[tokio::test]
async fn what_green_issued_may_be_unknown_after_the_way_back_and_is_counted() {
    let world = World::new("given-up").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.all_unknown();
    world.turn(BACK).await;
    assert!(!world.introspected(0, Asked::UnderLoad).await && !world.introspected(0, Asked::AtTheEnd).await);
    actions::userinfo(&world.prober).await.expect("the only chain");
    actions::check(&world.prober).await.expect("the only consent");
    let lost = Mutex::default();
    ask_consents(&world.prober, &lost).await;
    assert_eq!(lost.into_inner().expect("nobody panicked"), BTreeSet::new());
    let seen = world.seen();
    assert_eq!((seen.failed, seen.given_up, seen.given_up_consents), (0, 1, 1));
    assert!(actions::refresh(&world.prober).await.is_none(), "it is used no further");
    assert!(actions::revoke_token(&world.prober).await.is_none(), "it is used no further");
    assert!(actions::revoke_consent(&world.prober).await.is_none(), "it is used no further");
}

#[tokio::test]
async fn while_green_is_live_nothing_of_it_is_given_up() {
    let world = World::new("live").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.all_unknown();
    assert!(world.introspected(0, Asked::UnderLoad).await && world.introspected(0, Asked::AtTheEnd).await);
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!((world.seen().failed, world.seen().given_up), (2, 0));
}

#[tokio::test]
async fn what_blue_issued_and_green_never_refreshed_must_work_after_the_way_back() {
    let world = World::new("kept").await;
    world.turn(BLUE).await;
    world.grant().await;
    world.turn(GREEN).await;
    world.all_unknown();
    world.turn(BACK).await;
    assert!(world.introspected(0, Asked::AtTheEnd).await, "a lost write");
    actions::userinfo(&world.prober).await.expect("the only chain");
    actions::check(&world.prober).await.expect("the only consent");
    actions::refresh(&world.prober).await.expect("the only chain");
    let seen = world.seen();
    assert_eq!((seen.failed, seen.given_up, seen.given_up_consents), (3, 0, 0));
}

#[tokio::test]
async fn a_chain_that_green_refreshed_is_given_up_and_what_the_refresh_replaced_stays_dead() {
    let world = World::new("rotated").await;
    world.turn(BLUE).await;
    world.grant().await;
    world.turn(GREEN).await;
    world.refresh().await;
    world.all_unknown();
    world.turn(BACK).await;
    assert!(!world.introspected(0, Asked::AtTheEnd).await);
    ask_revoked(&world.prober).await;
    let seen = world.seen();
    assert_eq!((seen.failed, seen.given_up, seen.given_up_consents), (0, 1, 0), "the consent is blue's own");
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!(world.seen().failed, 1, "a consent given on blue must stand");
    world.bid("/oauth2/introspect", 200, json!({"active": true}));
    ask_revoked(&world.prober).await;
    let seen = world.seen();
    assert_eq!((seen.failed, seen.ended_accepted), (1, 2), "the access and the refresh token before the rotation");
}

#[tokio::test]
async fn a_chain_refreshed_after_the_way_back_is_blues_again() {
    let world = World::new("refreshed").await;
    world.turn(BLUE).await;
    world.issue().await;
    world.turn(GREEN).await;
    world.turn(BACK).await;
    world.refresh().await;
    world.all_unknown();
    assert!(world.introspected(0, Asked::UnderLoad).await);
    assert_eq!((world.seen().failed, world.seen().given_up), (1, 0));
}

#[tokio::test]
async fn a_second_flip_expects_nothing_that_was_given_up_and_all_the_rest() {
    let world = World::new("again").await;
    world.turn(GREEN).await;
    let given_up = world.issue().await;
    world.turn(BACK).await;
    let between = world.issue().await;
    world.turn(AGAIN).await;
    let of_the_second = world.issue().await;
    world.all_unknown();
    assert!(!world.introspected(given_up, Asked::AtTheEnd).await);
    assert!(world.introspected(between, Asked::AtTheEnd).await);
    assert!(world.introspected(of_the_second, Asked::AtTheEnd).await);
    assert_eq!(world.seen().given_up, 1);
}

#[tokio::test]
async fn a_denial_that_names_no_side_is_ruled_on_after_the_gateway_has_named_one() {
    let world = World::new("unnamed").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.all_unknown();
    world.bidden.lock().expect("nobody panicked").at = BACK;
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!((world.seen().failed, world.seen().given_up_consents), (0, 1));
}

#[tokio::test]
async fn a_consent_given_before_the_load_knew_of_the_flip_came_from_green_all_the_same() {
    let world = World::new("unseen").await;
    world.turn(BLUE).await;
    world.bidden.lock().expect("nobody panicked").at = GREEN;
    world.grant().await;
    world.all_unknown();
    world.turn(BACK).await;
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!((world.seen().failed, world.seen().given_up_consents), (0, 1));
}

#[tokio::test]
async fn what_is_in_flight_during_the_way_back_may_be_unknown_but_must_be_answered() {
    for (status, error, failed) in [(400, "invalid_grant", 0), (401, "invalid_client", 1), (503, "held", 1)] {
        let world = World::new(&format!("flight-{status}")).await;
        world.turn(GREEN).await;
        world.issue().await;
        // The first answer of blue is the one that is ruled on.
        world.bidden.lock().expect("nobody panicked").at = BACK;
        world.bid("/oauth2/token", status, json!({"error": error}));
        actions::refresh(&world.prober).await.expect("the only chain");
        assert_eq!(world.seen().failed, failed, "a refresh answered {status}");

        let world = World::new(&format!("code-{status}")).await;
        world.turn(GREEN).await;
        world.bid("/consents", 201, json!({"code": "code"}));
        world.bid("/oauth2/token", status, json!({"error": error}));
        world.bidden.lock().expect("nobody panicked").at = BACK;
        actions::grant(&world.prober).await.expect("an app");
        assert_eq!(world.seen().failed, failed, "a code of green answered {status}");
    }
}

#[tokio::test]
async fn clients_made_renamed_or_deleted_on_green_must_be_so_on_blue() {
    let world = World::new("clients").await;
    world.turn(GREEN).await;
    world.bid("/clients", 201, json!({"client_id": "made", "client_secret": "secret"}));
    actions::create_app(&world.prober, false).await.expect("always");
    let made = world.prober.history.lock().ledger.apps[1].name.clone();
    world.turn(BACK).await;
    world.bid("/clients/app", 200, json!({"name": "app"}));
    for (status, answer, lost) in [
        (404, Value::Null, vec![format!("client {made:?}")]),
        (200, json!({"name": "as it was on blue"}), vec![format!("the name {made:?} of a client")]),
        (200, json!({"name": &made}), vec![]),
    ] {
        world.bid("/clients/made", status, answer);
        assert_eq!(world.lost_apps().await, lost);
    }
    let now = world.prober.client.now_us();
    world.prober.history.lock().ledger.app_deleted(0, now);
    assert_eq!(world.lost_apps().await, ["the deletion of \"app\""]);
    assert_eq!(world.seen().given_up, 0);
}

#[tokio::test]
async fn a_code_of_blue_must_be_known_on_green() {
    let world = World::new("code-forward").await;
    world.turn(BLUE).await;
    world.bid("/consents", 201, json!({"code": "code"}));
    world.bid("/oauth2/token", 400, json!({"error": "invalid_grant"}));
    world.bidden.lock().expect("nobody panicked").at = GREEN;
    actions::grant(&world.prober).await.expect("an app");
    assert_eq!(world.seen().failed, 1);
}

#[tokio::test]
async fn a_report_after_the_way_back_describes_the_way_back() {
    let world = World::new("switches").await;
    let mut state = world.prober.history.lock();
    let writes = [(Side::Green, 0, Met::Fenced), (Side::Blue, 0, Met::Accepted), (Side::Green, 100, Met::Accepted)];
    for (side, at_ms, met) in writes.into_iter().chain([(Side::Blue, 130, Met::Accepted)]) {
        // A side that was fenced in between: the other's turn ends its run.
        state.writers.of(side).push(at_ms * 1000, at_ms * 1000, Met::Fenced);
        state.writers.of(side).push(at_ms * 1000, at_ms * 1000, met);
    }
    let report = state.report();
    assert_eq!((report.flips, report.flip.write_gap_ms), (2, Some(30.0)));
    let gaps: Vec<_> = report.switches.iter().map(|switch| (switch.to, switch.felt.write_gap_ms)).collect();
    assert_eq!(gaps, [(Side::Green, Some(100.0)), (Side::Blue, Some(30.0))]);
}
