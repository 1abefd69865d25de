//! The cookie by which a browser's flow is known again: on which side it began. No engine ever sees it. Pure.
//!
//! `SameSite=Lax` lets it come along when the login screens, on whatever site, send the browser back: that is a navigation of the whole
//! window by GET. It is `Lax` and not `Strict` for that reason, and not `None` because nothing else has a use for it.

use super::LIFE;
use crate::plan::Side;
use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;

/// Name and sign of the cookie.
const BEGINNING: &[u8] = b"cutover_flow=";

/// The side on which a browser's flow began, by its cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Began(pub(super) Side);

/// Takes our cookie out of a request, and keeps in its extensions what it says.
pub(in crate::gateway) fn take(head: &mut Parts) {
    let is_ours = |value: &HeaderValue| value.as_bytes().windows(BEGINNING.len()).any(|part| part == BEGINNING);
    if !head.headers.get_all(header::COOKIE).iter().any(is_ours) {
        return;
    }
    if let Some(side) = taken_from(&mut head.headers) {
        head.extensions.insert(Began(side));
    }
}

/// Every other cookie stays as it came. Of several of ours the first counts, as it would for an engine.
fn taken_from(headers: &mut HeaderMap) -> Option<Side> {
    let mut began = None;
    let mut kept = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        let (ours, others): (Vec<&[u8]>, Vec<&[u8]>) =
            value.as_bytes().split(|byte| *byte == b';').partition(|one| one.trim_ascii().starts_with(BEGINNING));
        began = began.or(ours.first().map(|one| one.trim_ascii()[BEGINNING.len()..].to_vec()));
        let others = others.join(&b';');
        kept.extend(HeaderValue::from_bytes(others.trim_ascii()).ok().filter(|others| !others.is_empty()));
    }
    headers.remove(header::COOKIE);
    for value in kept {
        headers.append(header::COOKIE, value);
    }
    side_of(&began?)
}

/// The epoch behind the side is for whoever reads a report of an error; nothing hangs on it.
fn side_of(value: &[u8]) -> Option<Side> {
    let side = value.split(|byte| *byte == b'.').next()?;
    [Side::Blue, Side::Green].into_iter().find(|known| known.as_str().as_bytes() == side)
}

/// How the cookie is set: where browsers see the authorize endpoint, and whether they see it by TLS.
pub(super) struct Attributes {
    pub(super) path: String,
    pub(super) is_secure: bool,
}

impl Attributes {
    /// Says that a flow began at a side; goes before no cookie of the engine's.
    pub(super) fn set(&self, headers: &mut HeaderMap, side: Side, epoch: i64) {
        self.put(headers, &format!("{side}.{epoch}"), LIFE.as_secs());
    }

    /// Forgets it.
    pub(super) fn forget(&self, headers: &mut HeaderMap) {
        self.put(headers, "", 0);
    }

    fn put(&self, headers: &mut HeaderMap, value: &str, age_s: u64) {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let path = &self.path;
        let cookie = format!("cutover_flow={value}; Path={path}; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn taken(cookies: &[&'static str]) -> (Option<Began>, Vec<String>) {
        let mut head = Request::new(()).into_parts().0;
        for cookie in cookies {
            head.headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        take(&mut head);
        let left = head.headers.get_all(header::COOKIE).iter();
        (head.extensions.get().copied(), left.map(|value| value.to_str().expect("text").to_owned()).collect())
    }

    #[test]
    fn our_cookie_is_taken_out_and_every_other_stays() {
        let left = |cookies: &[&str]| cookies.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let (blue, green) = (Some(Began(Side::Blue)), Some(Began(Side::Green)));
        assert_eq!(taken(&["cutover_flow=blue.7"]), (blue, left(&[])));
        assert_eq!(taken(&["a=1; cutover_flow=green.7; b=\"2\""]), (green, left(&["a=1; b=\"2\""])));
        assert_eq!(taken(&["cutover_flow=green.7; a=1", "cutover_flow=blue.1;b=2"]), (green, left(&["a=1", "b=2"])));
        assert_eq!(taken(&["a=1;b=2", "c=3"]), (None, left(&["a=1;b=2", "c=3"])));
        assert_eq!(taken(&["a=cutover_flow=blue.1; my_cutover_flow=green.1"]).0, None, "those are others'");
        assert_eq!(taken(&["cutover_flow=red.1"]), (None, left(&[])), "nobody knows that side");
    }
}
