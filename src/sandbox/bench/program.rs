//! One program run for its time: in a process group of its own that ends with us, bounded, its memory watched.

use super::BenchError;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

/// How often a program's memory is looked at; the kernel keeps its highest, so only the last moment can be missed.
const LOOK: Duration = Duration::from_millis(20);
/// How much of a program's last words is shown.
const TAIL_CHARS: usize = 600;

/// How a program ran.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    /// From its start to its end.
    pub(super) seconds: f64,
    /// Its own highest resident memory, without its children.
    pub(super) peak_kb: u64,
    /// Its exit code.
    pub(super) code: i32,
    /// What it wrote to standard output.
    pub(super) said: String,
    /// The end of what it wrote to standard error.
    errors: String,
}

impl Ran {
    /// The program, if it said that it succeeded.
    pub(super) fn succeeded(self, program: &str) -> Result<Self, BenchError> {
        if self.code == 0 {
            return Ok(self);
        }
        let why = format!("exit {}: {}", self.code, self.errors);
        Err(BenchError::Program { program: program.to_owned(), why })
    }
}

/// The process group of a program; killed when dropped before the program was seen to end.
pub(super) struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that is gone is what we want.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Starts a program in a process group of its own, which is killed when the group is dropped.
///
/// # Errors
/// When it is not installed or cannot be started.
pub(super) fn start(command: &mut Command, program: &str) -> Result<(Child, Group), BenchError> {
    let child = command.process_group(0).kill_on_drop(true).spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => BenchError::NotInstalled { program: program.to_owned() },
        _ => BenchError::Program { program: program.to_owned(), why: error.to_string() },
    })?;
    let group = Group::of(&child);
    Ok((child, group))
}

/// Runs a program to its end, whatever that is.
///
/// # Errors
/// When it is not installed, cannot be started, or is not done at `until`; it is killed then, with all that it started.
pub(super) async fn run(mut command: Command, program: &str, until: Instant) -> Result<Ran, BenchError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let (mut child, group) = start(&mut command, program)?;
    let (pid, peak_kb) = (child.id(), AtomicU64::new(0));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let (said, errors, status) = tokio::join!(text(out), text(err), child.wait());
        (said, errors, status)
    };
    let (said, errors, status) = tokio::select! {
        ended = timeout_at(until, ended) => ended.map_err(|_| BenchError::Late { what: program.to_owned() })?,
        never = watch(pid, &peak_kb) => match never {},
    };
    let seconds = begun.elapsed().as_secs_f64();
    let status = status.map_err(|error| BenchError::Program { program: program.to_owned(), why: error.to_string() })?;
    group.ended();
    let code = status.code().unwrap_or(-1);
    Ok(Ran { seconds, peak_kb: peak_kb.into_inner(), code, said, errors: tail(&errors) })
}

/// Runs two programs, what the first says being what the second reads.
///
/// # Errors
/// When one of them cannot be started, fails, or is not done at `until`; both are killed then.
pub(super) async fn pipe(
    mut first: Command,
    mut second: Command,
    program: &str,
    until: Instant,
) -> Result<(), BenchError> {
    let fail = |why: String| BenchError::Program { program: program.to_owned(), why };
    first.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut source, source_group) = start(&mut first, program)?;
    let output = source.stdout.take().ok_or_else(|| fail("no output to read".to_owned()))?;
    let output: Stdio = output.try_into().map_err(|error: std::io::Error| fail(error.to_string()))?;
    second.stdin(output).stdout(Stdio::null()).stderr(Stdio::piped());
    let (mut target, target_group) = start(&mut second, program)?;
    // Our copy of the pipe's end would keep the first from seeing that the second has gone.
    drop(second);
    let (source_said, target_said) = (source.stderr.take(), target.stderr.take());
    let ended = async { tokio::join!(source.wait(), target.wait(), text(source_said), text(target_said)) };
    let ended = timeout_at(until, ended).await.map_err(|_| BenchError::Late { what: program.to_owned() })?;
    source_group.ended();
    target_group.ended();
    let (source_status, target_status, source_said, target_said) = ended;
    for (status, said) in [(source_status, source_said), (target_status, target_said)] {
        let status = status.map_err(|error| fail(error.to_string()))?;
        if !status.success() {
            return Err(fail(format!("{status}: {}", tail(&said))));
        }
    }
    Ok(())
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _what_was_read_is_enough = stream.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of what a program said.
pub(super) fn tail(text: &str) -> String {
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(TAIL_CHARS);
    text.chars().skip(skipped).collect()
}

async fn watch(pid: Option<u32>, peak_kb: &AtomicU64) -> std::convert::Infallible {
    loop {
        peak_kb.fetch_max(pid.and_then(high_water_kb).unwrap_or(0), Ordering::Relaxed);
        tokio::time::sleep(LOOK).await;
    }
}

/// The highest resident memory that a process ever had, as the kernel keeps it.
fn high_water_kb(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
