//! Rows that leave a database that serves: what statements of its clients take meanwhile, beside what they take right before and right after.

use super::figures::{Figures, median, rounded};
use super::ours::Ours;
use super::place::{APPLICATION, Place, ask};
use super::transfer::versions;
use super::{BenchError, BenchOptions};
use crate::database::client;
use crate::plan::Secret;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

/// Token rows beside the table that is measured.
const SEEDED: u32 = 2_000;
/// The table; one row in ten is to go.
const CREATE: &str = "create table bench_session (id text primary key, subject text not null, body text not null, seen integer not null default 0, dead boolean not null);
create index on bench_session (subject);
alter table bench_session owner to hydra";
const FILL: &str = "insert into bench_session (id, subject, body, dead)
select md5(n::text), 'subject-' || n % 100000, repeat('{\"bench\":1}', 30), n % 10 = 0 from generate_series(1, $1::bigint) n";
/// Statements a second, half of which write, and the clients that share them.
const RATE: u32 = 1000;
const CLIENTS: u32 = 8;
const READ: &str = "select body from bench_session where id = md5($1::bigint::text)";
const WRITE: &str = "update bench_session set seen = seen + 1 where id = md5($1::bigint::text)";
/// Without a sweep, before it and after it: long enough for a few thousand statements.
const AROUND: Duration = Duration::from_secs(5);
/// The step before, and the one that is measured.
const BEFORE: &str = "claim-sides";
const SWEEP: &str = "sweep-rows";
/// At most so many times what statements take without it.
const GOAL: f64 = 1.5;

/// Measures, and gives the last line.
pub(super) async fn cleanup(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let place = Place::up(options, "place", SEEDED, options.deadline(), tell).await?;
    tell(&format!("filling one table with {} rows", options.rows));
    let bytes = fill(&place, options.rows).await?;
    let mut figures = Figures { rows_total: options.rows.into(), bytes, ..Figures::default() };
    let ours = Ours::towards(&place, &place.blue)?;
    let load = Load::start(&place.blue.url(APPLICATION, APPLICATION), options.rows).await?;
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.repetitions {
        ours.run(BEFORE).await?;
        load.take();
        tokio::time::sleep(AROUND).await;
        let mut idle = load.take();
        let swept = ours.run(SWEEP).await?;
        let busy = load.take();
        tokio::time::sleep(AROUND).await;
        idle.extend(load.take());
        let (idle, busy) = (p95_ms(idle), p95_ms(busy));
        tell(&format!("95 of 100 statements within {idle:.1} ms without a sweep, {busy:.1} ms beside it"));
        without.push(idle);
        with.push(busy);
        ratios.push(busy / idle.max(0.001));
        figures.more.insert("swept".to_owned(), swept.receipt["swept"]["dead"].clone());
        figures.ours.add(swept.ran.seconds, swept.stages, swept.ran.peak_kb);
        // Rows are back: the next one measures the same.
        ours.back().await?;
    }
    let middle = |values: &[f64]| median(values).unwrap_or_default();
    let ratio = middle(&ratios);
    if ratio > GOAL {
        figures.not_reached.push(format!("p95 beside a sweep: {ratio:.2} times that without, wanted at most {GOAL}"));
    }
    let p95 = json!({ "without": rounded(middle(&without)), "with": rounded(middle(&with)), "ratio": rounded(ratio) });
    figures.more.insert("p95_ms".to_owned(), p95);
    figures.more.insert("statements_per_s".to_owned(), json!(RATE));
    figures.versions = versions(&place).await;
    drop(load);
    place.down().await?;
    Ok(figures.line(options, &[]))
}

/// The table with its rows; gives its bytes.
async fn fill(place: &Place, rows: u32) -> Result<u64, BenchError> {
    let refused = BenchError::sql("fill the table");
    let hydra = client::connect(&place.blue.login_url(APPLICATION), "blue").await?;
    hydra.batch_execute(CREATE).await.map_err(&refused)?;
    hydra.execute(FILL, &[&i64::from(rows)]).await.map_err(&refused)?;
    hydra.batch_execute("vacuum analyze bench_session").await.map_err(&refused)?;
    let bytes: i64 = ask(&hydra, "select pg_total_relation_size('bench_session')").await?;
    Ok(bytes.unsigned_abs())
}

/// Within how many milliseconds 95 of 100 were answered.
fn p95_ms(mut taken: Vec<Duration>) -> f64 {
    taken.sort_unstable();
    let place = (taken.len() * 95 / 100).min(taken.len().saturating_sub(1));
    taken.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// Clients; they end when this is dropped.
struct Load {
    taken: Arc<Mutex<Vec<Duration>>>,
    _clients: JoinSet<()>,
}

impl Load {
    async fn start(url: &Secret, rows: u32) -> Result<Self, BenchError> {
        let taken = Arc::default();
        let mut clients = JoinSet::new();
        for place in 0..CLIENTS {
            let client = client::connect(url, "blue").await?;
            clients.spawn(ask_on(client, place, rows, Arc::clone(&taken)));
        }
        Ok(Self { taken, _clients: clients })
    }

    /// What statements have taken since this was asked last.
    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads and writes rows all over the table, each statement a transaction, at a client's share of the rate.
async fn ask_on(client: Client, place: u32, rows: u32, taken: Arc<Mutex<Vec<Duration>>>) {
    let mut ticks = interval(Duration::from_secs(1) * CLIENTS / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = u64::from(place);
    loop {
        ticks.tick().await;
        // A prime step comes to every row once before any comes twice.
        number = (number + 7919) % u64::from(rows);
        let (statement, key) = (if number % 2 == 0 { READ } else { WRITE }, number.cast_signed() + 1);
        let begun = Instant::now();
        if client.query(statement, &[&key]).await.is_err() {
            return;
        }
        taken.lock().unwrap_or_else(PoisonError::into_inner).push(begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_five_of_a_hundred_are_within_it() {
        let taken = (1..=100).rev().map(Duration::from_millis).collect();
        assert!((p95_ms(taken) - 96.0).abs() < 1e-9);
        assert!((p95_ms(vec![Duration::from_millis(3)]) - 3.0).abs() < 1e-9);
        assert!(p95_ms(Vec::new()).abs() < 1e-9);
    }
}
