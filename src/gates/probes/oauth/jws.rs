//! Signed tokens: which they are, and whether one side's public keys verify what the other has signed (RS256 and ES256). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

/// Whether a token is a signed one, which others can read and verify by themselves.
pub(super) fn is_signed(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    let is_object = |part: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(part).ok();
        decoded.and_then(|text| serde_json::from_slice::<Value>(&text).ok()).is_some_and(|value| value.is_object())
    };
    matches!(parts.as_slice(), [header, claims, _] if is_object(header) && is_object(claims))
}

/// Verifies a token in compact form by the key that it names.
///
/// # Errors
/// Why it does not verify; says nothing of the token.
pub(super) fn verify(token: &str, keys: &Value) -> Result<(), String> {
    let no = |why: &str| format!("a signed token of blue's does not verify: {why}");
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(no("it has not three parts"));
    };
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| no("it is not base64"));
    let header: Value = serde_json::from_slice(&bytes(head)?).map_err(|_| no("its header is not JSON"))?;
    let is_named = |key: &&Value| header["kid"].is_null() || key["kid"] == header["kid"];
    let key = keys["keys"].as_array().into_iter().flatten().find(is_named);
    let key = key.ok_or_else(|| no("the key that it names is not published"))?;
    let part = |name: &str| bytes(key[name].as_str().unwrap_or_default());
    let (signed, signature) = (format!("{head}.{body}"), bytes(signature)?);
    let verified = match (header["alg"].as_str().unwrap_or_default(), key["kty"].as_str().unwrap_or_default()) {
        ("RS256", "RSA") => {
            let key = RsaPublicKeyComponents { n: part("n")?, e: part("e")? };
            key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
        }
        ("ES256", "EC") => {
            let point = [vec![4], part("x")?, part("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature)
        }
        (algorithm, _) => return Err(no(&format!("`{algorithm}` with this key is not known here"))),
    };
    verified.map_err(|_| no("the published key gives another signature"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    fn encoded(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A token, and the key under which it was signed.
    fn signed(kid: &str) -> (String, Value) {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        let head = encoded(json!({ "alg": "ES256", "kid": kid }).to_string().as_bytes());
        let text = format!("{head}.{}", encoded(b"{}"));
        let signature = pair.sign(&random, text.as_bytes()).expect("a signature");
        let point = pair.public_key().as_ref();
        let key =
            json!({ "kid": kid, "kty": "EC", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) });
        (format!("{text}.{}", encoded(signature.as_ref())), key)
    }

    /// Signed by OpenSSL, with a key that was thrown away.
    const RSA_MODULUS: &str = concat!(
        "xT4S7ait774KBoQ8mshyy6xoyeye67mpllCe1AEXQ1ebknV8TbM0-ZQKxxKAQroUBvPLHpMiJh8C734X93wVTYdiLf5vMuNAQFKi",
        "npGIdMqMbT8bQWRLR9IWTmlqYVAQ7D-m9PrJB2omI-t9WPp7pC3dkDseUrlMlPOb9epmPpyrQPK0bRlCtfFvn-zAuvKde1Bzfifx",
        "PdMfKGBJZOX8Z2t16pIfoiM3a_hAk3zf_p2jSgvWIAkNpLHmwH4LEkNdsBrz1pvs3vFAQrGdOMvmqdFj-p-ZI7l5LpMpgsKPoznd",
        "DXi3bzlemm1zKlAoDXNnylo6NNiU7GxsxTgLrUS8pQ",
    );
    const RSA_TOKEN: &str = concat!(
        "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogInB1YmxpYzpvbmUifQ.eyJzdWIiOiAic29tZWJvZHkifQ.MGavVEnrY0pdy23myzZSD7",
        "8I-_-A70I9qt0NhCkLJx1Dkgai0NuQXZ6CsRxqpd7EHXUuiEvX8NC1_CzZwOxKxCMmMxC7UT2TnUSuGZe2fqVqg19zgWmZZidOof",
        "YfxLJinH6lqMlklGrQ_7h6uyf7RYDHYcsPQIXEUWAEh4_4JHSovE4AStLdtzrIzdQTiQa1vkKZVXfoKpQsqhFc4p2_tAsPVx4s31",
        "VoEMJS0n_-PDvjIoP0IKhZh3vZ0sGHlIVlWZ8Q4eDPnJSnkhlxzXpThg3sfa83URXpcXesfABUXIDwe8EzWdJQy0DqmXIuHXnLR0",
        "vZd_rls1LSMNwddqzbNQ",
    );

    #[test]
    fn gates_verify_what_an_rsa_key_has_signed() {
        let keys = |kid: &str, n: &str| json!({ "keys": [{ "kid": kid, "kty": "RSA", "n": n, "e": "AQAB" }] });
        assert_eq!(verify(RSA_TOKEN, &keys("public:one", RSA_MODULUS)), Ok(()));
        assert!(verify(RSA_TOKEN, &keys("public:two", RSA_MODULUS)).is_err_and(|why| why.contains("not published")));
        let other = RSA_MODULUS.replacen("xT4", "xT5", 1);
        assert!(verify(RSA_TOKEN, &keys("public:one", &other)).is_err_and(|why| why.contains("another signature")));
    }

    #[test]
    fn gates_tell_a_signed_token_from_an_opaque_one() {
        assert!(is_signed(&signed("a").0) && is_signed(RSA_TOKEN));
        for opaque in ["ory_at_a.b", "a.b", "", "a.b.c", "e30.e30", "e30.e30.e30.e30", "MQ.e30.s"] {
            assert!(!is_signed(opaque), "{opaque}");
        }
    }

    #[test]
    fn gates_verify_a_signature_by_the_key_that_it_names() {
        let ((token, key), (other, stranger)) = (signed("a"), signed("a"));
        let set = |keys: &[&Value]| json!({ "keys": keys });
        assert_eq!(verify(&token, &set(&[&key])), Ok(()));
        assert_eq!(verify(&other, &set(&[&stranger])), Ok(()));
        assert!(verify(&token, &set(&[&stranger])).is_err(), "another key under the same name");
        assert!(verify(&token, &set(&[])).is_err_and(|why| why.contains("not published")));
        assert!(verify("a.b", &set(&[&key])).is_err());
        let renamed = token.replacen('.', "x.", 1);
        assert!(verify(&renamed, &set(&[&key])).is_err(), "a changed token");
    }
}
