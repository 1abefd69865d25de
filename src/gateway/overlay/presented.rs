//! Which tokens a request presents, and at which of the four doors: introspection, userinfo, refresh and code exchange. Pure.

use crate::revocations::Kind;
use crate::revocations::hydra::{Class, Listener, jwt_form, signature_forms};
use hyper::http::request::Parts;
use hyper::{Method, header};
use std::borrow::Cow;
use url::form_urlencoded::parse;

/// Most tokens of one request that are looked at; a request with more is refused.
pub(in crate::gateway) const MOST_TOKENS: usize = 8;

/// Where tokens are presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Doorway {
    /// `POST /oauth2/introspect` on the admin API, with or without `/admin`.
    Introspection,
    /// `/userinfo`.
    Userinfo,
    /// `POST /oauth2/token`: refresh tokens and codes.
    Token,
}

impl Doorway {
    /// All of them, in the order in which they are counted.
    pub(in crate::gateway) const ALL: [Self; 3] = [Self::Introspection, Self::Userinfo, Self::Token];

    /// The doorway that a request goes through, if any.
    pub(in crate::gateway) fn of(listener: Listener, class: Class) -> Option<Self> {
        match (class, listener) {
            (Class::Introspection, Listener::Admin) => Some(Self::Introspection),
            (Class::Introspection, Listener::Public) => Some(Self::Userinfo),
            (Class::Token, _) => Some(Self::Token),
            (Class::Revocation | Class::Other, _) => None,
        }
    }

    /// The word under which it is counted.
    pub(in crate::gateway) fn as_str(self) -> &'static str {
        match self {
            Self::Introspection => "introspection",
            Self::Userinfo => "userinfo",
            Self::Token => "token",
        }
    }

    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Introspection => &[Kind::Access, Kind::Refresh],
            Self::Userinfo => &[Kind::Access],
            Self::Token => &[Kind::Refresh, Kind::Code],
        }
    }
}

/// Tokens as presented, known by their signatures alone.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Presented {
    pub(super) kinds: &'static [Kind],
    pub(super) tokens: Vec<Token>,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) forms: Vec<String>,
    /// How a JWT is known by its own words, which nobody has verified.
    pub(super) jwt: Option<String>,
}

impl Token {
    fn of(text: &str) -> Self {
        Self { forms: signature_forms(text), jwt: jwt_form(text) }
    }
}

impl Presented {
    /// What a request presents at a doorway: of a parameter that is there more than once every value, since engines differ in which one
    /// they take. None when there are more than can be looked at.
    pub(in crate::gateway) fn at(doorway: Doorway, head: &Parts, form: &[u8]) -> Option<Self> {
        let tokens = match doorway {
            Doorway::Introspection => named(form, &["token"]),
            Doorway::Token => named(form, &["refresh_token", "code"]),
            Doorway::Userinfo => {
                let query = head.uri.query().unwrap_or_default();
                let mut tokens = bearers(head);
                tokens.extend(named(query.as_bytes(), &["access_token"]));
                tokens.extend(named(form, &["access_token"]));
                tokens
            }
        };
        let tokens = (tokens.len() <= MOST_TOKENS).then_some(tokens)?;
        Some(Self { kinds: doorway.kinds(), tokens: tokens.iter().map(|token| Token::of(token)).collect() })
    }

    /// Access and refresh tokens, wherever they come from.
    pub(in crate::gateway) fn tokens<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        Self { kinds: &[Kind::Access, Kind::Refresh], tokens: tokens.into_iter().map(Token::of).collect() }
    }
}

fn named<'a>(form: &'a [u8], names: &[&str]) -> Vec<Cow<'a, str>> {
    let asked = parse(form).filter(|(key, value)| names.contains(&key.as_ref()) && !value.is_empty());
    asked.map(|(_, value)| value).take(MOST_TOKENS + 1).collect()
}

fn bearers(head: &Parts) -> Vec<Cow<'_, str>> {
    let values = head.headers.get_all(header::AUTHORIZATION).iter();
    let pairs = values.filter_map(|value| value.to_str().ok()?.split_once(' '));
    let bearers = pairs.filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer") || kind.eq_ignore_ascii_case("dpop"));
    bearers.map(|(_, token)| Cow::Borrowed(token.trim())).take(MOST_TOKENS + 1).collect()
}

/// Whether a request's body may hold tokens that a plain form does not show: parts, or a form in an encoding.
pub(in crate::gateway) fn is_hidden(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.trim_start().to_ascii_lowercase();
    let is_form = kind.starts_with("application/x-www-form-urlencoded");
    head.method != Method::GET
        && (kind.starts_with("multipart/") || (is_form && head.headers.contains_key(header::CONTENT_ENCODING)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocations::hydra;
    use hyper::Request;

    fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn firsts(presented: Option<Presented>) -> Vec<String> {
        presented.expect("few tokens").tokens.into_iter().map(|token| token.forms[0].clone()).collect()
    }

    #[test]
    fn each_doorway_has_its_own_place_for_tokens() {
        let plain = head("POST", "/oauth2/token?code=x.q", &[]);
        let form = b"token=a.1&refresh_token=a.2&code=a.3&access_token=a.4&token=a.5&refresh_token=";
        assert_eq!(firsts(Presented::at(Doorway::Introspection, &plain, form)), ["1", "5"]);
        assert_eq!(firsts(Presented::at(Doorway::Token, &plain, form)), ["2", "3"]);
        let asked = head("GET", "/userinfo?access_token=a.6", &[("authorization", "bearer a.7")]);
        assert_eq!(firsts(Presented::at(Doorway::Userinfo, &asked, form)), ["7", "6", "4"]);
        assert!(Presented::at(Doorway::Introspection, &plain, "token=a.b&".repeat(9).as_bytes()).is_none());
    }

    #[test]
    fn requests_find_their_doorways_in_both_path_styles() {
        let at = |listener, method, path: &str| {
            let head = head(method, path, &[]);
            Doorway::of(listener, hydra::class(listener, &head.method, head.uri.path()))
        };
        for path in ["/oauth2/introspect", "/admin/oauth2/introspect", "/oauth2//%69ntrospect"] {
            assert_eq!(at(Listener::Admin, "POST", path), Some(Doorway::Introspection), "{path}");
        }
        assert_eq!(at(Listener::Public, "GET", "/userinfo"), Some(Doorway::Userinfo));
        assert_eq!(at(Listener::Public, "POST", "/oauth2/token"), Some(Doorway::Token));
        assert_eq!(at(Listener::Public, "GET", "/oauth2/auth"), None);
    }

    #[test]
    fn what_a_plain_form_does_not_show_is_hidden() {
        assert!(is_hidden(&head("POST", "/", &[("content-type", "Multipart/form-data; boundary=x")])));
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert!(is_hidden(&head("POST", "/", &[form, ("content-encoding", "gzip")])));
        assert!(!is_hidden(&head("POST", "/", &[form])) && !is_hidden(&head("GET", "/", &[])));
    }
}
