//! Access tokens that others can verify by themselves: which clients are given them, and that the engine knows each by its row.

use super::world::{World, pair};
use super::{engine, refused};
use crate::harness::Place;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cutover::sandbox::engine::{AccessTokens, EngineVersion, migrate};
use reqwest::{Method, StatusCode};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha384};

/// An engine that gives such tokens to everybody.
async fn giving(version: EngineVersion) -> (Place, World) {
    let place = Place::shared("engine").await;
    migrate(&place.application_url(), version).await.expect("it migrates");
    let world = World::giving(AccessTokens::Jwt, &place, version).await;
    (place, world)
}

fn decoded(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).expect("base64")
}

/// What a token says, verified by the keys that the engine publishes, as a resource server does it.
async fn verified(world: &World, token: &str) -> Value {
    let published = world.http.get(format!("{}/.well-known/jwks.json", world.public)).send().await.expect("asks");
    let published: Value = published.json().await.expect("JSON");
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { panic!("no signed token") };
    let header: Value = serde_json::from_slice(&decoded(header)).expect("a header");
    let keys = published["keys"].as_array().expect("a list");
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).expect("its key is published");
    assert_eq!(key["d"], Value::Null, "a private half was shown");
    let half = |name: &str| decoded(key[name].as_str().expect("a half"));
    let signed = &token[..token.len() - signature.len() - 1];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [vec![4], half("x"), half("y")].concat())
        .verify(signed.as_bytes(), &decoded(signature))
        .expect("the engine has signed it");
    serde_json::from_slice(&decoded(claims)).expect("claims")
}

/// Whether the token's row is kept under the digest of its signature.
async fn is_kept(place: &Place, token: &str) -> bool {
    let signature = token.rsplit('.').next().expect("a signature");
    let digest = hex::encode(Sha384::digest(signature.as_bytes()));
    place.ask::<i64>(&format!("select count(*) from hydra_oauth2_access where signature = '{digest}'")).await == 1
}

/// What holds of such tokens wherever they come from.
async fn is_sound(place: &Place, world: &World, strategy: &str) {
    let client = world.register_for(strategy).await;
    let (access, refresh) = world.grant(&client, "user-1").await;
    let (claims, said) = (verified(world, &access).await, world.introspect(&access).await);
    assert_eq!((&said["active"], &said["token_use"]), (&json!(true), &json!("access_token")), "{said}");
    for name in ["sub", "client_id", "exp", "iss", "aud", "ext"] {
        assert_eq!(claims[name], said[name], "{name}");
    }
    assert_eq!((&claims["sub"], &claims["scp"][0]), (&json!("user-1"), &json!("openid")));
    assert!(is_kept(place, &access).await);
    assert_eq!(world.userinfo(&access).await.1["sub"], json!("user-1"));
    let (header, rest) = access.split_once('.').expect("parts");
    let (_, signature) = rest.split_once('.').expect("parts");
    let forged = URL_SAFE_NO_PAD.encode(json!({ "sub": "somebody else" }).to_string());
    assert!(!world.is_active(&format!("{header}.{forged}.{signature}")).await, "only its signature is of a row");

    let (next, last) = pair(&world.refresh(&client, &refresh).await);
    assert!(!world.is_active(&access).await && world.is_active(&next).await, "rotated");
    verified(world, &access).await;
    assert_eq!(world.revoke(&client, &next).await, StatusCode::OK);
    assert!(!world.is_active(&next).await && !world.is_active(&last).await, "a revocation is the chain's");
    refused(&world.refresh(&client, &last).await, "invalid_grant");
    let (status, body) = world.token(&client, &[("grant_type", "client_credentials")]).await;
    let own = body["access_token"].as_str().expect("a token");
    assert_eq!((status, &verified(world, own).await["sub"]), (StatusCode::OK, &json!(client.id)));
    assert_eq!(place.ask::<i64>("select count(*) from hydra_jwk").await, 1, "one key signs all of them");
}

#[tokio::test]
async fn engine_gives_signed_access_tokens_and_knows_them_by_their_rows() {
    for version in [EngineVersion::V1, EngineVersion::V2] {
        let (place, world) = giving(version).await;
        is_sound(&place, &world, "").await;
    }
}

#[tokio::test]
async fn engine_of_version_two_lets_each_client_say_what_its_access_tokens_are() {
    let (place, world) = engine(EngineVersion::V2).await;
    is_sound(&place, &world, "jwt").await;
    let (access, _) = world.grant(&world.register().await, "user-2").await;
    assert!(access.starts_with("ory_at_"), "who says nothing is given what all are given");
    let odd = json!({ "access_token_strategy": "paper" });
    assert_eq!(world.administer(Method::POST, "/clients", Some(odd)).await.0, StatusCode::BAD_REQUEST);

    let (_place, world) = giving(EngineVersion::V2).await;
    let (access, _) = world.grant(&world.register_for("opaque").await, "user-2").await;
    assert!(access.starts_with("ory_at_"), "who says opaque is given opaque");
    let (_place, world) = engine(EngineVersion::V1).await;
    let (access, _) = world.grant(&world.register_for("jwt").await, "user-2").await;
    assert_eq!(access.split('.').count(), 2, "version 1 knows no such choice");
}

#[tokio::test]
async fn engine_of_version_two_knows_signed_tokens_of_version_one() {
    let (place, old) = giving(EngineVersion::V1).await;
    let client = old.register().await;
    let (access, _) = old.grant(&client, "user-1").await;
    let (revoked, _) = old.grant(&client, "user-2").await;
    assert_eq!(old.revoke(&client, &revoked).await, StatusCode::OK);
    drop(old);
    migrate(&place.application_url(), EngineVersion::V2).await.expect("it migrates");
    // Configured otherwise than the first: a token is read for what it is.
    let new = World::serving(&place, EngineVersion::V2).await;
    assert!(new.is_active(&access).await && !new.is_active(&revoked).await);
    verified(&new, &access).await;
    assert_eq!(new.revoke(&client, &access).await, StatusCode::OK);
    assert!(!new.is_active(&access).await);
}
