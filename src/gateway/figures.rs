//! What clients were answered on each side within the last hour, second by second, in memory alone.
//!
//! A request is counted in the second in which it ended, once, when its [`Asked`] is dropped. The words in which it is told are
//! `traffic::figures`; nothing is judged here.

use super::answer::Body;
use super::clients::Clients;
use super::times::{Sum, Times};
use super::upload::{Awaited, watched};
use crate::plan::Side;
use crate::traffic::figures::{Answers, Figures, LONGEST_S};
use hyper::StatusCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// One for each second that can be looked back to; all of them together are less than 2 MB.
const SLOTS: usize = LONGEST_S as usize;

/// What an engine is asked, as far as the figures tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Who it is: the systems ask that themselves while they verify, so it says nothing of clients.
    Version,
    /// For a new token, by a refresh token.
    Refresh,
    /// Anything else.
    Other,
}

/// The figures of a gateway since its start.
pub(super) struct Tallies {
    started: Instant,
    slots: Mutex<Vec<Slot>>,
    clients: Mutex<Clients>,
}

/// One second, counted from the start.
#[derive(Clone)]
struct Slot {
    second: u64,
    blue: Tally,
    green: Tally,
}

/// One side's second.
#[derive(Clone)]
struct Tally {
    requests: u32,
    failed: u32,
    forbidden: u32,
    refreshes: u32,
    refused_refreshes: u32,
    times: Times,
}

/// A request that has ended.
struct Ended {
    side: Side,
    question: Question,
    status: Option<StatusCode>,
    is_broken: bool,
    took: Duration,
    client: Option<String>,
}

impl Ended {
    fn is_forbidden(&self) -> bool {
        matches!(self.status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    }

    fn is_failed(&self) -> bool {
        self.is_broken || self.status.is_some_and(|status| status.is_server_error())
    }

    /// A refresh that the engine accepted or refused; with 5xx it has done neither.
    fn is_refresh(&self) -> bool {
        self.question == Question::Refresh && self.status.is_some_and(|status| !status.is_server_error())
    }

    fn is_refused_refresh(&self) -> bool {
        self.is_refresh() && self.status.is_some_and(|status| status.is_client_error())
    }
}

impl Slot {
    const NONE: Self = Self { second: 0, blue: Tally::NONE, green: Tally::NONE };

    fn of(&mut self, side: Side) -> &mut Tally {
        match side {
            Side::Blue => &mut self.blue,
            Side::Green => &mut self.green,
        }
    }
}

impl Tally {
    const NONE: Self =
        Self { requests: 0, failed: 0, forbidden: 0, refreshes: 0, refused_refreshes: 0, times: Times::NONE };

    fn count(&mut self, ended: &Ended) {
        self.requests += 1;
        self.failed += u32::from(ended.is_failed());
        self.forbidden += u32::from(ended.is_forbidden());
        self.refreshes += u32::from(ended.is_refresh());
        self.refused_refreshes += u32::from(ended.is_refused_refresh());
        self.times.count(ended.took);
    }
}

impl Tallies {
    pub(super) fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self { started, slots: Mutex::new(vec![Slot::NONE; SLOTS]), clients: Mutex::default() })
    }

    /// What ended within the last `seconds` before `now`. The second that has just begun is one of them, so that a caller who asks for
    /// the time since some moment is never told of what was before it.
    pub(super) fn last(&self, seconds: u64, now: Instant) -> Figures {
        let second = self.second(now);
        let oldest = (second + 1).saturating_sub(seconds.min(LONGEST_S));
        let (mut blue, mut green) = (Answers::default(), Answers::default());
        let (mut blue_times, mut green_times) = (Sum::NONE, Sum::NONE);
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.iter().filter(|slot| slot.second >= oldest) {
            add(&mut blue, &mut blue_times, &slot.blue);
            add(&mut green, &mut green_times, &slot.green);
        }
        drop(slots);
        blue.p95_ms = blue_times.p95_ms();
        green.p95_ms = green_times.p95_ms();
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let by_client = |side| clients.since(side, oldest);
        let (blue_clients, green_clients) = (by_client(Side::Blue), by_client(Side::Green));
        Figures { seconds: seconds.min(LONGEST_S).min(second), blue, green, blue_clients, green_clients }
    }

    fn count(&self, ended: &Ended, now: Instant) {
        let second = self.second(now);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[second as usize % SLOTS];
        if slot.second != second {
            *slot = Slot { second, ..Slot::NONE };
        }
        slot.of(ended.side).count(ended);
        drop(slots);
        if let Some(client) = ended.client.as_ref().filter(|_| ended.is_refresh()) {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.count(client, ended.side, second, ended.is_refused_refresh());
        }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }
}

fn add(answers: &mut Answers, times: &mut Sum, tally: &Tally) {
    if tally.requests == 0 {
        return;
    }
    answers.requests += u64::from(tally.requests);
    answers.failed += u64::from(tally.failed);
    answers.forbidden += u64::from(tally.forbidden);
    answers.refreshes += u64::from(tally.refreshes);
    answers.refused_refreshes += u64::from(tally.refused_refreshes);
    times.add(&tally.times);
}

/// A request that was sent to an engine, until it has ended: counted when this is dropped.
///
/// A client that goes away ends its request too. That is no failure of the engine; the time until then counts as the answer's, so that an
/// engine which keeps everybody waiting until they leave is at least seen to be slow.
pub(super) struct Asked {
    tallies: Arc<Tallies>,
    side: Side,
    question: Question,
    sent: Instant,
    awaited: Awaited,
    /// What the engine answered by.
    status: Option<StatusCode>,
    is_broken: bool,
    /// Who refreshes, where that was seen.
    client: Option<String>,
}

impl Asked {
    /// A request that is about to be sent to the engine of `side`; gives its body to be sent.
    pub(super) fn now(tallies: &Arc<Tallies>, side: Side, question: Question, body: Body) -> (Self, Body) {
        let tallies = Arc::clone(tallies);
        let (awaited, body) = watched(body);
        (
            Self {
                tallies,
                side,
                question,
                sent: Instant::now(),
                awaited,
                status: None,
                is_broken: false,
                client: None,
            },
            body,
        )
    }

    /// Who refreshes.
    pub(super) fn by(&mut self, client: Option<String>) {
        self.client = client;
    }

    /// Whether it is the client who is being waited for: its request has not come whole.
    pub(super) fn awaits_client(&self) -> bool {
        self.awaited.is_client()
    }

    /// Whether its client has broken off in the request, or sent what nobody takes.
    pub(super) fn is_broken_off(&self) -> bool {
        self.awaited.is_broken()
    }

    /// The engine began to answer.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The engine did not answer, not in time, or not to the end.
    pub(super) fn broke(&mut self) {
        self.is_broken = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // What its client never sent whole was never asked.
        let is_unasked = self.status.is_none() && self.awaited.is_client();
        if self.question == Question::Version || is_unasked {
            return;
        }
        let now = Instant::now();
        let Self { side, question, status, is_broken, .. } = *self;
        let client = self.client.take();
        self.tallies.count(&Ended { side, question, status, is_broken, took: now - self.sent, client }, now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{BoxError, full};
    use super::*;
    use bytes::Bytes;
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;

    fn ended(side: Side, took_ms: u64) -> Ended {
        let took = Duration::from_millis(took_ms);
        Ended { side, question: Question::Other, status: Some(StatusCode::OK), is_broken: false, took, client: None }
    }

    fn after(tallies: &Tallies, seconds: f64) -> Instant {
        tallies.started + Duration::from_secs_f64(seconds)
    }

    fn requests(tallies: &Tallies, last_s: u64, now_s: f64) -> u64 {
        tallies.last(last_s, after(tallies, now_s)).blue.requests
    }

    #[tokio::test]
    async fn looking_back_counts_only_these_seconds() {
        let tallies = Tallies::new(Instant::now());
        for at_s in [0.5, 10.0, 10.9, 11.0] {
            tallies.count(&ended(Side::Blue, 1), after(&tallies, at_s));
        }
        assert_eq!(requests(&tallies, 1, 11.5), 1, "the second that has begun");
        assert_eq!(requests(&tallies, 2, 11.5), 3);
        assert_eq!(requests(&tallies, 11, 11.5), 3, "half a second after the start is before them");
        assert_eq!(requests(&tallies, 12, 11.5), 4);
        assert_eq!(requests(&tallies, LONGEST_S, 11.5), 4);
    }

    #[tokio::test]
    async fn a_second_of_an_hour_ago_makes_room() {
        let tallies = Tallies::new(Instant::now());
        tallies.count(&ended(Side::Blue, 1), after(&tallies, 5.0));
        tallies.count(&ended(Side::Green, 1), after(&tallies, 5.0));
        assert_eq!(requests(&tallies, LONGEST_S, 3604.9), 1);
        assert_eq!(requests(&tallies, LONGEST_S, 3605.0), 0, "an hour has gone by, though nothing has replaced it");
        tallies.count(&ended(Side::Blue, 1), after(&tallies, 3605.0));
        let figures = tallies.last(LONGEST_S, after(&tallies, 3605.0));
        assert_eq!((figures.blue.requests, figures.green.requests), (1, 0), "of this hour's second alone");
    }

    #[tokio::test]
    async fn it_looks_back_no_further_than_its_start_and_an_hour() {
        let tallies = Tallies::new(Instant::now());
        let seconds = |asked, now_s| tallies.last(asked, after(&tallies, now_s)).seconds;
        assert_eq!(seconds(3600, 0.9), 0);
        assert_eq!(seconds(3600, 90.9), 90);
        assert_eq!(seconds(30, 90.9), 30);
        assert_eq!(seconds(9000, 9000.0), LONGEST_S);
    }

    #[tokio::test]
    async fn each_side_has_its_own_figures() {
        let tallies = Tallies::new(Instant::now());
        for second in 0..100 {
            tallies.count(&ended(Side::Blue, 10), after(&tallies, f64::from(second)));
            tallies.count(&Ended { is_broken: true, ..ended(Side::Green, 500) }, after(&tallies, f64::from(second)));
        }
        let figures = tallies.last(50, after(&tallies, 99.0));
        assert_eq!((figures.blue.requests, figures.blue.failed), (50, 0));
        assert_eq!((figures.green.requests, figures.green.failed), (50, 50));
        let near =
            |p95_ms: Option<f64>, expected: f64| p95_ms.is_some_and(|found| (found / expected - 1.0).abs() < 0.15);
        assert!(near(figures.blue.p95_ms, 10.0) && near(figures.green.p95_ms, 500.0), "{figures:?}");
        let nobody = tallies.last(1, after(&tallies, 200.0));
        assert_eq!((nobody.blue, nobody.green), (Answers::default(), Answers::default()));
    }

    #[test]
    fn the_memory_is_bounded() {
        assert!(SLOTS * size_of::<Slot>() < 2_000_000);
    }

    #[tokio::test]
    async fn a_request_is_counted_when_it_has_ended() {
        let tallies = Tallies::new(Instant::now());
        let ask = |question| Asked::now(&tallies, Side::Green, question, full("")).0;
        let mut asked = ask(Question::Other);
        asked.answered(StatusCode::OK);
        asked.sent -= Duration::from_millis(300);
        assert_eq!(tallies.last(9, Instant::now()).green.requests, 0, "it is still being answered");
        drop(asked);
        let green = tallies.last(9, Instant::now()).green;
        assert_eq!((green.requests, green.failed), (1, 0));
        assert!(green.p95_ms.is_some_and(|p95_ms| (250.0..350.0).contains(&p95_ms)), "{green:?}");
    }

    #[tokio::test]
    async fn only_what_the_engine_owes_is_a_failure() {
        let tallies = Tallies::new(Instant::now());
        let ask = |question| Asked::now(&tallies, Side::Blue, question, full("")).0;
        ask(Question::Other).answered(StatusCode::BAD_GATEWAY);
        ask(Question::Other).answered(StatusCode::NOT_FOUND);
        ask(Question::Other).broke();
        let mut broken_off = ask(Question::Other);
        broken_off.answered(StatusCode::OK);
        broken_off.broke();
        drop(broken_off);
        drop(ask(Question::Other));
        ask(Question::Version).broke();
        let blue = tallies.last(9, Instant::now()).blue;
        assert_eq!((blue.requests, blue.failed), (5, 3), "a client that left is no failure, a version no request");
    }

    #[tokio::test]
    async fn a_refresh_is_accepted_or_refused_or_neither() {
        let tallies = Tallies::new(Instant::now());
        let ask = |question| Asked::now(&tallies, Side::Blue, question, full("")).0;
        for status in [200, 400, 401, 500] {
            ask(Question::Refresh).answered(StatusCode::from_u16(status).expect("a status"));
        }
        ask(Question::Refresh).broke();
        ask(Question::Other).answered(StatusCode::BAD_REQUEST);
        let mut named = ask(Question::Refresh);
        named.answered(StatusCode::OK);
        named.by(Some("an app".into()));
        drop(named);
        let figures = tallies.last(9, Instant::now());
        assert_eq!((figures.blue_clients.len(), figures.green_clients.len()), (1, 0));
        let blue = figures.blue;
        assert_eq!((blue.requests, blue.refreshes, blue.refused_refreshes, blue.forbidden), (7, 4, 2, 1));
        assert_eq!(blue.failed, 2);
    }

    #[tokio::test]
    async fn what_the_client_never_sent_was_never_asked() {
        let tallies = Tallies::new(Instant::now());
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let silent = Body::streamed(StreamBody::new(silent));
        let (mut asked, mut body) = Asked::now(&tallies, Side::Blue, Question::Other, silent);
        assert!(body.frame().now_or_never().is_none());
        asked.broke();
        drop(asked);
        assert_eq!(tallies.last(1, Instant::now()).blue, Answers::default());
    }
}
