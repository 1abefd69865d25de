//! Headers that end at a proxy, those that are ours alone, and who asks. Pure.

use super::clients;
use crate::plan::Side;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use std::net::IpAddr;

const OURS: &str = "x-cutover-";
const SIDE: HeaderName = HeaderName::from_static("x-cutover-side");
const EPOCH: HeaderName = HeaderName::from_static("x-cutover-epoch");
/// Most of a name that is kept.
const ACTOR_CHARS: usize = 255;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Puts a query that is encoded in place of a request's own. One that is too long for an address is left out: an engine refuses what names nothing.
pub(super) fn ask_only(uri: &mut Uri, query: &str) {
    let narrowed = format!("{}?{query}", uri.path()).parse();
    *uri = narrowed.or_else(|_| uri.path().parse()).unwrap_or_default();
}

/// Removes what concerns only the connection a message came by, and what only we may say: a client that says it could pretend to come by
/// another side.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    // One look at the few that there are costs less than to look for each that may not pass.
    let stopped: Vec<HeaderName> = headers.keys().filter(|name| ends_here(name)).cloned().collect();
    for name in stopped {
        headers.remove(name);
    }
}

fn ends_here(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || name.as_str().starts_with(OURS)
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // Neither names a header that passes.
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"))
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// Whoever is at the other end of a connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The address as it is passed on, written once for all requests of a connection.
    told: HeaderValue,
}

impl Peer {
    pub(super) fn new(address: IpAddr) -> Self {
        // An address is letters, digits, dots and colons.
        let told = HeaderValue::from_str(&address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { address, told }
    }
}

/// Adds the client's address to those of the proxies before us.
pub(super) fn add_client(headers: &mut HeaderMap, client: &Peer) {
    let before = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let told = match before {
        None => client.told.clone(),
        Some(before) => match HeaderValue::from_str(&format!("{before}, {}", client.address)) {
            Ok(all) => all,
            Err(_) => return,
        },
    };
    headers.insert(FORWARDED_FOR, told);
}

/// Who asks, as far as it can be seen: the client that the head names, which the engine has yet to believe, and the address it came from.
pub(super) fn actor(headers: &HeaderMap) -> String {
    let from = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let from: String = from.rsplit(", ").next().unwrap_or_default().chars().take(ACTOR_CHARS).collect();
    match clients::named(headers, b"") {
        Some(client) => format!("client {} from {from}", client.chars().take(ACTOR_CHARS).collect::<String>()),
        None => from,
    }
}

/// Says which side answered, at which epoch; whatever an engine says of that was taken out before.
pub(super) fn stamp(headers: &mut HeaderMap, side: Side, epoch: i64) {
    headers.insert(SIDE, HeaderValue::from_static(side.as_str()));
    headers.insert(EPOCH, HeaderValue::from(epoch));
}

/// Whether a request says its length in two ways, by which two servers could see two different requests in it. The HTTP library
/// itself already drops the length of a request that is chunked as well, and closes its connection after it.
pub(super) fn is_ambiguous(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    lengths > 1 || (lengths == 1 && headers.contains_key(header::TRANSFER_ENCODING))
}

/// Whether a body comes in a coding that ends at the next server and that we do not undo: all but one plain `chunked`.
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (first, second) = (codings.next(), codings.next());
    second.is_some() || first.is_some_and(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Whether a request names its host in two ways, by which two servers could take it for two different ones.
pub(super) fn names_two_hosts(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let differs = uri
        .authority()
        .zip(first)
        .is_some_and(|(named, host)| !host.as_bytes().eq_ignore_ascii_case(named.as_str().as_bytes()));
    second.is_some() || differs
}

/// Whether a request names a host where its path should be, which only CONNECT does (RFC 9112, 3.2.3): what is meant cannot be told.
pub(super) fn names_no_path(uri: &Uri) -> bool {
    uri.authority().is_some() && uri.scheme().is_none()
}

/// The declared length of a body, when there is one.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_connection_names_ends_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "close, x-secret"), ("x-secret", "1"), ("te", "trailers"), ("x-kept", "1")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn only_what_is_meant_is_asked() {
        let narrowed = |uri: &'static str, query: &str| {
            let mut uri = Uri::from_static(uri);
            ask_only(&mut uri, query);
            uri.to_string()
        };
        assert_eq!(narrowed("/sessions/login?subject=ann&sid=s1", "sid=s1"), "/sessions/login?sid=s1");
        assert_eq!(narrowed("http://host/a%2Fb?subject=ann", "sid=a%26b"), "/a%2Fb?sid=a%26b");
        let long = format!("sid={}", "%2F".repeat(30_000));
        assert_eq!(narrowed("/sessions/login?subject=ann", &long), "/sessions/login");
    }

    #[test]
    fn who_asks_is_named_by_the_address_that_we_saw() {
        let mut headers = HeaderMap::from_iter([(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"))]);
        add_client(&mut headers, &Peer::new(IpAddr::from([10, 0, 0, 2])));
        assert_eq!(actor(&headers), "10.0.0.2", "what came before it says what it likes");
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic YXBwOnNlY3JldA=="));
        assert_eq!(actor(&headers), "client app from 10.0.0.2");
    }

    #[test]
    fn nobody_else_can_say_which_side_answered() {
        let mut headers = HeaderMap::new();
        headers.insert(SIDE, HeaderValue::from_static("green"));
        headers.insert(HeaderName::from_static("x-cutover-anything"), HeaderValue::from_static("1"));
        strip(&mut headers);
        stamp(&mut headers, Side::Blue, 7);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[SIDE], "blue");
        assert_eq!(headers[EPOCH], "7");
    }
}
