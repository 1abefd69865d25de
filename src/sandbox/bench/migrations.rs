//! Migrations of a table that is being written: the engine's own files, each in one transaction as engines apply them, beside the same versions
//! rewritten and applied by ours. What counts is how long a writer waits.

use super::figures::rounded;
use super::ours::Ours;
use super::place::{APPLICATION, Place, ask};
use super::transfer::versions;
use super::{BenchError, BenchOptions};
use crate::database::client;
use crate::plan::Secret;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

/// A file of the example's folders.
macro_rules! file {
    ($folder:literal, $name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/hydra-0x-to-1x/", $folder, "/", $name)))
    };
}

const STOCK: [(&str, &str); 6] = [
    file!("stock", "20190201000001000000_access_expiry.up.sql"),
    file!("stock", "20190201000002000000_access_by_subject.up.sql"),
    file!("stock", "20190201000003000000_fill_audience.up.sql"),
    file!("stock", "20190201000004000000_sqlite_only.up.sql"),
    file!("stock", "20190201000005000000_client_metadata.up.sql"),
    file!("stock", "20190201000006000000_audience_is_known.up.sql"),
];
const REWRITTEN: [(&str, &str); 6] = [
    file!("rewritten", "20190201000001000000_access_expiry.autocommit.up.sql"),
    file!("rewritten", "20190201000002000000_access_by_subject.autocommit.up.sql"),
    file!("rewritten", "20190201000003000000_fill_audience.autocommit.up.sql"),
    file!("rewritten", "20190201000004000000_sqlite_only.up.sql"),
    file!("rewritten", "20190201000005000000_client_metadata.up.sql"),
    file!("rewritten", "20190201000006000000_audience_is_known.autocommit.up.sql"),
];
/// Token rows beside the table that is measured.
const SEEDED: u32 = 2_000;
/// One row in ten lacks what a migration fills in.
const FILL: &str = "insert into hydra_oauth2_access (signature, request_id, client_id, scope, granted_scope, form_data, session_data, subject, requested_audience)
select 'bench-' || n, 'bench-' || n / 4, 'service-000', 'read', 'read', 'grant_type=client_credentials', repeat('{\"bench\":1}', 10),
       'subject-' || n % 100000, case when n % 10 = 0 then null else 'api' end from generate_series(1, $1::bigint) n";
/// Its own database for the engine's own files: the same rows in the same places.
const COPY: &str = "create database stock template hydra owner hydra";
/// Writes a second, each a transaction of its own, and the clients that share them.
const RATE: u32 = 1000;
const WRITERS: u32 = 8;
const WRITE: &str = "update hydra_oauth2_access set granted_scope = $2 where signature = $1";
/// Load before a set begins, for what writers wait anyway, and after it has ended.
const AROUND: Duration = Duration::from_secs(4);
/// Longest that the rewritten set may keep a writer waiting.
const GOAL_MS: f64 = 500.0;

/// What writers met while a set was applied.
struct Met {
    seconds: f64,
    idle_ms: f64,
    blocked_ms: f64,
    writes_per_s: f64,
}

/// Measures both sets and gives the last line.
pub(super) async fn migrations(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let place = Place::up(options, "place", SEEDED, options.deadline(), tell).await?;
    tell(&format!("filling one table with {} rows", options.rows));
    let hydra = client::connect(&place.blue.login_url(APPLICATION), "blue").await?;
    let refused = BenchError::sql("fill the table");
    hydra.execute(FILL, &[&i64::from(options.rows)]).await.map_err(&refused)?;
    hydra.batch_execute("vacuum analyze hydra_oauth2_access").await.map_err(&refused)?;
    let bytes: i64 = ask(&hydra, "select pg_table_size('hydra_oauth2_access')").await?;
    drop(hydra);
    place.blue.execute("postgres", COPY).await?;
    for (name, text) in REWRITTEN {
        place.layout.write(&place.layout.dir().join("rewritten").join(name), 0o644, text)?;
    }
    tell("the engine's own files, each in one transaction");
    let url = place.blue.url(APPLICATION, "stock");
    let stock = under_load(&url, options.rows, stock(&url)).await?;
    place.blue.execute("postgres", "drop database stock with (force)").await?;
    tell("the same versions rewritten, by ours");
    let ours = Ours::towards(&place, &place.blue)?;
    let url = place.blue.url(APPLICATION, APPLICATION);
    let rewritten = under_load(&url, options.rows, ours.run("migrate-rewritten")).await?;
    let line = line(options, bytes, &stock, &rewritten, versions(&place).await);
    place.down().await?;
    Ok(line)
}

fn line(options: &BenchOptions, bytes: i64, stock: &Met, rewritten: &Met, versions: Value) -> Value {
    let mut short = Vec::new();
    if rewritten.blocked_ms > GOAL_MS {
        short.push(format!("rewritten: a writer waited {:.0} ms, wanted at most {GOAL_MS:.0}", rewritten.blocked_ms));
    }
    if stock.blocked_ms < 2.0 * GOAL_MS {
        short.push("stock: no writer waited for long, so the rows were too few to show anything".to_owned());
    }
    let pass = if options.quick { Value::Null } else { json!(short.is_empty()) };
    let both = |of: fn(&Met) -> f64| json!({ "stock": rounded(of(stock)), "rewritten": rounded(of(rewritten)) });
    json!({
        "bench": "migrations", "rows": options.rows, "bytes": bytes, "blocked_ms_max": both(|met| met.blocked_ms),
        "idle_ms_max": both(|met| met.idle_ms), "seconds": both(|met| met.seconds), "writes_per_s": both(|met| met.writes_per_s),
        "versions": versions, "pass": pass, "not_reached": if options.quick { Vec::new() } else { short },
    })
}

/// The engine's own way: a file, a transaction, as the application's role and without a bound on any lock.
async fn stock(url: &Secret) -> Result<(), BenchError> {
    let refused = BenchError::sql("apply the engine's own files");
    let client = client::connect(url, "blue").await?;
    for (_, text) in STOCK {
        client.batch_execute(&format!("begin;\n{text}\n;commit")).await.map_err(&refused)?;
    }
    Ok(())
}

/// Applies a set while clients write.
async fn under_load<T>(
    url: &Secret,
    rows: u32,
    set: impl Future<Output = Result<T, BenchError>>,
) -> Result<Met, BenchError> {
    let load = Load::start(url, rows).await?;
    tokio::time::sleep(AROUND).await;
    let idle_ms = load.take_longest();
    let begun = Instant::now();
    set.await?;
    let seconds = begun.elapsed().as_secs_f64();
    // One that still waits is counted when it is through.
    tokio::time::sleep(AROUND).await;
    Ok(Met { seconds, idle_ms, blocked_ms: load.take_longest(), writes_per_s: load.rate() })
}

/// Writers; they end when this is dropped.
struct Load {
    begun: Instant,
    longest_us: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    _writers: JoinSet<()>,
}

impl Load {
    async fn start(url: &Secret, rows: u32) -> Result<Self, BenchError> {
        let (longest_us, written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for place in 0..WRITERS {
            let client = client::connect(url, "blue").await?;
            writers.spawn(write(client, place, rows, longest_us.clone(), written.clone()));
        }
        Ok(Self { begun: Instant::now(), longest_us, written, _writers: writers })
    }

    /// The longest that a write has taken since this was asked last, in milliseconds.
    fn take_longest(&self) -> f64 {
        Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed)).as_secs_f64() * 1000.0
    }

    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of writes needs no more than 52 bits")]
        let written = self.written.load(Ordering::Relaxed) as f64;
        written / self.begun.elapsed().as_secs_f64()
    }
}

/// Writes its share of the rate to rows all over the table; a server that is gone ends it, and the rate shows it.
async fn write(client: Client, place: u32, rows: u32, longest_us: Arc<AtomicU64>, written: Arc<AtomicU64>) {
    let mut ticks = interval(Duration::from_secs(1) * WRITERS / RATE);
    // What was not written while it waited is not written afterwards: each write shows what a client meets then.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = u64::from(place);
    loop {
        ticks.tick().await;
        // A prime step comes to every row once before any comes twice.
        number = (number + 7919) % u64::from(rows);
        let (key, scope) = (format!("bench-{}", number + 1), format!("read {number}"));
        let begun = Instant::now();
        if client.execute(WRITE, &[&key, &scope]).await.is_err() {
            return;
        }
        longest_us.fetch_max(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        written.fetch_add(1, Ordering::Relaxed);
    }
}
