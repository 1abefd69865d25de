//! Whether a request is a revocation, by the plan's kinds of them, and whom it means. Pure; never keeps a token.

use super::hydra::{Knock, Listener, jwt_form, signature_forms};
use super::query::first_of_each;
use crate::plan::{Door, DoorPattern, DoorSegment, Named};
use hyper::Method;
use std::borrow::Cow;
use std::collections::BTreeMap;
use url::form_urlencoded::{Serializer, parse};

/// What a request says, by what it is.
pub(super) type Values = BTreeMap<Named, String>;

/// Whether a request is a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It is none.
    Passes,
    /// It is one, and its head says all.
    Knocks(Knock),
    /// It is one, and names beside whom it means what an engine of another version would take for it: with this query alone it may reach one.
    Narrowed(Knock, String),
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

    /// Statuses beside those of success by which the engine says, at the door of this request, that it has revoked.
    #[must_use]
    pub fn done(&self, listener: Listener, method: &Method, path: &str) -> &[u16] {
        let decoded = percent_decoded(path);
        self.found(listener, method, &segments(&decoded)).map_or(&[], |(pattern, _)| pattern.done.as_slice())
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
    let read = if pattern.is_hydras { first_of_each(&pattern.query, query) } else { one_of_each(pattern, query) };
    match read {
        Ok(read) => values.extend(read),
        Err(why) => return Reading::Unclear(why),
    }
    if !pattern.form.is_empty() {
        return Reading::InForm(InForm { door: pattern.door, values, names: pattern.form.clone() });
    }
    if pattern.is_hydras {
        return hydras(pattern, values);
    }
    match knock(pattern.door, values) {
        Some(knock) => Reading::Knocks(knock),
        None => Reading::Unclear("the request does not say what is revoked"),
    }
}

/// What a query names to an engine of which nobody knows which of several values it takes.
fn one_of_each(pattern: &DoorPattern, query: &str) -> Result<Values, &'static str> {
    let mut values = Values::new();
    for (named, name) in &pattern.query {
        match all(query.as_bytes(), name).as_slice() {
            [] => {}
            [one] => drop(values.insert(*named, one.clone())),
            _ => return Err("the query says twice what is revoked"),
        }
    }
    Ok(values)
}

/// A request at one of Hydra's doors. A parameter that only later versions know is passed over by the others: beside the subject they would
/// revoke all that is the subject's.
fn hydras(pattern: &DoorPattern, values: Values) -> Reading {
    let names = |named| values.contains_key(&named);
    if names(Named::Consent) && (names(Named::Subject) || names(Named::Client)) {
        return Reading::Unclear("a consent is named by its request or by its subject, not by both");
    }
    // From 2.1 on the session is what counts, whatever else is named.
    let narrowed = (names(Named::Session) && names(Named::Subject)).then(|| query_of(pattern, Named::Session, &values));
    match (knock(pattern.door, values), narrowed.flatten()) {
        (None, _) => Reading::Passes,
        (Some(knock), None) => Reading::Knocks(knock),
        (Some(knock), Some(query)) => Reading::Narrowed(knock, query),
    }
}

/// A query that names one thing alone.
fn query_of(pattern: &DoorPattern, named: Named, values: &Values) -> Option<String> {
    let (_, name) = pattern.query.iter().find(|(other, _)| *other == named)?;
    Some(Serializer::new(String::new()).append_pair(name, values.get(&named)?).finish())
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
            done: if path == "/grants" { vec![303] } else { Vec::new() },
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
    fn a_login_session_is_ended_by_its_id_or_with_all_of_its_subject() {
        let read =
            |query: &str| knock_at(Listener::Admin, "DELETE", &format!("/admin/oauth2/auth/sessions/login{query}"));
        let session = || Knock::Session { id: "s1".into() };
        let all = || Reading::Knocks(Knock::Sessions { subject: "ann".into() });
        assert_eq!(read("?sid=s1"), Reading::Knocks(session()));
        assert_eq!(
            knock_at(Listener::Admin, "DELETE", "/oauth2/auth/sessions/login?sid=s1"),
            Reading::Knocks(session())
        );
        assert_eq!(read("?subject=ann"), all());
        for none in ["", "?", "?sid=", "?subject=&sid=", "?session=s1", "?sid=%zz", "?sid"] {
            assert_eq!(read(none), Reading::Passes, "{none}: the engine refuses it");
        }
        // An engine that knows no `sid` would end all of the subject's.
        for both in ["?sid=s1&subject=ann", "?subject=ann&all=x&sid=s1&sid=s2"] {
            assert_eq!(read(both), Reading::Narrowed(session(), "sid=s1".into()), "{both}");
        }
        let odd = Reading::Narrowed(Knock::Session { id: "a&subject=b".into() }, "sid=a%26subject%3Db".into());
        assert_eq!(read("?subject=ann&sid=a%26subject%3Db"), odd, "a value stays one");
        let elsewhere = knock_at(Listener::Public, "DELETE", "/oauth2/auth/sessions/login?sid=s1");
        assert_eq!(elsewhere, Reading::Passes);
        assert_eq!(knock_at(Listener::Admin, "GET", "/oauth2/auth/sessions/login?sid=s1"), Reading::Passes);
    }

    #[test]
    fn a_query_names_what_the_engine_would_take_of_it() {
        let read = |query: &str| knock_at(Listener::Admin, "DELETE", &format!("/oauth2/auth/sessions/login?{query}"));
        let ann = Reading::Knocks(Knock::Sessions { subject: "ann".into() });
        for query in ["sid=&sid=s1&subject=ann", "sid=%zz&subject=ann", "subject=ann&subject=bob", "a;b&subject=ann"] {
            assert_eq!(read(query), ann, "{query}");
        }
        for query in ["sid=s1;x&subject=ann", "x;sid=s1&subject=ann", "subject=ann;bob", "x;sid=s1"] {
            assert!(matches!(read(query), Reading::Unclear(_)), "{query}: versions read it in two ways");
        }
        assert_eq!(read("subject=a%3Bb"), Reading::Knocks(Knock::Sessions { subject: "a;b".into() }));
        let consent =
            |query: &str| knock_at(Listener::Admin, "DELETE", &format!("/oauth2/auth/sessions/consent?{query}"));
        assert_eq!(consent("consent_request_id=c1"), Reading::Knocks(Knock::Consent { challenge: "c1".into() }));
        for query in ["consent_request_id=c1&subject=ann&all=true", "client=app&consent_request_id=c1"] {
            assert!(matches!(consent(query), Reading::Unclear(_)), "{query}: later versions refuse it too");
        }
        assert_eq!(consent("subject=ann&client=&client=app&all=true"), Reading::Knocks(consents("ann", None)));
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
    fn what_a_status_means_beside_success_is_said_door_by_door() {
        let done = |doors: &Doors, path| doors.done(Listener::Public, &Method::DELETE, path).to_vec();
        assert_eq!(done(&own(), "/grants/"), [303]);
        assert!(done(&own(), "/users/ann/apps/x").is_empty() && done(&own(), "/else").is_empty());
        assert!(done(&Doors::new(plan::Doors::hydra()), "/oauth2/register/app").is_empty());
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
