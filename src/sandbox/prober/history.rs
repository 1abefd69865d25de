//! The prober's own history: counts, spans of calls, probe rows, and a file with one line per call for a post-mortem.
//!
//! Never writes a token or a secret.

use super::ledger::{Ledger, THEFT};
use super::rulings::plain_failure;
use super::words::{Call, Door, Kind, Report, Seen, Span, Switch};
use super::{holds, writers::Writers};
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Most spans kept; about seven hours at 200 requests a second.
const SPANS_MAX: usize = 5_000_000;
/// Most examples of what was wrong.
const EXAMPLES_MAX: usize = 20;
/// Lines waiting for the disk; beyond it lines are dropped rather than slowing the load.
const LINES_WAITING: usize = 10_000;

/// One line of the file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    kind: Kind,
    start_us: u64,
    end_us: u64,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<crate::plan::Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<&'a str>,
}

/// Everything the prober knows.
#[derive(Debug)]
pub(super) struct History {
    state: Mutex<State>,
    lines: mpsc::Sender<Vec<u8>>,
}

/// The part behind the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) writers: Writers,
    spans: Vec<Span>,
    seen: Seen,
    shed: u64,
    examples: Vec<String>,
}

impl State {
    /// Counts something wrong with an example.
    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what());
        }
    }

    /// A credential of a chain that has ended was accepted. A theft that was noticed is no revocation that anybody has been promised, and nobody but
    /// the engine knows of it: it may be lost with a side that is dead, and so is counted apart.
    pub(super) fn ended_accepted(&mut self, chain: usize, what: impl FnOnce() -> String) {
        if self.ledger.chains[chain].ended_by == THEFT {
            self.over_accepted(what);
        } else {
            self.revoked_accepted(what);
        }
    }

    /// Something was accepted that was over, and of whose end one side alone has to know.
    pub(super) fn over_accepted(&mut self, what: impl FnOnce() -> String) {
        self.seen.ended_accepted += 1;
        self.example(what);
    }

    /// A door was used, and it was done.
    pub(super) fn went_through(&mut self, door: Door) {
        *self.seen.doors.entry(door).or_default() += 1;
    }

    /// A revoked credential was accepted.
    pub(super) fn revoked_accepted(&mut self, what: impl FnOnce() -> String) {
        self.seen.revoked_accepted += 1;
        self.example(what);
    }

    /// An acknowledged write is not there.
    pub(super) fn lost_write(&mut self, what: impl FnOnce() -> String) {
        self.seen.lost_writes += 1;
        self.example(what);
    }

    /// What is known so far; the end check is the caller's.
    pub(super) fn report(&self) -> Report {
        let gaps = self.writers.gaps(&self.spans);
        let switches: Vec<Switch> = gaps.iter().map(|gap| holds::felt(&self.spans, *gap)).collect();
        let (flip, held) = switches.last().map(|last| (last.felt.clone(), last.held)).unwrap_or_default();
        let mut seen = self.seen.clone();
        seen.revoked = self.ledger.revoked.len() as u64;
        (seen.given_up, seen.given_up_consents) = self.ledger.given_up();
        seen.two_writer_ms = self.writers.two_writer_ms();
        Report {
            live: self.writers.live(),
            prober: seen,
            flip,
            held,
            flips: switches.len() as u64,
            switches,
            shed: self.shed,
            settled: false,
            unsettled_because: None,
            examples: self.examples.clone(),
        }
    }

    /// Forgets what an earlier end check found: a later one looks at everything again.
    pub(super) fn forget_lost_writes(&mut self) {
        self.seen.lost_writes = 0;
    }
}

impl History {
    /// Opens the file and its writer.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub(super) fn open(file: &Path) -> std::io::Result<Self> {
        let out = std::fs::File::create(file)?;
        let (lines, mut waiting) = mpsc::channel::<Vec<u8>>(LINES_WAITING);
        std::thread::spawn(move || {
            let mut out = std::io::BufWriter::new(out);
            while let Some(line) = waiting.blocking_recv() {
                let idle = waiting.is_empty();
                if out.write_all(&line).is_err() || (idle && out.flush().is_err()) {
                    return;
                }
            }
        });
        Ok(Self { state: Mutex::new(State::default()), lines })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a finished call. `forbidden` says why its answer contradicts the history, when it does; `what` names its object.
    pub(super) fn enter(&self, call: &Call, forbidden: Option<String>, what: Option<&str>) {
        let wrong = plain_failure(call).or(forbidden);
        let acked_write = call.kind.is_write() && call.success().is_some();
        {
            let mut state = self.lock();
            state.seen.requests += 1;
            state.seen.acked_writes += u64::from(acked_write);
            if acked_write {
                state.writers.acknowledged(call.side, call.start_us, call.end_us);
            }
            if let Some(wrong) = &wrong {
                state.seen.failed += 1;
                let (kind, at_ms, object) = (call.kind, call.start_us / 1000, what.unwrap_or("-"));
                state.example(|| format!("{kind:?} of {object} at {at_ms} ms: {wrong}"));
            }
            if state.spans.len() < SPANS_MAX {
                let Call { kind, start_us, end_us, side, .. } = *call;
                state.spans.push(Span { kind, start_us, end_us, side, acked_write });
            }
        }
        self.write(call, wrong.as_deref(), what);
    }

    /// Enters an attempt that should be refused: an acceptance is the judge's to count, not an acknowledged write.
    pub(super) fn enter_try(&self, call: &Call, what: &str) {
        let wrong = plain_failure(call);
        {
            let mut state = self.lock();
            state.seen.requests += 1;
            if let Some(wrong) = &wrong {
                state.seen.failed += 1;
                let (kind, at_ms) = (call.kind, call.start_us / 1000);
                state.example(|| format!("{kind:?} of {what} at {at_ms} ms: {wrong}"));
            }
        }
        self.write(call, wrong.as_deref(), Some(what));
    }

    /// Forgets failures from before the systems were up.
    pub(super) fn start_over(&self) {
        let mut state = self.lock();
        state.seen = Seen::default();
        state.examples.clear();
    }

    fn write(&self, call: &Call, wrong: Option<&str>, what: Option<&str>) {
        let Call { kind, start_us, end_us, side, epoch, .. } = *call;
        let line = Line { kind, start_us, end_us, status: call.status(), side, epoch, what, wrong };
        if let Ok(mut text) = serde_json::to_vec(&line) {
            text.push(b'\n');
            let _dropped_when_the_disk_is_slow = self.lines.try_send(text);
        }
    }

    /// A request of the load was not sent: too many are outstanding.
    pub(super) fn shed(&self) {
        self.lock().shed += 1;
    }
}
