//! The doors of the section `gateway`: requests that are revocations, each told apart from every other.

use crate::plan::document::{self as typed, Door, DoorMethod, DoorPlaces, Listener};
use crate::plan::model::{DoorPattern, DoorSegment, Doors, Named};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;

/// Statuses that say what to do next, or that somebody is not let in: by none of them anything is done.
const UNDONE: [u16; 4] = [307, 308, 401, 403];

type Other = (Listener, &'static str, &'static [&'static str]);

/// Requests that are something else: a revocation may not stand in their place.
const OTHERS: [Other; 7] = [
    (Listener::Public, "/oauth2/token", &["POST"]),
    (Listener::Public, "/userinfo", &["GET", "POST"]),
    (Listener::Public, "/version", &["GET"]),
    (Listener::Admin, "/version", &["GET"]),
    (Listener::Admin, "/admin/version", &["GET"]),
    (Listener::Admin, "/oauth2/introspect", &["POST"]),
    (Listener::Admin, "/admin/oauth2/introspect", &["POST"]),
];

impl Resolver<'_, '_> {
    pub(in crate::plan) fn doors(&mut self, typed: &typed::Gateway) -> Doors {
        let place = Place::top("gateway").key("patterns");
        let mut known: Vec<(String, DoorPattern)> = others();
        let mut doors = match typed.doors {
            typed::Doors::Hydra => Doors::hydra(),
            typed::Doors::Patterns => Doors { patterns: Vec::new() },
        };
        known.extend(doors.patterns.iter().map(|one| (format!("Hydra's own {}", one.door.as_str()), one.clone())));
        for (index, typed) in typed.patterns.iter().enumerate() {
            let place = place.index(index);
            let Some(pattern) = self.door(&place, typed) else { continue };
            if let Some((other, _)) = known.iter().find(|(_, other)| other.meets(&pattern)) {
                let message = format!("`{place}` cannot be told apart from {other}");
                let hint = "one request would be two things: give them other paths or methods, as the engine does";
                self.problems.key(&place, message, hint);
            }
            known.push((format!("`{place}`"), pattern.clone()));
            doors.patterns.push(pattern);
        }
        if typed.doors == typed::Doors::Patterns && typed.patterns.is_empty() {
            let place = Place::top("gateway").key("doors");
            let message = format!("`{place}` is `patterns`, and there are none");
            self.problems.value(&place, message, "no revocation would be captured: list them in `gateway.patterns`");
        }
        doors
    }

    fn door(&mut self, place: &Place, typed: &typed::DoorPattern) -> Option<DoorPattern> {
        let path = match DoorSegment::all(&typed.path) {
            Ok(path) => path,
            Err(why) => {
                let hint = "such as `/users/{subject}/apps/{client}`";
                self.problems.value(&place.key("path"), format!("`{}` {why}", place.key("path")), hint);
                return None;
            }
        };
        let pattern = DoorPattern {
            door: typed.door,
            listener: typed.listener,
            methods: typed.methods.iter().map(|method| word(*method)).collect(),
            path,
            query: places(&typed.query),
            form: places(&typed.form),
            done: typed.done.clone(),
            is_hydras: false,
        };
        match self.door_problem(&pattern) {
            None => Some(pattern),
            Some((why, hint)) => {
                self.problems.key(place, format!("`{place}` {why}"), hint);
                None
            }
        }
    }

    /// The first thing that is wrong with a pattern, and what to do.
    fn door_problem(&self, pattern: &DoorPattern) -> Option<(String, &'static str)> {
        let named: Vec<Named> = pattern.named().collect();
        let door = pattern.door;
        if pattern.methods.is_empty() {
            return Some(("has no method".to_owned(), "such as `methods: [DELETE]`"));
        }
        if let Some(other) = named.iter().find(|named| !named.is_looked_at_by(door)) {
            let why = format!("names a {}, which the door {} does not look at", other.as_str(), door.as_str());
            return Some((why, "name what the door revokes, and nothing else"));
        }
        if let Some(twice) = named.iter().find(|one| named.iter().filter(|other| other == one).count() > 1) {
            return Some((format!("names the {} twice", twice.as_str()), "one place says it; two may say two things"));
        }
        let needed = Named::needed_by(door);
        if !needed.iter().any(|needed| named.contains(needed)) {
            let words: Vec<&str> = needed.iter().map(|named| named.as_str()).collect();
            let why = format!("does not say whom it means: the door {} needs {}", door.as_str(), words.join(" or "));
            return Some((why, "say where it stands: `{…}` in `path`, or a name in `query` or `form`"));
        }
        if named.contains(&Named::Token) && pattern.form.is_empty() {
            return Some((
                "has a token in an address".to_owned(),
                "addresses are logged: only a form can hold a token",
            ));
        }
        let is_no_word = |status: &&u16| !(300..=499).contains(*status) || UNDONE.contains(*status);
        if let Some(status) = pattern.done.iter().find(is_no_word) {
            let why = format!("takes status {status} for done, which it cannot say");
            return Some((why, "such as `done: [303, 404]`; 2xx is done anyway, and of a 5xx nobody knows"));
        }
        let is_bodiless = pattern.methods.contains(&"GET") && !pattern.form.is_empty();
        is_bodiless.then(|| ("is a GET with a form".to_owned(), "a GET has none: use `query`"))
    }
}

fn others() -> Vec<(String, DoorPattern)> {
    let one = |(listener, place, methods): Other| {
        let pattern = DoorPattern {
            door: Door::Token,
            listener,
            methods: methods.to_vec(),
            path: DoorSegment::all(place).expect("a path of ours"),
            query: Vec::new(),
            form: Vec::new(),
            done: Vec::new(),
            is_hydras: true,
        };
        (format!("{place}, which is no revocation"), pattern)
    };
    OTHERS.into_iter().map(one).collect()
}

fn word(method: DoorMethod) -> &'static str {
    match method {
        DoorMethod::Get => "GET",
        DoorMethod::Post => "POST",
        DoorMethod::Put => "PUT",
        DoorMethod::Patch => "PATCH",
        DoorMethod::Delete => "DELETE",
    }
}

fn places(typed: &DoorPlaces) -> Vec<(Named, String)> {
    let all = [
        (Named::Token, &typed.token),
        (Named::Subject, &typed.subject),
        (Named::Client, &typed.client),
        (Named::Consent, &typed.consent),
        (Named::Session, &typed.session),
        (Named::Verifier, &typed.verifier),
    ];
    all.into_iter().filter_map(|(named, name)| Some((named, name.clone()?))).collect()
}
