//! How far a side is behind while blue is written: seen from outside, by the time in a row of blue's when it shows up on that side.

use super::backlog::new_row;
use super::figures::{median, rounded};
use super::ours::{BACKLOG, BEFORE_BACKLOG, Ours};
use super::peers::Peer;
use super::place::{APPLICATION, Place, connect};
use super::{BenchError, BenchOptions};
use crate::database::client;
use crate::plan::Secret;
use crate::sandbox::servers::Server;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

/// Writes a second, each a transaction of its own.
pub(super) const RATE: u32 = 2000;
/// Clients that write them.
const WRITERS: u32 = 8;
/// A load below this share of the rate measures nothing.
pub(super) const ENOUGH: f64 = 0.9;
/// Most that ours may be behind.
const GOAL_MS: f64 = 1000.0;
/// How long is watched, and how long of that counts as catching up.
const WATCHED: (Duration, Duration) = (Duration::from_secs(25), Duration::from_secs(5));
/// The same of a quick bench.
const QUICKLY: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(3));
/// How often the row is written on blue, and looked for on the other side.
const BEAT: Duration = Duration::from_millis(10);
/// Keys that are written.
const KEYS: &str =
    "select signature from hydra_oauth2_access where signature <> 'bench-heart' order by md5(signature) limit 20000";
const WRITE: &str = "update hydra_oauth2_access set granted_scope = $2 where signature = $1";
const HEART: &str = "update hydra_oauth2_access set requested_at = clock_timestamp() at time zone 'utc' where signature = 'bench-heart'";
const BEHIND: &str = "select (extract(epoch from (clock_timestamp() at time zone 'utc') - requested_at) * 1000)::float8
from hydra_oauth2_access where signature = 'bench-heart'";
/// A run that is refused for not coming level has levelled all the time.
const REFUSED: i32 = 3;

/// How far one side was behind.
pub(super) struct Lag {
    /// Milliseconds, once it had caught up.
    samples_ms: Vec<f64>,
    writes_per_s: f64,
    /// How it ended, in a word.
    ended: &'static str,
}

impl Lag {
    fn of(samples: Vec<(Duration, f64)>, settle: Duration, writes_per_s: f64, ended: &'static str) -> Self {
        let settled = samples.into_iter().filter(|(at, _)| *at >= settle);
        Self { samples_ms: settled.map(|(_, behind_ms)| behind_ms).collect(), writes_per_s, ended }
    }

    fn most_ms(&self) -> Option<f64> {
        self.samples_ms.iter().copied().max_by(f64::total_cmp)
    }

    /// What ours did not reach, in words.
    pub(super) fn short(&self) -> Vec<String> {
        let mut short = Vec::new();
        match self.most_ms() {
            Some(most_ms) if most_ms < GOAL_MS => {}
            Some(most_ms) => short.push(format!("lag: {most_ms:.0} ms, wanted less than {GOAL_MS:.0}")),
            None => short.push("lag: not measured".to_owned()),
        }
        if self.writes_per_s < f64::from(RATE) * ENOUGH {
            short.push(format!("lag: only {:.0} writes a second came about, wanted {RATE}", self.writes_per_s));
        }
        short
    }

    /// For the last line.
    pub(super) fn words(&self) -> Value {
        json!({
            "max": self.most_ms().map(rounded), "p50": median(&self.samples_ms).map(rounded), "samples": self.samples_ms.len(),
            "writes_per_s": rounded(self.writes_per_s), "ended": self.ended,
        })
    }
}

fn times(options: &BenchOptions) -> (Duration, Duration) {
    if options.quick { QUICKLY } else { WATCHED }
}

/// Ours: the step that levels, under load, for as long as it takes or until its bound.
pub(super) async fn ours(
    options: &BenchOptions,
    place: &Place,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Lag, BenchError> {
    tell(&format!("ours under {RATE} writes a second"));
    let (watched, settle) = times(options);
    let green = place.green("green").await?;
    let ours = Ours::towards(place, &green)?;
    ours.run(BEFORE_BACKLOG).await?;
    let load = Load::start(place).await?;
    let bound = format!("{}s", watched.as_secs());
    let (verb, samples) = watch(&green, ours.run_for(BACKLOG, &bound)).await?;
    let writes_per_s = load.end();
    let verb = verb?;
    let is_level = verb.ran.code == 0;
    if !is_level && verb.ran.code != REFUSED {
        verb.ran.succeeded("cutover run")?;
        return Err(BenchError::Late { what: "levelling".to_owned() });
    }
    let ended = if is_level { "level" } else { "still levelling" };
    let mut lag = Lag::of(samples, settle, writes_per_s, ended);
    if lag.samples_ms.is_empty() {
        // Level before anybody could look: then its own word is all there is.
        lag.samples_ms.extend(verb.receipt["lag_ms"].as_f64());
    }
    ours.back().await?;
    green.remove().await?;
    Ok(lag)
}

/// The native subscription, under the same load.
pub(super) async fn native(
    options: &BenchOptions,
    place: &Place,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Lag, BenchError> {
    tell(&format!("native under {RATE} writes a second"));
    let (watched, settle) = times(options);
    let green = place.green("native").await?;
    let peer = Peer { place, green: &green };
    peer.native().await?;
    let load = Load::start(place).await?;
    let ((), samples) = watch(&green, tokio::time::sleep(watched)).await?;
    let writes_per_s = load.end();
    peer.unsubscribe().await?;
    green.remove().await?;
    Ok(Lag::of(samples, settle, writes_per_s, "watched"))
}

/// Looks how far `green` is behind until `act` has ended.
async fn watch<T>(green: &Server, act: impl Future<Output = T>) -> Result<(T, Vec<(Duration, f64)>), BenchError> {
    let client = connect(green).await?;
    let (begun, mut samples, mut act) = (Instant::now(), Vec::new(), std::pin::pin!(act));
    loop {
        tokio::select! {
            biased;
            ended = &mut act => return Ok((ended, samples)),
            () = tokio::time::sleep(BEAT) => {
                let row = client.query_opt(BEHIND, &[]).await.map_err(BenchError::sql("see how far green is behind"))?;
                let at = begun.elapsed();
                // Without the row nothing of the load has come.
                samples.push((at, row.map_or(at.as_secs_f64() * 1000.0, |row| row.get(0))));
            }
        }
    }
}

/// Writers on blue; they end when this is dropped.
pub(super) struct Load {
    begun: Instant,
    written: Arc<AtomicU64>,
    _writers: JoinSet<()>,
}

impl Load {
    pub(super) async fn start(place: &Place) -> Result<Self, BenchError> {
        let refused = BenchError::sql("prepare the load on blue");
        let blue = connect(&place.blue).await?;
        blue.batch_execute("delete from hydra_oauth2_access where signature = 'bench-heart'")
            .await
            .map_err(&refused)?;
        blue.batch_execute(&new_row("'bench-heart'")).await.map_err(&refused)?;
        let keys = blue.query(KEYS, &[]).await.map_err(&refused)?;
        let keys: Arc<Vec<String>> = Arc::new(keys.iter().map(|row| row.get(0)).collect());
        let (url, written) = (place.blue.login_url(APPLICATION), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for place in 0..WRITERS {
            let client = connected(&url).await?;
            writers.spawn(write(client, keys.clone(), place, written.clone()));
        }
        writers.spawn(beat(connected(&url).await?));
        Ok(Self { begun: Instant::now(), written, _writers: writers })
    }

    /// Ends the load, and gives how many writes a second came about.
    pub(super) fn end(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of writes needs no more than 52 bits")]
        let written = self.written.load(Ordering::Relaxed) as f64;
        written / self.begun.elapsed().as_secs_f64()
    }
}

async fn connected(url: &Secret) -> Result<Client, BenchError> {
    Ok(client::connect(url, "blue").await?)
}

/// Writes its share of the rate, whatever the answers take; a server that is gone ends it, and the rate shows it.
async fn write(client: Client, keys: Arc<Vec<String>>, place: u32, written: Arc<AtomicU64>) {
    let Ok(statement) = client.prepare(WRITE).await else { return };
    let mut ticks = interval(Duration::from_secs(1) * WRITERS / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut number, step) = (place as usize, WRITERS as usize);
    loop {
        ticks.tick().await;
        let Some(key) = keys.get(number % keys.len().max(1)) else { return };
        if client.execute(&statement, &[key, &format!("read {number}")]).await.is_err() {
            return;
        }
        written.fetch_add(1, Ordering::Relaxed);
        number += step;
    }
}

async fn beat(client: Client) {
    let mut ticks = interval(BEAT);
    loop {
        ticks.tick().await;
        if client.batch_execute(HEART).await.is_err() {
            return;
        }
    }
}
