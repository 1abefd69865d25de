//! Refreshes by client within the last hour, in steps of ten seconds, in memory alone.
//!
//! A client's id counts once the engine has answered it with a token: whatever else a request says of itself, it proves nothing, and would let
//! anybody fill the list. Ids are no secrets; nothing else of a client is kept.

use crate::plan::Side;
use crate::traffic::figures::{CLIENTS, LONGEST_S, Refreshes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{HeaderMap, header};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Seconds that are counted together.
const STEP_S: u64 = 10;
/// Longest id that is kept, as long as an engine's column for it.
const ID_BYTES: usize = 255;

/// What was counted, the newest step last.
#[derive(Default)]
pub(super) struct Clients {
    numbers: HashMap<String, usize>,
    steps: VecDeque<Step>,
}

/// One step of one side, by the client's number: all refreshes, and refused ones.
struct Step {
    step: u64,
    blue: BTreeMap<usize, (u32, u32)>,
    green: BTreeMap<usize, (u32, u32)>,
}

impl Step {
    fn of(&self, side: Side) -> &BTreeMap<usize, (u32, u32)> {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

impl Clients {
    /// Counts a refresh that the engine has answered in this second.
    pub(super) fn count(&mut self, client: &str, side: Side, second: u64, is_refused: bool) {
        let number = match self.numbers.get(client) {
            Some(number) => *number,
            None if is_refused || self.numbers.len() >= CLIENTS || client.len() > ID_BYTES => return,
            None => {
                let number = self.numbers.len();
                self.numbers.insert(client.to_owned(), number);
                number
            }
        };
        let step = second / STEP_S;
        while self.steps.front().is_some_and(|oldest| oldest.step + LONGEST_S / STEP_S < step) {
            self.steps.pop_front();
        }
        if self.steps.back().is_none_or(|newest| newest.step < step) {
            self.steps.push_back(Step { step, blue: BTreeMap::new(), green: BTreeMap::new() });
        }
        let Some(newest) = self.steps.back_mut() else { return };
        let counts = match side {
            Side::Blue => newest.blue.entry(number).or_default(),
            Side::Green => newest.green.entry(number).or_default(),
        };
        *counts = (counts.0 + 1, counts.1 + u32::from(is_refused));
    }

    /// What was counted on a side since this second, whoever refreshes most first.
    pub(super) fn since(&self, side: Side, oldest: u64) -> Vec<Refreshes> {
        let mut sum = vec![(0_u64, 0_u64); self.numbers.len()];
        for step in self.steps.iter().filter(|step| step.step >= oldest / STEP_S) {
            for (number, (all, refused)) in step.of(side) {
                sum[*number] = (sum[*number].0 + u64::from(*all), sum[*number].1 + u64::from(*refused));
            }
        }
        let named = self.numbers.iter().map(|(client, number)| (client, sum[*number]));
        let named = named.filter(|(_, (refreshes, _))| *refreshes > 0);
        let mut told: Vec<Refreshes> = named
            .map(|(client, (refreshes, refused))| Refreshes { client: client.clone(), refreshes, refused })
            .collect();
        told.sort_by(|one, other| other.refreshes.cmp(&one.refreshes).then_with(|| one.client.cmp(&other.client)));
        told
    }
}

/// The client that a token request names: by HTTP Basic, or in its form.
pub(super) fn named(headers: &HeaderMap, form: &[u8]) -> Option<String> {
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = basic.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("basic"));
    if let Some((_, pair)) = basic {
        let pair = String::from_utf8(STANDARD.decode(pair.trim()).ok()?).ok()?;
        let id = format!("id={}", pair.split_once(':')?.0);
        return url::form_urlencoded::parse(id.as_bytes()).next().map(|(_, id)| id.into_owned());
    }
    url::form_urlencoded::parse(form).find(|(key, _)| key == "client_id").map(|(_, id)| id.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn of(client: &str, refreshes: u64, refused: u64) -> Refreshes {
        Refreshes { client: client.into(), refreshes, refused }
    }

    #[test]
    fn who_refreshes_is_counted_by_side_and_time() {
        let mut clients = Clients::default();
        for (client, second, is_refused) in [("a", 5, false), ("b", 6, false), ("b", 15, true), ("b", 16, false)] {
            clients.count(client, Side::Blue, second, is_refused);
        }
        clients.count("a", Side::Green, 20, true);
        assert_eq!(clients.since(Side::Blue, 0), [of("b", 3, 1), of("a", 1, 0)]);
        assert_eq!(clients.since(Side::Blue, 10), [of("b", 2, 1)]);
        assert_eq!(clients.since(Side::Green, 0), [of("a", 1, 1)]);
        clients.count("a", Side::Blue, 20 + LONGEST_S, false);
        assert_eq!(clients.since(Side::Blue, 0), [of("a", 1, 0)], "an hour later");
    }

    #[test]
    fn only_a_client_whom_the_engine_has_answered_is_named_and_not_without_end() {
        let mut clients = Clients::default();
        clients.count("a stranger", Side::Blue, 1, true);
        clients.count(&"x".repeat(ID_BYTES + 1), Side::Blue, 1, false);
        assert_eq!(clients.since(Side::Blue, 0), []);
        for number in 0..CLIENTS + 50 {
            clients.count(&format!("client {number}"), Side::Blue, 1, false);
        }
        assert_eq!(clients.since(Side::Blue, 0).len(), CLIENTS);
    }

    #[test]
    fn a_request_names_its_client_in_its_head_or_in_its_form() {
        let head = |value: &str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a value"))])
        };
        let basic = format!("Basic {}", STANDARD.encode("an%20app:a secret"));
        assert_eq!(named(&head(&basic), b"client_id=other").as_deref(), Some("an app"));
        assert_eq!(named(&HeaderMap::new(), b"a=b&client_id=an+app&client_secret=x").as_deref(), Some("an app"));
        assert_eq!(named(&HeaderMap::new(), b"a=b"), None);
        assert_eq!(named(&head("Basic !"), b""), None);
    }
}
