//! The participant under test: orders out, answers and standings back, each call with a bound.

use super::Trial;
use super::resolver::Resolver;
use crate::plan::Side;
use crate::traffic::protocol::{Order, Standing, State};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Deadline of a hold that shall not end by itself, in milliseconds.
const LONG_MS: u64 = 30_000;
/// Bound on a call beyond the order's own deadline: a `hold` may use all of it.
const GRACE: Duration = Duration::from_secs(2);
/// Bound on every other call.
const CALL: Duration = Duration::from_secs(5);
/// Bound on its start, after the command has ended.
const START: Duration = Duration::from_secs(30);
/// Bound on the command that restarts it.
const RESTART: Duration = Duration::from_secs(60);
/// How long an order whose answer nobody reads keeps its connection: one that was not even read was never given.
const UNHEARD: Duration = Duration::from_millis(200);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What an order was answered with.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// What a user's request was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) status: u16,
    pub(super) has_retry_after: bool,
}

/// The participant, and where this trial has brought it.
pub(super) struct Subject {
    trial: Trial,
    base: String,
    http: reqwest::Client,
    pub(super) resolver: Resolver,
    home: Side,
    epoch: i64,
}

impl Subject {
    pub(super) fn new(trial: &Trial, base: String, http: reqwest::Client, resolver: Resolver) -> Self {
        Self { trial: trial.clone(), base, http, resolver, home: Side::Blue, epoch: 0 }
    }

    /// Takes the participant's first word for where it is.
    pub(super) fn begin_at(&mut self, first: &Standing) {
        self.home = first.side;
        self.epoch = first.epoch;
    }

    /// Highest epoch that was made up.
    pub(super) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The side that it served at first.
    pub(super) fn home(&self) -> Side {
        self.home
    }

    /// An order of a new epoch, to the other side, with a deadline that no rule waits for.
    pub(super) fn propose(&mut self) -> Order {
        self.epoch += 1;
        Order {
            run: Uuid::nil(),
            epoch: self.epoch,
            nonce: Uuid::new_v4(),
            side: self.home.other(),
            deadline_ms: LONG_MS,
            resolvers: vec![self.resolver.url()],
        }
    }

    /// Sends an order.
    pub(super) async fn order(&self, verb: &str, order: &Order) -> Result<Reply, String> {
        let bound = Duration::from_millis(order.deadline_ms) + GRACE;
        let sent = self.http.post(format!("{}/cutover/v1/{verb}", self.base)).json(order).timeout(bound).send().await;
        let response = sent.map_err(|error| format!("{verb}: {}", plain(error)))?;
        let status = response.status().as_u16();
        let body = response.text().await.map_err(|error| format!("{verb}: {}", plain(error)))?;
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Ok(Reply { status, body })
    }

    /// Sends an order that must be obeyed: 200, the order's epoch and nonce, and this state.
    pub(super) async fn must(&self, verb: &str, order: &Order, state: State) -> Result<Standing, String> {
        let reply = self.order(verb, order).await?;
        let standing = reply.standing(verb)?;
        if (standing.epoch, standing.nonce) != (order.epoch, order.nonce) {
            return Err(format!(
                "{verb}: the answer is of epoch {} with another nonce or epoch than the order's",
                standing.epoch
            ));
        }
        if standing.state != state {
            return Err(format!("{verb}: answered {:?} where {state:?} was due", standing.state));
        }
        Ok(standing)
    }

    /// Sends an order that must be refused with this status, and change nothing.
    pub(super) async fn must_not(&self, verb: &str, order: &Order, status: u16) -> Result<(), String> {
        let before = self.standing().await?;
        let reply = self.order(verb, order).await?;
        if reply.status != status {
            return Err(format!(
                "{verb} at epoch {} was answered {} where {status} was due",
                order.epoch, reply.status
            ));
        }
        if status == 409
            && (reply.body["epoch"].as_i64(), reply.body["nonce"].as_str())
                != (Some(before.epoch), Some(before.nonce.to_string().as_str()))
        {
            return Err(format!("{verb}: the 409 does not name the epoch and nonce that were accepted"));
        }
        let after = self.standing().await?;
        if after != before {
            return Err(format!("a refused {verb} changed it from {before:?} to {after:?}"));
        }
        Ok(())
    }

    /// Where it says that it stands.
    pub(super) async fn standing(&self) -> Result<Standing, String> {
        let sent = self.http.get(format!("{}/cutover/v1/state", self.base)).timeout(CALL).send().await;
        let response = sent.map_err(|error| format!("state: {}", plain(error)))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("state: answered {status}"));
        }
        response.json().await.map_err(|error| format!("state: not the protocol's words: {}", plain(error)))
    }

    /// Waits until it stands so, or says where it stood last.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Standing) -> bool) -> Result<Standing, String> {
        self.within(self.trial.patience, what, is_so).await
    }

    /// How long the participant may take for what its own clock tells it.
    pub(super) fn patience(&self) -> Duration {
        self.trial.patience
    }

    async fn within(&self, bound: Duration, what: &str, is_so: impl Fn(&Standing) -> bool) -> Result<Standing, String> {
        let end = Instant::now() + bound;
        loop {
            let seen = self.standing().await;
            match seen {
                Ok(standing) if is_so(&standing) => return Ok(standing),
                Ok(standing) if Instant::now() >= end => {
                    return Err(format!(
                        "{what}: not within {}, it stands at {standing:?}",
                        humantime::format_duration(bound)
                    ));
                }
                Err(why) if Instant::now() >= end => return Err(format!("{what}: {why}")),
                _ => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Brings it to serve its first side under a new epoch, whatever was done to it.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        self.resolver.say_nothing();
        let home = self.home;
        let order = Order { side: home, ..self.propose() };
        let standing = self.must("release", &order, State::Serving).await?;
        if standing.side == home { Ok(()) } else { Err(format!("release: it serves {} and not {home}", standing.side)) }
    }

    /// Whether there is a user's request to ask.
    pub(super) fn can_ask(&self) -> bool {
        self.trial.ask.is_some()
    }

    /// Sends the user's request; none when there is none, or it was not answered within `bound`.
    pub(super) async fn ask(&self, bound: Duration) -> Option<Asked> {
        let url = self.trial.ask.as_ref()?;
        asked(&self.http, url, bound).await
    }

    /// The user's request, or the slow one, sent beside what follows.
    pub(super) fn ask_beside(&self, is_slow: bool, bound: Duration) -> tokio::task::JoinHandle<Option<Asked>> {
        let url = if is_slow { self.trial.slow.clone() } else { self.trial.ask.clone() };
        let http = self.http.clone();
        tokio::spawn(async move { asked(&http, &url?, bound).await })
    }

    /// With a user's request to ask: it must be answered with 503 and `Retry-After`.
    pub(super) async fn must_refuse_users(&self) -> Result<(), String> {
        if !self.can_ask() {
            return Ok(());
        }
        match self.ask(CALL).await {
            Some(Asked { status: 503, has_retry_after: true }) => Ok(()),
            Some(Asked { status: 503, .. }) => Err("users get 503 without Retry-After".to_owned()),
            Some(Asked { status, .. }) => Err(format!("it refuses, and a user was answered {status}")),
            None => Err("it refuses, and a user was not answered at all".to_owned()),
        }
    }

    /// Runs the command that kills it and starts it again, and waits until it answers.
    pub(super) async fn restart(&self) -> Result<Standing, String> {
        let Some(command) = &self.trial.restart else { return Err("no command restarts it".to_owned()) };
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(RESTART, shell.status()).await;
        match ended {
            Ok(Ok(status)) if status.success() => self.within(START, "it answers after the restart", |_| true).await,
            Ok(Ok(status)) => Err(format!("the command that restarts it ended with {status}")),
            Ok(Err(error)) => Err(format!("the command that restarts it: {error}")),
            Err(_) => {
                Err(format!("the command that restarts it took longer than {}", humantime::format_duration(RESTART)))
            }
        }
    }

    /// Sends an order and closes the connection a moment later, without reading a word.
    pub(super) async fn order_and_leave(&self, verb: &str, order: &Order) -> Result<(), String> {
        use tokio::io::AsyncWriteExt as _;
        let base = url::Url::parse(&self.base).map_err(|error| format!("{}: {error}", self.base))?;
        let host = base.host_str().unwrap_or_default();
        let port = base.port_or_known_default().unwrap_or(80);
        let body = serde_json::to_string(order).unwrap_or_default();
        let path = format!("{}/cutover/v1/{verb}", base.path().trim_end_matches('/'));
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = async {
            let mut stream = tokio::net::TcpStream::connect((host, port)).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            sleep(UNHEARD).await;
            Ok::<(), std::io::Error>(())
        };
        let late = |_| format!("{verb}: no connection within {}", humantime::format_duration(CALL));
        tokio::time::timeout(CALL, sent).await.map_err(late)?.map_err(|error| format!("{verb}: {error}"))
    }
}

impl Reply {
    /// A standing with 200.
    pub(super) fn standing(self, verb: &str) -> Result<Standing, String> {
        if self.status != 200 {
            let body: String = self.body.to_string().chars().take(200).collect();
            return Err(format!("{verb}: answered {} where 200 was due: {body}", self.status));
        }
        serde_json::from_value(self.body).map_err(|error| format!("{verb}: not the protocol's words: {error}"))
    }
}

async fn asked(http: &reqwest::Client, url: &str, bound: Duration) -> Option<Asked> {
    let response = http.get(url).timeout(bound).send().await.ok()?;
    let has_retry_after = response.headers().contains_key(reqwest::header::RETRY_AFTER);
    Some(Asked { status: response.status().as_u16(), has_retry_after })
}

/// What went wrong, without the URL.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
