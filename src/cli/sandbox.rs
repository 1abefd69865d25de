//! `cutover sandbox up|report|fault|down`: throw-away servers, stand-in systems and live load to try the other verbs on.

use super::bench;
use crate::engine::chain;
use crate::plan::Secret;
use crate::sandbox::engine::{self, EngineVersion};
use crate::sandbox::environment::Layout;
use crate::sandbox::fault::{Fault, fault};
use crate::sandbox::part::{self, Role};
use crate::sandbox::prober::Report;
use crate::sandbox::report::report;
use crate::sandbox::up::{UpOptions, down, up};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// What everything of a sandbox starts with.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    #[command(subcommand)]
    verb: SandboxVerb,
}

/// Verbs of a sandbox.
#[derive(Debug, Subcommand)]
enum SandboxVerb {
    /// Start servers, engines, systems, load and prober, and return when they are ready
    Up(UpArgs),
    /// Let the prober check everything it was promised, and print what it saw
    Report(DirArgs),
    /// Break a part, or mend it
    Fault(FaultArgs),
    /// End everything and remove the folder
    Down(DownArgs),
    /// Measure this tool beside its peers; what scripts/bench runs
    #[command(hide = true)]
    Bench(bench::BenchArgs),
    /// Run one part in this process
    #[command(hide = true)]
    Part(PartArgs),
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    common: DirArgs,
    /// Token rows of blue
    #[arg(long, default_value_t = 200_000)]
    rows: u32,
    /// Requests a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// One database for both sides, and the plan in place
    #[arg(long)]
    in_place: bool,
}

#[derive(Debug, Args)]
struct DirArgs {
    /// The sandbox's folder
    #[arg(long)]
    dir: PathBuf,
    /// One JSON event a line, the summary last
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct FaultArgs {
    /// blue, green, control, engine-blue, engine-green, authorization, dashboard, gateway or prober
    part: String,
    /// What is done to it
    fault: FaultWord,
    #[command(flatten)]
    common: DirArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FaultWord {
    /// End it without a chance to say goodbye
    Kill,
    /// Freeze it; connections stay open and silent
    Pause,
    /// Let a frozen part go on
    Resume,
    /// End it in order
    Down,
    /// Start it again
    Up,
}

impl From<FaultWord> for Fault {
    fn from(word: FaultWord) -> Self {
        match word {
            FaultWord::Kill => Self::Kill,
            FaultWord::Pause => Self::Pause,
            FaultWord::Resume => Self::Resume,
            FaultWord::Down => Self::Down,
            FaultWord::Up => Self::Up,
        }
    }
}

#[derive(Debug, Args)]
struct DownArgs {
    #[command(flatten)]
    common: DirArgs,
    /// Keep the folder with its data and logs
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
struct PartArgs {
    part: PartWord,
    /// The sandbox's folder; not needed by `engine … migrate`
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The engine's major version
    #[arg(long)]
    version: Option<u8>,
    /// What the engine's own program would be told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartWord {
    Engine,
    Authorization,
    Dashboard,
    Prober,
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Runs the verb; the exit code of design section 9.
pub async fn run(args: SandboxArgs) -> u8 {
    match args.verb {
        SandboxVerb::Up(args) => run_up(args).await,
        SandboxVerb::Report(args) => run_report(args).await,
        SandboxVerb::Fault(args) => run_fault(args).await,
        SandboxVerb::Down(args) => run_down(args).await,
        SandboxVerb::Bench(args) => bench::run(args).await,
        SandboxVerb::Part(args) => match run_part(args).await {
            Ok(()) => 0,
            Err(error) => {
                eprint_line(&chain(&*error));
                1
            }
        },
    }
}

async fn run_up(args: UpArgs) -> u8 {
    let json = args.common.json;
    let tried: Result<PathBuf, Box<dyn Error + Send + Sync>> = async {
        let dir = std::path::absolute(&args.common.dir)?;
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let options = UpOptions {
            dir: dir.clone(),
            rows: args.rows,
            rate: args.rate,
            is_in_place: args.in_place,
            program: std::env::current_exe()?,
            postgres: folder("CUTOVER_PG_BIN"),
            green_postgres: folder("CUTOVER_GREEN_PG_BIN"),
        };
        up(&options, &|line| tell(json, line)).await?;
        Ok(dir)
    }
    .await;
    match tried {
        Ok(dir) => {
            let next = format!("cutover check {0}/plan.yaml --env-file {0}/env", dir.display());
            done(json, &json!({"live": "blue", "state": "ready", "why": "under load", "next": next}))
        }
        Err(error) => failed(json, &*error),
    }
}

async fn run_report(args: DirArgs) -> u8 {
    match asked_report(&args.dir).await {
        Ok(seen) if args.json => done(true, &json!(seen)),
        Ok(seen) => {
            print_report(&seen);
            0
        }
        Err(error) => failed(args.json, &*error),
    }
}

async fn asked_report(dir: &Path) -> Result<Report, Box<dyn Error + Send + Sync>> {
    Ok(report(&Layout::new(&std::path::absolute(dir)?)).await?)
}

/// What the prober saw, for a person.
pub(super) fn print_report(seen: &Report) {
    let live = seen.live.map_or("unknown", |side| side.as_str());
    let (words, flip) = (&seen.prober, &seen.flip);
    let verdict = if seen.is_clean() { "nothing was lost" } else { "something is wrong" };
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms} ms"));
    let lines = [
        format!("live:     {live}"),
        format!("verdict:  {verdict}"),
        format!("requests: {} sent, {} failed, {} not sent", words.requests, words.failed, seen.shed),
        format!("writes:   {} acknowledged, {} lost", words.acked_writes, words.lost_writes),
        format!("given up: {} chains and {} consents of green", words.given_up, words.given_up_consents),
        format!("revoked:  {} chains, accepted afterwards {} times", words.revoked, words.revoked_accepted),
        format!("writers:  both sides for {} ms", words.two_writer_ms),
        format!(
            "switches: {}; by the last {} requests held, added p50 {}, p99 {}, max {}; write gap {}",
            seen.flips,
            seen.held,
            ms(flip.hold_ms_p50),
            ms(flip.hold_ms_p99),
            ms(flip.hold_ms_max),
            ms(flip.write_gap_ms)
        ),
    ];
    for line in lines.iter().chain(&seen.examples).chain(&seen.unsettled_because) {
        print_line(line);
    }
}

async fn run_fault(args: FaultArgs) -> u8 {
    let tried: Outcome = async {
        let layout = Layout::new(&std::path::absolute(&args.common.dir)?);
        Ok(fault(&layout, std::env::current_exe()?, &args.part, args.fault.into()).await?)
    }
    .await;
    match tried {
        Ok(()) => {
            done(args.common.json, &json!({"part": args.part, "fault": format!("{:?}", args.fault).to_lowercase()}))
        }
        Err(error) => failed(args.common.json, &*error),
    }
}

async fn run_down(args: DownArgs) -> u8 {
    let tried: Outcome = async {
        let layout = Layout::new(&std::path::absolute(&args.common.dir)?);
        Ok(down(&layout, &std::env::current_exe()?, args.keep).await?)
    }
    .await;
    match tried {
        Ok(()) => done(args.common.json, &json!({"state": "down", "kept": args.keep})),
        Err(error) => failed(args.common.json, &*error),
    }
}

async fn run_part(args: PartArgs) -> Outcome {
    let version = || args.version.and_then(EngineVersion::from_number).ok_or("--version 1 or --version 2 is missing");
    if args.part == PartWord::Engine && args.words.first().is_some_and(|word| word == "migrate") {
        let dsn = std::env::var("DSN").map_err(|_| "DSN, the database's URL, is not set")?;
        let migrated = engine::migrate(&Secret::new(dsn), version()?).await?;
        print_line(&format!("applied {} migrations, {} were there", migrated.applied.len(), migrated.before));
        return Ok(());
    }
    let dir = args.dir.as_ref().ok_or("--dir, the sandbox's folder, is missing")?;
    let role = match args.part {
        PartWord::Engine => Role::Engine(version()?),
        PartWord::Authorization => Role::Authorization,
        PartWord::Dashboard => Role::Dashboard,
        PartWord::Prober => Role::Prober,
    };
    Ok(part::run(&Layout::new(&std::path::absolute(dir)?), role, interrupted()).await?)
}

/// Resolves when this process is asked to end.
pub(super) async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// An event under way.
fn tell(json: bool, line: &str) {
    if json { print_line(&json!({"event": "progress", "what": line}).to_string()) } else { print_line(line) }
}

/// The last line of a verb that did what was asked.
fn done(json: bool, words: &Value) -> u8 {
    if json {
        let mut summary = json!({"event": "summary", "outcome": "done"});
        if let (Some(summary), Some(words)) = (summary.as_object_mut(), words.as_object()) {
            summary.extend(words.clone());
        }
        print_line(&summary.to_string());
    } else {
        for (name, value) in words.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            print_line(&format!("{name}: {value}"));
        }
    }
    0
}

/// The last line of a verb that did not.
fn failed(json: bool, error: &(dyn Error + 'static)) -> u8 {
    let why = chain(error);
    if json {
        print_line(&json!({"event": "summary", "outcome": "failed", "why": why}).to_string());
    }
    eprint_line(&format!("error: {why}"));
    1
}

#[expect(clippy::print_stdout, reason = "the terminal is cli's")]
pub(super) fn print_line(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "the terminal is cli's")]
pub(super) fn eprint_line(line: &str) {
    eprintln!("{line}");
}
