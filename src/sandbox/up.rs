//! Starting a whole sandbox, and ending it.
//!
//! Owns the order: servers, roles and databases, blue's schema and rows, engines, gateway, systems, prober. Uses the product as a
//! user would: the gateway runs from the plan, the schema comes from the engine's own program.

use super::engine::{EngineError, EngineVersion, prepare_wrapper};
use super::environment::{EnvironmentError, Layout, Variables};
use super::part::IN_PLACE;
use super::parts::{PROCESSES, SERVERS, door, recipe};
use super::plan_files;
use super::process::{ProcessError, Processes};
use super::seed::{self, SeedError, SeedSize};
use super::servers::{Binaries, Server, ServerError, ServerOptions, Stop};
use crate::plan::Secret;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// Bound on the engine's own migrations of an empty blue.
const MIGRATE_WITHIN: Duration = Duration::from_secs(60);
/// Bound on the start of one process.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Bound on the prober's first apps.
const PROBER_WITHIN: Duration = Duration::from_secs(130);
/// Every sandbox of one size holds the same rows.
const SEED: u32 = 1;
/// The application's role and its database, on both sides.
const APPLICATION: &str = "hydra";
/// Our own login and the control database.
const OURS: &str = "cutover";

/// What a sandbox is made of.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// Its folder, absolute.
    pub dir: PathBuf,
    /// Token rows of blue.
    pub rows: u32,
    /// Requests a second of the live load.
    pub rate: u32,
    /// Whether there is one database for both sides, and the plan is in place.
    pub is_in_place: bool,
    /// This binary.
    pub program: PathBuf,
    /// PostgreSQL's programs; looked for when left out.
    pub postgres: Option<PathBuf>,
    /// PostgreSQL's programs for green, when they differ.
    pub green_postgres: Option<PathBuf>,
}

/// Why a sandbox could not be started or ended.
#[derive(Debug, Error)]
pub enum UpError {
    /// The folder.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The engine's program.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The rows.
    #[error("seed blue")]
    Seed(#[from] SeedError),
    /// The engine's program did not give blue its schema.
    #[error("migrate blue with {program}: {what}")]
    Migrate {
        /// The program.
        program: String,
        /// What happened.
        what: String,
    },
    /// The folder could not be removed.
    #[error("remove {}: {source}; nothing runs there any more, remove it by hand", dir.display())]
    Remove {
        /// Which.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Starts everything and returns when it is ready, leaving it running. `tell` hears one line before each part of the work.
///
/// # Errors
/// When a part does not come up in time; what had been started is ended, the folder with its logs stays.
pub async fn up(options: &UpOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<(), UpError> {
    let layout = Layout::new(&options.dir);
    layout.create()?;
    let started = start_all(options, &layout, tell).await;
    if started.is_err() {
        tell("ending what was started");
        if let Err(error) = end_all(&layout, &options.program).await {
            tracing::warn!(%error, "something of the failed sandbox still runs");
        }
    }
    started
}

async fn start_all(options: &UpOptions, layout: &Layout, tell: &(dyn Fn(&str) + Sync)) -> Result<(), UpError> {
    let processes = Processes::new(layout, options.program.clone());
    tell(if options.is_in_place {
        "starting the servers control and blue"
    } else {
        "starting the servers control, blue and green"
    });
    let servers = start_servers(options, layout, &processes).await?;
    let variables = write_files(options, layout, &servers)?;
    tell("giving blue its schema");
    migrate_blue(layout, variables.get("BLUE_DSN")?).await?;
    tell(&format!("seeding blue with {} token rows", options.rows));
    let blue = Secret::new(variables.get("BLUE_URL")?);
    seed::fill(&blue, SeedSize { token_rows: options.rows, seed: SEED }).await?;
    tell("starting the engines, the gateway and the internal systems");
    start_systems(layout, &processes, &variables).await?;
    tell("starting the load and the prober");
    processes.start(&recipe(layout, "prober"))?;
    let (variable, path) = door("prober");
    let report = format!("{}{path}", variables.get(variable)?);
    Ok(processes.wait_until_answers("prober", &report, PROBER_WITHIN).await?)
}

/// The servers of a sandbox; in place there is no green.
struct Servers {
    control: Server,
    blue: Server,
    green: Option<Server>,
}

/// The servers with their roles and databases.
async fn start_servers(options: &UpOptions, layout: &Layout, processes: &Processes) -> Result<Servers, UpError> {
    let common = Binaries::find(options.postgres.as_deref())?;
    let green = match &options.green_postgres {
        Some(folder) => Binaries::find(Some(folder))?,
        None => common.clone(),
    };
    let start = |name: &'static str, binaries: Binaries, shared_buffers_mb: u32| {
        let mut server = ServerOptions::new(name, layout.server(name));
        server.detached = true;
        server.shared_buffers_mb = shared_buffers_mb;
        async move { Server::start(&binaries, &server).await }
    };
    let other = async {
        match options.is_in_place {
            true => Ok(None),
            false => start("green", green, 256).await.map(Some),
        }
    };
    let (control, blue, green) =
        tokio::try_join!(start("control", common.clone(), 64), start("blue", common, 256), other)?;
    for (name, server) in SERVERS.iter().zip([Some(&control), Some(&blue), green.as_ref()]) {
        if let Some(pid) = server.and_then(Server::pid) {
            processes.note(name, pid)?;
        }
    }
    control.create_database(OURS, OURS).await?;
    for side in [Some(&blue), green.as_ref()].into_iter().flatten() {
        side.create_role(APPLICATION, "").await?;
        side.create_database(APPLICATION, APPLICATION).await?;
    }
    Ok(Servers { control, blue, green })
}

/// Variables, plan and wrappers.
fn write_files(options: &UpOptions, layout: &Layout, servers: &Servers) -> Result<Variables, UpError> {
    let mut variables = Variables::new(layout);
    let Servers { control, blue, green } = servers;
    let green = green.as_ref().unwrap_or(blue);
    if options.is_in_place {
        variables.set(IN_PLACE, "yes");
    }
    variables.set("CONTROL_URL", control.login_url(OURS).expose());
    for (name, server) in [("BLUE", blue), ("GREEN", green)] {
        variables.set(&format!("{name}_URL"), server.login_url(APPLICATION).expose());
        variables.set(&format!("{name}_DSN"), server.url(APPLICATION, APPLICATION).expose());
    }
    variables.set_urls(&[
        "BLUE_PUBLIC",
        "BLUE_ADMIN",
        "GREEN_PUBLIC",
        "GREEN_ADMIN",
        "GATEWAY_PUBLIC",
        "GATEWAY_ADMIN",
        "GATEWAY_CONTROL",
        "AUTHZ_CUTOVER",
        "DASHBOARD_CUTOVER",
        "PROBER_CONTROL",
    ])?;
    variables.set("GATEWAY_STATE", layout.state("gateway").display().to_string());
    variables.set("HYDRA_BIN", layout.bin("hydra").display().to_string());
    variables.set("SYSTEM_SECRET", Uuid::new_v4().simple().to_string());
    variables.set("PROBE_CANARY_KEY", format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    variables.set("REVOCATIONS_TOKEN", Uuid::new_v4().simple().to_string());
    variables.set("RATE", options.rate.to_string());
    variables.write(layout)?;
    if options.is_in_place {
        plan_files::write_in_place(layout)?
    } else {
        plan_files::write(layout)?
    }
    prepare_wrapper(&layout.bin("hydra"), &options.program, EngineVersion::V2)?;
    prepare_wrapper(&layout.bin("hydra-1x"), &options.program, EngineVersion::V1)?;
    Ok(variables)
}

/// Runs blue's engine program as an operator would.
async fn migrate_blue(layout: &Layout, dsn: &str) -> Result<(), UpError> {
    let program = layout.bin("hydra-1x");
    let fail = |what: String| UpError::Migrate { program: program.display().to_string(), what };
    let mut command = tokio::process::Command::new(&program);
    command.args(["migrate", "sql", "-e", "--yes"]).env("DSN", dsn).stdin(Stdio::null()).kill_on_drop(true);
    let ran = tokio::time::timeout(MIGRATE_WITHIN, command.output()).await;
    let output = ran.map_err(|_| fail(format!("not done after {} s", MIGRATE_WITHIN.as_secs())))?;
    let output = output.map_err(|error| fail(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(fail(String::from_utf8_lossy(&output.stderr).into_owned())) }
}

/// Starts everything that stands between the databases and the prober, and waits until each answers.
async fn start_systems(layout: &Layout, processes: &Processes, variables: &Variables) -> Result<(), UpError> {
    for part in PROCESSES.into_iter().filter(|part| *part != "prober") {
        processes.start(&recipe(layout, part))?;
    }
    for part in PROCESSES.into_iter().filter(|part| *part != "prober") {
        let (variable, path) = door(part);
        processes.wait_until_answers(part, &format!("{}{path}", variables.get(variable)?), START_WITHIN).await?;
    }
    // Green's engine has no tables yet and becomes ready when they are there.
    let ready = format!("{}/health/ready", variables.get("BLUE_ADMIN")?);
    processes.wait_until_answers("engine-blue", &ready, START_WITHIN).await?;
    Ok(())
}

/// Ends everything of the sandbox in `layout`; removes its folder unless `keep`. A sandbox that is gone is no error.
///
/// # Errors
/// When something still runs after its bound, or the folder cannot be removed.
pub async fn down(layout: &Layout, program: &Path, keep: bool) -> Result<(), UpError> {
    if !layout.dir().exists() {
        return Ok(());
    }
    // Only a folder that a sandbox has made is touched.
    if !layout.server(SERVERS[0]).exists() && !layout.env_file().is_file() {
        return Err(EnvironmentError::NoSandbox(layout.dir().to_owned()).into());
    }
    end_all(layout, program).await?;
    if keep {
        return Ok(());
    }
    let dir = layout.dir().to_owned();
    std::fs::remove_dir_all(&dir).map_err(|source| UpError::Remove { dir, source })
}

/// Ends processes, then servers; goes on past what does not obey and says it at the end.
async fn end_all(layout: &Layout, program: &Path) -> Result<(), UpError> {
    let processes = Processes::new(layout, program.to_owned());
    let mut outcome = Ok(());
    for part in PROCESSES.into_iter().rev() {
        if let Err(error) = processes.end(part).await {
            outcome = Err(error.into());
        }
    }
    for name in SERVERS {
        if let Err(error) = end_server(layout, name).await {
            outcome = Err(error);
        }
    }
    outcome
}

async fn end_server(layout: &Layout, name: &str) -> Result<(), UpError> {
    if !layout.server(name).exists() {
        return Ok(());
    }
    let server = match Server::open(&layout.server(name)) {
        Ok(server) => server,
        // It died before it had a record: there is nothing to end.
        Err(error) => {
            tracing::debug!(%error, name, "a server without a record");
            return Ok(());
        }
    };
    if server.is_paused() {
        server.resume()?;
    }
    Ok(server.stop(Stop::Immediate).await?)
}
