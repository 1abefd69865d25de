//! Which refreshes are one and the same: the same client with the same credential asks for the same with the same token. Pure.
//!
//! Neither side nor epoch is part of it: a retry that comes after a change-over must find the answer, or the engine takes the token that
//! was used before it for stolen and ends the session. All of the form is part of it, so that nothing that an engine might look at is left
//! out; and so is whatever binds the request to a sender.

use hmac::{Hmac, Mac};
use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use sha2::Sha256;
use std::borrow::Cow;
use url::form_urlencoded::parse;

/// A secret of this process, so that keys mean nothing outside it.
pub(in crate::gateway) type Secret = [u8; 32];

/// What one refresh is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gateway) struct Key([u8; 32]);

/// Headers that bind a request to who sent it: what it authenticates by, a proof of possession, and a certificate as proxies pass it on.
const BINDING: [HeaderName; 9] = [
    header::AUTHORIZATION,
    HeaderName::from_static("dpop"),
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("x-client-cert"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-forwarded-tls-client-cert"),
    HeaderName::from_static("ssl-client-cert"),
    HeaderName::from_static("x-ssl-client-cert"),
    HeaderName::from_static("x-ssl-client-fingerprint"),
];

/// The key of a refresh, or none when it must not be shared: a client that proves itself by an assertion (which an engine accepts once), one
/// that proves nothing unless `is_public_shared`, and a form with two tokens or two grants.
pub(super) fn key(secret: &Secret, headers: &HeaderMap, form: &[u8], is_public_shared: bool) -> Option<Key> {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = parse(form).collect();
    let once = |name: &str| pairs.iter().filter(|(key, _)| key == name).count() == 1;
    let has = |name: &str| pairs.iter().any(|(key, value)| key == name && !value.is_empty());
    if !once("grant_type") || !once("refresh_token") || !has("refresh_token") {
        return None;
    }
    if pairs.iter().any(|(key, _)| key.starts_with("client_assertion")) {
        return None;
    }
    let proves = headers.contains_key(header::AUTHORIZATION) || has("client_secret");
    let is_shared = proves || (is_public_shared && has("client_id"));
    if !is_shared {
        return None;
    }
    pairs.sort();
    let mut digest = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    for (key, value) in &pairs {
        put(&mut digest, key.as_bytes());
        put(&mut digest, value.as_bytes());
    }
    for name in &BINDING {
        for value in headers.get_all(name) {
            put(&mut digest, name.as_str().as_bytes());
            put(&mut digest, value.as_bytes());
        }
    }
    Some(Key(digest.finalize().into_bytes().into()))
}

/// With its length before it, so that no two lists of parts look alike.
fn put(digest: &mut Hmac<Sha256>, part: &[u8]) {
    digest.update(&(part.len() as u64).to_be_bytes());
    digest.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const SECRET: Secret = [7; 32];
    const FORM: &str = "grant_type=refresh_token&refresh_token=a.b&scope=x";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn of(pairs: &[(&'static str, &'static str)], form: &str) -> Option<Key> {
        key(&SECRET, &headers(pairs), form.as_bytes(), false)
    }

    #[test]
    fn the_same_is_the_same_in_any_order_and_nothing_else_is() {
        let basic = [("authorization", "Basic YTpi")];
        let same = of(&basic, FORM);
        assert!(same.is_some());
        assert_eq!(of(&basic, "scope=x&refresh_token=a.b&grant_type=refresh_token"), same);
        assert_eq!(of(&[("user-agent", "another"), basic[0]], FORM), same);
        let others = [
            of(&[("authorization", "Basic YTpj")], FORM),
            of(&[basic[0], ("dpop", "proof")], FORM),
            of(&[basic[0], ("x-forwarded-client-cert", "Hash=1")], FORM),
            of(&basic, "grant_type=refresh_token&refresh_token=a.c&scope=x"),
            of(&basic, "grant_type=refresh_token&refresh_token=a.b&scope=y"),
            of(&basic, "grant_type=refresh_token&refresh_token=a.b&scope=x&audience=z"),
            of(&basic, "grant_type=refresh_token&refresh_token=a.b&scope=x&resource=z"),
            key(&[8; 32], &headers(&basic), FORM.as_bytes(), false),
        ];
        for (number, other) in others.iter().enumerate() {
            assert!(other.is_some() && *other != same, "{number}");
        }
    }

    #[test]
    fn who_proves_nothing_shares_nothing_unless_the_plan_says_so() {
        let public = format!("{FORM}&client_id=spa");
        assert_eq!(of(&[], &public), None);
        assert_eq!(of(&[("x-forwarded-client-cert", "Hash=1")], &public), None, "a certificate is no secret");
        assert!(key(&SECRET, &headers(&[]), public.as_bytes(), true).is_some());
        assert_eq!(key(&SECRET, &headers(&[]), FORM.as_bytes(), true), None, "it does not even say who it is");
        assert!(of(&[], &format!("{public}&client_secret=s")).is_some());
    }

    #[test]
    fn what_an_engine_accepts_once_or_reads_in_two_ways_is_never_shared() {
        let basic = [("authorization", "Basic YTpi")];
        for more in ["&client_assertion=j&client_assertion_type=t", "&refresh_token=c.d", "&grant_type=password"] {
            assert_eq!(of(&basic, &format!("{FORM}{more}")), None, "{more}");
        }
        assert_eq!(of(&basic, "grant_type=refresh_token&refresh_token="), None);
    }
}
