//! The demo: a whole cutover on throw-away servers, driven as a person would, verb by verb, and judged by the prober.
//!
//! Spawns this very binary for each verb and believes the last line of its JSON. Never looks inside the product.

use super::prober::Report;
use serde_json::{Value, json};
use std::collections::BTreeSet;
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
/// Load after a switch, there or back.
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
    /// Whether the way back is taken after the flip.
    pub rollback: bool,
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

/// What is known at one stop of the demo: what `status` said, and the prober.
struct Stop {
    status: Value,
    report: Said,
}

impl Stop {
    /// What the prober saw; nothing of it is clean when it cannot be read.
    fn seen(&self) -> Report {
        serde_json::from_value(self.report.summary.clone()).unwrap_or_default()
    }

    /// What the prober saw of the last switch, and of the whole history.
    fn figures(&self) -> Value {
        let seen = self.seen();
        json!({"flip": seen.flip, "prober": seen.prober})
    }

    /// What is wrong after so many switches, in words; empty when nothing is.
    fn wrong(&self, switches: u64) -> Vec<String> {
        let seen = self.seen();
        if seen.is_clean() && seen.flips >= switches {
            return Vec::new();
        }
        let unseen = (seen.flips < switches).then(|| format!("the prober saw {} of {switches} switches", seen.flips));
        let errors = Some(self.report.errors.clone()).filter(|errors| self.report.code != 0 && !errors.is_empty());
        let counts = (!seen.is_clean()).then(|| format!("the prober's counts are not all 0: {}", json!(seen.prober)));
        let reasons = seen.unsettled_because.into_iter().chain(unseen).chain(errors).chain(counts);
        reasons.chain(seen.examples).collect()
    }
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
    for (name, load) in [("check", Duration::ZERO), ("run", BEFORE_FLIP), ("flip", AFTER_FLIP)] {
        if let Some(stopped) = perform(options, name, load, hear).await? {
            return Ok(stopped);
        }
    }
    let forward = stop(options, hear).await?;
    if !options.rollback {
        return Ok(summary(&forward, None));
    }
    if let Some(stopped) = perform(options, "rollback", AFTER_FLIP, hear).await? {
        return Ok(stopped);
    }
    Ok(summary(&forward, Some(&stop(options, hear).await?)))
}

/// A verb on the sandbox's plan, as a user types it; the way back asks nobody.
fn on_plan(options: &DemoOptions, verb: &str) -> Vec<String> {
    let (plan, env) =
        (options.dir.join("plan.yaml").display().to_string(), options.dir.join("env").display().to_string());
    let mut typed = words(&[verb, &plan, "--env-file", &env]);
    if verb == "rollback" {
        typed.push("--yes".to_owned());
    }
    typed
}

/// Runs one verb, and lets the load go on afterwards; the demo's summary when it ends here.
async fn perform(
    options: &DemoOptions,
    verb: &str,
    load: Duration,
    hear: &(dyn Fn(Heard) + Sync),
) -> Result<Option<Value>, DemoError> {
    let said = show(options, on_plan(options, verb), hear).await?;
    if said.code != 0 {
        let status = ask(options, on_plan(options, "status"), &|_| ()).await?;
        return Ok(Some(stopped_at(verb, &said, &status.summary)));
    }
    tokio::time::sleep(load).await;
    Ok(None)
}

/// Asks the tool where it stands, and the prober what it saw.
async fn stop(options: &DemoOptions, hear: &(dyn Fn(Heard) + Sync)) -> Result<Stop, DemoError> {
    show(options, on_plan(options, "status"), hear).await?;
    let status = ask(options, on_plan(options, "status"), &|_| ()).await?.summary;
    let dir = options.dir.display().to_string();
    let report = ask(options, words(&["sandbox", "report", "--dir", &dir]), hear).await?;
    Ok(Stop { status, report })
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

/// The last line: done when traffic is where it was to go and nothing was wrong at any stop. Figures of the copy are those of the
/// flip; the prober's stand in two objects when there was a way back.
fn summary(forward: &Stop, back: Option<&Stop>) -> Value {
    let last = back.unwrap_or(forward);
    let mut wrong = forward.wrong(1);
    wrong.extend(back.map(|back| back.wrong(2)).unwrap_or_default());
    let mut told = BTreeSet::new();
    wrong.retain(|reason| told.insert(reason.clone()));
    let live = last.status["live"].clone();
    let wanted = if back.is_some() { "blue" } else { "green" };
    let outcome = match live.as_str() {
        Some(live) if live == wanted && wrong.is_empty() => "done",
        Some("green") => "failed_on_green",
        _ => "failed",
    };
    let mut summary = json!({"event": "summary", "outcome": outcome, "live": live});
    for name in ["rows_copied", "rows_cleaned", "migrations_applied", "indexes_concurrent"] {
        summary[name] = forward.status["figures"][name].clone();
    }
    summary["revocations"] = json!({});
    for name in ["captured", "replayed", "proved", "dead"] {
        let of = |stop: &Stop| Some(stop.status["revocations"][name].clone()).filter(|count| !count.is_null());
        summary["revocations"][name] = json!(of(last).or_else(|| of(forward)));
    }
    match back {
        None => extend(&mut summary, forward.figures()),
        Some(back) => extend(&mut summary, json!({"forward": forward.figures(), "rollback": back.figures()})),
    }
    if !wrong.is_empty() {
        summary["why"] = json!(wrong);
    }
    summary
}

fn extend(summary: &mut Value, more: Value) {
    if let (Some(summary), Value::Object(more)) = (summary.as_object_mut(), more) {
        summary.extend(more);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::prober::{FlipSeen, Seen};

    /// A stop at which nothing is wrong.
    fn stop(live: &str, flips: u64, requests: u64, write_gap_ms: f64) -> Stop {
        let flip = FlipSeen { write_gap_ms: Some(write_gap_ms), ..FlipSeen::default() };
        let prober = Seen { requests, ..Seen::default() };
        let report = Report { prober, flip, flips, settled: true, ..Report::default() };
        let figures = json!({"rows_copied": 10, "rows_cleaned": 2, "migrations_applied": 3, "indexes_concurrent": 1});
        let revocations = json!({"captured": requests, "replayed": 4, "proved": 5, "dead": 0});
        let status = json!({"live": live, "figures": figures, "revocations": revocations});
        Stop { status, report: Said { summary: json!(report), code: 0, errors: String::new() } }
    }

    fn with(mut stop: Stop, word: &str, count: u64) -> Stop {
        stop.report.summary["prober"][word] = json!(count);
        stop
    }

    #[test]
    fn without_the_way_back_the_figures_stand_at_the_top() {
        let summary = summary(&stop("green", 1, 100, 20.0), None);
        assert_eq!((&summary["outcome"], &summary["live"]), (&json!("done"), &json!("green")), "{summary}");
        assert_eq!((&summary["flip"]["write_gap_ms"], &summary["prober"]["requests"]), (&json!(20.0), &json!(100)));
        assert!(summary.get("forward").is_none() && summary.get("rollback").is_none() && summary.get("why").is_none());
    }

    #[test]
    fn with_the_way_back_there_and_back_have_their_own_figures() {
        let summary = summary(&stop("green", 1, 100, 20.0), Some(&stop("blue", 2, 300, 30.0)));
        assert_eq!((&summary["outcome"], &summary["live"]), (&json!("done"), &json!("blue")), "{summary}");
        assert_eq!(
            (&summary["forward"]["flip"]["write_gap_ms"], &summary["forward"]["prober"]["requests"]),
            (&json!(20.0), &json!(100))
        );
        assert_eq!(
            (&summary["rollback"]["flip"]["write_gap_ms"], &summary["rollback"]["prober"]["requests"]),
            (&json!(30.0), &json!(300))
        );
        assert_eq!((&summary["rows_copied"], &summary["revocations"]["captured"]), (&json!(10), &json!(300)));
        assert!(summary.get("flip").is_none() && summary.get("prober").is_none(), "{summary}");
    }

    #[test]
    fn anything_wrong_on_either_way_fails_and_what_was_given_up_does_not() {
        let (there, back) = (|| stop("green", 1, 100, 20.0), || stop("blue", 2, 300, 30.0));
        for word in ["failed", "lost_writes", "revoked_accepted", "two_writer_ms"] {
            for summary in
                [summary(&with(there(), word, 1), Some(&back())), summary(&there(), Some(&with(back(), word, 1)))]
            {
                assert_eq!(summary["outcome"], "failed", "{word}: {summary}");
                assert!(summary["why"].to_string().contains(word), "{summary}");
            }
        }
        assert_eq!(summary(&there(), Some(&with(back(), "given_up", 7)))["outcome"], "done");
        assert_eq!(summary(&there(), Some(&stop("blue", 1, 300, 30.0)))["outcome"], "failed", "no return was seen");
        assert_eq!(summary(&there(), Some(&stop("green", 2, 300, 30.0)))["outcome"], "failed_on_green");
        assert_eq!(summary(&with(there(), "failed", 1), None)["outcome"], "failed_on_green");
    }
}
