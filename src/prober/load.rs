//! Requests at a fixed rate, whatever the answers do: latency counts from the moment at which a request was due, so that waiting is never left out.

use super::seen::{Ended, Record, Seen};
use super::{Probe, ProbeError, Second, Target};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

/// Requests that may be outstanding, of all targets.
const OUTSTANDING_MAX: usize = 10_000;
/// Bytes of a body that are read for the side that it names.
const NAMING_BODY_MAX: usize = 64 * 1024;
/// Time added to a request's own bound before its end is no longer waited for.
const GRACE: Duration = Duration::from_secs(1);

/// What every request needs.
struct Asker {
    http: reqwest::Client,
    probe: Probe,
    origin: Instant,
}

/// A word for the record.
enum Word {
    Ended(Ended),
    NotSent(usize),
}

/// Asks until the probe's length is over or `stop` resolves, waits for what is outstanding, and gives the report. `tell` hears every second.
///
/// # Errors
/// When nothing could be asked at all.
pub async fn probe(
    probe: Probe,
    stop: impl Future<Output = ()>,
    tell: &(dyn Fn(Second) + Sync),
) -> Result<Seen, ProbeError> {
    let asker = Arc::new(Asker { http: client()?, origin: Instant::now(), probe });
    let (words, heard) = mpsc::channel(OUTSTANDING_MAX);
    let mut record = Record::new(asker.probe.targets.len());
    {
        let send = async {
            tokio::select! {
                () = send_all(&asker, words) => {}
                () = stop => {}
            }
        };
        // What is outstanding holds its own sender: hearing ends with the last of them.
        tokio::join!(send, hear(heard, &mut record, asker.origin, tell));
    }
    Ok(record.seen(&asker.probe, asker.origin.elapsed().as_secs_f64()))
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    // The second installation of a process fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(OUTSTANDING_MAX)
        .tcp_nodelay(true)
        .build()
}

/// Each target in its turn, evenly spread.
async fn send_all(asker: &Arc<Asker>, words: mpsc::Sender<Word>) {
    let outstanding = Arc::new(Semaphore::new(OUTSTANDING_MAX));
    let targets = asker.probe.targets.len();
    let each_second = u64::from(asker.probe.rate.max(1)) * targets as u64;
    let end = asker.probe.length.map(|length| asker.origin + length);
    let mut number = 0u64;
    loop {
        let due = asker.origin + Duration::from_nanos(number.saturating_mul(1_000_000_000) / each_second);
        if end.is_some_and(|end| due >= end) {
            return;
        }
        if due > Instant::now() {
            sleep_until(due).await;
        }
        let target = usize::try_from(number % targets as u64).unwrap_or(0);
        let words = words.clone();
        match Arc::clone(&outstanding).try_acquire_owned() {
            Ok(permit) => {
                let asker = Arc::clone(asker);
                tokio::spawn(async move {
                    let ended = asker.ask(target, due).await;
                    // Nobody hears any more: the report is made.
                    let _ = words.send(Word::Ended(ended)).await;
                    drop(permit);
                });
            }
            Err(_) => drop(words.send(Word::NotSent(target)).await),
        }
        number += 1;
    }
}

async fn hear(mut heard: mpsc::Receiver<Word>, record: &mut Record, origin: Instant, tell: &(dyn Fn(Second) + Sync)) {
    let mut at_s = 0;
    loop {
        let next = origin + Duration::from_secs(at_s + 1);
        tokio::select! {
            word = heard.recv() => match word {
                Some(Word::Ended(ended)) => record.add(&ended),
                Some(Word::NotSent(target)) => record.not_sent(target),
                None => return,
            },
            () = sleep_until(next) => {
                at_s += 1;
                let (requests, failed) = (record.requests(), record.failed());
                tell(Second { at_s, requests, failed, worst_ms: record.worst_lately_ms() });
            }
        }
    }
}

impl Asker {
    fn us_since(&self, moment: Instant) -> u64 {
        u64::try_from((moment - self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    /// One request to its end.
    async fn ask(&self, target: usize, due: Instant) -> Ended {
        let sent = Instant::now();
        let answered = match self.probe.targets.get(target) {
            Some(asked) => tokio::time::timeout(self.probe.timeout + GRACE, self.answer(asked)).await,
            None => Ok(Err("no target".to_owned())),
        };
        let (side, failure) = match answered {
            Ok(Ok((side, failure))) => (side, failure),
            Ok(Err(why)) => (None, Some(why)),
            Err(_) => (None, Some("time-out".to_owned())),
        };
        Ended {
            target,
            due_us: self.us_since(due),
            sent_us: self.us_since(sent),
            end_us: self.us_since(Instant::now()),
            side,
            failure,
        }
    }

    /// Who answered, and what was wrong with the answer.
    async fn answer(&self, target: &Target) -> Result<(Option<String>, Option<String>), String> {
        let sent = self.http.get(&target.url).timeout(self.probe.timeout).send().await;
        let mut response = sent.map_err(|error| reason(&error))?;
        let status = response.status().as_u16();
        let named = response.headers().get(&self.probe.side_header).and_then(|value| value.to_str().ok());
        let mut side = named.map(str::to_owned);
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| reason(&error))? {
            if self.probe.side_pointer.is_some() && body.len() + piece.len() <= NAMING_BODY_MAX {
                body.extend_from_slice(&piece);
            }
        }
        if let Some(pointer) = &self.probe.side_pointer {
            side = said(&body, pointer);
        }
        let is_right = match self.probe.expected.as_slice() {
            [] => status < 500,
            expected => expected.contains(&status),
        };
        Ok((side, (!is_right).then(|| format!("status {status}"))))
    }
}

/// What stands at the pointer of a JSON body.
fn said(body: &[u8], pointer: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match body.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

/// What went wrong, without the URL: its query may hold what nobody else should see.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "time-out".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    let act = if error.is_connect() { "connect" } else { "read the answer" };
    if std::ptr::addr_eq(innermost, error) { act.to_owned() } else { format!("{act}: {innermost}") }
}
