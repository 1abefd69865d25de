//! What a request to Hydra means that is no revocation, how urgent each is, and by what a token is known. Pure.
//!
//! Both majors and both path styles are known: 1.x without prefix, 2.x with its admin API under `/admin`. Never keeps a token.

use super::doors::{percent_decoded, segments};
use super::event::Door;
pub use crate::plan::Listener;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use sha2::{Digest, Sha384};

/// How the form begins by which a JWT is known by its own words.
const JWT_FORM: &str = "jti:";

/// How urgent a request is when held ones are released; the order is the order of release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A revocation: first.
    Revocation,
    /// Somebody asks whether a token is good.
    Introspection,
    /// Tokens are issued or refreshed.
    Token,
    /// The rest.
    Other,
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 4;
}

/// A revocation as asked for, before its chain is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Knock {
    /// A token was presented; the forms under which an engine stores its signature.
    Token {
        /// Stored forms, see [`signature_forms`].
        signatures: Vec<String>,
    },
    /// Consents of a subject, to one client or to all.
    Consents {
        /// The subject.
        subject: String,
        /// The client, when named.
        client: Option<String>,
    },
    /// One consent by its challenge.
    Consent {
        /// The challenge.
        challenge: String,
    },
    /// All login sessions of a subject.
    Sessions {
        /// The subject.
        subject: String,
    },
    /// One login session.
    Session {
        /// Its id.
        id: String,
    },
    /// All access tokens of a client.
    ClientTokens {
        /// The client.
        client: String,
    },
    /// A client is deleted.
    ClientDelete {
        /// The client.
        client: String,
    },
    /// A client is changed.
    ClientUpdate {
        /// The client.
        client: String,
    },
    /// A logout that the user has confirmed.
    Logout {
        /// The verifier, which leads to the session.
        verifier: String,
    },
}

impl Knock {
    /// The door it belongs to.
    #[must_use]
    pub fn door(&self) -> Door {
        match self {
            Self::Token { .. } => Door::Token,
            Self::Consents { .. } | Self::Consent { .. } => Door::Consent,
            Self::Sessions { .. } | Self::Session { .. } => Door::LoginSession,
            Self::ClientTokens { .. } => Door::ClientTokens,
            Self::ClientDelete { .. } => Door::ClientDelete,
            Self::ClientUpdate { .. } => Door::ClientUpdate,
            Self::Logout { .. } => Door::Logout,
        }
    }
}

/// How urgent a request is that is no revocation.
#[must_use]
pub fn class(listener: Listener, method: &Method, path: &str) -> Class {
    match (listener, method.as_str(), parts_of(listener, &percent_decoded(path)).as_slice()) {
        (Listener::Admin, "POST", ["oauth2", "introspect"]) | (Listener::Public, _, ["userinfo"]) => {
            Class::Introspection
        }
        (Listener::Public, "POST", ["oauth2", "token"]) => Class::Token,
        _ => Class::Other,
    }
}

/// Whether the form of a token request presents a refresh token. As an engine does, it takes the first grant that the form names.
#[must_use]
pub fn is_refresh(form: &[u8]) -> bool {
    let grant = url::form_urlencoded::parse(form).find(|(key, _)| key == "grant_type");
    grant.is_some_and(|(_, grant)| grant == "refresh_token")
}

/// The segments of a decoded path, without 2.x's `/admin` on the admin listener.
fn parts_of(listener: Listener, path: &str) -> Vec<&str> {
    let mut parts = segments(path);
    if listener == Listener::Admin && parts.first() == Some(&"admin") {
        parts.remove(0);
    }
    parts
}

/// The forms under which an engine may have stored a token's signature: the part after the last dot, raw and as hex SHA-384.
///
/// Prefixes (`ory_at_`, `ory_rt_`) stand before the dot and do not matter. A token without a dot was never issued by an engine;
/// only its digest is kept, because the token itself may be a secret of another system.
#[must_use]
pub fn signature_forms(token: &str) -> Vec<String> {
    match token.rsplit_once('.') {
        Some((_, signature)) if !signature.is_empty() => vec![signature.to_owned(), hex_sha384(signature)],
        _ => vec![hex_sha384(token)],
    }
}

/// A form by which a JWT is known whatever its signature looks like: by its own `jti`, together with who it says issued it, to whom and for
/// whom. None of this is verified, so that it may serve to deny and never to accept; of the claims only a digest is kept.
#[must_use]
pub fn jwt_form(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, Some(claims), Some(_), None) = (parts.next()?, parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let jti = claims.get("jti")?.as_str().filter(|jti| !jti.is_empty())?;
    let named = serde_json::json!([claims.get("iss"), claims.get("client_id"), claims.get("sub"), jti]);
    Some(format!("{JWT_FORM}{}", hex_sha384(&named.to_string())))
}

/// Whether a form is a JWT's own name and no signature.
pub(super) fn is_jwt_form(form: &str) -> bool {
    form.starts_with(JWT_FORM)
}

fn hex_sha384(text: &str) -> String {
    hex::encode(Sha384::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_is_known_by_its_place_and_its_grant() {
        let is_token =
            |listener, method: &str, path| class(listener, &method.parse().expect("a method"), path) == Class::Token;
        for path in ["/oauth2/token", "/oauth2//token/", "/oauth2/%74oken"] {
            assert!(is_token(Listener::Public, "POST", path), "{path}");
        }
        assert!(!is_token(Listener::Admin, "POST", "/oauth2/token"));
        assert!(!is_token(Listener::Public, "OPTIONS", "/oauth2/token"));
        assert!(!is_token(Listener::Public, "POST", "/oauth2/tokens") && !is_token(Listener::Public, "POST", "/"));
        assert!(is_refresh(b"refresh_token=a.b&grant_type=refresh%5Ftoken"));
        assert!(!is_refresh(b"grant_type=authorization_code&grant_type=refresh_token"));
        assert!(!is_refresh(b"refresh_token=a.b") && !is_refresh(b""));
    }

    #[test]
    fn a_token_is_known_by_its_signature_alone() {
        let forms = signature_forms("ory_at_random.signature");
        assert_eq!(forms[0], "signature");
        assert_eq!(forms[1].len(), 96);
        assert_eq!(signature_forms("other.signature"), forms);
        let opaque = signature_forms("a-secret-of-somebody");
        assert!(opaque.iter().all(|form| !form.contains("secret")));
    }

    #[test]
    fn a_jwt_is_known_by_what_it_says_of_itself() {
        let jwt = |claims: &str, signature: &str| format!("e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims));
        let one = jwt_form(&jwt(r#"{"jti":"1","sub":"ann","client_id":"app","iss":"i"}"#, "s"));
        assert!(one.as_ref().is_some_and(|form| !form.contains("ann")));
        assert_eq!(jwt_form(&jwt(r#"{"iss":"i","client_id":"app","sub":"ann","jti":"1","exp":9}"#, "other")), one);
        assert_ne!(jwt_form(&jwt(r#"{"jti":"1","sub":"ann","client_id":"another","iss":"i"}"#, "s")), one);
        for none in [jwt(r#"{"sub":"ann"}"#, "s"), jwt(r#"{"jti":""}"#, "s"), "ory_at_a.b".into(), "a.b.c.d".into()] {
            assert_eq!(jwt_form(&none), None, "{none}");
        }
    }
}
