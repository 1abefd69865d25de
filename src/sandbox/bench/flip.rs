//! Three systems moved there and back under load: what clients felt of every move, by a prober that knows nothing of the tool.

use super::stage::Stage;
use super::{BenchError, BenchOptions};
use crate::sandbox::environment::Variables;
use crate::sandbox::prober::Report;
use crate::sandbox::report::report;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Requests a second, of the probe and of the sandbox's own load together.
const RATE: u32 = 2_000;
/// The same of a quick bench.
const QUICK_RATE: u32 = 200;
/// Requests a second of the sandbox's own load: writes, refreshes and revocations.
const LOAD: u32 = 50;
/// Systems that are asked.
const SYSTEMS: u32 = 3;
/// Time under load before the first move and after each.
const REST: Duration = Duration::from_secs(1);
/// Least requests that say anything.
const REQUESTS: u64 = 100_000;
/// Most that a hold may add at the median, in milliseconds.
const HOLD_P50_MS: f64 = 100.0;
/// The same for 99 of 100.
const HOLD_P99_MS: f64 = 250.0;
/// The plan's hold, and what a request may take beyond it.
const WORST_MS: f64 = 5_000.0 + 250.0;

/// Moves, and gives the last line.
pub(super) async fn flip(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let stage = Stage::up(options, LOAD, tell).await?;
    tell("filling green");
    stage.verb(&["run"]).await?;
    let rate = if options.quick { QUICK_RATE } else { RATE };
    let probe = Probing::start(&stage, (rate - LOAD).div_ceil(SYSTEMS))?;
    sleep(REST).await;
    for number in 1..=options.repetitions {
        for words in [&["flip"][..], &["rollback", "--yes"]] {
            let begun = Instant::now();
            stage.verb(words).await?;
            tell(&format!("{} {number}: {:.1} s", words[0], begun.elapsed().as_secs_f64()));
            sleep(REST).await;
        }
    }
    let seen = probe.end().await?;
    let load = report(&stage.layout).await?;
    Ok(line(options, rate, &seen, &load))
}

/// `cutover probe` beside the moves.
struct Probing {
    pid: Option<Pid>,
    ended: JoinHandle<std::io::Result<Output>>,
}

impl Probing {
    fn start(stage: &Stage, rate: u32) -> Result<Self, BenchError> {
        let variables = Variables::read(&stage.layout)?;
        let mut command = Command::new(&stage.program);
        command.args(["probe", "--json", "--rate", &rate.to_string()]);
        for (name, variable, path) in [
            ("engine", "GATEWAY_PUBLIC", "/userinfo"),
            ("authorization", "AUTHZ_CUTOVER", "/policies?subject=nobody"),
            ("dashboard", "DASHBOARD_CUTOVER", "/clients?limit=1"),
        ] {
            command.arg("--target").arg(format!("{name}={}{path}", variables.get(variable)?));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(BenchError::machine("start cutover probe"))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { pid, ended: tokio::spawn(child.wait_with_output()) })
    }

    /// Asks it for its report.
    async fn end(mut self) -> Result<Value, BenchError> {
        if let Some(pid) = self.pid {
            // One that has ended by itself says why below.
            let _gone = kill_process(pid, Signal::INT);
        }
        let fail = |why: String| BenchError::Program { program: "cutover probe".to_owned(), why };
        let ended = tokio::time::timeout(Duration::from_secs(30), &mut self.ended).await;
        let output = ended.map_err(|_| fail("it did not end within 30 s".to_owned()))?;
        let output = output.map_err(|error| fail(error.to_string()))?.map_err(|error| fail(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        last.filter(|last| last["requests"].is_u64()).ok_or_else(|| fail(format!("no report: {}", output.status)))
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        // The child goes with its future.
        self.ended.abort();
    }
}

fn line(options: &BenchOptions, rate: u32, seen: &Value, load: &Report) -> Value {
    let number = |name: &str| seen[name].as_f64().unwrap_or(f64::INFINITY);
    let moves = u64::from(options.repetitions) * 2;
    let requests = seen["requests"].as_u64().unwrap_or_default() + load.prober.requests;
    let unsent = seen["not_sent"].as_u64().unwrap_or(u64::MAX);
    let failed = seen["failed"].as_u64().unwrap_or(u64::MAX).saturating_add(load.prober.failed);
    let accepted = load.prober.revoked_accepted + load.prober.ended_accepted;
    let wrong = load.prober.lost_writes + accepted + load.prober.two_writer_ms;
    let mut short = Vec::new();
    let mut wants = |is_reached: bool, what: String| {
        if !is_reached {
            short.push(what);
        }
    };
    wants(failed == 0, format!("failed: {failed}, wanted 0: {}", seen["reasons"]));
    wants(unsent == 0, format!("not sent: {unsent}, wanted 0"));
    wants(number("mixed_side_ms") == 0.0, format!("mixed_side_ms: {}, wanted 0", seen["mixed_side_ms"]));
    wants(seen["changed"] == moves, format!("changes of side: {}, wanted {moves}", seen["changed"]));
    wants(wrong == 0, format!("lost writes, revoked and accepted, or two writers: {:?}", load.examples));
    wants(load.settled, format!("the load's promises could not be looked at: {:?}", load.unsettled_because));
    wants(requests >= REQUESTS, format!("requests: {requests}, wanted at least {REQUESTS}"));
    for (name, most) in [("hold_ms_p50", HOLD_P50_MS), ("hold_ms_p99", HOLD_P99_MS), ("worst_ms", WORST_MS)] {
        wants(number(name) <= most, format!("{name}: {}, wanted at most {most}", seen[name]));
    }
    let mut line = json!({
        "event": "summary", "bench": options.kind.word(), "rows": options.rows, "rate": rate, "flips": moves,
        "requests": requests, "failed": failed, "not_sent": unsent, "pass": short.is_empty(), "not_reached": short,
        "load": load.prober, "switches": load.switches,
    });
    for name in [
        "mixed_side_ms",
        "held",
        "hold_ms_p50",
        "hold_ms_p99",
        "hold_ms_max",
        "p50_ms",
        "p99_ms",
        "worst_ms",
        "targets",
    ] {
        line[name] = seen[name].clone();
    }
    if options.quick {
        line["pass"] = Value::Null;
    }
    line
}
