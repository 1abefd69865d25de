//! A long queue of revocations that the plan's own statements replay: as if a gateway had captured them, put into control at once, so that the flip's
//! time and memory are those of replaying and proving.

use super::figures::rounded;
use super::program::Ran;
use super::stage::Stage;
use super::{BenchError, BenchOptions, MEMORY_MB};
use crate::database::client::connect;
use crate::plan::Secret;
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Revocations in the queue.
const QUEUED: i64 = 1_000_000;
const QUICK_QUEUED: i64 = 3_000;
/// Requests a second of the sandbox's own load.
const LOAD: u32 = 5;

/// One row on blue for each, in a table that no client of the sandbox writes.
const ROWS: &str = "insert into hydra_oauth2_obfuscated_authentication_session (subject, client_id, subject_obfuscated)
select 'queued-' || n, c.id, 'queued-' || n from generate_series(1, $1::bigint) n,
  (select id from hydra_client order by id limit 1) c";
const PRODUCER: &str = "insert into cutover.producer (incarnation, plan, gateway, ended_at)
select gen_random_uuid(), plan, gateway, now() from cutover.producer order by started_at limit 1 returning incarnation::text";
const EVENTS: &str = "insert into cutover.revocation (id, plan, incarnation, seq, captured_at, live, epoch, door, chain, blue_seen, green_seen, outcome)
select gen_random_uuid(), p.plan, p.incarnation, n, now() - interval '1 hour', 'blue', 1, 'consent',
  jsonb_build_object('requests', jsonb_build_array('queued-' || n), 'subject', 'queued-' || n), 'found', 'unknown', 'executed'
from cutover.producer p, generate_series(1, $1::bigint) n where p.incarnation::text = $2";
const LEFT: &str = "select count(*) from hydra_oauth2_obfuscated_authentication_session where subject like 'queued-%'";

const REPLAY: &str = "replay: { hydra: {} }";
const BY_SQL: &str = r#"replay:
    hydra: {}
    sql:
      - name: queued
        doors: [consent]
        green:
          revoke: "delete from hydra_oauth2_obfuscated_authentication_session s using unnest($6::text[]) as r (subject) where s.subject = r.subject"
          alive: "select r.event from unnest($1::uuid[], $6::text[]) as r (event, subject) join hydra_oauth2_obfuscated_authentication_session s on s.subject = r.subject""#;

/// What came of it.
pub(super) struct Queued {
    queued: i64,
    proved: u64,
    /// Rows on green that should have gone.
    left: i64,
    flip_s: f64,
    rss_mb: f64,
    hold: Value,
}

/// Fills the queue of a sandbox at the flip point, and flips.
pub(super) async fn by_sql(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Queued, BenchError> {
    let count = if options.quick { QUICK_QUEUED } else { QUEUED };
    let options = BenchOptions { dir: options.dir.join("queued"), ..options.clone() };
    let stage = Stage::up(&options, LOAD, tell).await?;
    with_statements(&stage)?;
    tell(&format!("{count} rows that statements of the plan revoke"));
    client(&stage, "BLUE_URL").await?.execute(ROWS, &[&count]).await.map_err(BenchError::sql("fill blue"))?;
    tell("filling green");
    stage.verb(&["run"]).await?;
    tell(&format!("queueing {count} revocations"));
    enqueue(&client(&stage, "CONTROL_URL").await?, count).await?;
    tell("flipping");
    let (said, ran) = stage.measured(&["flip"]).await?;
    let status = stage.verb(&["status"]).await?;
    let left = client(&stage, "GREEN_URL").await?.query_one(LEFT, &[]).await.map_err(BenchError::sql("ask green"))?;
    Ok(Queued {
        queued: count,
        proved: status["revocations"]["proved"].as_u64().unwrap_or(0),
        left: left.get(0),
        flip_s: ran.seconds,
        rss_mb: rss_mb(&ran),
        hold: said["figures"]["hold_ms"].clone(),
    })
}

/// The highest resident memory of a program, in mebibytes.
#[expect(clippy::cast_precision_loss, reason = "kibibytes of memory need no more than 52 bits")]
pub(super) fn rss_mb(ran: &Ran) -> f64 {
    ran.peak_kb as f64 / 1024.0
}

fn with_statements(stage: &Stage) -> Result<(), BenchError> {
    let path = stage.layout.plan();
    let act = format!("write {}", path.display());
    let plan = std::fs::read_to_string(&path).map_err(BenchError::machine(act.clone()))?;
    std::fs::write(&path, plan.replacen(REPLAY, BY_SQL, 1)).map_err(BenchError::machine(act))
}

async fn client(stage: &Stage, variable: &str) -> Result<Client, BenchError> {
    Ok(connect(&Secret::new(stage.variable(variable)?), "the sandbox").await?)
}

async fn enqueue(control: &Client, count: i64) -> Result<(), BenchError> {
    let failed = BenchError::sql("fill the queue");
    let row = control.query_one(PRODUCER, &[]).await.map_err(&failed)?;
    control.execute(EVENTS, &[&count, &row.get::<_, String>(0)]).await.map_err(&failed)?;
    control.batch_execute("analyze cutover.revocation").await.map_err(&failed)
}

impl Queued {
    pub(super) fn goal(&self) -> (bool, String) {
        let is_reached = self.left == 0 && self.proved >= self.queued.unsigned_abs() && self.rss_mb <= MEMORY_MB;
        let Self { queued, proved, left, rss_mb, .. } = self;
        (
            is_reached,
            format!(
                "sql: {proved} of {queued} proved, {left} rows left, {rss_mb:.0} MB: wanted all, none, {MEMORY_MB} MB"
            ),
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a bench need no more than 52 bits")]
    pub(super) fn line(&self) -> Value {
        json!({
            "queued": self.queued, "proved": self.proved, "left": self.left, "flip_s": rounded(self.flip_s),
            "per_s": rounded(self.queued as f64 / self.flip_s), "rss_mb": rounded(self.rss_mb), "hold_ms": self.hold,
        })
    }
}
