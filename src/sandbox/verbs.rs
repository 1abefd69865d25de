//! The product's verbs as a user runs them: this very binary, one process each, believed by the last line of its JSON.

use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// Bound on any one verb.
const VERB_WITHIN: Duration = Duration::from_secs(3600);

/// What a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A verb begins.
    Verb(String),
    /// One event of a verb; only when programs look on.
    Event(Value),
}

/// Why a verb has no answer.
#[derive(Debug, Error)]
pub enum VerbError {
    /// A verb could not be started or did not end.
    #[error("run `cutover {verb}`: {what}")]
    Verb {
        /// The verb.
        verb: String,
        /// What happened.
        what: String,
    },
}

/// What one verb said last, and how it left.
pub(super) struct Said {
    /// The last line of its JSON; null when a person looked on.
    pub(super) summary: Value,
    /// Its exit code.
    pub(super) code: i32,
    /// What it wrote to standard error.
    pub(super) errors: String,
}

/// How verbs are run, and who listens.
pub(super) struct Verbs<'a> {
    /// This binary.
    pub(super) program: &'a Path,
    /// Whether programs look on: the verbs then speak in events, and in their own screens otherwise.
    pub(super) json: bool,
    /// Who listens.
    pub(super) hear: &'a (dyn Fn(Heard) + Sync),
}

impl Verbs<'_> {
    /// Runs one verb for whoever looks on: its events are passed on to programs, its own screen is left to people.
    pub(super) async fn show(&self, words: Vec<String>) -> Result<Said, VerbError> {
        if self.json {
            return self.ask(words).await;
        }
        let name = words.join(" ");
        (self.hear)(Heard::Verb(name.clone()));
        let mut command = Command::new(self.program);
        command.args(&words).stdin(Stdio::null()).kill_on_drop(true);
        let status = within(&name, async { command.status().await }).await?;
        Ok(Said { summary: Value::Null, code: status.code().unwrap_or(1), errors: String::new() })
    }

    /// Runs one verb with `--json`, passing its events on.
    pub(super) async fn ask(&self, words: Vec<String>) -> Result<Said, VerbError> {
        (self.hear)(Heard::Verb(words.join(" ")));
        self.listen(words, self.hear).await
    }

    /// Runs one verb with `--json`, for its summary alone.
    pub(super) async fn ask_quietly(&self, words: Vec<String>) -> Result<Said, VerbError> {
        self.listen(words, &|_| ()).await
    }

    async fn listen(&self, mut words: Vec<String>, hear: &(dyn Fn(Heard) + Sync)) -> Result<Said, VerbError> {
        let name = words.join(" ");
        words.push("--json".to_owned());
        let mut command = Command::new(self.program);
        command.args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let listened = async {
            let mut child = command.spawn()?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let (summary, errors) = tokio::join!(events(stdout, hear), text(stderr));
            Ok(Said { summary, code: child.wait().await?.code().unwrap_or(1), errors })
        };
        within(&name, listened).await
    }
}

/// Words of a command line.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn within<T>(verb: &str, act: impl Future<Output = std::io::Result<T>>) -> Result<T, VerbError> {
    let fail = |what: String| VerbError::Verb { verb: verb.to_owned(), what };
    let ended = tokio::time::timeout(VERB_WITHIN, act).await;
    let ended = ended.map_err(|_| fail(format!("not done after {} s", VERB_WITHIN.as_secs())))?;
    ended.map_err(|error| fail(error.to_string()))
}

/// Passes events on and keeps the last.
async fn events(stdout: Option<tokio::process::ChildStdout>, hear: &(dyn Fn(Heard) + Sync)) -> Value {
    let mut last = Value::Null;
    let Some(stdout) = stdout else { return last };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(event) = serde_json::from_str::<Value>(&line) {
            hear(Heard::Event(event.clone()));
            last = event;
        }
    }
    last
}

async fn text(stderr: Option<tokio::process::ChildStderr>) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = stderr {
        let _what_was_read_is_enough = stderr.read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Outcomes and their exit codes, as every verb has them.
const OUTCOMES: [(&str, u8); 10] = [
    ("done", 0),
    ("failed", 1),
    ("usage", 2),
    ("refused", 3),
    ("locked", 4),
    ("changed", 5),
    ("parked", 6),
    ("returned", 7),
    ("stuck", 8),
    ("failed_on_green", 9),
];

/// The exit code of a summary's outcome.
#[must_use]
pub fn exit_code(outcome: &str) -> u8 {
    OUTCOMES.iter().find(|(name, _)| *name == outcome).map_or(1, |(_, code)| *code)
}

/// The outcome that an exit code stands for.
pub(super) fn outcome(code: i32) -> &'static str {
    OUTCOMES.iter().find(|(_, known)| i32::from(*known) == code).map_or("failed", |(outcome, _)| outcome)
}
