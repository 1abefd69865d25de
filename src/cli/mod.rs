//! The terminal's room: one verb, one file; exit codes; the only place that reads the environment, prints and sees signals.

mod arguments;
mod bench;
mod check;
mod cleanup;
pub mod demo;
mod diff;
mod exit;
mod gateway;
mod journal;
mod migrations;
mod open_files;
mod participant;
mod pause;
mod plan;
mod probe;
mod prove;
mod rehearse;
mod report;
mod revocations;
mod run;
pub mod sandbox;
mod screen;
mod session;
mod standing;
mod status;
mod stopping;
mod way_back;

use arguments::PlanArgs;
use clap::{Parser, Subcommand};
use exit::Ending;
use std::process::ExitCode;
use tracing_appender::non_blocking::WorkerGuard;

/// Moves a production PostgreSQL database and the engine on top of it to a new version while users are on it.
#[derive(Debug, Parser)]
#[command(name = "cutover", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Says what is wrong with the plan and with every server it names; touches nothing.
    Check(PlanArgs),
    /// Prints the runbook: every step, what it will do, its undo, what is one-way; touches nothing.
    Plan(plan::Args),
    /// Does everything up to the flip point: green is filled and kept level; no traffic moves.
    Run(run::RunArgs),
    /// Moves the traffic of all systems to green, together or not at all.
    Flip(run::FlipArgs),
    /// Asks the run, flip or rollback that is at work, on any machine, to park at its next safe point.
    Pause(PlanArgs),
    /// Goes back to blue and leaves nothing of cutover on it.
    Rollback(run::SureArgs),
    /// Removes what is left of cutover from both sides once green has served long enough; after it there is no way back.
    Finalize(run::SureArgs),
    /// Rehearses the plan: run, flip, soak and the way back, on staging servers or throw-away ones, with a record.
    Rehearse(rehearse::RehearseArgs),
    /// Compares green, row by row, with what the mapping makes of blue, before the flip; exit 3 when something differs.
    Diff(diff::DiffArgs),
    /// Compares the plan's mapping with the engine's own migrations on a copy of blue; for `rehearse --prove-mapping`.
    #[command(hide = true)]
    Prove(PlanArgs),
    /// Says which side is live, where the run stands and why, and what to do next.
    Status(PlanArgs),
    /// Says what people have answered for: gates, revocations, messages and gateways, with who, when and why.
    Report(PlanArgs),
    /// Looks at the records of the plan's last run.
    Journal(journal::JournalArgs),
    /// Looks at captured revocations, puts dead ones back, and answers for what cannot be proved.
    Revocations(revocations::RevocationsArgs),
    /// Looks at the plan's cleanup rules.
    Cleanup(cleanup::CleanupArgs),
    /// Judges migrations before they meet a live database, and writes them in the form that hurts nobody.
    Migrations(migrations::MigrationsArgs),
    /// Asks URLs at a fixed rate beside any flip, and says what clients felt of it.
    Probe(probe::ProbeArgs),
    /// Tries whether a system keeps the participant protocol.
    Participant(participant::ParticipantArgs),
    /// Serves the plan's gateway.
    Gateway(gateway::GatewayArgs),
    /// A whole blue-green upgrade on throw-away servers under load, judged by an independent prober.
    Demo(demo::DemoArgs),
    /// Throw-away servers, engines and systems under load, to try every verb on.
    Sandbox(sandbox::SandboxArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes; a closed pipe is nobody's error.
            let _ = error.print();
            return if error.use_stderr() { Ending::Usage.into() } else { Ending::Done.into() };
        }
    };
    let _written_at_the_end = start_log();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(dispatch(cli.verb))),
        Err(error) => {
            tracing::error!(%error, "start the runtime");
            Ending::Failed.into()
        }
    }
}

async fn dispatch(verb: Verb) -> u8 {
    match verb {
        Verb::Check(arguments) => check::run(&arguments).await.code(),
        Verb::Plan(arguments) => plan::run(&arguments).code(),
        Verb::Run(arguments) => run::run(&arguments).await.code(),
        Verb::Flip(arguments) => run::flip(&arguments).await.code(),
        Verb::Pause(arguments) => pause::run(&arguments).await.code(),
        Verb::Rollback(arguments) => run::rollback(&arguments).await.code(),
        Verb::Finalize(arguments) => run::finalize(&arguments).await.code(),
        Verb::Rehearse(arguments) => rehearse::run(&arguments).await,
        Verb::Diff(arguments) => diff::run(&arguments).await.code(),
        Verb::Prove(arguments) => prove::run(&arguments).await.code(),
        Verb::Status(arguments) => status::run(&arguments).await.code(),
        Verb::Report(arguments) => report::run(&arguments).await.code(),
        Verb::Journal(arguments) => journal::run(&arguments).await.code(),
        Verb::Revocations(arguments) => revocations::run(&arguments).await.code(),
        Verb::Cleanup(arguments) => cleanup::run(&arguments).await.code(),
        Verb::Migrations(arguments) => migrations::run(&arguments).await.code(),
        Verb::Probe(arguments) => probe::run(&arguments).await.code(),
        Verb::Participant(arguments) => participant::run(&arguments).await.code(),
        Verb::Gateway(arguments) => gateway::run(&arguments).await.code(),
        Verb::Demo(arguments) => demo::run(arguments).await,
        Verb::Sandbox(arguments) => sandbox::run(arguments).await,
    }
}

/// Logs go to standard error; `CUTOVER_LOG` sets what is told (default: warnings), `CUTOVER_LOG_FORMAT=json` how. A thread of their own writes
/// them, and drops lines when nobody reads: a terminal that stands still must not keep those waiting who are held. What is not written yet is,
/// when the guard is dropped.
fn start_log() -> WorkerGuard {
    let filter = std::env::var("CUTOVER_LOG").unwrap_or_else(|_| "warn,tokio_postgres=error".to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default();
    let colour = std::env::var_os("NO_COLOR").is_none();
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(writer);
    let is_json = std::env::var("CUTOVER_LOG_FORMAT").is_ok_and(|format| format == "json");
    // Only the first subscriber of a process is taken.
    let _ = if is_json { log.json().try_init() } else { log.try_init() };
    guard
}
