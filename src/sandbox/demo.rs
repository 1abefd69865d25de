//! The demo: a whole cutover on throw-away servers, driven as a person would, verb by verb, and judged by the prober.
//!
//! Spawns this very binary for each verb and believes the last line of its JSON. Never looks inside the product.

use super::prober::Report;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// Load before the run begins.
const WARM_UP: Duration = Duration::from_secs(4);
/// Load between the flip point and the flip.
const BEFORE_FLIP: Duration = Duration::from_secs(6);
/// Load after the flip.
const AFTER_FLIP: Duration = Duration::from_secs(5);
/// Bound on any one verb.
const VERB_WITHIN: Duration = Duration::from_secs(600);

/// What the demo is made of.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Folder of the sandbox, absolute; must not exist.
    pub dir: PathBuf,
    /// This binary.
    pub program: PathBuf,
    /// Token rows.
    pub rows: u32,
    /// Requests a second.
    pub rate: u32,
    /// Whether programs look on: the verbs then speak in events, and in their own screens otherwise.
    pub json: bool,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A verb begins.
    Verb(String),
    /// One event of a verb; only when programs look on.
    Event(Value),
}

/// Why the demo could not be judged.
#[derive(Debug, Error)]
pub enum DemoError {
    /// A verb could not be started or did not end.
    #[error("run `cutover {verb}`: {what}")]
    Verb {
        /// The verb.
        verb: String,
        /// What happened.
        what: String,
    },
}

/// What one verb said last, and how it left.
struct Said {
    summary: Value,
    code: i32,
    errors: String,
}

/// Runs the demo up to its judgement; the sandbox stays up for the caller to end. The value is the summary that the README shows.
///
/// # Errors
/// When a verb cannot be run at all.
pub async fn demo(options: &DemoOptions, hear: &(dyn Fn(Heard) + Sync)) -> Result<Value, DemoError> {
    let dir = options.dir.display().to_string();
    let (rows, rate) = (options.rows.to_string(), options.rate.to_string());
    let up = show(options, words(&["sandbox", "up", "--dir", &dir, "--rows", &rows, "--rate", &rate]), hear).await?;
    if up.code != 0 {
        return Ok(stopped_at("sandbox up", &up, &Value::Null));
    }
    tokio::time::sleep(WARM_UP).await;
    let plan = |name: &str| {
        let (plan, env) = (options.dir.join("plan.yaml"), options.dir.join("env"));
        [name.to_owned(), plan.display().to_string(), "--env-file".to_owned(), env.display().to_string()].to_vec()
    };
    for (name, load) in [("check", Duration::ZERO), ("run", BEFORE_FLIP), ("flip", AFTER_FLIP)] {
        let said = show(options, plan(name), hear).await?;
        if said.code != 0 {
            let status = ask(options, plan("status"), &|_| ()).await?;
            return Ok(stopped_at(name, &said, &status.summary));
        }
        tokio::time::sleep(load).await;
    }
    show(options, plan("status"), hear).await?;
    let status = ask(options, plan("status"), &|_| ()).await?;
    let report = ask(options, words(&["sandbox", "report", "--dir", &dir]), hear).await?;
    Ok(summary(&status.summary, &report))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs one verb for whoever looks on: its events are passed on to programs, its own screen is left to people.
async fn show(options: &DemoOptions, words: Vec<String>, hear: &(dyn Fn(Heard) + Sync)) -> Result<Said, DemoError> {
    if options.json {
        return ask(options, words, hear).await;
    }
    let name = words.join(" ");
    hear(Heard::Verb(name.clone()));
    let mut command = Command::new(&options.program);
    command.args(&words).stdin(Stdio::null()).kill_on_drop(true);
    let status = within(&name, async { command.status().await }).await?;
    Ok(Said { summary: Value::Null, code: status.code().unwrap_or(1), errors: String::new() })
}

/// Runs one verb with `--json`, passing its events on.
async fn ask(options: &DemoOptions, mut words: Vec<String>, hear: &(dyn Fn(Heard) + Sync)) -> Result<Said, DemoError> {
    let name = words.join(" ");
    hear(Heard::Verb(name.clone()));
    words.push("--json".to_owned());
    let mut command = Command::new(&options.program);
    command.args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let listened = async {
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (summary, errors) = tokio::join!(events(stdout, hear), text(stderr));
        Ok(Said { summary, code: child.wait().await?.code().unwrap_or(1), errors })
    };
    within(&name, listened).await
}

async fn within<T>(verb: &str, act: impl Future<Output = std::io::Result<T>>) -> Result<T, DemoError> {
    let fail = |what: String| DemoError::Verb { verb: verb.to_owned(), what };
    let ended = tokio::time::timeout(VERB_WITHIN, act).await;
    let ended = ended.map_err(|_| fail(format!("not done after {} s", VERB_WITHIN.as_secs())))?;
    ended.map_err(|error| fail(error.to_string()))
}

/// Passes events on and keeps the last.
async fn events(stdout: Option<tokio::process::ChildStdout>, hear: &(dyn Fn(Heard) + Sync)) -> Value {
    let mut last = Value::Null;
    let Some(stdout) = stdout else { return last };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(event) = serde_json::from_str::<Value>(&line) {
            hear(Heard::Event(event.clone()));
            last = event;
        }
    }
    last
}

async fn text(stderr: Option<tokio::process::ChildStderr>) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = stderr {
        let _what_was_read_is_enough = stderr.read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The summary of a demo that did not come to its end.
fn stopped_at(verb: &str, said: &Said, status: &Value) -> Value {
    let outcome =
        OUTCOMES.iter().find(|(_, code)| i32::from(*code) == said.code).map_or("failed", |(outcome, _)| outcome);
    let word =
        |name: &str| said.summary.get(name).or_else(|| status.get(name)).filter(|value| !value.is_null()).cloned();
    json!({
        "event": "summary", "outcome": outcome, "live": word("live"), "stopped_at": verb,
        "why": word("why").unwrap_or_else(|| Value::from(said.errors.clone())),
    })
}

fn summary(status: &Value, said: &Said) -> Value {
    let report: Report = serde_json::from_value(said.summary.clone()).unwrap_or_default();
    let live = status["live"].clone();
    let clean = report.is_clean() && report.flips > 0;
    let outcome = match (clean, live.as_str()) {
        (true, Some("green")) => "done",
        (_, Some("green")) => "failed_on_green",
        _ => "failed",
    };
    let mut summary = json!({"event": "summary", "outcome": outcome, "live": live});
    for name in ["rows_copied", "rows_cleaned", "migrations_applied", "indexes_concurrent"] {
        summary[name] = status["figures"][name].clone();
    }
    summary["revocations"] = json!({});
    for name in ["captured", "replayed", "proved", "dead"] {
        summary["revocations"][name] = status["revocations"][name].clone();
    }
    summary["flip"] = json!(report.flip);
    summary["prober"] = json!(report.prober);
    if !clean {
        summary["why"] = why(&report, said);
    }
    summary
}

/// What was wrong, in words.
fn why(report: &Report, said: &Said) -> Value {
    let mut reasons: Vec<String> = report.unsettled_because.iter().cloned().collect();
    if report.flips == 0 {
        reasons.push("the prober saw no flip".to_owned());
    }
    if said.code != 0 && !said.errors.is_empty() {
        reasons.push(said.errors.clone());
    }
    reasons.extend(report.examples.iter().cloned());
    json!(reasons)
}

/// Outcomes and their exit codes, as every verb has them.
const OUTCOMES: [(&str, u8); 10] = [
    ("done", 0),
    ("failed", 1),
    ("usage", 2),
    ("refused", 3),
    ("locked", 4),
    ("changed", 5),
    ("parked", 6),
    ("returned", 7),
    ("stuck", 8),
    ("failed_on_green", 9),
];

/// The exit code of a summary's outcome.
#[must_use]
pub fn exit_code(outcome: &str) -> u8 {
    OUTCOMES.iter().find(|(name, _)| *name == outcome).map_or(1, |(_, code)| *code)
}
