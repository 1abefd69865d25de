//! The bench: carry, copy, keeping level, comparing, migrations, cleanup, the flip, the gateway and revocations, each measured beside its peers in one run, on the same data, as ratios.
//!
//! Owns what is measured against what, and the goals. Uses the product by its verbs, as a user would, and every peer by its own program;
//! every server is a throw-away one. Never looks at a contestant's own figures for its time: the clock stands outside.

mod backlog;
mod cleanup;
mod diff;
mod figures;
mod flip;
mod gateway;
mod lag;
mod level;
mod migrations;
mod ours;
mod peers;
mod place;
mod plain;
mod program;
mod queued;
mod revocations;
mod stage;
mod transfer;
mod web;

use super::engine::EngineError;
use super::environment::EnvironmentError;
use super::report::ReportError;
use super::seed::SeedError;
use super::servers::ServerError;
use super::up::UpError;
use crate::database::client::ConnectError;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// Workers of every contestant: tables copied at a time, indexes built at a time.
const WORKERS: usize = 2;
/// Bound on a whole bench.
const BENCH_WITHIN: Duration = Duration::from_secs(12 * 3600);
/// Bound on a quick one, with room for ending what was started.
const QUICK_WITHIN: Duration = Duration::from_secs(220);
/// Most token rows of a quick one.
pub const QUICK_ROWS: u32 = 300_000;
/// Most memory that the tool may take, in mebibytes.
const MEMORY_MB: f64 = 150.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Filling green through a mapping, with the schema of another version.
    Carry,
    /// Filling green when nothing changes.
    Copy,
    /// Bringing green level, and keeping it there.
    Level,
    /// Comparing green with blue.
    Diff,
    /// Migrating a table that is being written.
    Migrations,
    /// Sweeping rows out of a table that is being used.
    Cleanup,
    /// Moving three systems there and back under load.
    Flip,
    /// The built-in gateway.
    Gateway,
    /// Revocations, captured, replayed and proved.
    Revocations,
}

impl Kind {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Carry => "carry",
            Self::Copy => "copy",
            Self::Level => "level",
            Self::Diff => "diff",
            Self::Migrations => "migrations",
            Self::Cleanup => "cleanup",
            Self::Flip => "flip",
            Self::Gateway => "gateway",
            Self::Revocations => "revocations",
        }
    }
}

/// What a bench is made of.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// What is measured.
    pub kind: Kind,
    /// Token rows of blue.
    pub rows: u32,
    /// How often each contestant is measured; the median counts.
    pub repetitions: u32,
    /// Whether it must end soon and judges nothing.
    pub quick: bool,
    /// Whether ours is also measured at a tenth of the size, for the exponent of time.
    pub scale: bool,
    /// Its folder, absolute; must not exist.
    pub dir: PathBuf,
    /// This binary.
    pub program: PathBuf,
    /// PostgreSQL's programs; looked for when left out.
    pub postgres: Option<PathBuf>,
}

impl BenchOptions {
    fn deadline(&self) -> Instant {
        Instant::now() + if self.quick { QUICK_WITHIN } else { BENCH_WITHIN }
    }
}

/// Why a bench has no result.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The folder.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The engine's program.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The rows.
    #[error("seed blue")]
    Seed(#[from] SeedError),
    /// The sandbox that is moved.
    #[error(transparent)]
    Sandbox(#[from] UpError),
    /// What its prober saw.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A configuration or a connection of this machine.
    #[error("{act}")]
    Machine {
        /// What was tried.
        act: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement of the bench's own.
    #[error("{act}: a server refused")]
    Sql {
        /// What was tried.
        act: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A program failed.
    #[error("run {program}: {why}")]
    Program {
        /// Which.
        program: String,
        /// Its exit and its last words.
        why: String,
    },
    /// The program is not on this machine.
    #[error("run {program}: not installed")]
    NotInstalled {
        /// Which.
        program: String,
    },
    /// The bench's time is over.
    #[error("{what}: no time left")]
    Late {
        /// What was under way.
        what: String,
    },
    /// A contestant did not do its work, so its time means nothing.
    #[error("{contestant} left {found} where {wanted} were due: {what}")]
    Differs {
        /// Which.
        contestant: &'static str,
        /// Of what.
        what: &'static str,
        /// What blue has.
        wanted: String,
        /// What it left.
        found: String,
    },
}

impl BenchError {
    fn sql(act: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |source| Self::Sql { act, source }
    }

    fn machine(act: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Machine { act: act.into(), source }
    }

    /// Why a peer was not measured, in a word; none when something is wrong.
    fn excuse(&self) -> Option<&'static str> {
        match self {
            Self::NotInstalled { .. } => Some("not installed"),
            Self::Late { .. } => Some("no time left"),
            _ => None,
        }
    }
}

/// Measures, and gives the bench's last line. `tell` hears one line before each part of the work.
///
/// # Errors
/// When ours, or a peer that is installed, did not do its work. Servers end with this future; the folder is the caller's to remove.
pub async fn bench(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    match options.kind {
        Kind::Carry | Kind::Copy => transfer::transfer(options, tell).await,
        Kind::Level => level::level(options, tell).await,
        Kind::Diff => diff::diff(options, tell).await,
        Kind::Migrations => migrations::migrations(options, tell).await,
        Kind::Cleanup => cleanup::cleanup(options, tell).await,
        Kind::Flip => flip::flip(options, tell).await,
        Kind::Gateway => gateway::gateway(options, tell).await,
        Kind::Revocations => revocations::revocations(options, tell).await,
    }
}
