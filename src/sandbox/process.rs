//! Detached processes of a sandbox: start, find again, signal, end.
//!
//! Never signals a process whose command line does not name this sandbox's folder.

use super::environment::{EnvironmentError, Layout};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// Longest wait for a process to end in order.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How much of a log is shown.
const LOG_TAIL_BYTES: usize = 3000;

/// Why a process did not obey.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("start {part}: {source}")]
    Start {
        /// Which part.
        part: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It ended by itself, or never answered.
    #[error("start {part}: {what}; the end of its log:\n{log}")]
    NotUp {
        /// Which part.
        part: String,
        /// What was seen.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// It is not running.
    #[error("{part} is not running; start it with `cutover sandbox fault {part} up`")]
    NotRunning {
        /// Which part.
        part: String,
    },
    /// It did not end.
    #[error("end {part}: it is still running")]
    NotDown {
        /// Which part.
        part: String,
    },
    /// The folder.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
}

/// How a part is started; kept so that it can be started again.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The part's name.
    pub(crate) part: &'static str,
    /// Arguments of this very program.
    pub(crate) arguments: Vec<String>,
}

/// The processes of one sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Processes {
    layout: Layout,
    program: PathBuf,
}

impl Processes {
    /// `program` is the binary that the parts run.
    pub(crate) fn new(layout: &Layout, program: PathBuf) -> Self {
        Self { layout: layout.clone(), program }
    }

    /// Starts a part with its log, away from our terminal, and notes its id.
    pub(crate) fn start(&self, recipe: &Recipe) -> Result<u32, ProcessError> {
        let fail = |source| ProcessError::Start { part: recipe.part.to_owned(), source };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.layout.log(recipe.part));
        let log = log.map_err(fail)?;
        let mut command = Command::new(&self.program);
        command.args(&recipe.arguments).current_dir(self.layout.dir()).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(fail)?).stderr(log);
        let mut child = command.spawn().map_err(fail)?;
        let pid = child.id();
        // Somebody must wait for it as long as we live, or it would stay as a zombie and look alive.
        std::thread::spawn(move || child.wait());
        self.note(recipe.part, pid)?;
        Ok(pid)
    }

    /// Notes the id of a part.
    pub(crate) fn note(&self, part: &str, pid: u32) -> Result<(), ProcessError> {
        let mut pids = self.pids();
        pids.insert(part.to_owned(), pid);
        let text = serde_json::to_string_pretty(&pids).unwrap_or_default();
        Ok(self.layout.write(&self.layout.pids(), 0o644, &text)?)
    }

    fn pids(&self) -> BTreeMap<String, u32> {
        let text = std::fs::read(self.layout.pids()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// The id of a running part, seen to belong to this sandbox.
    pub(crate) fn running(&self, part: &str) -> Option<u32> {
        let pid = *self.pids().get(part)?;
        (is_alive(pid) && self.is_ours(pid)).then_some(pid)
    }

    fn is_ours(&self, pid: u32) -> bool {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&*self.layout.dir().to_string_lossy())
    }

    /// Sends a signal to a running part.
    pub(crate) fn signal(&self, part: &str, signal: Signal) -> Result<u32, ProcessError> {
        let pid = self.running(part).ok_or_else(|| ProcessError::NotRunning { part: part.to_owned() })?;
        send(pid, signal);
        Ok(pid)
    }

    /// Ends a part: in order, then by force; one that is not running is no error.
    pub(crate) async fn end(&self, part: &str) -> Result<(), ProcessError> {
        let Some(pid) = self.running(part) else { return Ok(()) };
        send(pid, Signal::TERM);
        // A stopped process takes nothing but a kill until it goes on.
        send(pid, Signal::CONT);
        if gone(pid, END_WITHIN).await {
            return Ok(());
        }
        send(pid, Signal::KILL);
        until_gone(part, pid).await
    }

    /// Kills a running part, and waits until it holds nothing any more.
    pub(crate) async fn kill(&self, part: &str) -> Result<(), ProcessError> {
        let pid = self.signal(part, Signal::KILL)?;
        until_gone(part, pid).await
    }

    /// Waits until `url` answers at all, or the part has ended.
    pub(crate) async fn wait_until_answers(&self, part: &str, url: &str, within: Duration) -> Result<(), ProcessError> {
        let http = super::http::client();
        let until = Instant::now() + within;
        loop {
            let asked = http.get(url).timeout(Duration::from_secs(2)).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = self.running(part).is_none();
            if ended || Instant::now() > until {
                let what =
                    if ended { "it ended".to_owned() } else { format!("no answer after {} s", within.as_secs()) };
                return Err(ProcessError::NotUp { part: part.to_owned(), what, log: self.log_tail(part) });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The end of a part's log.
    pub(crate) fn log_tail(&self, part: &str) -> String {
        let log = std::fs::read(self.layout.log(part)).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }
}

/// Whether any thread of a process lives: its first one may have ended while others still hold what they share, such as the ports.
fn is_alive(pid: u32) -> bool {
    match state(pid) {
        None => false,
        Some('Z' | 'X') => std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.count() > 1),
        Some(_) => true,
    }
}

/// The letter of a process's state, which is that of its first thread.
fn state(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.trim_start().chars().next()
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // One that has just ended is no error.
        let _ended = kill_process(pid, signal);
    }
}

async fn until_gone(part: &str, pid: u32) -> Result<(), ProcessError> {
    if gone(pid, END_WITHIN).await { Ok(()) } else { Err(ProcessError::NotDown { part: part.to_owned() }) }
}

async fn gone(pid: u32, within: Duration) -> bool {
    let until = Instant::now() + within;
    while is_alive(pid) {
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its first thread ends, and another stays.
    const HALF_ENDED: &str = "import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)";

    #[tokio::test]
    async fn a_process_lives_as_long_as_any_of_its_threads() {
        let mut child = Command::new("python3").args(["-c", HALF_ENDED]).spawn().expect("it starts");
        let until = Instant::now() + Duration::from_secs(20);
        while state(child.id()) != Some('Z') {
            assert!(Instant::now() < until, "its first thread ends");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(is_alive(child.id()) && !gone(child.id(), Duration::from_millis(60)).await);
        child.kill().expect("it is killed");
        assert!(gone(child.id(), END_WITHIN).await, "nobody has taken note of its end yet");
        child.wait().expect("it has ended");
        assert!(!is_alive(child.id()));
    }
}
