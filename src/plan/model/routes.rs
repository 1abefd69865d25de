//! What single routes are let do while clients are held. Pure.

use super::DoorSegment;
use crate::plan::document::Listener;

/// The requests of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The listener they come in by.
    pub listener: Listener,
    /// Their path.
    pub path: RoutePath,
    /// Whether `GET` and `HEAD` are answered through a hold by the side that is being left.
    pub passes: bool,
    /// When they are let go, from 1 to [`Route::LAST`]; none for the usual order.
    pub priority: Option<u8>,
}

impl Route {
    /// The lowest priority.
    pub const LAST: u8 = 9;
}

/// One path, or everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePath {
    /// The path; without a slash at its end when everything below is meant.
    pub text: String,
    /// Whether what lies below is meant, and not the path itself.
    pub is_below: bool,
}

impl RoutePath {
    /// A path of a plan; an error says what is wrong with it.
    ///
    /// # Errors
    /// When it is relative, or could be written in another way: a request is only told by the one plain spelling.
    pub fn parse(path: &str) -> Result<Self, String> {
        let (text, is_below) = path.strip_suffix("/*").map_or((path, false), |before| (before, true));
        if !path.starts_with('/') {
            return Err("does not begin with a slash".to_owned());
        }
        if text.contains('*') {
            return Err("holds a `*` that is not its whole last segment".to_owned());
        }
        if let Some(sign) = text.chars().find(|sign| !sign.is_ascii_graphic() || "%?#{}\\;".contains(*sign)) {
            return Err(format!("holds `{sign}`: a route is plain text, without a query"));
        }
        if text != "/" && !is_plain(text) {
            return Err("holds an empty segment or one of dots, such as a slash at its end".to_owned());
        }
        Ok(Self { text: text.to_owned(), is_below })
    }

    /// Whether a request has this path, in its plain spelling. Whoever spells it otherwise is held like everybody: an engine might read
    /// another path in it.
    #[must_use]
    pub fn fits(&self, path: &str) -> bool {
        match path.strip_prefix(self.text.as_str()) {
            Some("") => !self.is_below,
            Some(rest) => self.is_below && rest.starts_with('/') && !rest.contains('%') && is_plain(rest),
            None => false,
        }
    }

    /// Whether a request could have this path and one of a door's kind.
    #[must_use]
    pub fn meets(&self, door: &[DoorSegment]) -> bool {
        let own: Vec<&str> = self.text.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
        let is_as_long = if self.is_below { door.len() > own.len() } else { door.len() == own.len() };
        let is_same = |(own, door): (&&str, &DoorSegment)| match door {
            DoorSegment::Text(text) => text == own,
            DoorSegment::Value(_) => true,
        };
        is_as_long && own.iter().zip(door).all(is_same)
    }
}

/// Whether no segment is empty or of dots; nothing at all is plain.
fn is_plain(path: &str) -> bool {
    path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_told_by_its_plain_spelling_alone() {
        let path = |text| RoutePath::parse(text).expect("a path");
        let below = path("/.well-known/*");
        assert!(below.fits("/.well-known/jwks.json") && below.fits("/.well-known/a/b"));
        let others = ["/.well-known", "/.well-knownx/a", "/.well-known/../userinfo", "/.well-known/%2e%2e/userinfo"];
        for other in others.into_iter().chain(["/.well-known//a", "/.well-known/./a", "/x/.well-known/a"]) {
            assert!(!below.fits(other), "{other}");
        }
        let whole = path("/clients");
        assert!(whole.fits("/clients"));
        assert!(!whole.fits("/clients/") && !whole.fits("/clients/a") && !whole.fits("/client"));
        assert!(path("/*").fits("/anything") && path("/").fits("/") && !path("/").fits("/anything"));
    }

    #[test]
    fn a_route_meets_the_doors_below_it() {
        let meets = |route, door| {
            RoutePath::parse(route).expect("a path").meets(&DoorSegment::all(door).expect("the path of a door"))
        };
        assert!(meets("/users/*", "/users/{subject}") && meets("/users/ann", "/users/{subject}"));
        assert!(meets("/*", "/userinfo") && meets("/userinfo", "/userinfo"));
        assert!(!meets("/users/*", "/users") && !meets("/users", "/users/{subject}") && !meets("/a/*", "/b/c"));
    }

    #[test]
    fn a_path_that_could_be_spelled_in_two_ways_is_refused() {
        for wrong in
            ["clients", "", "*", "/a/*/b", "/a*", "/a/**", "/a%20b", "/a?b", "/{client}", "/a//b", "/a/", "/a/../b"]
        {
            assert!(RoutePath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
