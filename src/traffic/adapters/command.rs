//! A system that programs move: one program an order, the order on its standard input and in its environment, killed when its time is over.
//!
//! The deadline is kept by `timeout` of the coreutils, a process of its own: a program ends in time also when this one is dead or stands still,
//! so whoever takes over has only to outwait it.

use super::asked::Asked;
use crate::plan::{Commands, Secret};
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Exit code of a program that cannot do it yet, as in sysexits.h: EX_TEMPFAIL.
const NOT_YET: i32 = 75;
/// Pause before a program that said so is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Time after a program's deadline in which `timeout` itself must have ended.
const GRACE: Duration = Duration::from_millis(200);
/// Bytes of a program's output that are taken.
const OUTPUT_BYTES: u64 = 1 << 16;
/// Characters of a program's output that are told.
const TOLD_CHARS: usize = 400;
/// Secrets shorter than this would blank ordinary words.
const SECRET_CHARS: usize = 4;

/// The process group of a program; killed when dropped before the program was seen to end.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // A group that is gone already is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a program until it is done, refuses, or its time is over; gives the first line that it printed.
///
/// # Errors
/// One sentence: it could not be started, refused, or did not end in time.
pub(super) async fn run(
    commands: &Commands,
    run: &[String],
    asked: &Asked<'_>,
    bound: Duration,
) -> Result<String, String> {
    let until = Instant::now() + bound;
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let output = once(commands, run, asked, left).await?;
        let told = || told(commands, &output);
        match output.status.code() {
            Some(0) => return Ok(first_line(&masked(commands, &output.stdout))),
            Some(NOT_YET) if Instant::now() + ASK_AGAIN < until => sleep(ASK_AGAIN).await,
            Some(NOT_YET) => return Err(format!("{} is not possible within {}{}", name(run), ms(bound), told())),
            Some(code) => return Err(format!("{} refused with exit code {code}{}", name(run), told())),
            None => return Err(format!("{} did not end within {} and was killed{}", name(run), ms(bound), told())),
        }
    }
}

async fn once(commands: &Commands, run: &[String], asked: &Asked<'_>, left: Duration) -> Result<Output, String> {
    let failed = |error: std::io::Error| format!("run {} under timeout(1): {error}", name(run));
    let mut child = spawn(commands, run, asked, left).map_err(failed)?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let order = serde_json::to_vec(asked.order).unwrap_or_default();
    if let Some(mut stdin) = child.stdin.take() {
        // A program need not read it.
        let _ = stdin.write_all(&order).await;
    }
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(left + GRACE, async { tokio::join!(beginning(out), beginning(err), child.wait()) }).await;
    let Ok((stdout, stderr, status)) = ended else {
        return Err(format!("{} did not end within {} and was killed", name(run), ms(left)));
    };
    group.0 = None;
    Ok(Output { status: status.map_err(failed)?, stdout, stderr })
}

/// As much of an output as is looked at; a program that goes on printing finds its pipe closed.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What was read until it broke is told.
        let _ = stream.take(OUTPUT_BYTES).read_to_end(&mut bytes).await;
    }
    bytes
}

fn spawn(commands: &Commands, run: &[String], asked: &Asked<'_>, left: Duration) -> std::io::Result<Child> {
    let order = asked.order;
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "--", &format!("{:.3}", left.as_secs_f64())]).args(run);
    command.envs(commands.env.iter().map(|(name, value)| (name, value.expose())));
    command.env("CUTOVER_VERB", asked.verb).env("CUTOVER_SYSTEM", asked.system);
    command.env("CUTOVER_RUN", order.run.to_string()).env("CUTOVER_EPOCH", order.epoch.to_string());
    command.env("CUTOVER_NONCE", order.nonce.to_string()).env("CUTOVER_SIDE", order.side.as_str());
    command.env("CUTOVER_DEADLINE_MS", left.as_millis().to_string());
    command.env("CUTOVER_RESOLVERS", order.resolvers.join(" ")).current_dir(asked.folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    command.spawn()
}

fn name(run: &[String]) -> &str {
    run.first().map_or("the program", String::as_str)
}

fn ms(length: Duration) -> String {
    format!("{} ms", length.as_millis())
}

fn told(commands: &Commands, output: &Output) -> String {
    let said = masked(commands, &output.stderr);
    let said: String = said.trim().chars().take(TOLD_CHARS).collect();
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

fn masked(commands: &Commands, bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let mut secrets: Vec<&str> = commands.env.values().map(Secret::expose).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets.into_iter().filter(|secret| secret.chars().count() >= SECRET_CHARS) {
        text = text.replace(secret, "***");
    }
    text
}

/// What a program or a body says first, shortened.
pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().chars().take(TOLD_CHARS).collect()
}
