//! Capture: durable before the engine hears of it, with the chain's identity, or refused.

use super::world::{World, nowhere, to_green};
use crate::harness::{Pair, eventually};
use crate::revocations::tables;
use cutover::plan::{DoorPattern, DoorSegment, Listener, Named, Side};
use cutover::revocations::{Door, Drained, Event, Outcome, Seen, drained};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

async fn only_event(world: &World) -> Event {
    let mut events = world.ledger().effective(Duration::ZERO).await.expect("control answers");
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

#[tokio::test]
async fn gateway_queues_a_revocation_before_the_engine_hears_of_it() {
    let world = World::new().await;
    world.pair.green.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    world.pair.blue.execute(&tables::grant("r1", "t2", "app", "ann")).await;
    assert_eq!(world.revoke("ory_at_random.t2-access").await.status(), 200);
    assert_eq!(*world.blue.queued_at_revoke.lock().expect("no panic"), [1], "it stood in the queue by then");
    let event = eventually(SOON, "the outcome is written", async || {
        let event = only_event(&world).await;
        (event.outcome == Outcome::Executed).then_some(event)
    })
    .await;
    assert_eq!((event.what.door, event.what.live, event.seq), (Door::Token, Side::Blue, 1));
    assert_eq!(event.what.chain.requests.iter().collect::<Vec<_>>(), ["r1"], "the chain, not the token");
    assert_eq!((event.what.blue, event.what.green), (Seen::Found, Seen::Unknown), "green knows only the elder token");
    let kept: String = world.pair.control.ask("select chain::text from cutover.revocation").await;
    assert!(!kept.contains("random"), "no token is kept: {kept}");
}

/// An engine with a path of its own over the same tables.
#[tokio::test]
async fn gateway_captures_at_the_doors_of_another_engine() {
    let own = DoorPattern {
        door: Door::Consent,
        listener: Listener::Public,
        methods: vec!["DELETE"],
        path: DoorSegment::all("/users/{subject}/apps/{client}").expect("a path"),
        query: Vec::<(Named, String)>::new(),
        form: Vec::new(),
        done: Vec::new(),
        is_hydras: false,
    };
    let world = World::with(|config| config.gateway.doors.patterns = vec![own]).await;
    world.pair.blue.execute(&tables::blue_consent("c1", "app", "ann/x y")).await;
    world.pair.blue.execute(&tables::blue_consent("c2", "other", "ann/x y")).await;
    world.pair.blue.execute(&tables::blue_consent("c3", "app", "bob")).await;
    let delete = async |path: &str| {
        let url = format!("http://{}{path}", world.gateway.addresses.public);
        world.http.delete(url).send().await.expect("the gateway answers").status().as_u16()
    };
    assert_eq!(delete("/users/ann%2Fx%20y/apps/app").await, 400, "engines read it in two ways");
    assert_eq!(world.blue.count("DELETE /users/ann%2Fx%20y/apps/app"), 0, "it never reached one");
    assert_eq!(delete("/users/bob/apps/app").await, 200);
    let event = only_event(&world).await;
    assert_eq!((event.what.door, event.what.chain.subject.as_deref()), (Door::Consent, Some("bob")));
    assert_eq!(event.what.chain.consents.iter().collect::<Vec<_>>(), ["c3"]);
    assert_eq!(world.revoke("a.b").await.status(), 200);
    assert_eq!(only_event(&world).await.id, event.id, "Hydra's own doors are none of its");
}

/// An engine that answers by a redirect, or that nothing is left, where it has revoked.
#[tokio::test]
async fn gateway_takes_the_plans_word_for_what_another_engine_says_by_a_status() {
    let own = DoorPattern {
        door: Door::Consent,
        listener: Listener::Public,
        methods: vec!["DELETE"],
        path: DoorSegment::all("/status/{subject}").expect("a path"),
        query: Vec::new(),
        form: Vec::new(),
        done: vec![303],
        is_hydras: false,
    };
    let world = World::with(|config| config.gateway.doors.patterns = vec![own]).await;
    for status in [303, 302, 404] {
        let url = format!("http://{}/status/{status}", world.gateway.addresses.public);
        assert_eq!(world.http.delete(url).send().await.expect("the gateway answers").status().as_u16(), status);
    }
    eventually(SOON, "the refusals are written", async || {
        let counts = world.ledger().counts().await.expect("control answers");
        (counts.refused == 2).then_some(())
    })
    .await;
    let event = eventually(SOON, "the outcome is written", async || {
        let event = only_event(&world).await;
        (event.outcome == Outcome::Executed).then_some(event)
    })
    .await;
    assert_eq!(event.what.chain.subject.as_deref(), Some("303"), "only what was done is replayed");
}

#[tokio::test]
async fn gateway_does_not_replay_what_the_engine_refused() {
    let world = World::new().await;
    *world.blue.revoke_status.lock().expect("no panic") = 401;
    assert_eq!(world.revoke("a.b").await.status(), 401);
    eventually(SOON, "the refusal is written", async || {
        let counts = world.ledger().counts().await.expect("control answers");
        (counts.refused == 1 && counts.captured == 0).then_some(())
    })
    .await;
    *world.blue.revoke_status.lock().expect("no panic") = 500;
    assert_eq!(world.revoke("a.b").await.status(), 500);
    assert_eq!(only_event(&world).await.outcome, Outcome::Captured, "what an engine did before it failed is unknown");
}

#[tokio::test]
async fn gateway_refuses_a_revocation_that_it_cannot_queue() {
    let world = World::with(|config| config.control = nowhere()).await;
    let refused = world.revoke("a.b").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(world.blue.count("POST /oauth2/revoke"), 0, "the engine never hears of it");
    assert_eq!(world.get("/work").await.status(), 200, "everything else goes on");
}

#[tokio::test]
async fn gateway_notes_that_green_could_not_be_asked() {
    let world = World::with(|config| config.green = nowhere()).await;
    world.pair.blue.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    assert_eq!(world.revoke("x.t1-refresh").await.status(), 200);
    let event = only_event(&world).await;
    assert_eq!((event.what.blue, event.what.green), (Seen::Found, Seen::Unreachable));
    assert!(!event.what.chain.signatures.is_empty(), "so that green can be asked later");
}

#[tokio::test]
async fn gateway_refuses_a_revocation_whose_chain_the_live_side_cannot_say() {
    let world = World::new().await;
    world.pair.blue.execute("drop table hydra_oauth2_access cascade").await;
    assert_eq!(world.revoke("a.b").await.status(), 503);
    assert_eq!(world.blue.count("POST /oauth2/revoke"), 0);
}

#[tokio::test]
async fn gateway_captures_while_green_does_not_exist_yet() {
    let pair = Pair::shared().await;
    tables::create(&pair).await;
    pair.green.execute("drop schema public cascade; create schema public").await;
    let world = World::over(pair, |_| {}).await;
    world.pair.blue.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    assert_eq!(world.revoke("x.t1-access").await.status(), 200);
    let event = only_event(&world).await;
    assert_eq!((event.what.green, event.what.epoch), (Seen::NoTables, 0));
}

#[tokio::test]
async fn gateway_forwards_no_revocation_that_it_cannot_read() {
    let world = World::new().await;
    let url = format!("http://{}/oauth2/%72evoke", world.gateway.addresses.public);
    let post = async |kind: &str, body: &str| {
        let request = world.http.post(&url).header("content-type", kind).body(body.to_owned());
        request.send().await.expect("the gateway answers").status().as_u16()
    };
    assert_eq!(post("multipart/form-data; boundary=x", "--x--").await, 415);
    assert_eq!(post("application/x-www-form-urlencoded", "token=a.b&token=c.d").await, 400);
    assert_eq!(post("application/x-www-form-urlencoded", "client_id=app").await, 400);
    assert!(world.blue.seen.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn gateway_hold_writes_the_barrier_after_every_revocation() {
    let world = World::new().await;
    for _ in 0..3 {
        assert_eq!(world.revoke("a.b").await.status(), 200);
    }
    world.must("hold", &to_green(2, SOON)).await;
    world.ledger().collect().await.expect("control answers");
    let producers = world.ledger().producers(2).await.expect("control answers");
    let barriers: Vec<_> = producers.iter().map(|producer| producer.barrier).collect();
    assert_eq!(barriers, [Some(7)], "after three revocations and their three outcomes");
    let verdict = drained(&world.ledger(), 2, &["engine".to_owned()]).await.expect("control answers");
    assert!(matches!(verdict, Drained::No(reasons) if reasons.len() == 2), "not replayed, not proved");
}

#[tokio::test]
async fn gateway_captures_consents_of_a_subject_with_both_path_styles() {
    let world = World::new().await;
    world.pair.blue.execute(&tables::blue_consent("r1", "app", "ann")).await;
    world.pair.green.execute(&tables::green_consent("r2", "app", "ann")).await;
    for path in ["/oauth2/auth/sessions/consent", "/admin/oauth2/auth/sessions/consent"] {
        let url = format!("http://{}{path}?subject=ann&client=app", world.gateway.addresses.admin);
        assert_eq!(world.http.delete(url).send().await.expect("the gateway answers").status(), 200);
    }
    let events = world.ledger().effective(Duration::ZERO).await.expect("control answers");
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(event.what.chain.consents.iter().collect::<Vec<_>>(), ["r1", "r2"], "as both sides know them");
    }
}

#[tokio::test]
async fn gateway_captures_a_login_session_by_its_id_and_passes_on_nothing_else() {
    let world = World::new().await;
    let made = "insert into hydra_oauth2_authentication_session values ('s1', 'ann'), ('s2', 'ann')";
    world.pair.blue.execute(made).await;
    let delete = async |target: &str| {
        let url = format!("http://{}{target}", world.gateway.addresses.admin);
        world.http.delete(url).send().await.expect("the gateway answers").status().as_u16()
    };
    let endings = || world.blue.endings.lock().expect("no panic").clone();
    assert_eq!(delete("/admin/oauth2/auth/sessions/login?subject=ann&sid=s1").await, 200);
    assert_eq!(endings(), ["sid=s1"], "an engine that knows no `sid` would have ended all of the subject's");
    let event = eventually(SOON, "the outcome is written", async || {
        let event = only_event(&world).await;
        (event.outcome == Outcome::Executed).then_some(event)
    })
    .await;
    assert_eq!((event.what.door, event.what.blue, event.what.green), (Door::LoginSession, Seen::Found, Seen::Unknown));
    assert_eq!(event.what.chain.sessions.iter().collect::<Vec<_>>(), ["s1"], "the one that was named");

    *world.blue.revoke_status.lock().expect("no panic") = 400;
    assert_eq!(delete("/oauth2/auth/sessions/login?sid=s9").await, 400, "1.x says no, and so it is");
    eventually(SOON, "the refusal is written", async || {
        let counts = world.ledger().counts().await.expect("control answers");
        (counts.refused == 1).then_some(())
    })
    .await;
    assert_eq!(only_event(&world).await.id, event.id, "what an engine refused is never replayed");

    assert_eq!(delete("/oauth2/auth/sessions/login").await, 400, "the engine's own word");
    assert_eq!(endings(), ["sid=s1", "sid=s9", ""]);
    assert_eq!(delete("/oauth2/auth/sessions/login?x=1;sid=s2").await, 400, "versions read it in two ways");
    assert_eq!(endings().len(), 3, "it reached none");
    assert_eq!(only_event(&world).await.id, event.id, "neither was a revocation");
}

#[tokio::test]
async fn gateway_keeps_the_id_of_a_login_session_that_neither_side_knows() {
    let world = World::new().await;
    let url = format!("http://{}/admin/oauth2/auth/sessions/login?sid=s9", world.gateway.addresses.admin);
    assert_eq!(world.http.delete(url).send().await.expect("the gateway answers").status(), 200);
    let event = only_event(&world).await;
    assert_eq!((event.what.blue, event.what.green), (Seen::Unknown, Seen::Unknown));
    assert_eq!(event.what.chain.sessions.iter().collect::<Vec<_>>(), ["s9"], "it may come with a batch");
}
