//! Whether a request is a revocation, by the plan's kinds of them, and whom it means. Pure; never keeps a token.

use super::hydra::{Knock, Listener, jwt_form, signature_forms};
use crate::plan::{Door, DoorPattern, DoorSegment, Named};
use hyper::Method;
use std::borrow::Cow;
use std::collections::BTreeMap;
use url::form_urlencoded::parse;

/// What a request says, by what it is.
type Values = BTreeMap<Named, String>;

/// Whether a request is a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It is none.
    Passes,
    /// It is one, and its head says all.
    Knocks(Knock),
    /// It is one, and its form says whom it means.
    InForm(InForm),
    /// It may be one, and whom it means cannot be told as the engine would: it must not reach it. With a sentence for the client.
    Unclear(&'static str),
}

/// A revocation whose form has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForm {
    door: Door,
    values: Values,
    names: Vec<(Named, String)>,
}

/// The doors of a plan.
#[derive(Debug, Clone)]
pub struct Doors {
    patterns: Vec<DoorPattern>,
}

impl Doors {
    /// Those of the plan.
    #[must_use]
    pub fn new(plan: crate::plan::Doors) -> Self {
        Self { patterns: plan.patterns }
    }

    /// Reads the head of a request.
    #[must_use]
    pub fn read(&self, listener: Listener, method: &Method, path: &str, query: Option<&str>) -> Reading {
        let decoded = percent_decoded(path);
        let decoded = segments(&decoded);
        let found = self.found(listener, method, &decoded);
        // An engine may also cut a path before it decodes it. Where that makes a difference nobody knows which one it does.
        let cut = cut_first(path);
        if cut != decoded {
            let other = self.found(listener, method, &cut);
            if [&found, &other].into_iter().flatten().any(|(pattern, _)| !pattern.is_hydras) {
                return Reading::Unclear("the path of a revocation is written without encoded slashes and dots");
            }
        }
        match found {
            None => Reading::Passes,
            Some((pattern, values)) => read_query(pattern, values, query.unwrap_or_default()),
        }
    }

    fn found(&self, listener: Listener, method: &Method, path: &[impl AsRef<str>]) -> Option<(&DoorPattern, Values)> {
        let fits = |pattern: &&DoorPattern| {
            pattern.listener == listener
                && pattern.methods.contains(&method.as_str())
                && pattern.path.len() == path.len()
        };
        self.patterns.iter().filter(fits).find_map(|pattern| Some((pattern, values_in(&pattern.path, path)?)))
    }
}

impl InForm {
    /// What is revoked, by the form of the request; an error is a sentence for the client.
    ///
    /// # Errors
    /// When the form names nobody, or names twice: two values would let a caller have one executed and another one replayed.
    pub fn knock(&self, form: &[u8]) -> Result<Knock, &'static str> {
        let mut values = self.values.clone();
        for (named, name) in &self.names {
            match all(form, name).as_slice() {
                [] => {}
                [one] => drop(values.insert(*named, one.clone())),
                _ => return Err("the form says twice what is revoked"),
            }
        }
        knock(self.door, values).ok_or("the form does not say what is revoked")
    }
}

/// What stands in the places of a path, when the path fits.
fn values_in(pattern: &[DoorSegment], path: &[impl AsRef<str>]) -> Option<Values> {
    let mut values = Values::new();
    for (segment, said) in pattern.iter().zip(path) {
        match segment {
            DoorSegment::Text(text) if text == said.as_ref() => {}
            DoorSegment::Text(_) => return None,
            DoorSegment::Value(named) => drop(values.insert(*named, said.as_ref().to_owned())),
        }
    }
    Some(values)
}

fn read_query(pattern: &DoorPattern, mut values: Values, query: &str) -> Reading {
    for (named, name) in &pattern.query {
        match all(query.as_bytes(), name).as_slice() {
            [] => {}
            [one] => drop(values.insert(*named, one.clone())),
            [first, ..] if pattern.is_hydras => drop(values.insert(*named, first.clone())),
            _ => return Reading::Unclear("the query says twice what is revoked"),
        }
    }
    if !pattern.form.is_empty() {
        return Reading::InForm(InForm { door: pattern.door, values, names: pattern.form.clone() });
    }
    match knock(pattern.door, values) {
        Some(knock) => Reading::Knocks(knock),
        None if pattern.is_hydras => Reading::Passes,
        None => Reading::Unclear("the request does not say what is revoked"),
    }
}

/// Every value of a parameter that says anything.
fn all(form: &[u8], name: &str) -> Vec<String> {
    let asked = parse(form).filter(|(key, value)| key == name && !value.is_empty());
    asked.map(|(_, value)| value.into_owned()).collect()
}

fn knock(door: Door, mut values: Values) -> Option<Knock> {
    let mut take = |named| values.remove(&named);
    match door {
        Door::Token => take(Named::Token).map(|token| token_knock(&token)),
        Door::Consent => match take(Named::Consent) {
            Some(challenge) => Some(Knock::Consent { challenge }),
            None => take(Named::Subject).map(|subject| Knock::Consents { subject, client: take(Named::Client) }),
        },
        Door::LoginSession => match take(Named::Session) {
            Some(id) => Some(Knock::Session { id }),
            None => take(Named::Subject).map(|subject| Knock::Sessions { subject }),
        },
        Door::ClientTokens => take(Named::Client).map(|client| Knock::ClientTokens { client }),
        Door::ClientDelete => take(Named::Client).map(|client| Knock::ClientDelete { client }),
        Door::ClientUpdate => take(Named::Client).map(|client| Knock::ClientUpdate { client }),
        Door::Logout => take(Named::Verifier).map(|verifier| Knock::Logout { verifier }),
    }
}

/// A token is known by its signature, and a JWT by what it says of itself.
fn token_knock(token: &str) -> Knock {
    let mut signatures = signature_forms(token);
    signatures.extend(jwt_form(token));
    Knock::Token { signatures }
}

/// The segments of a decoded path as an engine's router sees them: without empty and dot segments, so that no spelling slips past a door.
pub(super) fn segments(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts
}

/// The path cut into segments first, each decoded by itself.
fn cut_first(path: &str) -> Vec<Cow<'_, str>> {
    segments(path).into_iter().map(percent_decoded).collect()
}

/// A path without its percent-encoding.
pub(super) fn percent_decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    // A form decoder also turns '+' into a blank, which a path keeps: hide it meanwhile.
    let guarded = format!("p={}", path.replace('+', "%2B").replace('&', "%26").replace(';', "%3B"));
    let decoded = parse(guarded.as_bytes()).next().map(|(_, value)| value.into_owned());
    decoded.map_or(Cow::Borrowed(path), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn asked(doors: &Doors, listener: Listener, method: &str, target: &str) -> Reading {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        doors.read(listener, &method.parse().expect("a method"), path, query)
    }

    fn knock_at(listener: Listener, method: &str, target: &str) -> Reading {
        asked(&Doors::new(plan::Doors::hydra()), listener, method, target)
    }

    /// `DELETE /users/{subject}/apps/{client}` and `POST /grants/end?user=` with `app` in the form.
    fn own() -> Doors {
        let one = |methods: &[&'static str], path, query, form| DoorPattern {
            door: Door::Consent,
            listener: Listener::Public,
            methods: methods.to_vec(),
            path: DoorSegment::all(path).expect("a path"),
            query,
            form,
            is_hydras: false,
        };
        let by_query = one(
            &["POST"],
            "/grants/end",
            vec![(Named::Subject, "user".to_owned())],
            vec![(Named::Client, "app".to_owned())],
        );
        let in_query = one(&["DELETE"], "/grants", vec![(Named::Subject, "user".to_owned())], Vec::new());
        let in_path = one(&["DELETE"], "/users/{subject}/apps/{client}", Vec::new(), Vec::new());
        Doors::new(plan::Doors { patterns: vec![by_query, in_query, in_path] })
    }

    fn consents(subject: &str, client: Option<&str>) -> Knock {
        Knock::Consents { subject: subject.to_owned(), client: client.map(str::to_owned) }
    }

    #[test]
    fn both_majors_lead_to_the_same_doors() {
        for prefix in ["", "/admin"] {
            let path = format!("{prefix}/oauth2/auth/sessions/consent?subject=ann&client=app");
            let meant = Reading::Knocks(consents("ann", Some("app")));
            assert_eq!(knock_at(Listener::Admin, "DELETE", &path), meant);
            let path = format!("{prefix}/clients/app");
            let meant = Reading::Knocks(Knock::ClientDelete { client: "app".into() });
            assert_eq!(knock_at(Listener::Admin, "DELETE", &path), meant);
            assert_eq!(knock_at(Listener::Admin, "GET", &path), Reading::Passes);
        }
    }

    #[test]
    fn no_spelling_of_the_path_slips_past_the_door() {
        for path in
            ["/oauth2/revoke", "/oauth2//revoke", "/oauth2/revoke/", "/oauth2/%72evoke", "/x/../oauth2/./revoke"]
        {
            let Reading::InForm(form) = knock_at(Listener::Public, "POST", path) else { panic!("{path}") };
            assert!(matches!(form.knock(b"token=a.b&client_id=x"), Ok(Knock::Token { .. })), "{path}");
            assert!(form.knock(b"token=a.b&token=c.d").is_err() && form.knock(b"client_id=x").is_err());
        }
        assert_eq!(knock_at(Listener::Public, "GET", "/oauth2/revoke"), Reading::Passes);
    }

    #[test]
    fn a_logout_is_a_revocation_once_it_is_confirmed() {
        assert_eq!(knock_at(Listener::Public, "GET", "/oauth2/sessions/logout"), Reading::Passes);
        let confirmed = knock_at(Listener::Public, "GET", "/oauth2/sessions/logout?logout_verifier=v1");
        assert_eq!(confirmed, Reading::Knocks(Knock::Logout { verifier: "v1".into() }));
    }

    #[test]
    fn another_engines_doors_say_whom_they_mean_where_the_plan_says() {
        let doors = own();
        let path = asked(&doors, Listener::Public, "DELETE", "/users/ann%20b/apps//x+y/");
        assert_eq!(path, Reading::Knocks(consents("ann b", Some("x+y"))));
        let query = asked(&doors, Listener::Public, "DELETE", "/grants?user=ann&user=");
        assert_eq!(query, Reading::Knocks(consents("ann", None)));
        let Reading::InForm(form) = asked(&doors, Listener::Public, "POST", "/grants/end?user=ann") else { panic!() };
        assert_eq!(form.knock(b"app=x"), Ok(consents("ann", Some("x"))));
        assert_eq!(form.knock(b""), Ok(consents("ann", None)));
        for (listener, method, target) in [
            (Listener::Admin, "DELETE", "/grants?user=ann"),
            (Listener::Public, "GET", "/grants?user=ann"),
            (Listener::Public, "DELETE", "/users/ann/apps"),
            (Listener::Public, "POST", "/oauth2/revoke"),
        ] {
            assert_eq!(asked(&doors, listener, method, target), Reading::Passes, "{target}");
        }
    }

    #[test]
    fn what_another_engine_might_read_otherwise_does_not_reach_it() {
        for target in [
            "/grants",
            "/grants?user=",
            "/grants?user=ann&user=bob",
            "/users/a%2Fb/apps/x",
            "/users/ann%2Fapps/x",
            "/users/%2e%2e/apps/x",
            "/x/%2e%2e/grants?user=ann",
        ] {
            assert!(matches!(asked(&own(), Listener::Public, "DELETE", target), Reading::Unclear(_)), "{target}");
        }
        assert_eq!(
            asked(&own(), Listener::Public, "DELETE", "/a%2Fb/c"),
            Reading::Passes,
            "it is at no door either way"
        );
    }
}
