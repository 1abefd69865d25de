//! The stand-in engine's API, both versions, on real servers.

mod assertions;
mod jwts;
pub(crate) mod world;

use crate::harness::{Place, eventually, server};
use cutover::sandbox::engine::{EngineVersion, migrate};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use world::{Answer, VERIFIER, World, pair};

const BOTH: [EngineVersion; 2] = [EngineVersion::V1, EngineVersion::V2];

async fn engine(version: EngineVersion) -> (Place, World) {
    let place = Place::shared("engine").await;
    migrate(&place.application_url(), version).await.expect("it migrates");
    let world = World::serving(&place, version).await;
    (place, world)
}

fn refused(answer: &Answer, error: &str) {
    assert_eq!((answer.0, &answer.1["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{answer:?}");
}

#[tokio::test]
async fn engine_tells_its_version_and_keeps_its_admin_paths() {
    for (version, full, wrong) in
        [(EngineVersion::V1, "1.11.10", "/admin/clients"), (EngineVersion::V2, "2.2.0", "/clients")]
    {
        let (_place, world) = engine(version).await;
        let root = world.admin.trim_end_matches("/admin").to_owned();
        for base in [&world.public, &root] {
            let said: Value =
                world.http.get(format!("{base}/version")).send().await.expect("asks").json().await.expect("JSON");
            assert_eq!(said, json!({ "version": full }));
            let ready = world.http.get(format!("{base}/health/ready")).send().await.expect("asks");
            assert_eq!(ready.status(), StatusCode::OK);
        }
        let answer = world.http.get(format!("{root}{wrong}")).send().await.expect("asks");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let found = world.http.get(format!("{}/.well-known/openid-configuration", world.public)).send().await;
        let found: Value = found.expect("asks").json().await.expect("JSON");
        assert_eq!(found["issuer"], json!("http://issuer.example"));
    }
}

#[tokio::test]
async fn engine_issues_and_revokes_for_machines() {
    for version in BOTH {
        let (_place, world) = engine(version).await;
        let client = world.register().await;
        let form = [("grant_type", "client_credentials"), ("scope", "read")];
        let (status, body) = world.token(&client, &form).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let access = body["access_token"].as_str().expect("a token").to_owned();
        assert_eq!(access.starts_with("ory_at_"), version == EngineVersion::V2);
        let said = world.introspect(&access).await;
        assert_eq!(
            (&said["active"], &said["scope"], &said["client_id"]),
            (&json!(true), &json!("read"), &json!(client.id))
        );
        assert_eq!(world.revoke(&client, "nothing.of-ours").await, StatusCode::OK);
        let other = world.register().await;
        assert_eq!(world.revoke(&other, &access).await, StatusCode::BAD_REQUEST);
        assert!(world.is_active(&access).await);
        assert_eq!(world.revoke(&client, &access).await, StatusCode::OK);
        assert_eq!(world.introspect(&access).await, json!({ "active": false }));
        refused(
            &world.token(&client, &[("grant_type", "client_credentials"), ("scope", "write")]).await,
            "invalid_scope",
        );
        let stranger = world::Registered { secret: "wrong".into(), ..client };
        assert_eq!(world.token(&stranger, &form).await.0, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn engine_leads_a_user_through_login_and_consent() {
    for version in BOTH {
        let (_place, world) = engine(version).await;
        let client = world.register().await;
        let code = world.code(&client, "user-1").await;
        refused(&world.exchange(&client, &code, "a wrong verifier").await, "invalid_grant");
        let (access, refresh) = pair(&world.exchange(&client, &code, VERIFIER).await);
        let said = world.introspect(&access).await;
        assert_eq!((&said["sub"], &said["ext"]["tier"]), (&json!("user-1"), &json!("gold")));
        assert_eq!(world.introspect(&refresh).await["token_use"], json!("refresh_token"));
        assert_eq!(world.userinfo(&access).await.1["sub"], json!("user-1"));
        assert_eq!(world.userinfo(&refresh).await.0, StatusCode::UNAUTHORIZED);

        refused(&world.exchange(&client, &code, VERIFIER).await, "invalid_grant");
        assert!(!world.is_active(&access).await && !world.is_active(&refresh).await, "a code was used twice");

        let again = world.ask_consent(&client, "user-1").await;
        assert_eq!(world.consent_request(&again).await["skip"], json!(true), "the consent was to be remembered");
        let other = world.ask_consent(&client, "user-2").await;
        assert_eq!(world.consent_request(&other).await["skip"], json!(false));
        let path = format!("/oauth2/auth/requests/consent/reject?consent_challenge={other}");
        let (status, _) = world.administer(Method::PUT, &path, Some(json!({ "error": "access_denied" }))).await;
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn engine_rotates_refresh_tokens_and_kills_the_chain_on_reuse() {
    for version in BOTH {
        let (_place, world) = engine(version).await;
        let client = world.register().await;
        let (first_access, first) = world.grant(&client, "user-1").await;
        let (access, second) = pair(&world.refresh(&client, &first).await);
        assert!(!world.is_active(&first_access).await && !world.is_active(&first).await);
        assert!(world.is_active(&access).await && world.is_active(&second).await);
        let (other_access, _) = world.grant(&client, "user-2").await;
        refused(&world.refresh(&client, &first).await, "invalid_grant");
        assert!(!world.is_active(&access).await && !world.is_active(&second).await, "reuse must kill the chain");
        refused(&world.refresh(&client, &second).await, "invalid_grant");
        assert!(world.is_active(&other_access).await, "another chain lives on");

        let (access, refresh) = world.grant(&client, "user-3").await;
        assert_eq!(world.revoke(&client, &access).await, StatusCode::OK);
        assert!(!world.is_active(&access).await && !world.is_active(&refresh).await, "a revocation is the chain's");
    }
}

#[tokio::test]
async fn engine_revokes_what_is_being_refreshed() {
    let (_place, world) = engine(EngineVersion::V1).await;
    let client = world.register().await;
    for _ in 0..10 {
        let (_, refresh) = world.grant(&client, "user-1").await;
        let (refreshed, revoked) = tokio::join!(world.refresh(&client, &refresh), world.revoke(&client, &refresh));
        assert_eq!(revoked, StatusCode::OK);
        if refreshed.0 == StatusCode::OK {
            let (access, next) = pair(&refreshed);
            assert!(!world.is_active(&access).await && !world.is_active(&next).await, "a token escaped its revocation");
        }
    }
}

#[tokio::test]
async fn engine_opens_its_administrators_doors() {
    for version in BOTH {
        let (place, world) = engine(version).await;
        let (client, other) = (world.register().await, world.register().await);
        let (access, refresh) = world.grant(&client, "user-1").await;
        let (other_access, other_refresh) = world.grant(&other, "user-1").await;
        let list = "/oauth2/auth/sessions/consent?subject=user-1";
        let (_, consents) = world.administer(Method::GET, list, None).await;
        let ids: Vec<&Value> =
            consents.as_array().expect("a list").iter().map(|c| &c["consent_request"]["client"]["client_id"]).collect();
        assert_eq!(ids, [&json!(other.id), &json!(client.id)]);
        assert_eq!(world.administer(Method::DELETE, list, None).await.0, StatusCode::BAD_REQUEST);
        let one = format!("{list}&client={}", client.id);
        assert_eq!(world.administer(Method::DELETE, &one, None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(
            world.administer(Method::DELETE, &one, None).await.0,
            StatusCode::NO_CONTENT,
            "nothing is there any more"
        );
        assert!(!world.is_active(&access).await && !world.is_active(&refresh).await);
        assert!(world.is_active(&other_access).await);

        let tokens = format!("/oauth2/tokens?client_id={}", other.id);
        assert_eq!(world.administer(Method::DELETE, &tokens, None).await.0, StatusCode::NO_CONTENT);
        assert!(!world.is_active(&other_access).await && world.is_active(&other_refresh).await, "refresh tokens stay");
        let sessions = "/oauth2/auth/sessions/login?subject=user-1";
        assert_eq!(world.administer(Method::DELETE, sessions, None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(place.ask::<i64>("select count(*) from hydra_oauth2_authentication_session").await, 0);
        assert!(world.is_active(&other_refresh).await, "a logout revokes no token");
        let (status, _) = world.refresh(&other, &other_refresh).await;
        assert_eq!(status, StatusCode::OK);
        let (_, list) = world.administer(Method::GET, list, None).await;
        assert_eq!(list.as_array().map(Vec::len), Some(1));

        let path = format!("/clients/{}", other.id);
        assert_eq!(world.administer(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(world.administer(Method::GET, &path, None).await.0, StatusCode::NOT_FOUND);
        let left: i64 = place.ask("select count(*) from hydra_oauth2_refresh where active").await;
        assert_eq!(left, 0, "a client's tokens go with it");
    }
}

#[tokio::test]
async fn engine_ends_one_login_session_by_its_id_where_its_version_knows_ids() {
    for version in BOTH {
        let (place, world) = engine(version).await;
        let client = world.register().await;
        for subject in ["user-1", "user-2"] {
            world.grant(&client, subject).await;
        }
        let standing = async || {
            let all = "select coalesce(string_agg(subject, ' ' order by subject), '') from hydra_oauth2_authentication_session";
            place.ask::<String>(all).await
        };
        let of_one = "select id::text from hydra_oauth2_authentication_session where subject = 'user-1'";
        let by_id = format!("/oauth2/auth/sessions/login?sid={}", place.ask::<String>(of_one).await);
        let (said, left, left_of_both) = match version {
            EngineVersion::V1 => (StatusCode::BAD_REQUEST, "user-1 user-2", "user-1"),
            EngineVersion::V2 => (StatusCode::NO_CONTENT, "user-2", "user-2"),
        };
        assert_eq!(world.administer(Method::DELETE, &by_id, None).await.0, said);
        assert_eq!(standing().await, "user-1 user-2", "nobody asked for it to be remembered: it is not looked for");
        place.execute("update hydra_oauth2_authentication_session set remember = true").await;
        assert_eq!(world.administer(Method::DELETE, &by_id, None).await.0, said);
        assert_eq!(standing().await, left);
        assert_eq!(world.administer(Method::DELETE, &by_id, None).await.0, said, "nothing is there any more");
        let both = format!("{by_id}&subject=user-2");
        assert_eq!(world.administer(Method::DELETE, &both, None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(standing().await, left_of_both, "2.x takes the session, 1.x the subject");
        for neither in ["/oauth2/auth/sessions/login", "/oauth2/auth/sessions/login?sid=&subject="] {
            assert_eq!(world.administer(Method::DELETE, neither, None).await.0, StatusCode::BAD_REQUEST);
        }
    }
}

#[tokio::test]
async fn engine_keeps_clients_and_keys() {
    for version in BOTH {
        let (_place, world) = engine(version).await;
        let client = world.register().await;
        let path = format!("/clients/{}", client.id);
        let (_, mut shown) = world.administer(Method::GET, &path, None).await;
        assert_eq!((&shown["owner"], &shown["metadata"]["verified"]), (&json!("someone"), &json!(true)));
        assert_eq!(shown["redirect_uris"].as_array().map(Vec::len), Some(2));
        assert_eq!(shown["client_secret"], Value::Null, "a secret is shown once");
        shown["client_name"] = json!("Another name");
        shown["contacts"] = json!(["a@example.com"]);
        let (status, changed) = world.administer(Method::PUT, &path, Some(shown)).await;
        assert_eq!(
            (status, &changed["client_name"], &changed["contacts"]),
            (StatusCode::OK, &json!("Another name"), &json!(["a@example.com"]))
        );
        let (status, _) = world.token(&client, &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, StatusCode::OK, "the secret stands");
        let (_, owned) = world.administer(Method::GET, "/clients?owner=someone", None).await;
        assert_eq!(owned.as_array().map(Vec::len), Some(1));
        let odd = json!({ "redirect_uris": ["https://a.example/|b"] });
        assert_eq!(world.administer(Method::POST, "/clients", Some(odd)).await.0, StatusCode::BAD_REQUEST);
        let key = json!({ "kid": "k1", "kty": "oct", "k": "c2VjcmV0" });
        assert_eq!(world.administer(Method::PUT, "/keys/mine/k1", Some(key.clone())).await, (StatusCode::OK, key));
        let public = world.http.get(format!("{}/.well-known/jwks.json", world.public)).send().await.expect("asks");
        let public: Value = public.json().await.expect("JSON");
        assert_eq!(public, json!({ "keys": [{ "kid": "k1", "kty": "oct" }] }), "a private half was shown");
        assert_eq!(world.administer(Method::DELETE, "/keys/mine", None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(world.administer(Method::GET, "/keys/mine", None).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn engine_of_version_two_reads_what_version_one_issued_and_not_the_other_way_round() {
    let (place, old) = engine(EngineVersion::V1).await;
    let client = old.register().await;
    let (access, refresh) = old.grant(&client, "user-1").await;
    let (revoked, _) = old.grant(&client, "user-2").await;
    assert_eq!(old.revoke(&client, &revoked).await, StatusCode::OK);
    drop(old);
    migrate(&place.application_url(), EngineVersion::V2).await.expect("it migrates");
    let new = World::serving(&place, EngineVersion::V2).await;
    assert!(new.is_active(&access).await && !new.is_active(&revoked).await);
    let (next_access, next) = pair(&new.refresh(&client, &refresh).await);
    assert!(!new.is_active(&access).await && new.is_active(&next_access).await);
    refused(&new.refresh(&client, &refresh).await, "invalid_grant");
    assert!(!new.is_active(&next_access).await && !new.is_active(&next).await, "reuse across versions kills the chain");
}

#[tokio::test]
async fn engine_of_version_one_knows_no_token_of_version_two_and_says_so_properly() {
    let (place, new) = engine(EngineVersion::V2).await;
    let client = new.register().await;
    let (access, refresh) = new.grant(&client, "user-1").await;
    let code = new.code(&client, "user-2").await;
    drop((new, place));
    let (_place, old) = engine(EngineVersion::V1).await;
    let same = old.register().await;
    for token in [&access, &refresh] {
        assert_eq!(old.introspect(token).await, json!({ "active": false }));
        assert_eq!(old.userinfo(token).await.0, StatusCode::UNAUTHORIZED);
        refused(&old.refresh(&same, token).await, "invalid_grant");
        assert_eq!(old.revoke(&same, token).await, StatusCode::OK, "one that is unknown is answered like one revoked");
    }
    refused(&old.exchange(&same, &code, VERIFIER).await, "invalid_grant");
    // Cut off, doubled, or with bytes that are no base64: still an answer.
    for odd in ["ory_at_", "ory_rt_.", "ory_at_a.b.c", "ory_at_\u{e4}.\u{fc}", &format!("{access}{access}")] {
        assert_eq!(old.introspect(odd).await, json!({ "active": false }), "{odd}");
        refused(&old.refresh(&same, odd).await, "invalid_grant");
    }
}

#[tokio::test]
async fn engine_refuses_with_503_while_its_database_cannot_write_and_recovers() {
    let place = Place::fresh(Arc::new(server("engine").await), "engine").await;
    migrate(&place.application_url(), EngineVersion::V1).await.expect("it migrates");
    let world = World::serving(&place, EngineVersion::V1).await;
    let client = world.register().await;
    let form = [("grant_type", "client_credentials")];
    let (access, _) = world.grant(&client, "user-1").await;
    place
        .execute(
            "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'fenced' using errcode = '25006'; end $$;
             create trigger refuse before insert on hydra_oauth2_access execute function refuse()",
        )
        .await;
    assert_eq!(world.token(&client, &form).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.is_active(&access).await, "a fenced side still reads");
    place.execute("drop trigger refuse on hydra_oauth2_access").await;
    assert_eq!(world.token(&client, &form).await.0, StatusCode::OK);

    place.server.kill().await.expect("it dies");
    assert_eq!(world.token(&client, &form).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let ready = world.http.get(format!("{}/health/ready", world.public)).send().await.expect("asks");
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    place.server.start_again().await.expect("it comes back");
    eventually(Duration::from_secs(10), "the engine recovers", async || {
        (world.token(&client, &form).await.0 == StatusCode::OK).then_some(())
    })
    .await;
    assert!(world.is_active(&access).await, "what was committed survived");
}
