//! Breaking a part of a sandbox, and mending it.

use super::environment::{EnvironmentError, Layout, Variables};
use super::parts::{Part, door, recipe};
use super::process::{ProcessError, Processes};
use super::servers::{Server, ServerError, Stop};
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Longest wait for a process that is started again.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// What is done to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Ends it without a chance to say goodbye.
    Kill,
    /// Freezes it; connections stay open and silent.
    Pause,
    /// Lets a frozen part go on.
    Resume,
    /// Ends it in order.
    Down,
    /// Starts it again, and waits until it answers.
    Up,
}

/// Why a fault could not be made.
#[derive(Debug, Error)]
pub enum FaultError {
    /// There is no such part.
    #[error("there is no part {0:?}; parts are {1}")]
    NoPart(String, String),
    /// A process did not obey.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A server did not obey.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The folder.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
}

/// Breaks or mends the part called `name` of the sandbox in `layout`; `program` is this binary.
///
/// # Errors
/// When there is no such part or it does not obey.
pub async fn fault(layout: &Layout, program: PathBuf, name: &str, fault: Fault) -> Result<(), FaultError> {
    if !layout.env_file().is_file() {
        return Err(EnvironmentError::NoSandbox(layout.dir().to_owned()).into());
    }
    let part = Part::named(name).ok_or_else(|| FaultError::NoPart(name.to_owned(), Part::names()))?;
    let processes = Processes::new(layout, program);
    match part {
        Part::Server(name) => server_fault(layout, &processes, name, fault).await,
        Part::Process(name) => process_fault(layout, &processes, name, fault).await,
    }
}

async fn server_fault(
    layout: &Layout,
    processes: &Processes,
    name: &'static str,
    fault: Fault,
) -> Result<(), FaultError> {
    let server = Server::open(&layout.server(name))?;
    match fault {
        Fault::Kill => server.kill().await?,
        Fault::Pause => server.pause()?,
        Fault::Resume => server.resume()?,
        Fault::Down => server.stop(Stop::Fast).await?,
        Fault::Up => server.start_again().await?,
    }
    if let Some(pid) = server.pid() {
        processes.note(name, pid)?;
    }
    Ok(())
}

async fn process_fault(
    layout: &Layout,
    processes: &Processes,
    name: &'static str,
    fault: Fault,
) -> Result<(), FaultError> {
    match fault {
        Fault::Kill => processes.kill(name).await?,
        Fault::Pause => drop(processes.signal(name, Signal::STOP)?),
        Fault::Resume => drop(processes.signal(name, Signal::CONT)?),
        Fault::Down => processes.end(name).await?,
        Fault::Up if processes.running(name).is_some() => {}
        Fault::Up => start_again(layout, processes, name).await?,
    }
    Ok(())
}

async fn start_again(layout: &Layout, processes: &Processes, name: &'static str) -> Result<(), FaultError> {
    processes.start(&recipe(layout, name))?;
    let (variable, path) = door(name);
    let url = format!("{}{path}", Variables::read(layout)?.get(variable)?);
    Ok(processes.wait_until_answers(name, &url, UP_WITHIN).await?)
}
