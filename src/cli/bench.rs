//! `cutover sandbox bench carry|copy|level|diff|migrations|cleanup|flip|gateway|revocations`: this tool measured beside its peers in one run, on the same data, as ratios.

use super::open_files;
use super::sandbox::{eprint_line, interrupted, print_line};
use crate::engine::chain;
use crate::sandbox::bench::{BenchOptions, Kind, QUICK_ROWS, bench};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Token rows when nothing is said.
const ROWS: u32 = 3_000_000;
/// The same of `level`, where the backlog is what counts.
const LEVEL_ROWS: u32 = 300_000;
/// The same where requests count and rows do not.
const WEB_ROWS: u32 = 2_000;
/// There and back so often.
const FLIPS: u32 = 20;
/// The same of a quick bench.
const QUICK: u32 = 100_000;

/// A ratio is the peer's time divided by ours: above 1 means that ours is faster.
///
/// carry: filling green in another schema, against restore_migrate (dump, restore, and the engine's migrations on the filled copy; at least
/// 10) and plain_copy (`copy` from table to table without a mapping; at least 0.91, that is at most 1.1 times its time).
/// copy: filling green when nothing changes, against pgcopydb (at least 1.1), dump_restore (at least 1.2) and native (a subscription's initial
/// copy; shown, not judged).
/// level: taking over a backlog of up to 200,000 changes of distinct rows, and of few hot rows, against native (a subscription; at least 1.0,
/// the worse of both backlogs), and the lag under 2,000 writes a second (less than 1 s).
/// diff: comparing green with blue row by row, against the copy that filled green (at least 4: the diff takes at most a quarter of its time); one
/// changed column of one row must be found and named.
/// migrations: a table under 1,000 writes a second, migrated by the engine's own files and by the same versions rewritten (no writer waits
/// longer than 500 ms; the engine's own must keep one waiting for a second, or the rows show nothing).
/// cleanup: a tenth of a table's rows swept into the archive under 1,000 statements a second, of which 95 of 100 may take at most 1.5 times what they take
/// without it.
/// flip: three systems moved there and back twenty times under 2,000 requests a second; nothing fails, never two sides at one time, and what a hold adds
/// is at most 100 ms at the median and 250 ms for 99 of 100.
/// gateway: requests a second through the gateway beside nginx and HAProxy on the same cores (ours at least 0.8 of nginx's, p99 at most 1.5 times), what
/// it adds at 1,000 requests a second (at most 0.2 ms), its memory with 10,000 idle connections (at most 200 MB), and 100 equal refreshes (one call).
/// revocations: what capturing one adds beside asking the engine itself (at most 5 ms at the median), 500 a second through the gateway for half a
/// minute, and a flip that proves them all.
/// All of the first four: the tool's own memory at most 150 MB. docs/bench.md says how each is measured.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// What is measured
    what: What,
    /// Token rows of blue [default: 3,000,000; level 300,000; quick 100,000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..))]
    rows: Option<u32>,
    /// How often each is measured; the median counts [default: 3; quick 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..100))]
    repetitions: Option<u32>,
    /// Ends within 4 minutes, with at most 300,000 rows, and judges nothing
    #[arg(long)]
    quick: bool,
    /// Measures ours at a tenth of the rows too, for the exponent of time
    #[arg(long)]
    scale: bool,
    /// One JSON event a line, the result last
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Filling green in another schema
    Carry,
    /// Filling green when nothing changes
    Copy,
    /// Bringing green level, and keeping it there
    Level,
    /// Comparing green with blue
    Diff,
    /// Migrating a table that is being written
    Migrations,
    /// Sweeping rows out of a table that is being used
    Cleanup,
    /// Moving three systems there and back under load
    Flip,
    /// The built-in gateway, beside nginx and HAProxy
    Gateway,
    /// Revocations, captured, replayed and proved
    Revocations,
}

/// Runs the bench; 0 when every goal is reached or it was quick, 1 otherwise.
pub(super) async fn run(args: BenchArgs) -> u8 {
    let json = args.json;
    open_files::raise();
    let options = match options(&args) {
        Ok(options) => options,
        Err(error) => return failed(json, &error.to_string()),
    };
    let tell = |line: &str| {
        if json { print_line(&json!({"event": "progress", "what": line}).to_string()) } else { print_line(line) }
    };
    let measured = tokio::select! {
        measured = bench(&options, &tell) => measured.map_err(|error| chain(&error)),
        () = interrupted() => Err("interrupted".to_owned()),
    };
    // Servers and programs ended with the future above.
    let removed = if options.dir.exists() { std::fs::remove_dir_all(&options.dir) } else { Ok(()) };
    if let Err(error) = removed {
        eprint_line(&format!("error: remove {}: {error}", options.dir.display()));
    }
    match measured {
        Ok(ref result) if json => print_line(&result.to_string()),
        Ok(ref result) if options.kind == Kind::Migrations => print_waits(result),
        Ok(ref result) if matches!(options.kind, Kind::Cleanup | Kind::Flip | Kind::Gateway | Kind::Revocations) => {
            print_words(result);
        }
        Ok(ref result) => print_result(result),
        Err(ref why) => return failed(json, why),
    }
    u8::from(measured.is_ok_and(|result| result["pass"] == false))
}

fn failed(json: bool, why: &str) -> u8 {
    if json {
        print_line(&json!({"event": "summary", "outcome": "failed", "why": why}).to_string());
    }
    eprint_line(&format!("error: {why}"));
    1
}

fn options(args: &BenchArgs) -> std::io::Result<BenchOptions> {
    let kind = match args.what {
        What::Carry => Kind::Carry,
        What::Copy => Kind::Copy,
        What::Level => Kind::Level,
        What::Diff => Kind::Diff,
        What::Migrations => Kind::Migrations,
        What::Cleanup => Kind::Cleanup,
        What::Flip => Kind::Flip,
        What::Gateway => Kind::Gateway,
        What::Revocations => Kind::Revocations,
    };
    let usual = match kind {
        Kind::Flip | Kind::Gateway | Kind::Revocations => WEB_ROWS,
        _ if args.quick => QUICK,
        Kind::Level => LEVEL_ROWS,
        Kind::Carry | Kind::Copy | Kind::Diff | Kind::Migrations | Kind::Cleanup => ROWS,
    };
    let rows = args.rows.unwrap_or(usual).min(if args.quick { QUICK_ROWS } else { u32::MAX });
    let usual = if kind == Kind::Flip { FLIPS } else { 3 };
    let name = format!("cutover-bench-{}", uuid::Uuid::new_v4().simple());
    Ok(BenchOptions {
        kind,
        rows,
        repetitions: args.repetitions.unwrap_or(if args.quick { 1 } else { usual }),
        quick: args.quick,
        scale: args.scale,
        dir: std::path::absolute(std::env::temp_dir().join(name))?,
        program: std::env::current_exe()?,
        postgres: std::env::var_os("CUTOVER_PG_BIN").map(PathBuf::from),
    })
}

/// Every word of the result on a line of its own.
fn print_words(result: &Value) {
    for (name, value) in result.as_object().into_iter().flatten().filter(|(name, _)| *name != "event") {
        print_line(&format!("{name}: {value}"));
    }
}

/// What writers met, as a table.
fn print_waits(result: &Value) {
    let number = |name: &str, set: &str| {
        result[name][set].as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
    };
    print_line(&format!("\nmigrations: {} rows\n\n{:>18}  {:>10}  {:>10}", result["rows"], "", "stock", "rewritten"));
    for (words, name) in [
        ("blocked ms, most", "blocked_ms_max"),
        ("without, most", "idle_ms_max"),
        ("seconds", "seconds"),
        ("writes a second", "writes_per_s"),
    ] {
        print_line(&format!("{words:>18}  {:>10}  {:>10}", number(name, "stock"), number(name, "rewritten")));
    }
    print_line(&format!(
        "\npass: {}",
        result["pass"].as_bool().map_or_else(|| "not judged".to_owned(), |pass| pass.to_string())
    ));
    for short in result["not_reached"].as_array().into_iter().flatten() {
        print_line(&format!("not reached: {}", short.as_str().unwrap_or_default()));
    }
}

/// The result as a table.
fn print_result(result: &Value) {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"));
    let megabytes = result["bytes"].as_f64().unwrap_or_default() / 1_048_576.0;
    print_line(&format!(
        "\n{}: {} token rows, {} rows in all, {megabytes:.0} MB; median of {}\n",
        word(&result["bench"]),
        result["rows"],
        result["rows_total"],
        result["repetitions"]
    ));
    print_line(&format!("{:>18}  {:>10}  {:>10}", "", "seconds", "ratio"));
    print_line(&format!("{:>18}  {:>10}  {:>10}", "cutover", number(&result["ours_s"]), "1.00"));
    for (name, seconds) in result["peers_s"].as_object().into_iter().flatten() {
        let why = result["not_measured"][name].as_str().unwrap_or_default();
        let (seconds, ratio) = (number(seconds), number(&result["ratio"][name]));
        print_line(format!("{name:>18}  {seconds:>10}  {ratio:>10}  {why}").trim_end());
    }
    print_line("\nratio: the peer's time divided by ours; above 1 means that ours is faster");
    for (name, stages) in result["stages"].as_object().into_iter().flatten() {
        let stages = stages.as_object().into_iter().flatten();
        let stages: Vec<String> = stages.map(|(stage, seconds)| format!("{stage} {}", number(seconds))).collect();
        if !stages.is_empty() {
            print_line(&format!("stages of {name}: {}", stages.join(", ")));
        }
    }
    for name in ["backlogs", "lag_ms", "exponent", "versions"] {
        if let Some(value) = result.get(name) {
            print_line(&format!("{name}: {value}"));
        }
    }
    print_line(&format!("memory of cutover: {} MB", number(&result["tool_rss_mb"])));
    match result["pass"].as_bool() {
        None => print_line("pass: not judged"),
        Some(pass) => print_line(&format!("pass: {pass}")),
    }
    for short in result["not_reached"].as_array().into_iter().flatten() {
        print_line(&format!("not reached: {}", word(short)));
    }
}
