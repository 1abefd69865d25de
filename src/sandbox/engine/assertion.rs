//! A client's assertion of who it is (RFC 7523, 2.2): what it claims, and whether the client's own key has signed it. Pure.
//!
//! Whether an assertion was used before is the store's to know.

use super::jws::Signed;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How a client that asserts who it is calls that in `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The `token_endpoint_auth_method` of such a client.
pub(super) const METHOD: &str = "private_key_jwt";

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

/// One assertion as it was presented; nothing of it is to be believed before it is asked.
#[derive(Debug)]
pub(super) struct Assertion<'a> {
    signed: Signed<'a>,
    claims: Claims,
}

impl<'a> Assertion<'a> {
    /// Reads it; nothing when a part or a claim is missing.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let signed = Signed::read(text)?;
        Some(Self { claims: signed.claims()?, signed })
    }

    /// Who it says is asking.
    pub(super) fn subject(&self) -> &str {
        &self.claims.sub
    }

    /// Whether a key of this set has signed it.
    pub(super) fn is_signed_by(&self, set: &Value) -> bool {
        set["keys"].as_array().is_some_and(|keys| self.signed.is_by(keys))
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
    use super::super::jws::{make_key, sign};
    use super::*;
    use serde_json::json;

    const NOW_S: i64 = 1_700_000_000;

    /// A good assertion, but for one claim.
    fn with(name: &str, value: Value) -> String {
        let mut claims = json!({
            "iss": "app", "sub": "app", "aud": "https://issuer.example/oauth2/token", "jti": "one", "exp": NOW_S + 60,
        });
        claims[name] = value;
        sign(&make_key("k").expect("a key"), &claims).expect("it signs")
    }

    fn is_of(text: &str) -> bool {
        let now = Timestamp::from_second(NOW_S).expect("a time");
        Assertion::read(text).is_some_and(|read| read.is_of("app", now))
    }

    #[test]
    fn an_assertion_is_of_one_client_and_has_an_end() {
        assert!(is_of(&with("nbf", json!(NOW_S))) && is_of(&with("exp", json!(NOW_S as f64 + 0.5))));
        let odd = [
            ("iss", json!("b")),
            ("sub", json!("b")),
            ("jti", json!("")),
            ("exp", json!(NOW_S)),
            ("exp", Value::Null),
            ("nbf", json!(NOW_S + 9)),
            ("iat", json!(NOW_S + 9)),
        ];
        for (name, value) in odd {
            assert!(!is_of(&with(name, value.clone())), "{name}: {value}");
        }
        for odd in ["", "a.b.c", "e30.e30.e30"] {
            assert!(Assertion::read(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn an_assertion_is_for_one_endpoint_and_by_a_key_of_the_set() {
        for (aud, is_for) in [(json!("e"), true), (json!(["d", "e"]), true), (json!("d"), false), (json!([]), false)] {
            let text = with("aud", aud.clone());
            assert_eq!(Assertion::read(&text).expect("it can be read").is_for("e"), is_for, "{aud}");
        }
        let key = make_key("k").expect("a key");
        let claims = json!({ "iss": "app", "sub": "app", "aud": "e", "jti": "one", "exp": NOW_S });
        let text = sign(&key, &claims).expect("it signs");
        let read = Assertion::read(&text).expect("it can be read");
        assert!(read.is_signed_by(&json!({ "keys": [key] })));
        assert!(!read.is_signed_by(&json!({ "keys": [make_key("k")] })) && !read.is_signed_by(&Value::Null));
    }

    #[test]
    fn an_assertion_is_kept_as_the_real_engine_keeps_it() {
        let text = with("exp", json!(12.75));
        let read = Assertion::read(&text).expect("it can be read");
        assert_eq!(read.stored(), "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
        assert_eq!((read.subject(), read.expires_at_s()), ("app", 12));
    }
}
