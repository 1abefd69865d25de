//! Texts that an elliptic key has signed (RFC 7515 in compact form, ES256): reading, verifying and signing them, and keys for it. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::ops::Range;

/// The only algorithm that is known here.
pub(super) const ALGORITHM: &str = "ES256";
/// Where in a P-256 key's PKCS#8 document, as it is made here, the private half stands.
const PRIVATE_HALF: Range<usize> = 36..68;

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// One text as it was presented; nothing of it is to be believed before it is verified.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    header: Header,
    claims: Vec<u8>,
    signed: &'a str,
    signature: &'a str,
}

fn decoded(encoded: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(encoded).ok()
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One half of a key, by its name in RFC 7518.
fn half(key: &Value, name: &str) -> Option<Vec<u8>> {
    decoded(key[name].as_str()?)
}

/// A public key as an uncompressed point.
fn point(key: &Value) -> Option<Vec<u8>> {
    Some([vec![4], half(key, "x")?, half(key, "y")?].concat())
}

impl<'a> Signed<'a> {
    /// Reads it; nothing when it has not three parts or does not name its key.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = serde_json::from_slice(&decoded(header)?).ok()?;
        Some(Self { header, claims: decoded(claims)?, signed, signature })
    }

    /// What it says, when that has this shape.
    pub(super) fn claims<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.claims).ok()
    }

    /// Its third part, as it was sent.
    pub(super) fn signature(&self) -> &'a str {
        self.signature
    }

    /// Whether the key that it names is one of these, and has signed it.
    pub(super) fn is_by(&self, keys: &[Value]) -> bool {
        let Some(key) = keys.iter().find(|key| key["kid"] == self.header.kid) else { return false };
        let is_fit = key["use"] == "sig" && key["kty"] == "EC" && key["crv"] == "P-256";
        let (true, Some(point)) = (is_fit && self.header.alg == ALGORITHM, point(key)) else { return false };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        decoded(self.signature).is_some_and(|signature| key.verify(self.signed.as_bytes(), &signature).is_ok())
    }
}

/// A new key with its private half.
pub(super) fn make_key(kid: &str) -> Option<Value> {
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok()?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).ok()?;
    let private = document.as_ref().get(PRIVATE_HALF)?;
    let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
    Some(json!({
        "kid": kid, "use": "sig", "alg": ALGORITHM, "kty": "EC", "crv": "P-256",
        "x": encoded(x), "y": encoded(y), "d": encoded(private),
    }))
}

/// Claims as a key with its private half signs them.
pub(super) fn sign(key: &Value, claims: &Value) -> Option<String> {
    let random = SystemRandom::new();
    let (private, public) = (half(key, "d")?, point(key)?);
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &public, &random)
            .ok()?;
    let header = json!({ "alg": ALGORITHM, "kid": key["kid"], "typ": "JWT" });
    let text = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
    let signature = pair.sign(&random, text.as_bytes()).ok()?;
    Some(format!("{text}.{}", encoded(signature.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_signs_is_verified_by_it_alone() {
        let (key, other) = (make_key("k").expect("a key"), make_key("k").expect("a key"));
        let text = sign(&key, &json!({ "sub": "a" })).expect("it signs");
        let read = Signed::read(&text).expect("it can be read");
        assert_eq!(read.claims::<Value>(), Some(json!({ "sub": "a" })));
        assert!(text.ends_with(read.signature()));
        assert!(read.is_by(std::slice::from_ref(&key)) && !read.is_by(&[other]) && !read.is_by(&[]));
        for (name, value) in [("kid", "another"), ("use", "enc"), ("kty", "RSA"), ("crv", "P-384"), ("x", "%")] {
            let mut odd = key.clone();
            odd[name] = json!(value);
            assert!(!read.is_by(&[odd]), "{name}");
        }
    }

    #[test]
    fn a_text_that_was_changed_is_not_believed() {
        let key = make_key("k").expect("a key");
        let text = sign(&key, &json!({ "sub": "a" })).expect("it signs");
        let parts: Vec<&str> = text.split('.').collect();
        let (plain, unsigned) = (encoded(br#"{"sub":"b"}"#), encoded(br#"{"alg":"none","kid":"k"}"#));
        for changed in
            [[parts[0], plain.as_str(), parts[2]], [unsigned.as_str(), parts[1], parts[2]], [parts[0], parts[1], ""]]
        {
            let changed = changed.join(".");
            assert!(!Signed::read(&changed).expect("it can be read").is_by(std::slice::from_ref(&key)), "{changed}");
        }
        for odd in ["", "a.b", "a.b.c", "..", "e30.e30.e30", &format!("{text}.{text}")] {
            assert!(Signed::read(odd).is_none_or(|read| !read.is_by(std::slice::from_ref(&key))), "{odd}");
        }
    }

    #[test]
    fn nothing_is_signed_without_a_private_half() {
        let mut key = make_key("k").expect("a key");
        key["d"] = Value::Null;
        assert_eq!(sign(&key, &json!({})), None);
    }
}
