//! What a request, or its answer, has to do with a browser's flow. Pure.
//!
//! Known by the one plain spelling of each path, so that no other request costs more than a comparison; in another spelling it goes to the
//! engine, which knows what to say.

use crate::revocations::hydra::Listener;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, header};
use std::borrow::Cow;
use url::form_urlencoded::parse;

/// Where browsers come to begin a flow, and come back to.
pub(super) const AUTHORIZE: &str = "/oauth2/auth";
/// Below it the login and consent screens ask and answer.
const REQUESTS: &str = "/oauth2/auth/requests/";
/// What comes back from a screen.
const VERIFIERS: [&str; 2] = ["login_verifier", "consent_verifier"];
const CHALLENGES: [&str; 2] = ["login_challenge", "consent_challenge"];

/// Whether a request could be a part of a flow.
pub(super) fn is_near(listener: Listener, path: &str) -> bool {
    match listener {
        Listener::Public => path == AUTHORIZE,
        Listener::Admin => path.strip_prefix("/admin").unwrap_or(path).starts_with(REQUESTS),
    }
}

/// Whether a browser comes back with the answer of a screen.
pub(super) fn is_return(head: &Parts) -> bool {
    let query = head.uri.query().unwrap_or_default();
    head.method == Method::GET && query.split('&').any(is_verifier)
}

/// Path and query with which the flow of a visit began: every parameter as it came, but none that says how a screen has answered.
pub(super) fn began_with(head: &Parts) -> String {
    let query = head.uri.query().unwrap_or_default();
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_verifier(pair)).collect();
    let kept = kept.join("&");
    if kept.is_empty() { AUTHORIZE.to_owned() } else { format!("{AUTHORIZE}?{kept}") }
}

fn is_verifier(pair: &str) -> bool {
    parse(pair.as_bytes()).next().is_some_and(|(key, _)| VERIFIERS.contains(&key.as_ref()))
}

/// The challenge with which an engine sends a browser to a screen.
pub(super) fn challenge_in(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !matches!(status, StatusCode::FOUND | StatusCode::SEE_OTHER) {
        return None;
    }
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let query = location.split('#').next()?.split_once('?')?.1;
    let found = parse(query.as_bytes()).find(|(key, value)| CHALLENGES.contains(&key.as_ref()) && !value.is_empty());
    found.map(|(_, challenge)| challenge.into_owned())
}

/// What a screen asks an engine about a challenge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'a> {
    pub(super) challenge: Cow<'a, str>,
    /// Whether it is accepted or rejected; otherwise the screen asks what it is about.
    pub(super) is_answer: bool,
}

/// A screen's question: the challenge in the query, or in the path as the first versions of 1.x had it.
pub(super) fn question(head: &Parts) -> Option<Question<'_>> {
    let path = head.uri.path();
    let path = path.strip_prefix("/admin").unwrap_or(path).strip_prefix(REQUESTS)?;
    let parts: Vec<&str> = path.split('/').collect();
    let (screen, in_path, is_answer) = match parts.as_slice() {
        [screen] => (*screen, None, false),
        [screen, "accept" | "reject"] => (*screen, None, true),
        [screen, challenge] => (*screen, Some(*challenge), false),
        [screen, challenge, "accept" | "reject"] => (*screen, Some(*challenge), true),
        _ => return None,
    };
    let name = match screen {
        "login" => CHALLENGES[0],
        "consent" => CHALLENGES[1],
        _ => return None,
    };
    if head.method != if is_answer { Method::PUT } else { Method::GET } {
        return None;
    }
    let query = head.uri.query().unwrap_or_default();
    let first = |name| parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
    // An engine takes `challenge` too where the longer name says nothing.
    let in_query = || first(name).filter(|value| !value.is_empty()).or_else(|| first("challenge"));
    let challenge = in_path.map(Cow::Borrowed).or_else(in_query).filter(|challenge| !challenge.is_empty())?;
    Some(Question { challenge, is_answer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use hyper::header::HeaderValue;

    fn head(method: &str, target: &str) -> Parts {
        Request::builder().method(method).uri(target).body(()).expect("a request").into_parts().0
    }

    #[test]
    fn both_majors_ask_about_a_challenge_in_their_own_way() {
        for (method, target, challenge, is_answer) in [
            ("GET", "/oauth2/auth/requests/login?login_challenge=a%2Fb", "a/b", false),
            ("GET", "/admin/oauth2/auth/requests/consent?x=1&consent_challenge=c", "c", false),
            ("PUT", "/admin/oauth2/auth/requests/login/accept?login_challenge=c", "c", true),
            ("PUT", "/oauth2/auth/requests/consent/reject?consent_challenge=&challenge=c", "c", true),
            ("GET", "/oauth2/auth/requests/login/c", "c", false),
            ("PUT", "/oauth2/auth/requests/consent/c/accept", "c", true),
        ] {
            let head = head(method, target);
            assert!(is_near(Listener::Admin, head.uri.path()), "{target}");
            assert_eq!(question(&head), Some(Question { challenge: challenge.into(), is_answer }), "{target}");
        }
        for (method, target) in [
            ("GET", "/oauth2/auth/requests/logout?logout_challenge=c"),
            ("GET", "/oauth2/auth/requests/login?consent_challenge=c"),
            ("GET", "/oauth2/auth/requests/login/accept?login_challenge=c"),
            ("PUT", "/oauth2/auth/requests/login?login_challenge=c"),
            ("GET", "/oauth2/auth/requests/login"),
            ("GET", "/clients"),
        ] {
            assert_eq!(question(&head(method, target)), None, "{method} {target}");
        }
    }

    #[test]
    fn a_flow_begins_anew_with_everything_but_the_answers() {
        let target = "/oauth2/auth?client_id=a%20b&login_verifier=v&state=%2B+x&consent%5Fverifier=w&scope=";
        assert!(is_return(&head("GET", target)));
        let again = began_with(&head("GET", target));
        assert_eq!(again, "/oauth2/auth?client_id=a%20b&state=%2B+x&scope=");
        assert!(!is_return(&head("GET", &again)), "so that it can be sent back no second time");
        assert_eq!(began_with(&head("GET", "/oauth2/auth?login_verifier=v")), "/oauth2/auth");
        assert!(!is_return(&head("POST", target)));
    }

    #[test]
    fn a_challenge_is_read_where_the_engine_sends_the_browser() {
        let challenge = |status, location: &'static str| {
            let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(location))]);
            challenge_in(status, &headers)
        };
        let login = "https://screens.example/login?lang=en&login_challenge=a%2Fb#top";
        assert_eq!(challenge(StatusCode::FOUND, login).as_deref(), Some("a/b"));
        assert_eq!(challenge(StatusCode::SEE_OTHER, "/consent?consent_challenge=c").as_deref(), Some("c"));
        assert_eq!(challenge(StatusCode::OK, login), None);
        assert_eq!(challenge(StatusCode::FOUND, "https://app.example/callback?code=c"), None);
        assert_eq!(challenge_in(StatusCode::FOUND, &HeaderMap::new()), None);
    }
}
