//! What was ended, through whichever door, is dead by every token, code and secret that it ever had.

use super::{AGAIN, BACK, BLUE, GREEN, World};
use crate::sandbox::prober::actions::{self, Asked};
use crate::sandbox::prober::ledger::{Ledger, Tokens};
use crate::sandbox::prober::settle::{ask_consents, ask_revoked, try_old_secrets};
use crate::sandbox::prober::words::Door;
use crate::sandbox::prober::{doors, secrets};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;

#[tokio::test]
async fn a_revoked_chain_is_never_to_be_accepted_by_any_token_it_ever_had() {
    let world = World::new("revoked").await;
    world.turn(BLUE).await;
    world.issue().await;
    world.turn(GREEN).await;
    world.refresh().await;
    world.revoke(0).await;
    world.turn(BACK).await;
    ask_revoked(&world.prober).await;
    assert_eq!(world.seen().revoked_accepted, 5, "four tokens were called active, one was refreshed");
    for _ in 0..20 {
        actions::introspect(&world.prober).await.expect("the only chain");
        actions::refresh_revoked(&world.prober).await.expect("the only chain");
    }
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (45, 0));
    assert_eq!(world.seen().given_up, 0, "it was ended before");
    let shown: BTreeSet<String> = (0..200).map(|_| world.prober.history.lock().ledger.token_to_show(0)).collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
}

#[tokio::test]
async fn a_chain_born_on_green_and_revoked_keeps_its_full_strength() {
    let world = World::new("strength").await;
    world.turn(GREEN).await;
    world.issue().await;
    world.turn(BACK).await;
    world.revoke(0).await;
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 1);
    world.turn(AGAIN).await;
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 2, "neither after a second flip");
}

#[test]
fn a_refresh_keeps_what_it_replaced() {
    let mut ledger = Ledger::default();
    let tokens = |nth: u8| Tokens {
        access: format!("access.{nth}"),
        refresh: Some(format!("refresh.{nth}")),
        expires_us: 1_000,
        born: Some(BLUE),
    };
    let app = ledger.add_app("app".into(), "secret".into(), "app".into(), true);
    ledger.add_chain(app, None, tokens(1));
    ledger.chains[0].rotate(tokens(2));
    ledger.chains[0].rotate(tokens(3));
    let all: BTreeSet<&str> = ledger.chains[0].tokens().map(String::as_str).collect();
    assert_eq!(all.len(), 6);
    assert_eq!((ledger.chains[0].access.as_str(), ledger.chains[0].used.len()), ("access.3", 2));
}

#[tokio::test]
async fn a_theft_ends_the_chain_and_one_that_is_not_noticed_is_told() {
    let world = World::new("theft").await;
    world.issue().await;
    world.refresh().await;
    let noticed = json!({"error": "invalid_grant", "error_description": "the token has been used before; all is over"});
    world.bid("/oauth2/token", 400, noticed);
    doors::reuse(&world.prober).await.expect("a token that was used");
    assert_eq!((world.seen().revoked, world.seen().failed, world.uses(Door::Reuse)), (1, 0, 1));
    world.introspected(0, Asked::UnderLoad).await;
    let seen = world.seen();
    assert_eq!((seen.revoked_accepted, seen.ended_accepted), (0, 1), "the engine says active after the theft");

    world.issue().await;
    world.refresh().await;
    world.bid("/oauth2/token", 200, json!({"access_token": "access.2", "refresh_token": "refresh.2"}));
    doors::reuse(&world.prober).await.expect("a token that was used");
    assert_eq!((world.seen().ended_accepted, world.seen().revoked), (1, 1), "told what the owner was told");

    for (said, status, failed, accepted) in
        [(json!({"error": "invalid_grant"}), 400, 1, 1), (json!({"access_token": "a"}), 200, 1, 2)]
    {
        world.issue().await;
        world.refresh().await;
        world.bid("/oauth2/token", status, said);
        doors::reuse(&world.prober).await.expect("a token that was used");
        let seen = world.seen();
        assert_eq!((seen.failed, seen.ended_accepted, seen.revoked), (failed, accepted, 1), "answered {status}");
    }
    assert_eq!(world.uses(Door::Reuse), 1, "those that were not noticed ended nothing");
}

#[tokio::test]
async fn a_chain_that_a_theft_has_ended_must_not_be_refreshed() {
    let world = World::new("after-theft").await;
    world.issue().await;
    world.refresh().await;
    let noticed = json!({"error": "invalid_grant", "error_description": "the token has been used before; all is over"});
    world.bid("/oauth2/token", 400, noticed);
    doors::reuse(&world.prober).await.expect("a token that was used");
    actions::refresh_revoked(&world.prober).await.expect("the only chain");
    assert_eq!(world.seen().ended_accepted, 0);
    world.bid("/oauth2/token", 200, json!({"access_token": "access.2", "refresh_token": "refresh.2"}));
    actions::refresh_revoked(&world.prober).await.expect("the only chain");
    assert_eq!(world.seen().ended_accepted, 0, "told once more what died with the chain");
    world.bid("/oauth2/token", 200, json!({"access_token": "access.3", "refresh_token": "refresh.3"}));
    actions::refresh_revoked(&world.prober).await.expect("the only chain");
    let seen = world.seen();
    assert_eq!((seen.ended_accepted, seen.revoked_accepted, seen.failed), (1, 0, 0));
}

#[tokio::test]
async fn a_code_that_was_exchanged_ends_its_chain_and_is_refused_wherever_traffic_is() {
    let world = World::new("code").await;
    world.turn(BLUE).await;
    world.grant().await;
    world.turn(GREEN).await;
    let noticed = json!({"error": "invalid_grant", "error_description": "the token has been used before; all is over"});
    world.bid("/oauth2/token", 400, noticed);
    doors::replay_code(&world.prober).await.expect("a code that was exchanged");
    assert_eq!((world.uses(Door::CodeReplay), world.seen().revoked, world.seen().failed), (1, 1, 0));
    world.turn(BACK).await;
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    assert_eq!(world.seen().ended_accepted, 0);
    world.bid("/oauth2/token", 200, json!({"access_token": "new", "refresh_token": "new"}));
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    world.revoke(0).await;
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    let seen = world.seen();
    assert_eq!((seen.ended_accepted, seen.revoked_accepted), (1, 1), "a theft's end, then one that was promised");
}

#[tokio::test]
async fn a_code_of_blue_that_green_exchanged_is_used_up_on_blue_too() {
    let world = World::new("code-back").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.turn(BACK).await;
    assert!(doors::replay_code(&world.prober).await.is_none(), "the way back gave the chain up");
    world.bid("/oauth2/token", 200, json!({"access_token": "new", "refresh_token": "new"}));
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    assert_eq!((world.seen().ended_accepted, world.seen().failed), (1, 0));
}

#[tokio::test]
async fn a_secret_that_was_changed_is_refused_for_ever() {
    let world = World::new("secret").await;
    assert!(secrets::change(&world.prober).await.is_none(), "the only app is used by everybody");
    world.prober.history.lock().ledger.apps[0].lasting = false;
    world.bid("/clients/app/secret", 200, json!({"client_secret": "another"}));
    secrets::change(&world.prober).await.expect("an app that nobody uses");
    assert_eq!((world.uses(Door::ClientSecret), world.seen().failed), (1, 0));
    assert_eq!(world.prober.history.lock().ledger.apps[0].secret, "another");
    for (status, failed, accepted) in [(401, 0, 0), (400, 1, 0), (200, 1, 1)] {
        world.bid("/oauth2/token", status, json!({"access_token": "a", "error": "invalid_client"}));
        secrets::try_any_old(&world.prober).await.expect("a secret of before");
        let seen = world.seen();
        assert_eq!((seen.failed, seen.ended_accepted), (failed, accepted), "answered {status}");
    }
    try_old_secrets(&world.prober).await;
    assert_eq!(world.seen().ended_accepted, 2, "the end check tries it as well");

    world.bid("/clients/app/secret", 503, Value::Null);
    secrets::change(&world.prober).await.expect("an app that nobody uses");
    assert!(world.prober.history.lock().ledger.use_app().is_none(), "which secret it has nobody knows");
}

#[tokio::test]
async fn a_revocation_that_the_gateway_is_told_of_is_a_promise_like_any_other() {
    let world = World::new("added").await;
    world.grant().await;
    world.bid("/cutover/v1/revocations", 404, Value::Null);
    doors::add_revocation(&world.prober).await.expect("a consent");
    assert_eq!((world.seen().failed, world.uses(Door::Added)), (0, 0), "a plan without a token has no such place");
    world.grant().await;
    world.bid("/cutover/v1/revocations", 200, json!({"outcome": "executed"}));
    doors::add_revocation(&world.prober).await.expect("a consent");
    assert_eq!((world.seen().revoked, world.uses(Door::Added)), (1, 1));
    world.introspected(1, Asked::UnderLoad).await;
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (1, 0));
}

#[tokio::test]
async fn a_theft_from_a_chain_that_was_given_up_need_not_be_noticed_and_must_not_succeed() {
    for (said, status, accepted) in
        [(json!({"error": "invalid_grant"}), 400, 0), (json!({"access_token": "a"}), 200, 1)]
    {
        let world = World::new(&format!("theft-{status}")).await;
        world.turn(GREEN).await;
        world.issue().await;
        world.refresh().await;
        // The first answer of blue is the one that is ruled on.
        world.bidden.lock().expect("nobody panicked").at = BACK;
        world.bid("/oauth2/token", status, said);
        doors::reuse(&world.prober).await.expect("a token that was used");
        assert_eq!((world.seen().failed, world.seen().ended_accepted), (0, accepted), "answered {status}");
    }
}

#[tokio::test]
async fn access_tokens_that_were_ended_are_dead_until_the_next_refresh() {
    let world = World::new("cut").await;
    let chain = world.issue().await;
    world.prober.history.lock().ledger.apps[0].lasting = false;
    world.bid("/oauth2/tokens", 204, Value::Null);
    doors::revoke_access(&world.prober).await.expect("an app that nobody uses");
    assert_eq!(world.seen().failed, 0);
    world.introspected(chain, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 1, "active after its end");
    world.refresh().await;
    world.introspected(chain, Asked::UnderLoad).await;
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (1, 0), "what was refreshed lives");
}

#[tokio::test]
async fn a_consent_that_is_given_again_is_asked_for_alone() {
    let world = World::new("again").await;
    world.grant().await;
    world.bid("/oauth2/auth/sessions/consent", 204, Value::Null);
    doors::revoke_subject(&world.prober).await.expect("a consent");
    world.bid("/oauth2/token", 200, json!({"access_token": "b", "refresh_token": "c"}));
    doors::regrant(&world.prober).await.expect("a consent that was taken away");
    world.bid("/check", 200, json!({"allow": true}));
    ask_consents(&world.prober, &Mutex::default()).await;
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (0, 0));
    world.bid("/check", 200, json!({"allow": false}));
    ask_consents(&world.prober, &Mutex::default()).await;
    assert_eq!(world.seen().failed, 1, "the second consent stands");
    world.bid("/oauth2/introspect", 200, json!({"active": true}));
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 1, "the chain of the first stays dead");
}
