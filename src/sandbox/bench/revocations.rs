//! Revocations through the gateway: what capturing one adds beside asking the engine, how many a second are captured, and how long a flip takes to
//! replay and prove many of them. Another part is [`super::queued`].
//!
//! Owns its tokens: each is issued by the engine, and revoked once, as its client would.

use super::figures::{median, rounded};
use super::queued::{self, Queued, rss_mb};
use super::stage::Stage;
use super::{BenchError, BenchOptions, MEMORY_MB};
use crate::sandbox::http;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Requests a second of the sandbox's own load.
const LOAD: u32 = 5;
/// Tokens that are issued, and revoked, at once.
const ABREAST: usize = 16;
/// Revocations a second that must be borne, and for how long.
const RATE: u32 = 500;
const FOR_S: u32 = 30;
const QUICK_FOR_S: u32 = 4;
/// Revocations that are queued over HTTP as fast as the gateway takes them, beside those.
const BACKLOG: usize = 100_000;
const QUICK_BACKLOG: usize = 400;
/// Revocations of each way, in turn, for what capturing adds.
const PAIRS: usize = 400;
const QUICK_PAIRS: usize = 40;
/// Most that capturing may add at the median, in milliseconds.
const ADDED_MS: f64 = 5.0;
/// Most that the replay may be behind when the hold begins, in milliseconds.
const LAG_MS: f64 = 1000.0;
/// How much below the rate a machine may be that has other work.
const NEARLY: f64 = 0.98;

/// A client of the engine, and where it asks.
struct App {
    http: reqwest::Client,
    id: String,
    secret: String,
    gateway: String,
    engine: String,
}

/// Measures, and gives the last line.
pub(super) async fn revocations(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let stage = Stage::up(options, LOAD, tell).await?;
    tell("filling green");
    stage.verb(&["run"]).await?;
    let app = App::register(&stage).await?;
    let (pairs, seconds) = if options.quick { (QUICK_PAIRS, QUICK_FOR_S) } else { (PAIRS, FOR_S) };
    let wanted = usize::try_from(RATE * seconds).unwrap_or(usize::MAX);
    let backlog = if options.quick { QUICK_BACKLOG } else { BACKLOG };
    tell(&format!("issuing {} tokens", wanted + 2 * pairs + backlog));
    let mut tokens = app.issue(wanted + 2 * pairs + backlog).await?;
    let over_http = tokens.split_off(wanted + 2 * pairs);
    tell("revoking, at the engine and through the gateway in turn");
    let (direct, through) = app.pairs(&tokens.split_off(wanted)).await?;
    tell(&format!("revoking {RATE} a second for {seconds} s"));
    let borne = app.revoke_at(RATE, tokens).await?;
    tell(&format!("revoking {backlog} more as fast as they are taken"));
    let queued_s = app.queue(&over_http).await?;
    tell("flipping");
    let (said, ran) = stage.measured(&["flip"]).await?;
    let counts = stage.verb(&["status"]).await?["revocations"].clone();
    drop(stage);
    let found = Found {
        direct,
        through,
        borne,
        flip_s: ran.seconds,
        flip_mb: rss_mb(&ran),
        hold: said["figures"]["hold_ms"].clone(),
        lag: said["figures"]["replay_lag_ms"].clone(),
        counts,
        backlog,
        queued_s,
        by_sql: queued::by_sql(options, tell).await?,
    };
    Ok(found.line(options, wanted))
}

/// How a stream of revocations went.
struct Borne {
    done: usize,
    failed: usize,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl App {
    async fn register(stage: &Stage) -> Result<Self, BenchError> {
        let (http, dashboard) = (http::client(), stage.variable("DASHBOARD_CUTOVER")?);
        let wish = json!({
            "name": "bench", "owner": "bench@example.com", "redirect_uris": ["http://127.0.0.1:5555/callback"],
            "scope": "photos.read", "grant_types": ["client_credentials"],
        });
        let made = http.post(format!("{dashboard}/clients")).json(&wish).send().await.map_err(failed)?;
        let made: Value = made.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        let word = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let (id, secret) = (word("client_id"), word("client_secret"));
        let (gateway, engine) = (stage.variable("GATEWAY_PUBLIC")?, stage.variable("BLUE_PUBLIC")?);
        Ok(Self { http, id, secret, gateway, engine })
    }

    async fn issue(&self, count: usize) -> Result<Vec<String>, BenchError> {
        let issued = stream::iter(0..count).map(|_| self.issue_one()).buffer_unordered(ABREAST);
        issued.collect::<Vec<_>>().await.into_iter().collect()
    }

    async fn issue_one(&self) -> Result<String, BenchError> {
        let form = [("grant_type", "client_credentials"), ("scope", "photos.read")];
        let request = self.http.post(format!("{}/oauth2/token", self.engine));
        let answer = request.basic_auth(&self.id, Some(&self.secret)).form(&form).send().await.map_err(failed)?;
        let body: Value = answer.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        body["access_token"].as_str().map(str::to_owned).ok_or_else(|| wrong("no token in the engine's answer"))
    }

    /// Revokes one token; gives how long the answer took, in milliseconds.
    async fn revoke(&self, base: &str, token: &str) -> Result<f64, BenchError> {
        let begun = Instant::now();
        let request = self.http.post(format!("{base}/oauth2/revoke"));
        let answer = request.basic_auth(&self.id, Some(&self.secret)).form(&[("token", token)]).send().await;
        answer.map_err(failed)?.error_for_status().map_err(failed)?;
        Ok(begun.elapsed().as_secs_f64() * 1000.0)
    }

    /// Revokes all of them through the gateway, several at once; gives how long that took, in seconds.
    async fn queue(&self, tokens: &[String]) -> Result<f64, BenchError> {
        let begun = Instant::now();
        let revoked = stream::iter(tokens).map(|token| self.revoke(&self.gateway, token)).buffer_unordered(ABREAST);
        revoked.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<f64>, _>>()?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Each second token at the engine itself, the others through the gateway.
    async fn pairs(&self, tokens: &[String]) -> Result<(Vec<f64>, Vec<f64>), BenchError> {
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for pair in tokens.chunks_exact(2) {
            direct.push(self.revoke(&self.engine, &pair[0]).await?);
            through.push(self.revoke(&self.gateway, &pair[1]).await?);
        }
        Ok((direct, through))
    }

    /// Sends them at a fixed rate, whatever the answers do; a latency counts from when its request was due.
    async fn revoke_at(&self, rate: u32, tokens: Vec<String>) -> Result<Borne, BenchError> {
        let mut tick = interval(Duration::from_secs(1) / rate);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (begun, mut under_way) = (Instant::now(), stream::FuturesUnordered::new());
        let (mut took, mut failed) = (Vec::with_capacity(tokens.len()), 0);
        let mut left = tokens.iter();
        let mut is_over = false;
        while !is_over || !under_way.is_empty() {
            tokio::select! {
                due = tick.tick(), if !is_over => match left.next() {
                    Some(token) => under_way.push(async move {
                        self.revoke(&self.gateway, token).await.map(|_| due.elapsed().as_secs_f64() * 1000.0)
                    }),
                    None => is_over = true,
                },
                Some(answer) = under_way.next(), if !under_way.is_empty() => match answer {
                    Ok(ms) => took.push(ms),
                    Err(_) => failed += 1,
                },
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        took.sort_by(f64::total_cmp);
        let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or(f64::INFINITY);
        let p50_ms = median(&took).unwrap_or(f64::INFINITY);
        Ok(Borne { done: took.len(), failed, seconds, p50_ms, p99_ms: p99 })
    }
}

fn failed(error: reqwest::Error) -> BenchError {
    wrong(&error.without_url().to_string())
}

fn wrong(why: &str) -> BenchError {
    BenchError::Program { program: "the engine and the gateway".to_owned(), why: why.to_owned() }
}

/// Everything that was measured.
struct Found {
    direct: Vec<f64>,
    through: Vec<f64>,
    borne: Borne,
    flip_s: f64,
    flip_mb: f64,
    hold: Value,
    /// How far the replay was behind when the hold began.
    lag: Value,
    counts: Value,
    /// Queued over HTTP as fast as they were taken, and how long that took.
    backlog: usize,
    queued_s: f64,
    by_sql: Queued,
}

impl Found {
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench need no more than 52 bits")]
    fn line(&self, options: &BenchOptions, wanted: usize) -> Value {
        let middle = |times: &[f64]| median(times).unwrap_or(f64::INFINITY);
        let added = middle(&self.through) - middle(&self.direct);
        let per_s = self.borne.done as f64 / self.borne.seconds;
        let count = |name: &str| self.counts[name].as_u64().unwrap_or(0);
        let (captured, proved, dead) = (count("captured"), count("proved"), count("dead"));
        let goals = [
            (self.borne.failed == 0, format!("failed: {} of {wanted}, wanted 0", self.borne.failed)),
            (added <= ADDED_MS, format!("capture_added_ms_p50: {added:.2}, wanted at most {ADDED_MS}")),
            (per_s >= f64::from(RATE) * NEARLY, format!("per_s: {per_s:.0}, wanted {RATE}")),
            (
                captured >= (wanted + self.backlog) as u64 && proved == captured && dead == 0,
                format!(
                    "captured {captured}, proved {proved}, dead {dead}: wanted at least {}, all proved",
                    wanted + self.backlog
                ),
            ),
            (
                self.lag.as_f64().is_some_and(|lag| lag < LAG_MS),
                format!("replay_lag_ms: {}, wanted below {LAG_MS}", self.lag),
            ),
            (self.flip_mb <= MEMORY_MB, format!("flip_rss_mb: {:.0}, wanted at most {MEMORY_MB}", self.flip_mb)),
            self.by_sql.goal(),
        ];
        let short: Vec<&String> = goals.iter().filter(|(is_reached, _)| !is_reached).map(|(_, what)| what).collect();
        let mut line = json!({
            "event": "summary", "bench": options.kind.word(), "rows": options.rows, "captured": captured, "proved": proved,
            "dead": dead, "failed": self.borne.failed, "capture_added_ms_p50": rounded(added),
            "engine_ms_p50": rounded(middle(&self.direct)), "gateway_ms_p50": rounded(middle(&self.through)),
            "per_s": rounded(per_s), "ms_p50": rounded(self.borne.p50_ms), "ms_p99": rounded(self.borne.p99_ms),
            "flip_s": rounded(self.flip_s), "flip_rss_mb": rounded(self.flip_mb), "hold_ms": self.hold,
            "replay_lag_ms": self.lag, "http": { "queued": self.backlog, "per_s": rounded(self.backlog as f64 / self.queued_s) }, "sql": self.by_sql.line(), "pass": short.is_empty(), "not_reached": short,
        });
        if options.quick {
            line["pass"] = Value::Null;
        }
        line
    }
}
