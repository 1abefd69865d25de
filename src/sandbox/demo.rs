//! The demo: a whole cutover on throw-away servers, driven as a person would, verb by verb, and judged by the prober.
//!
//! Never looks inside the product.

use super::engine_bug;
use super::prober::Report;
use super::verbs::{Heard, Said, VerbError, Verbs, outcome, words};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Load before the run begins.
const WARM_UP: Duration = Duration::from_secs(4);
/// Load between the flip point and the flip.
const BEFORE_FLIP: Duration = Duration::from_secs(6);
/// Load after a switch, there or back.
const AFTER_FLIP: Duration = Duration::from_secs(5);

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
    /// Whether the engine's own migrations run over the rows, faults and all.
    pub engine_bug: bool,
    /// Whether one database is migrated under its clients, and two versions of the engine change places on it.
    pub is_in_place: bool,
    /// Whether programs look on: the verbs then speak in events, and in their own screens otherwise.
    pub json: bool,
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
pub async fn demo(options: &DemoOptions, hear: &(dyn Fn(Heard) + Sync)) -> Result<Value, VerbError> {
    let verbs = Verbs { program: &options.program, json: options.json, hear };
    let dir = options.dir.display().to_string();
    let (rows, rate) = (options.rows.to_string(), options.rate.to_string());
    let mut typed = words(&["sandbox", "up", "--dir", &dir, "--rows", &rows, "--rate", &rate]);
    typed.extend(options.is_in_place.then(|| "--in-place".to_owned()));
    let up = verbs.show(typed).await?;
    if up.code != 0 {
        return Ok(stopped_at("sandbox up", &up, &Value::Null));
    }
    tokio::time::sleep(WARM_UP).await;
    if options.engine_bug {
        engine_bug::prepare(options)?;
    }
    let mut found = Value::Null;
    for (name, load) in [("check", Duration::ZERO), ("run", BEFORE_FLIP), ("flip", AFTER_FLIP)] {
        let mut typed = on_plan(options, name);
        if options.engine_bug && name == "run" {
            (found, typed) = engine_bug::run(options, &verbs).await?;
        }
        if let Some(stopped) = perform(options, &verbs, name, typed, load).await? {
            return Ok(stopped);
        }
    }
    let forward = stop(options, &verbs).await?;
    if options.engine_bug {
        return Ok(with_engine_bug(summary(&forward, None), found));
    }
    if !options.rollback {
        return Ok(summary(&forward, None));
    }
    if let Some(stopped) = perform(options, &verbs, "rollback", on_plan(options, "rollback"), AFTER_FLIP).await? {
        return Ok(stopped);
    }
    Ok(summary(&forward, Some(&stop(options, &verbs).await?)))
}

/// What was found of the engine's faults belongs to the summary, and how it was found is judged too.
fn with_engine_bug(mut summary: Value, found: Value) -> Value {
    let wrong = engine_bug::wrong(&found);
    if !wrong.is_empty() {
        summary["outcome"] = json!("failed_on_green");
        summary["why"] = json!(wrong);
    }
    summary["engine_bug"] = found;
    summary
}

/// A verb on the sandbox's plan, as a user types it; the way back asks nobody.
pub(super) fn on_plan(options: &DemoOptions, verb: &str) -> Vec<String> {
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
    verbs: &Verbs<'_>,
    verb: &str,
    typed: Vec<String>,
    load: Duration,
) -> Result<Option<Value>, VerbError> {
    let said = verbs.show(typed).await?;
    if said.code != 0 {
        let status = verbs.ask_quietly(on_plan(options, "status")).await?;
        return Ok(Some(stopped_at(verb, &said, &status.summary)));
    }
    tokio::time::sleep(load).await;
    Ok(None)
}

/// Asks the tool where it stands, and the prober what it saw.
async fn stop(options: &DemoOptions, verbs: &Verbs<'_>) -> Result<Stop, VerbError> {
    verbs.show(on_plan(options, "status")).await?;
    let status = verbs.ask_quietly(on_plan(options, "status")).await?.summary;
    let dir = options.dir.display().to_string();
    let report = verbs.ask(words(&["sandbox", "report", "--dir", &dir])).await?;
    Ok(Stop { status, report })
}

/// The summary of a demo that did not come to its end.
fn stopped_at(verb: &str, said: &Said, status: &Value) -> Value {
    let outcome = outcome(said.code);
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
        for word in ["failed", "lost_writes", "revoked_accepted", "ended_accepted", "two_writer_ms"] {
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
