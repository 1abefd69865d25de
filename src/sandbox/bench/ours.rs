//! Ours: the tool's own verbs on the bench's plan, by this very binary, timed from outside.

use super::place::Place;
use super::program::{self, Ran};
use super::{BenchError, WORKERS};
use crate::sandbox::servers::Server;
use serde_json::Value;
use tokio::process::Command;

/// The last step before rows are levelled for good: rows, indexes and foreign keys stand.
pub(super) const FILLED: &str = "build-foreign-keys";
/// Everything of a copy in which nothing changes: schema, rows, indexes, keys and sequences.
pub(super) const COPIED: &str = "set-copied-sequences";
/// The last step before the backlog.
pub(super) const BEFORE_BACKLOG: &str = "analyze-green";
/// The step that brings the backlog to green.
pub(super) const BACKLOG: &str = "level-backlog";

/// Runs of the bench's plan towards one green.
pub(super) struct Ours<'a> {
    place: &'a Place,
}

/// How a verb went.
#[derive(Debug, Clone)]
pub(super) struct Verb {
    /// The process.
    pub(super) ran: Ran,
    /// Each step that was made, with its own seconds, in order.
    pub(super) stages: Vec<(String, f64)>,
    /// What the last step said of itself.
    pub(super) receipt: Value,
    /// Its last line.
    pub(super) last: Value,
    /// Why it ended, when not as asked.
    why: String,
}

impl<'a> Ours<'a> {
    /// Makes `green` the plan's green.
    pub(super) fn towards(place: &'a Place, green: &Server) -> Result<Self, BenchError> {
        place.write_variables(green)?;
        Ok(Self { place })
    }

    /// `cutover run` through a step, which must succeed.
    pub(super) async fn run(&self, through: &str) -> Result<Verb, BenchError> {
        let verb = self.run_for(through, "1h").await?;
        verb.succeeded("cutover run")
    }

    /// `cutover run` through a step with a bound on levelling, however it ends.
    pub(super) async fn run_for(&self, through: &str, level: &str) -> Result<Verb, BenchError> {
        let (workers, level) = (format!("copy.workers={WORKERS}"), format!("window.level={level}"));
        self.verb(&["run", "--through", through, "--set", &workers, "--set", &level]).await
    }

    /// `cutover diff`, whatever it finds.
    pub(super) async fn diff(&self) -> Result<Verb, BenchError> {
        self.verb(&["diff", "--set", &format!("copy.workers={WORKERS}")]).await
    }

    /// `cutover rollback`: blue is as it was.
    pub(super) async fn back(&self) -> Result<(), BenchError> {
        self.verb(&["rollback", "--yes"]).await?.succeeded("cutover rollback").map(drop)
    }

    async fn verb(&self, words: &[&str]) -> Result<Verb, BenchError> {
        let layout = &self.place.layout;
        let mut command = Command::new(&self.place.program);
        command.arg(words[0]).arg(layout.plan()).arg("--env-file").arg(layout.env_file()).args(&words[1..]);
        command.arg("--json");
        let ran = program::run(command, "cutover", self.place.until).await?;
        Ok(Verb::read(ran))
    }
}

impl Verb {
    fn read(ran: Ran) -> Self {
        let events: Vec<Value> = ran.said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let done = || events.iter().filter(|event| event["event"] == "step_done");
        let stage = |event: &Value| {
            Some((event["step"].as_str()?.to_owned(), event["took_ms"].as_f64().unwrap_or_default() / 1000.0))
        };
        let stages = done().filter_map(stage).collect();
        let receipt = done().next_back().map_or(Value::Null, |event| event["receipt"].clone());
        let why = events.last().and_then(|summary| summary["why"].as_str()).unwrap_or_default().to_owned();
        let last = events.last().cloned().unwrap_or_default();
        Self { ran, stages, receipt, last, why }
    }

    fn succeeded(self, program: &str) -> Result<Self, BenchError> {
        if self.ran.code != 0 && !self.why.is_empty() {
            return Err(BenchError::Program { program: program.to_owned(), why: self.why });
        }
        Ok(Self { ran: self.ran.succeeded(program)?, ..self })
    }
}
