//! What a request to Hydra means: which door it knocks at, how urgent it is, which token it presents. Pure.
//!
//! Both majors and both path styles are known: 1.x without prefix, 2.x with its admin API under `/admin`. Never keeps a token.

use super::event::Door;
use hyper::Method;
use sha2::{Digest, Sha384};
use std::borrow::Cow;

/// The listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The engine's public API.
    Public,
    /// The engine's admin API.
    Admin,
}

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

/// Whether a request is a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It is none.
    Passes,
    /// It is one, and its head says all.
    Knocks(Knock),
    /// It is a token revocation; the token is in its form body, see [`token_of`].
    TokenInBody,
}

/// Reads the head of a request.
#[must_use]
pub fn read(listener: Listener, method: &Method, path: &str, query: Option<&str>) -> Reading {
    let path = normal(path);
    let parts: Vec<&str> = parts_of(listener, &path);
    let query = query.unwrap_or_default();
    match (listener, method.as_str(), parts.as_slice()) {
        (Listener::Public, "POST", ["oauth2", "revoke"]) => Reading::TokenInBody,
        (Listener::Public, "GET" | "POST", ["oauth2", "sessions", "logout"]) => {
            parameter(query, "logout_verifier").map_or(Reading::Passes, |verifier| knocks(Knock::Logout { verifier }))
        }
        (Listener::Public, verb, ["oauth2" | "connect", "register", client]) => client_door(verb, client),
        (Listener::Admin, verb, ["clients", client]) => client_door(verb, client),
        (Listener::Admin, "PUT", ["clients", client, "lifespans"]) => client_door("PUT", client),
        (Listener::Admin, "DELETE", ["oauth2", "tokens"]) => {
            parameter(query, "client_id").map_or(Reading::Passes, |client| knocks(Knock::ClientTokens { client }))
        }
        (Listener::Admin, "DELETE", ["oauth2", "auth", "sessions", "consent"]) => consent_door(query),
        (Listener::Admin, "DELETE", ["oauth2", "auth", "sessions", "login"]) => login_door(query),
        _ => Reading::Passes,
    }
}

/// How urgent a request is.
#[must_use]
pub fn class(listener: Listener, method: &Method, path: &str, query: Option<&str>) -> Class {
    if read(listener, method, path, query) != Reading::Passes {
        return Class::Revocation;
    }
    let path = normal(path);
    match (listener, method.as_str(), parts_of(listener, &path).as_slice()) {
        (Listener::Admin, "POST", ["oauth2", "introspect"]) | (Listener::Public, _, ["userinfo"]) => {
            Class::Introspection
        }
        _ if is_token_endpoint(listener, method, &path) => Class::Token,
        _ => Class::Other,
    }
}

/// Whether a request asks for tokens; by which grant stands in its form body, see [`is_refresh`].
#[must_use]
pub fn is_token_endpoint(listener: Listener, method: &Method, path: &str) -> bool {
    listener == Listener::Public && *method == Method::POST && normal(path) == "oauth2/token"
}

/// Whether the form of a token request presents a refresh token. As an engine does, it takes the first grant that the form names.
#[must_use]
pub fn is_refresh(form: &[u8]) -> bool {
    let grant = url::form_urlencoded::parse(form).find(|(key, _)| key == "grant_type");
    grant.is_some_and(|(_, grant)| grant == "refresh_token")
}

fn knocks(knock: Knock) -> Reading {
    Reading::Knocks(knock)
}

fn client_door(verb: &str, client: &str) -> Reading {
    let client = client.to_owned();
    match verb {
        "DELETE" => knocks(Knock::ClientDelete { client }),
        "PUT" | "PATCH" => knocks(Knock::ClientUpdate { client }),
        _ => Reading::Passes,
    }
}

fn consent_door(query: &str) -> Reading {
    if let Some(challenge) = parameter(query, "consent_request_id") {
        return knocks(Knock::Consent { challenge });
    }
    match parameter(query, "subject") {
        Some(subject) => knocks(Knock::Consents { subject, client: parameter(query, "client") }),
        None => Reading::Passes,
    }
}

fn login_door(query: &str) -> Reading {
    if let Some(id) = parameter(query, "sid") {
        return knocks(Knock::Session { id });
    }
    parameter(query, "subject").map_or(Reading::Passes, |subject| knocks(Knock::Sessions { subject }))
}

/// The path as an engine's router sees it: decoded, without empty and dot segments, so that no spelling slips past a door.
fn normal(path: &str) -> String {
    let decoded = percent_decoded(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn percent_decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    // A form decoder also turns '+' into a blank, which a path keeps: hide it meanwhile.
    let guarded = format!("p={}", path.replace('+', "%2B").replace('&', "%26").replace(';', "%3B"));
    let decoded = url::form_urlencoded::parse(guarded.as_bytes()).next().map(|(_, value)| value.into_owned());
    decoded.map_or(Cow::Borrowed(path), Cow::Owned)
}

/// The path's segments, without 2.x's `/admin` on the admin listener.
fn parts_of(listener: Listener, path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.split('/').collect();
    if listener == Listener::Admin && parts.first() == Some(&"admin") {
        parts.remove(0);
    }
    parts
}

fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .filter(|value| !value.is_empty())
}

/// The token of a revocation's form body; an error is a sentence for the client.
///
/// # Errors
/// When there is not exactly one token: two would let a caller have one executed and another one replayed.
pub fn token_of(body: &[u8]) -> Result<String, &'static str> {
    let mut tokens = url::form_urlencoded::parse(body).filter(|(key, _)| key == "token").map(|(_, value)| value);
    let Some(token) = tokens.next() else {
        return Err("the form holds no token");
    };
    if tokens.next().is_some() {
        return Err("the form holds more than one token");
    }
    Ok(token.into_owned())
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

fn hex_sha384(text: &str) -> String {
    hex::encode(Sha384::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(listener: Listener, method: &str, target: &str) -> Reading {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        read(listener, &method.parse().expect("a method"), path, query)
    }

    #[test]
    fn both_majors_lead_to_the_same_doors() {
        let consents = Knock::Consents { subject: "ann".into(), client: Some("app".into()) };
        for prefix in ["", "/admin"] {
            let path = format!("{prefix}/oauth2/auth/sessions/consent?subject=ann&client=app");
            assert_eq!(knock(Listener::Admin, "DELETE", &path), knocks(consents.clone()));
            let path = format!("{prefix}/clients/app");
            assert_eq!(knock(Listener::Admin, "DELETE", &path), knocks(Knock::ClientDelete { client: "app".into() }));
            assert_eq!(knock(Listener::Admin, "GET", &path), Reading::Passes);
        }
    }

    #[test]
    fn no_spelling_of_the_path_slips_past_the_door() {
        for path in
            ["/oauth2/revoke", "/oauth2//revoke", "/oauth2/revoke/", "/oauth2/%72evoke", "/x/../oauth2/./revoke"]
        {
            assert_eq!(knock(Listener::Public, "POST", path), Reading::TokenInBody, "{path}");
        }
        assert_eq!(knock(Listener::Public, "GET", "/oauth2/revoke"), Reading::Passes);
    }

    #[test]
    fn a_logout_is_a_revocation_once_it_is_confirmed() {
        assert_eq!(knock(Listener::Public, "GET", "/oauth2/sessions/logout"), Reading::Passes);
        let confirmed = knock(Listener::Public, "GET", "/oauth2/sessions/logout?logout_verifier=v1");
        assert_eq!(confirmed, knocks(Knock::Logout { verifier: "v1".into() }));
    }

    #[test]
    fn a_refresh_is_known_by_its_place_and_its_grant() {
        let is_token =
            |listener, method: &str, path| is_token_endpoint(listener, &method.parse().expect("a method"), path);
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
    fn two_tokens_in_one_form_are_refused() {
        assert_eq!(token_of(b"token=a.b&client_id=x").as_deref(), Ok("a.b"));
        assert!(token_of(b"token=a.b&token=c.d").is_err());
        assert!(token_of(b"client_id=x").is_err());
    }
}
