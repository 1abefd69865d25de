//! Clients that prove who they are by an assertion: it is good for one use, and for no other client or endpoint.

use super::world::{Answer, Registered, World};
use super::{BOTH, engine, refused};
use crate::harness::signer::{Signer, form};
use cutover::sandbox::engine::{EngineVersion, migrate};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ENDPOINT: &str = "http://issuer.example/oauth2/token";

/// A client that signs, known to the engine.
async fn registered(world: &World) -> Signer {
    let signer = Signer::new("signs");
    let (status, made) = world.administer(Method::POST, "/clients", Some(signer.registration())).await;
    assert_eq!((status, &made["client_secret"]), (StatusCode::CREATED, &Value::Null), "{made}");
    assert_eq!(made["jwks"], signer.registration()["jwks"]);
    signer
}

async fn asks(world: &World, assertion: &str) -> Answer {
    world.token_of(&form(assertion)).await
}

#[tokio::test]
async fn engine_takes_an_assertion_once() {
    for version in BOTH {
        let (place, world) = engine(version).await;
        let signer = registered(&world).await;
        let named = |jti: &str| signer.assertion(ENDPOINT, jti);
        let (status, body) = asks(&world, &named("one")).await;
        assert_eq!((status, body["access_token"].is_string()), (StatusCode::OK, true), "{body}");
        let access = body["access_token"].as_str().expect("a token");
        assert_eq!(world.introspect(access).await["client_id"], json!("signs"));
        let kept = "select count(*) from hydra_oauth2_jti_blacklist where signature = encode(sha256('one'), 'hex')";
        assert_eq!(place.ask::<i64>(kept).await, 1);
        refused(&asks(&world, &named("one")).await, "jti_known");
        assert_eq!(asks(&world, &named("two")).await.0, StatusCode::OK, "another");
        refused(&asks(&world, &named("two")).await, "jti_known");

        place.execute("delete from hydra_oauth2_jti_blacklist").await;
        assert_eq!(asks(&world, &named("one")).await.0, StatusCode::OK, "its row is all that is known of it");
        assert_eq!(asks(&world, &named("three")).await.0, StatusCode::OK);
        let over = "update hydra_oauth2_jti_blacklist set expires_at = now() at time zone 'utc' - interval '1 second'";
        place.execute(over).await;
        assert_eq!(asks(&world, &named("three")).await.0, StatusCode::OK, "the time of the first is over");
        assert_eq!(place.ask::<i64>("select count(*) from hydra_oauth2_jti_blacklist").await, 1, "what is over goes");

        let (first, second) = (named("four"), named("four"));
        let (first, second) = tokio::join!(asks(&world, &first), asks(&world, &second));
        let accepted = [&first, &second].into_iter().filter(|answer| answer.0 == StatusCode::OK).count();
        assert_eq!(accepted, 1, "at one time: {first:?} and {second:?}");
    }
}

#[tokio::test]
async fn engine_believes_an_assertion_of_the_clients_own_key_alone() {
    for version in BOTH {
        let (_place, world) = engine(version).await;
        let signer = registered(&world).await;
        let unproved = async |assertion: &str, why: &str| {
            let (status, said) = asks(&world, assertion).await;
            assert_eq!((status, &said["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")), "{why}");
        };
        unproved(&Signer::new("signs").assertion(ENDPOINT, "a"), "another key").await;
        unproved(&Signer::new("nobody").assertion(ENDPOINT, "a"), "an unknown client").await;
        unproved("a.b.c", "no assertion").await;
        let end_s = Timestamp::now().as_second() + 60;
        let claims = json!({ "iss": "signs", "sub": "signs", "aud": ENDPOINT, "jti": "a", "exp": end_s });
        for (name, value) in [("iss", json!("else")), ("exp", json!(end_s - 120)), ("nbf", json!(end_s))] {
            let mut odd = claims.clone();
            odd[name] = value;
            unproved(&signer.signed(&odd), name).await;
        }
        assert_eq!(asks(&world, &signer.signed(&claims)).await.0, StatusCode::OK, "none of them has used it up");
        unproved(&signer.assertion("http://another.example/oauth2/token", "b"), "another endpoint").await;
        refused(&asks(&world, &signer.assertion(ENDPOINT, "b")).await, "jti_known");

        let secret = Registered { id: "signs".into(), secret: String::new() };
        let (status, _) = world.token(&secret, &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "it has no secret");
        let other = world.register().await;
        unproved(&Signer::new(&other.id).assertion(ENDPOINT, "c"), "a client that has a secret").await;
        let mut unknown = form("a.b.c");
        unknown[1].1 = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
        refused(&world.token_of(&unknown).await, "invalid_request");
        let mut bare = Signer::new("bare").registration();
        bare["jwks"] = Value::Null;
        let (status, said) = world.administer(Method::POST, "/clients", Some(bare)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
    }
}

#[tokio::test]
async fn engine_of_version_two_knows_which_assertions_version_one_has_taken() {
    let (place, old) = engine(EngineVersion::V1).await;
    let signer = registered(&old).await;
    assert_eq!(asks(&old, &signer.assertion(ENDPOINT, "one")).await.0, StatusCode::OK);
    drop(old);
    migrate(&place.application_url(), EngineVersion::V2).await.expect("it migrates");
    let new = World::serving(&place, EngineVersion::V2).await;
    refused(&asks(&new, &signer.assertion(ENDPOINT, "one")).await, "jti_known");
    assert_eq!(asks(&new, &signer.assertion(ENDPOINT, "two")).await.0, StatusCode::OK);
}
