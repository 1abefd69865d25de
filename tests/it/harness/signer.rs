//! A client that proves who it is by its own key, and the assertions that it signs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

const KEY: &str = "key-of-a-test";
/// How long an assertion is good for: longer than any test.
const LIFE_S: i64 = 3600;

/// A client with a key of its own.
pub(crate) struct Signer {
    client: String,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(crate) fn new(client: &str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key is made");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key is read");
        Self { client: client.to_owned(), pair, random }
    }

    /// The client as an administrator registers it.
    pub(crate) fn registration(&self) -> Value {
        // A point in its uncompressed form: a mark, then both coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = (encoded(&point[1..33]), encoded(&point[33..]));
        json!({
            "client_id": self.client, "client_name": "Signs", "owner": "someone", "grant_types": ["client_credentials"],
            "scope": "read", "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
            "jwks": { "keys": [{ "kid": KEY, "use": "sig", "kty": "EC", "crv": "P-256", "x": x, "y": y }] },
        })
    }

    /// An assertion for a token endpoint; of one name each is another text, since signatures differ.
    pub(crate) fn assertion(&self, endpoint: &str, jti: &str) -> String {
        let now_s = Timestamp::now().as_second();
        self.signed(&json!({
            "iss": self.client, "sub": self.client, "aud": [endpoint], "jti": jti, "iat": now_s, "exp": now_s + LIFE_S,
        }))
    }

    /// Claims as the client signs them.
    pub(crate) fn signed(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": KEY });
        let text = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&self.random, text.as_bytes()).expect("it signs");
        format!("{text}.{}", encoded(signature.as_ref()))
    }
}

/// What is sent to the token endpoint with an assertion.
pub(crate) fn form(assertion: &str) -> [(&str, &str); 3] {
    [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
    ]
}
