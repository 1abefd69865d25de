//! `cutover demo`: a whole cutover on throw-away servers under load, judged by an independent prober.

use super::sandbox::{eprint_line, interrupted, print_line};
use crate::engine::chain;
use crate::sandbox::demo::{DemoOptions, demo};
use crate::sandbox::environment::Layout;
use crate::sandbox::up::down;
use crate::sandbox::verbs::{Heard, exit_code};
use clap::Args;
use serde_json::{Value, json};

/// What a demo is made of.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// One JSON event a line, the summary last
    #[arg(long)]
    json: bool,
    /// Token rows of blue
    #[arg(long, default_value_t = 200_000)]
    rows: u32,
    /// Requests a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Go back to blue after the flip
    #[arg(long)]
    rollback: bool,
    /// Lets the stand-in engine's own migrations run over the rows, with the fault they have: the run must stop before the flip and name
    /// the grants that would be lost; then it goes on with the repair allowed
    #[arg(long, conflicts_with = "rollback")]
    engine_bug: bool,
    /// One database: migrated under its clients, then two versions of the engine change places on it
    #[arg(long)]
    in_place: bool,
    /// Leave everything running afterwards and say where
    #[arg(long)]
    keep: bool,
}

/// Runs the demo; 0 only when the flip is done, and with `--rollback` the way back as well, and the prober has nothing against it.
pub async fn run(args: DemoArgs) -> u8 {
    let json = args.json;
    let options = match options(&args) {
        Ok(options) => options,
        Err(error) => {
            eprint_line(&format!("error: {error}"));
            return 1;
        }
    };
    let hear = |heard: Heard| print_heard(json, &heard);
    let summary = tokio::select! {
        judged = demo(&options, &hear) => judged.unwrap_or_else(|error| failed(&chain(&error))),
        () = interrupted() => json!({"event": "summary", "outcome": "parked", "why": "interrupted"}),
    };
    end(&options, &args, &summary).await;
    print_summary(json, &summary);
    exit_code(summary.get("outcome").and_then(Value::as_str).unwrap_or("failed"))
}

fn options(args: &DemoArgs) -> std::io::Result<DemoOptions> {
    let name = format!("cutover-demo-{}", uuid::Uuid::new_v4().simple());
    let dir = std::path::absolute(std::env::temp_dir().join(name))?;
    let DemoArgs { json, rows, rate, rollback, engine_bug, in_place, .. } = *args;
    let program = std::env::current_exe()?;
    Ok(DemoOptions { dir, program, rows, rate, rollback, engine_bug, is_in_place: in_place, json })
}

fn failed(why: &str) -> Value {
    json!({"event": "summary", "outcome": "failed", "why": why})
}

/// Ends the sandbox, unless it is to be kept; the logs of a demo that failed are kept beside a word on where.
async fn end(options: &DemoOptions, args: &DemoArgs, summary: &Value) {
    let dir = options.dir.display();
    let outcome = summary.get("outcome").and_then(Value::as_str);
    let is_up = summary["stopped_at"] != "sandbox up";
    if args.keep && is_up && outcome != Some("parked") {
        say(args.json, &format!("still running in {dir}; end it with `cutover sandbox down --dir {dir}`"));
        return;
    }
    let keep_files = !matches!(outcome, Some("done" | "parked"));
    let layout = Layout::new(&options.dir);
    match down(&layout, &options.program, keep_files).await {
        Ok(()) if keep_files => say(args.json, &format!("ended; data and logs are kept in {dir}")),
        Ok(()) => {}
        Err(error) => eprint_line(&format!("error: end the sandbox in {dir}: {}", chain(&error))),
    }
}

fn say(json: bool, line: &str) {
    if json { print_line(&json!({"event": "progress", "what": line}).to_string()) } else { print_line(line) }
}

/// One event; a verb's own summary is passed on as a step of the demo, so that the last line alone is the summary.
fn print_heard(json: bool, heard: &Heard) {
    match heard {
        Heard::Verb(verb) if json => print_line(&json!({"event": "verb", "verb": verb}).to_string()),
        Heard::Verb(verb) => print_line(&format!("\n$ cutover {verb}")),
        Heard::Event(event) if json => {
            let mut event = event.clone();
            if event["event"] == "summary" {
                event["event"] = Value::from("verb_summary");
            }
            print_line(&event.to_string());
        }
        Heard::Event(_) => {}
    }
}

/// Figures of the run as a whole.
const OF_THE_RUN: [(&str, &str); 3] = [
    ("rows copied", "/rows_copied"),
    ("revocations captured", "/revocations/captured"),
    ("revocations proved", "/revocations/proved"),
];
/// What the prober saw of a switch, and of the history up to it.
const OF_A_STOP: [(&str, &str); 12] = [
    ("hold p50 ms", "/flip/hold_ms_p50"),
    ("hold p99 ms", "/flip/hold_ms_p99"),
    ("hold max ms", "/flip/hold_ms_max"),
    ("write gap ms", "/flip/write_gap_ms"),
    ("requests", "/prober/requests"),
    ("failed", "/prober/failed"),
    ("acknowledged writes", "/prober/acked_writes"),
    ("lost writes", "/prober/lost_writes"),
    ("given up", "/prober/given_up"),
    ("revoked chains", "/prober/revoked"),
    ("revoked accepted", "/prober/revoked_accepted"),
    ("two writers ms", "/prober/two_writer_ms"),
];

fn print_summary(json: bool, summary: &Value) {
    if json {
        print_line(&summary.to_string());
        return;
    }
    let word = |pointer: &str| summary.pointer(pointer).map_or("-".to_owned(), |value| value.to_string());
    print_line(&format!("\noutcome: {}", word("/outcome").trim_matches('"')));
    print_line(&format!("live:    {}", word("/live").trim_matches('"')));
    if let Some(why) = summary.get("why") {
        print_line(&format!("why:     {why}"));
    }
    if let Some(found) = summary.get("engine_bug") {
        print_line(&format!("stopped: {}", found["why"].as_str().unwrap_or("-")));
        print_line(&format!("allowed: repair {}", found["allowed"].as_str().unwrap_or("-")));
    }
    for (name, pointer) in OF_THE_RUN {
        print_line(&format!("{name:>22}  {}", word(pointer)));
    }
    let stops: &[&str] = if summary.get("rollback").is_some() { &["/forward", "/rollback"] } else { &[""] };
    if stops.len() > 1 {
        print_line(&columns("", ["flip".to_owned(), "way back".to_owned()]));
    }
    for (name, pointer) in OF_A_STOP {
        print_line(&columns(name, stops.iter().map(|stop| word(&format!("{stop}{pointer}")))));
    }
}

/// One line of figures, one after every switch.
fn columns(name: &str, figures: impl IntoIterator<Item = String>) -> String {
    let figures: Vec<String> = figures.into_iter().map(|figure| format!("{figure:<10}")).collect();
    format!("{name:>22}  {}", figures.concat().trim_end())
}
