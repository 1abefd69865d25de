//! Routes and flows of the section `gateway`: no route passes a hold that changes something or shows a token.

use crate::plan::document::{self as typed, Listener};
use crate::plan::model::{DoorSegment, Doors, Flows, Route, RoutePath};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;

/// What is read with `GET` and yet may not be answered by a side that is about to be left: where it stands, and why.
const NEVER: [(Listener, &str, &str); 6] = [
    (Listener::Public, "/oauth2/auth", "writes down a login"),
    (Listener::Public, "/oauth2/device/verify", "writes down a login"),
    (Listener::Public, "/oauth2/sessions/logout", "ends a session"),
    (Listener::Public, "/userinfo", "presents a token"),
    (Listener::Public, "/oauth2/register/{client}", "presents a token"),
    (Listener::Public, "/connect/register/{client}", "presents a token"),
];

impl Resolver<'_, '_> {
    pub(in crate::plan) fn routes(&mut self, typed: &typed::Gateway, doors: &Doors) -> Vec<Route> {
        let place = Place::top("gateway").key("routes");
        let mut routes: Vec<(usize, Route)> = Vec::new();
        for (index, typed) in typed.routes.iter().enumerate() {
            let place = place.index(index);
            let Some(route) = self.route(&place, typed, doors) else { continue };
            let is_same = |other: &Route| other.listener == route.listener && other.path == route.path;
            if let Some((first, _)) = routes.iter().find(|(_, other)| is_same(other)) {
                let message = format!("`{place}` has the path of `gateway.routes[{first}]`");
                self.problems.value(&place.key("path"), message, "say everything of one path at one place");
            }
            routes.push((index, route));
        }
        routes.into_iter().map(|(_, route)| route).collect()
    }

    fn route(&mut self, place: &Place, typed: &typed::Route, doors: &Doors) -> Option<Route> {
        let path = match RoutePath::parse(&typed.path) {
            Ok(path) => path,
            Err(why) => {
                let hint = "such as `/health/ready`, or `/.well-known/*` for everything below";
                self.problems.value(&place.key("path"), format!("`{}` {why}", place.key("path")), hint);
                return None;
            }
        };
        let passes = typed.policy == typed::RoutePolicy::Pass;
        let route = Route { listener: typed.listener, path, passes, priority: typed.priority };
        if let Some(what) = passes.then(|| never_passed(&route, doors)).flatten() {
            let hint = "what passes a hold changes nothing and shows no token: name narrower paths";
            self.problems.value(&place.key("policy"), format!("`{place}` would pass {what}"), hint);
        }
        Some(route)
    }
}

impl Resolver<'_, '_> {
    /// The address stands before a request's own path, and its path in a cookie.
    pub(in crate::plan) fn flows(&mut self, typed: &typed::Flows) -> Flows {
        let place = Place::top("gateway").key("flows").key("restart");
        let restart = self.http_url(&place, &typed.restart).unwrap_or_default();
        if restart.chars().any(|sign| !sign.is_ascii_graphic() || ";,\"\\%".contains(sign)) {
            let hint =
                "such as `https://auth.example.com`, with a path only where browsers see one before `/oauth2/auth`";
            self.problems.value(&place, format!("`{place}` is not a plain address"), hint);
        }
        Flows { restart }
    }
}

/// The first request that a route would pass and may not.
fn never_passed(route: &Route, doors: &Doors) -> Option<String> {
    let known = NEVER.iter().find(|(listener, path, _)| {
        let door = DoorSegment::all(path).expect("a path of ours");
        *listener == route.listener && route.path.meets(&door)
    });
    let mut revoking = doors.patterns.iter().filter(|door| door.listener == route.listener);
    let known = known.map(|(_, path, why)| format!("GET {path}, which {why}"));
    known.or_else(|| {
        let door = revoking.find(|door| door.methods.contains(&"GET") && route.path.meets(&door.path))?;
        Some(format!("a GET that is a revocation ({})", door.door.as_str()))
    })
}
