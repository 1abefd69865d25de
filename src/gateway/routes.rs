//! How each request stands before the gate: whether it passes a hold, and when it is let go after one. Pure.
//!
//! The plan has already refused whatever may pass no hold; here it is only looked at that nothing else passes in its place. A request is
//! told by its path as it came, so that no request costs more than a comparison with each route.

use super::waiting::Lane;
use crate::plan::Route;
use crate::revocations::hydra::{Class, Listener};
use hyper::Method;
use std::cmp::Reverse;

/// How a request stands before the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// Where it waits.
    pub(super) lane: Lane,
    /// Whether it is answered through a hold by the side that is being left. Once the gate is turned to the other side it waits too.
    pub(super) passes_hold: bool,
}

impl Manner {
    /// How requests of a class stand when the plan says nothing of them.
    pub(super) fn of(class: Class) -> Self {
        Self { lane: Lane::of(class), passes_hold: class == Class::Introspection }
    }
}

/// The routes of a plan.
#[derive(Clone)]
pub(super) struct Routes {
    /// The most exact first.
    routes: Vec<Route>,
}

impl Routes {
    /// Those of the plan.
    pub(super) fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| (route.path.is_below, Reverse(route.path.text.len())));
        Self { routes }
    }

    /// How a request stands. A revocation is never a route's: it waits before all others and passes no hold.
    pub(super) fn manner(&self, listener: Listener, method: &Method, path: &str, class: Class) -> Manner {
        let usual = Manner::of(class);
        let fits = |route: &&Route| route.listener == listener && route.path.fits(path);
        let Some(route) = self.routes.iter().find(fits).filter(|_| class != Class::Revocation) else { return usual };
        let is_read = *method == Method::GET || *method == Method::HEAD;
        Manner {
            lane: route.priority.map_or(usual.lane, Lane::at),
            passes_hold: usual.passes_hold || (route.passes && is_read && class == Class::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RoutePath;

    fn routes() -> Routes {
        let one = |path, passes, priority| {
            let path = RoutePath::parse(path).expect("a path");
            Route { listener: Listener::Public, path, passes, priority }
        };
        Routes::new(vec![
            one("/*", true, None),
            one("/held/*", false, Some(9)),
            one("/held/but/*", true, Some(1)),
            one("/held/but/one", false, None),
            one("/oauth2/token", true, Some(1)),
        ])
    }

    fn manner(method: &Method, path: &str, class: Class) -> Manner {
        routes().manner(Listener::Public, method, path, class)
    }

    #[test]
    fn the_most_exact_route_counts() {
        let asked = |path| manner(&Method::GET, path, Class::Other);
        let usual = Lane::of(Class::Other);
        for (path, lane, passes_hold) in [
            ("/anything", usual, true),
            ("/held/a", Lane::at(9), false),
            ("/held/but/a", Lane::at(1), true),
            ("/held/but/one", usual, false),
        ] {
            assert_eq!(asked(path), Manner { lane, passes_hold }, "{path}");
        }
        let admin = routes().manner(Listener::Admin, &Method::GET, "/anything", Class::Other);
        assert_eq!(admin, Manner::of(Class::Other), "it is another listener's");
    }

    #[test]
    fn only_what_reads_passes_and_no_revocation_is_a_routes() {
        assert!(manner(&Method::HEAD, "/anything", Class::Other).passes_hold);
        for (method, path, class) in [
            (Method::POST, "/anything", Class::Other),
            (Method::DELETE, "/anything", Class::Other),
            (Method::GET, "/oauth2/token", Class::Token),
            (Method::GET, "/anything", Class::Revocation),
        ] {
            assert!(!manner(&method, path, class).passes_hold, "{method} {path}");
        }
        assert_eq!(manner(&Method::POST, "/oauth2/token", Class::Token).lane, Lane::at(1));
        assert_eq!(manner(&Method::POST, "/oauth2/token", Class::Revocation).lane, Lane::of(Class::Revocation));
        assert!(manner(&Method::POST, "/held/a", Class::Introspection).passes_hold, "introspection always passes");
    }
}
