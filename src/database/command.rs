//! Migrations by a command of the engine: run without a shell, bounded, its lines passed on without secrets.
//!
//! Owns the process group it starts: nothing of it outlives the deadline or the wait. Says nothing to PostgreSQL.

use super::migrate::MigrateError;
use crate::plan::Secret;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How many of the last lines are kept.
const KEPT_LINES: usize = 40;
/// Characters of a line that are kept.
const LINE_CHARS: usize = 2000;
/// Bytes of a line that are read; what follows on it is thrown away. Well above what is kept, so that no secret is cut in two.
const LINE_BYTES: usize = 1 << 18;
/// Bytes of a program's output that are taken: a schema is text that people can read.
const OUTPUT_BYTES: u64 = 1 << 26;
/// How long output may go on after the command itself has ended, in a process that it left behind.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Secrets shorter than this are no secrets, and would blank ordinary words.
const SECRET_CHARS: usize = 4;

/// The process group of a command; killed when dropped before the command was seen to end.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            // A group that is gone already is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `run` (program and arguments, no shell) in `folder` with `env` added to our environment; answers its last lines.
///
/// Each line of its output goes to `tell` as it comes. Values of `env`, and passwords inside them, are shown as `***`. The
/// command and all that it started are killed at the deadline, and when this future is dropped.
///
/// # Errors
/// When it cannot be started, fails, or does not end in time; what it did to green until then stays, so it must be repeatable.
pub async fn command(
    run: &[String],
    env: &BTreeMap<String, Secret>,
    folder: &Path,
    deadline: Duration,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Vec<String>, MigrateError> {
    let program = run.first().cloned().unwrap_or_default();
    let mut child =
        start(run, env, folder).map_err(|source| MigrateError::Start { program: program.clone(), source })?;
    let mut group = Group::of(&child);
    let lines = Lines { masks: masks(env), last: Mutex::default(), tell };
    let status = timeout(deadline, follow(&mut child, &group, &lines)).await;
    let Ok(status) = status else {
        group.kill();
        let _ = timeout(AFTERMATH, child.wait()).await;
        return Err(MigrateError::Deadline { program, deadline_s: deadline.as_secs(), last: lines.last() });
    };
    group.0 = None;
    let status = status.map_err(|source| MigrateError::Start { program: program.clone(), source })?;
    if status.success() { Ok(lines.last()) } else { Err(MigrateError::Failed { program, status, last: lines.last() }) }
}

/// Runs `run` and answers all that it prints on its standard output, at most `OUTPUT_BYTES`; what it says beside goes into the error.
///
/// `without` are variables of our environment that it must not see. Secrets are masked, and it is killed, as by [`command`].
///
/// # Errors
/// When it cannot be started, fails, prints too much or does not end in time.
pub(super) async fn output(
    run: &[String],
    env: &BTreeMap<String, Secret>,
    without: &[&str],
    deadline: Duration,
) -> Result<String, MigrateError> {
    let program = run.first().cloned().unwrap_or_default();
    let failed = |source| MigrateError::Start { program: program.clone(), source };
    let mut command = prepared(run, env).map_err(failed)?;
    for name in without.iter().filter(|name| !env.contains_key(**name)) {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(failed)?;
    let mut group = Group::of(&child);
    let lines = Lines { masks: masks(env), last: Mutex::default(), tell: &|_| {} };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(deadline, async { tokio::join!(whole(out), pump(err, &lines), child.wait()) }).await;
    let Ok((text, (), status)) = ended else {
        group.kill();
        return Err(MigrateError::Deadline { program, deadline_s: deadline.as_secs(), last: lines.last() });
    };
    group.0 = None;
    let (text, status) = (text.map_err(failed)?, status.map_err(failed)?);
    if status.success() { Ok(text) } else { Err(MigrateError::Failed { program, status, last: lines.last() }) }
}

async fn whole(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_BYTES + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > OUTPUT_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it printed more than is taken from it"));
    }
    String::from_utf8(bytes).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

fn start(run: &[String], env: &BTreeMap<String, Secret>, folder: &Path) -> std::io::Result<Child> {
    prepared(run, env)?.current_dir(folder).spawn()
}

fn prepared(run: &[String], env: &BTreeMap<String, Secret>) -> std::io::Result<Command> {
    let Some((program, arguments)) = run.split_first() else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "no program is given"));
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(env.iter().map(|(name, value)| (name, value.expose())));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    Ok(command)
}

/// Passes lines on until the command has ended and its output too; processes it left behind that still write are killed.
async fn follow(child: &mut Child, group: &Group, lines: &Lines<'_>) -> std::io::Result<ExitStatus> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut pumps = std::pin::pin!(async { tokio::join!(pump(out, lines), pump(err, lines)) });
    tokio::select! {
        biased;
        _ = &mut pumps => child.wait().await,
        status = child.wait() => {
            if timeout(AFTERMATH, &mut pumps).await.is_err() {
                group.kill();
                let _ = timeout(AFTERMATH, &mut pumps).await;
            }
            status
        }
    }
}

async fn pump(stream: Option<impl AsyncRead + Unpin>, lines: &Lines<'_>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(chunk) = reader.fill_buf().await {
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_BYTES.saturating_sub(line.len()))]);
        let (used, is_over) = (part.len() + usize::from(end.is_some()), chunk.is_empty());
        reader.consume(used);
        if end.is_some() || (is_over && !line.is_empty()) {
            lines.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
        if is_over {
            break;
        }
    }
}

struct Lines<'a> {
    masks: Vec<String>,
    last: Mutex<VecDeque<String>>,
    tell: &'a (dyn Fn(&str) + Sync),
}

impl Lines<'_> {
    fn add(&self, line: &str) {
        let mut line = line.trim_end().to_owned();
        for mask in &self.masks {
            line = line.replace(mask, "***");
        }
        let line: String = line.chars().take(LINE_CHARS).collect();
        (self.tell)(&line);
        let mut last = self.last.lock().expect("no holder of the lock panics");
        if last.len() == KEPT_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }

    fn last(&self) -> Vec<String> {
        self.last.lock().expect("no holder of the lock panics").iter().cloned().collect()
    }
}

/// What must not be shown, the longest first: each line of each value, and the password in a URL, also without its escapes.
fn masks(env: &BTreeMap<String, Secret>) -> Vec<String> {
    let mut masks: Vec<String> = Vec::new();
    for value in env.values().map(Secret::expose) {
        masks.push(value.to_owned());
        masks.extend(value.lines().map(|line| line.trim().to_owned()));
        if let Some(password) = url::Url::parse(value).ok().as_ref().and_then(url::Url::password) {
            masks.extend(
                url::form_urlencoded::parse(format!("p={password}").replace('+', "%2B").as_bytes())
                    .map(|(_, p)| p.into_owned()),
            );
            masks.push(password.to_owned());
        }
    }
    masks.retain(|mask| mask.chars().count() >= SECRET_CHARS);
    masks.sort_by_key(|mask| std::cmp::Reverse(mask.len()));
    masks.dedup();
    masks
}
