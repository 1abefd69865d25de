//! A rehearsal: a plan's run, flip, soak and way back, against staging servers or throw-away ones, and the record of it.
//!
//! Drives the verbs as a user would. The record holds names, counts, sizes and times, and no row of anybody.

use super::verbs::{Heard, Said, VerbError, Verbs, outcome, words};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Load on a throw-away sandbox before the run begins.
const WARM_UP: Duration = Duration::from_secs(3);

/// What is rehearsed, and where.
#[derive(Debug, Clone)]
pub struct RehearsalOptions {
    /// This binary.
    pub program: PathBuf,
    /// The plan.
    pub plan: PathBuf,
    /// The staging servers' variables; without them throw-away servers are started in `dir`.
    pub env_file: Option<PathBuf>,
    /// Folder for throw-away servers, absolute; must not exist.
    pub dir: PathBuf,
    /// Token rows of throw-away servers.
    pub rows: u32,
    /// Requests a second of the load on throw-away servers.
    pub rate: u32,
    /// How long green serves before the way back.
    pub soak: Duration,
    /// Whether the mapping is proved against the engine's own migrations.
    pub prove_mapping: bool,
    /// Repairs of the plan that may change rows of green, by their names.
    pub allow_repairs: Vec<String>,
}

/// Rehearses and gives the record; `outcome` in it says how it ended. Throw-away servers are left for the caller to end.
///
/// # Errors
/// When a verb cannot be run at all.
pub async fn rehearse(options: &RehearsalOptions, hear: &(dyn Fn(Heard) + Sync)) -> Result<Value, VerbError> {
    let steps = Mutex::new(Vec::new());
    let listen = |heard: Heard| {
        note(&steps, &heard);
        hear(heard);
    };
    let verbs = Verbs { program: &options.program, json: true, hear: &listen };
    let mut record = perform(options, &verbs).await?;
    record["steps"] = Value::from(steps.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(record)
}

/// Keeps what each step took.
fn note(steps: &Mutex<Vec<Value>>, heard: &Heard) {
    let Heard::Event(event) = heard else { return };
    if event["event"] != "step_done" {
        return;
    }
    let mut step = json!({ "step": event["step"], "seconds": event["took_ms"].as_f64().unwrap_or(0.0) / 1000.0 });
    for name in ["rows", "bytes"] {
        if let Some(count) = event["receipt"].get(name).and_then(Value::as_u64) {
            step[name] = Value::from(count);
        }
    }
    // What each file of migrations did: its locks, the tables it wrote anew, log, temporary files and time.
    if let Some(files) = event["receipt"].get("files").filter(|files| files.is_array()) {
        step["files"] = files.clone();
    }
    steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
}

async fn perform(options: &RehearsalOptions, verbs: &Verbs<'_>) -> Result<Value, VerbError> {
    let env = match &options.env_file {
        Some(file) => file.clone(),
        None => {
            let (dir, rows, rate) =
                (options.dir.display().to_string(), options.rows.to_string(), options.rate.to_string());
            let mut typed = words(&["sandbox", "up", "--dir", &dir, "--rows", &rows, "--rate", &rate]);
            typed.extend(crate::plan::is_in_place(&options.plan).then(|| "--in-place".to_owned()));
            let up = verbs.ask(typed).await?;
            if up.code != 0 {
                return Ok(stopped("sandbox up", &up));
            }
            tokio::time::sleep(WARM_UP).await;
            options.dir.join("env")
        }
    };
    let plan = verbs.ask_quietly(on_plan(&options.plan, &env, "plan")).await?;
    let mut mapping = None;
    // Green has its final schema then, and clients are on blue still.
    let proof = options.prove_mapping.then_some("prove");
    for verb in ["check", "run"].into_iter().chain(proof).chain(["flip"]) {
        let mut typed = on_plan(&options.plan, &env, verb);
        if verb == "run" {
            typed.extend(options.allow_repairs.iter().map(|name| format!("--allow-repair={name}")));
        }
        let said = verbs.ask(typed).await?;
        mapping = mapping.or_else(|| said.summary.get("mapping").cloned());
        if said.code != 0 {
            return Ok(with_proof(stopped(verb, &said), mapping));
        }
    }
    let soak = soaked(options, verbs, &env).await?;
    let status = verbs.ask_quietly(on_plan(&options.plan, &env, "status")).await?.summary;
    let forward = held(options, verbs).await?;
    let mut back = on_plan(&options.plan, &env, "rollback");
    back.push("--yes".to_owned());
    let mut rollback_s = soak["seconds"].clone();
    if soak["outcome"] != "returned" {
        let begun = Instant::now();
        let said = verbs.ask(back.clone()).await?;
        if said.code != 0 {
            return Ok(stopped("rollback", &said));
        }
        rollback_s = json!(begun.elapsed().as_secs_f64());
    }
    // A second one leaves nothing of ours on either side, so that the rehearsal can be held again.
    let undone = verbs.ask(back).await?;
    if undone.code != 0 {
        return Ok(stopped("rollback", &undone));
    }
    let record = json!({
        "event": "summary", "outcome": "done", "live": undone.summary["live"], "plan": plan.summary["plan"],
        "plan_digest": plan.summary["digest"], "fingerprints": status["fingerprints"], "versions": status["versions"],
        "hold_ms_p99": forward.unwrap_or_else(|| status["figures"]["hold_ms"].clone()), "rollback_s": rollback_s,
        "soak_s": options.soak.as_secs_f64(), "soak": soak, "figures": status["figures"],
    });
    Ok(with_proof(record, mapping))
}

/// The record with what the proof of the mapping found, where there was one.
fn with_proof(mut record: Value, mapping: Option<Value>) -> Value {
    if let Some(mapping) = mapping {
        record["mapping"] = mapping;
    }
    record
}

/// Watches green as the plan's soak asks; what it found is recorded and stops no rehearsal.
async fn soaked(options: &RehearsalOptions, verbs: &Verbs<'_>, env: &Path) -> Result<Value, VerbError> {
    let mut watch = on_plan(&options.plan, env, "run");
    let time = format!("window.soak={}ms", options.soak.as_millis().max(1));
    watch.extend(words(&["--through", "soak", "--set", &time]));
    let begun = Instant::now();
    let said = verbs.ask(watch).await?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({ "outcome": outcome(said.code), "why": said.summary.get("why"), "seconds": seconds }))
}

/// What the prober saw of the hold, where there is one.
async fn held(options: &RehearsalOptions, verbs: &Verbs<'_>) -> Result<Option<Value>, VerbError> {
    if options.env_file.is_some() {
        return Ok(None);
    }
    let dir = options.dir.display().to_string();
    let report = verbs.ask_quietly(words(&["sandbox", "report", "--dir", &dir])).await?;
    Ok(Some(report.summary["flip"]["hold_ms_p99"].clone()))
}

fn on_plan(plan: &Path, env: &Path, verb: &str) -> Vec<String> {
    words(&[verb, &plan.display().to_string(), "--env-file", &env.display().to_string()])
}

fn stopped(verb: &str, said: &Said) -> Value {
    let why = said.summary.get("why").filter(|why| !why.is_null()).cloned();
    let mut record = json!({
        "event": "summary", "outcome": outcome(said.code), "live": said.summary.get("live"), "stopped_at": verb,
        "why": why.unwrap_or_else(|| Value::from(said.errors.clone())), "next": said.summary.get("next"),
    });
    if let Some(failed) = said.summary.get("failed_invariants") {
        record["failed_invariants"] = failed.clone();
    }
    record
}
