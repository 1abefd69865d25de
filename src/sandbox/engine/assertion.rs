//! A client's assertion of who it is (RFC 7523, 2.2): what it claims, and whether the client's own key has signed it. Pure.
//!
//! ES256 alone. Whether an assertion was used before is the store's to know.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How a client that asserts who it is calls that in `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The `token_endpoint_auth_method` of such a client.
pub(super) const METHOD: &str = "private_key_jwt";
/// The only algorithm by which an assertion may be signed here.
pub(super) const ALGORITHM: &str = "ES256";

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// Times are seconds since 1970, of which RFC 7519 allows fractions.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    jti: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// One assertion, as it was presented; nothing of it is to be believed before it is asked.
#[derive(Debug)]
pub(super) struct Assertion<'a> {
    header: Header,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

fn part<T: DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

impl<'a> Assertion<'a> {
    /// Reads its compact form; nothing when a part or a claim is missing.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { header: part(header)?, claims: part(claims)?, signed, signature })
    }

    /// Who it says is asking.
    pub(super) fn subject(&self) -> &str {
        &self.claims.sub
    }

    /// Whether the key that it names is one of the set's, and has signed it.
    pub(super) fn is_signed_by(&self, set: &Value) -> bool {
        let Some(key) = set["keys"].as_array().into_iter().flatten().find(|key| key["kid"] == self.header.kid) else {
            return false;
        };
        let is_fit = key["use"] == "sig" && key["kty"] == "EC" && key["crv"] == "P-256";
        let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
        let (true, Some(x), Some(y)) = (is_fit && self.header.alg == ALGORITHM, coordinate("x"), coordinate("y"))
        else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [vec![4], x, y].concat());
        key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Whether it is by and about this client, can be told from others, and its time is now.
    pub(super) fn is_of(&self, client: &str, now: Timestamp) -> bool {
        let Claims { iss, sub, jti, exp, nbf, iat, .. } = &self.claims;
        let now_s = now.as_second() as f64;
        let has_begun = [nbf, iat].into_iter().flatten().all(|begins| *begins <= now_s);
        iss == client && sub == client && !jti.is_empty() && *exp > now_s && has_begun
    }

    /// Whether it was made for this token endpoint.
    pub(super) fn is_for(&self, endpoint: &str) -> bool {
        match &self.claims.aud {
            Audience::One(one) => one == endpoint,
            Audience::Many(many) => many.iter().any(|one| one == endpoint),
        }
    }

    /// What is kept of it once it was used: hex of the SHA-256 of its `jti`.
    pub(super) fn stored(&self) -> String {
        hex::encode(Sha256::digest(self.claims.jti.as_bytes()))
    }

    /// When it ends, in seconds since 1970.
    pub(super) fn expires_at_s(&self) -> i64 {
        self.claims.exp as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    const NOW_S: i64 = 1_700_000_000;

    fn claims() -> Value {
        json!({ "iss": "app", "sub": "app", "aud": "https://issuer.example/oauth2/token", "jti": "one", "exp": NOW_S + 60 })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    /// Signs what is given under a new key; with the set in which that key is.
    fn signed(header: &Value, claims: &Value) -> (String, Value) {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let text = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let signature = pair.sign(&random, text.as_bytes()).expect("a signature");
        let point = pair.public_key().as_ref();
        let (x, y) = (encoded(&point[1..33]), encoded(&point[33..]));
        let key = json!({ "kid": "k", "use": "sig", "kty": "EC", "crv": "P-256", "x": x, "y": y });
        (format!("{text}.{}", encoded(signature.as_ref())), json!({ "keys": [key] }))
    }

    fn header() -> Value {
        json!({ "alg": "ES256", "kid": "k" })
    }

    fn is_of(claims: &Value) -> bool {
        let (text, _) = signed(&header(), claims);
        Assertion::read(&text).is_some_and(|read| read.is_of("app", Timestamp::from_second(NOW_S).expect("a time")))
    }

    #[test]
    fn an_assertion_is_believed_by_the_key_that_it_names() {
        let (text, keys) = signed(&header(), &claims());
        let (_, others) = signed(&header(), &claims());
        let read = Assertion::read(&text).expect("it can be read");
        assert!(read.is_signed_by(&keys) && !read.is_signed_by(&others), "another key of the same name");
        assert!(!read.is_signed_by(&Value::Null) && !read.is_signed_by(&json!({ "keys": [] })));
        let changed = format!(
            "{}.{}",
            text.split('.').next().expect("a header"),
            URL_SAFE_NO_PAD.encode(with("sub", json!("b")).to_string())
        );
        let changed = format!("{changed}.{}", text.rsplit('.').next().expect("a signature"));
        assert!(!Assertion::read(&changed).expect("it can be read").is_signed_by(&keys), "the claims were changed");
        for odd in [json!({ "alg": "none", "kid": "k" }), json!({ "alg": "ES256", "kid": "another" })] {
            let (text, keys) = signed(&odd, &claims());
            assert!(!Assertion::read(&text).expect("it can be read").is_signed_by(&keys), "{odd}");
        }
    }

    #[test]
    fn an_assertion_is_of_one_client_for_one_endpoint_and_has_an_end() {
        assert!(is_of(&claims()) && is_of(&with("nbf", json!(NOW_S))));
        let odd = [
            ("iss", json!("b")),
            ("sub", json!("b")),
            ("jti", json!("")),
            ("exp", json!(NOW_S)),
            ("nbf", json!(NOW_S + 9)),
            ("iat", json!(NOW_S + 9)),
            ("exp", Value::Null),
        ];
        for (name, value) in odd {
            assert!(!is_of(&with(name, value.clone())), "{name}: {value}");
        }
        for (aud, is_for) in [(json!("e"), true), (json!(["d", "e"]), true), (json!("d"), false), (json!([]), false)] {
            let (text, _) = signed(&header(), &with("aud", aud.clone()));
            assert_eq!(Assertion::read(&text).expect("it can be read").is_for("e"), is_for, "{aud}");
        }
    }

    #[test]
    fn an_assertion_is_kept_as_the_real_engine_keeps_it() {
        let (text, _) = signed(&header(), &with("exp", json!(12.75)));
        let read = Assertion::read(&text).expect("it can be read");
        assert_eq!(read.stored(), "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
        assert_eq!((read.subject(), read.expires_at_s()), ("app", 12));
        for odd in ["", "a.b", "a.b.c", "..", "e30.e30.e30"] {
            assert!(Assertion::read(odd).is_none(), "{odd}");
        }
    }
}
