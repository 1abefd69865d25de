//! The deny overlay, in front of engines that say yes to everything.

use super::world::{World, nowhere, to_green};
use crate::harness::eventually;
use crate::revocations::tables;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cutover::revocations::unconfirmed;
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const INTROSPECT: &str = "/oauth2/introspect";
const TOKEN: &str = "/oauth2/token";

/// The status of an introspection, and whether the answer was the overlay's.
pub(super) async fn introspected(world: &World, admin: SocketAddr, token: &str) -> (u16, bool) {
    let answer = world.post(admin, INTROSPECT, &format!("token={token}")).await;
    (answer.status().as_u16(), answer.text().await.expect("a body") == r#"{"active":false}"#)
}

pub(super) const DENIED: (u16, bool) = (200, true);
pub(super) const PASSED: (u16, bool) = (200, false);

async fn refreshed(world: &World, token: &str) -> u16 {
    let form = format!("grant_type=refresh_token&refresh_token={token}");
    world.post(world.gateway.addresses.public, TOKEN, &form).await.status().as_u16()
}

#[tokio::test]
async fn gateway_denies_a_revoked_chain_at_every_door_on_both_sides() {
    let world = World::new().await;
    let (public, admin) = (world.gateway.addresses.public, world.gateway.addresses.admin);
    world.pair.blue.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    world.pair.blue.execute(&tables::grant("r2", "other", "app", "ann")).await;
    let code =
        "insert into hydra_oauth2_code (signature, request_id, client_id, subject) values ('c1', 'r1', 'app', 'ann')";
    world.pair.blue.execute(code).await;
    assert_eq!(introspected(&world, admin, "x.t1-access").await, PASSED);
    assert_eq!(world.revoke("x.t1-refresh").await.status(), 200);
    // Born after the capture, as of a refresh that was under way.
    world.pair.blue.execute(&tables::grant("r1", "t2", "app", "ann")).await;

    for token in ["x.t1-refresh", "x.t1-access", "x.t2-access", "x.other-access&token=x.t2-access"] {
        assert_eq!(introspected(&world, admin, token).await, DENIED, "{token}");
    }
    let prefixed = world.post(admin, "/admin/oauth2/introspect", "token=x.t2-access").await;
    assert_eq!(prefixed.text().await.expect("a body"), r#"{"active":false}"#);
    let asked = world.http.get(format!("http://{public}/userinfo")).bearer_auth("x.t1-access").send().await;
    let userinfo = asked.expect("the gateway answers");
    assert_eq!(userinfo.status(), 401);
    assert!(userinfo.headers()["www-authenticate"].to_str().expect("text").contains("invalid_token"));
    assert_eq!(world.post(public, "/userinfo", "access_token=x.t2-access").await.status(), 401);
    for form in ["grant_type=refresh_token&refresh_token=x.t2-refresh", "grant_type=authorization_code&code=y.c1"] {
        let refused = world.post(public, TOKEN, form).await;
        assert_eq!(refused.status(), 400, "{form}");
        let body: serde_json::Value = refused.json().await.expect("it speaks JSON");
        assert_eq!(body["error"], "invalid_grant");
    }
    assert_eq!(world.blue.count(&format!("POST {INTROSPECT}")), 1, "the engine heard of the first alone");
    assert_eq!(world.blue.count(&format!("POST {TOKEN}")) + world.blue.count("GET /userinfo"), 0);

    assert_eq!(introspected(&world, admin, "x.other-access").await, PASSED, "another grant of the same client");
    assert_eq!(refreshed(&world, "x.other-refresh").await, 200);
    let parts = world
        .http
        .post(format!("http://{admin}{INTROSPECT}"))
        .header("content-type", "multipart/form-data; boundary=b");
    let hidden = parts.body("--b\r\n\r\n--b--").send().await.expect("the gateway answers");
    assert_eq!(hidden.status(), 415, "what it cannot see it does not let pass");
    assert_eq!(world.metric("cutover_overlay_denied_total{door=\"introspection\"}").await, 5);

    let order = to_green(2, SOON);
    world.must("hold", &order).await;
    assert_eq!(introspected(&world, admin, "x.t1-access").await, DENIED, "while held");
    world.must("switch", &order).await;
    world.must("release", &order).await;
    assert_eq!(refreshed(&world, "x.t1-refresh").await, 400, "on the other side too");
    assert_eq!(world.green.count(&format!("POST {TOKEN}")), 0);
}

#[tokio::test]
async fn gateway_denies_only_what_the_engine_did_not_refuse_to_revoke() {
    let world = World::new().await;
    let admin = world.gateway.addresses.admin;
    world.pair.blue.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    *world.blue.revoke_status.lock().expect("no panic") = 401;
    assert_eq!(world.revoke("x.t1-refresh").await.status(), 401);
    assert_eq!(introspected(&world, admin, "x.t1-refresh").await, PASSED);
    // The queue still calls it captured for a moment; that brings nothing back.
    eventually(SOON, "the overlay has read the queue", async || {
        let up_to = "select count(*) from cutover.overlay_seen where up_to > 0";
        (world.pair.control.ask::<i64>(up_to).await == 1).then_some(())
    })
    .await;
    assert_eq!(introspected(&world, admin, "x.t1-refresh").await, PASSED);
    *world.blue.revoke_status.lock().expect("no panic") = 500;
    assert_eq!(world.revoke("x.t1-refresh").await.status(), 500);
    assert_eq!(introspected(&world, admin, "x.t1-refresh").await, DENIED, "it may have been revoked");
}

/// A JWT of these claims; nobody verifies its signature here.
pub(super) fn jwt(jti: &str, signature: &str) -> String {
    let claims = serde_json::json!({ "iss": "i", "client_id": "app", "sub": "ann", "jti": jti });
    format!("e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn gateway_denies_a_jwt_by_its_own_name_where_no_row_says_whose_it_is() {
    let world = World::new().await;
    let admin = world.gateway.addresses.admin;
    world.pair.blue.execute(&tables::grant("r2", "known", "app", "bob")).await;
    assert_eq!(world.revoke(&jwt("1", "s1")).await.status(), 200);
    assert_eq!(introspected(&world, admin, &jwt("1", "s1")).await, DENIED);
    assert_eq!(introspected(&world, admin, &jwt("1", "s2")).await, DENIED, "the signature can be written in two ways");
    assert_eq!(introspected(&world, admin, &jwt("2", "s3")).await, PASSED);
    assert_eq!(
        introspected(&world, admin, &jwt("1", "known-access")).await,
        PASSED,
        "nobody denies another's token by claiming its name"
    );
}

#[tokio::test]
async fn gateway_knows_what_was_revoked_after_a_restart_and_without_control() {
    let mut world = World::new().await;
    world.pair.blue.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    assert_eq!(world.revoke("x.t1-refresh").await.status(), 200);
    world.restart_gateway().await;
    let admin = world.gateway.addresses.admin;
    assert_eq!(introspected(&world, admin, "x.t1-access").await, DENIED, "from the first request on");
    assert_eq!(world.metric("cutover_overlay_loaded").await, 1);

    let control = &world.pair.control;
    let close = format!(
        "alter database {0} allow_connections false; select pg_terminate_backend(pid) from pg_stat_activity where datname = '{0}'",
        control.database
    );
    world.pair.blue.execute(&close).await;
    eventually(SOON, "control is away", async || (world.revoke("x.other").await.status() == 503).then_some(())).await;
    assert_eq!(introspected(&world, admin, "x.t1-access").await, DENIED, "from memory");
    assert_eq!(refreshed(&world, "x.other-refresh").await, 200);

    let lost = World::with(|config| config.control = nowhere()).await;
    assert_eq!(lost.metric("cutover_overlay_loaded").await, 0, "and it says so");
    assert_eq!(lost.get("/work").await.status(), 200);
    let ready = format!("http://{}/ready", lost.gateway.addresses.control);
    let ready = lost.http.get(ready).send().await.expect("the gateway answers");
    assert!(ready.status() == 200 && ready.text().await.expect("a body").contains("not loaded"));
}

#[tokio::test]
async fn gateway_denies_what_another_gateway_captured_and_says_so() {
    let world = World::new().await;
    world.pair.blue.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    let second = world.second("engine-b").await;
    assert_eq!(world.revoke("x.t1-refresh").await.status(), 200);
    eventually(SOON, "the other gateway denies it", async || {
        (introspected(&world, second.addresses.admin, "x.t1-access").await == DENIED).then_some(())
    })
    .await;
    let control = world.pair.control.client().await;
    let reasons = async || unconfirmed(&control, "plan").await.expect("control answers");
    eventually(SOON, "both have confirmed it", async || reasons().await.is_empty().then_some(())).await;

    let silent =
        "insert into cutover.producer (incarnation, plan, gateway) values (gen_random_uuid(), 'plan', 'engine-c')";
    world.pair.control.execute(silent).await;
    assert!(reasons().await.iter().any(|reason| reason.contains("engine-c has not said")), "{:?}", reasons().await);
    let behind = "insert into cutover.overlay_seen (plan, gateway, incarnation, up_to, entries) values ('plan', 'engine-c', gen_random_uuid(), 0, 0)";
    world.pair.control.execute(behind).await;
    world.pair.control.execute("update cutover.revocation set captured_at = captured_at - interval '3 s'").await;
    assert!(reasons().await.iter().any(|reason| reason.contains("engine-c does not deny 1 ")), "{:?}", reasons().await);
}

#[tokio::test]
async fn gateway_refuses_revocations_rather_than_forget_one() {
    let world = World::with(|config| config.gateway.overlay_entries = 1).await;
    assert_eq!(world.revoke("x.s1").await.status(), 200);
    let refused = world.revoke("x.s2").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(world.blue.count("POST /oauth2/revoke"), 1, "the engine never hears of it");
    assert_eq!(introspected(&world, world.gateway.addresses.admin, "x.s1").await, DENIED);
}

#[tokio::test]
async fn gateway_passes_what_cannot_be_looked_up_and_denies_what_it_knows() {
    let world = World::new().await;
    let admin = world.gateway.addresses.admin;
    assert_eq!(world.revoke("x.s1").await.status(), 200);
    world.pair.blue.execute("alter table hydra_oauth2_access rename to elsewhere").await;
    assert_eq!(introspected(&world, admin, "x.unknown").await, PASSED);
    assert_eq!(introspected(&world, admin, "x.s1").await, DENIED);
    assert!(world.metric("cutover_overlay_lookups_total{result=\"failed\"}").await >= 1);
}
