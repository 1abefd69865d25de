//! A whole sandbox under a bench: started for it, driven by the verbs as a user would, ended with it.

use super::program::{self, Ran};
use super::{BenchError, BenchOptions};
use crate::sandbox::environment::{Layout, Variables};
use crate::sandbox::up::{UpOptions, up};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;
use tokio::time::Instant;

/// The sandbox; ended when this is dropped, since its servers do not end with us.
pub(super) struct Stage {
    pub(super) layout: Layout,
    pub(super) program: PathBuf,
    pub(super) until: Instant,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let mut down = std::process::Command::new(&self.program);
        down.args(["sandbox", "down", "--dir"]).arg(self.layout.dir()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = down.status() {
            tracing::warn!(%error, "the sandbox was not ended");
        }
    }
}

impl Stage {
    /// Starts one with so many requests a second of its own load.
    pub(super) async fn up(
        options: &BenchOptions,
        load: u32,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, BenchError> {
        let layout = Layout::new(&options.dir.join("sandbox"));
        let stage = Self { layout, program: options.program.clone(), until: options.deadline() };
        let wanted = UpOptions {
            dir: stage.layout.dir().to_owned(),
            rows: options.rows,
            rate: load,
            is_in_place: false,
            program: options.program.clone(),
            postgres: options.postgres.clone(),
            green_postgres: None,
        };
        up(&wanted, tell).await?;
        Ok(stage)
    }

    /// The value of one of the sandbox's variables.
    pub(super) fn variable(&self, name: &str) -> Result<String, BenchError> {
        Ok(Variables::read(&self.layout)?.get(name)?.to_owned())
    }

    /// A verb on the sandbox's plan, which must succeed; gives its last line.
    pub(super) async fn verb(&self, words: &[&str]) -> Result<Value, BenchError> {
        self.measured(words).await.map(|(said, _)| said)
    }

    /// The same, with how it ran.
    pub(super) async fn measured(&self, words: &[&str]) -> Result<(Value, Ran), BenchError> {
        let mut command = Command::new(&self.program);
        command.arg(words[0]).arg(self.layout.plan()).arg("--env-file").arg(self.layout.env_file()).args(&words[1..]);
        command.arg("--json");
        let name = format!("cutover {}", words[0]);
        let ran = program::run(command, &name, self.until).await?;
        let last =
            ran.said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
        if ran.code == 0 {
            return Ok((last, ran));
        }
        Err(BenchError::Program { program: name, why: format!("exit {}: {}", ran.code, last["why"]) })
    }
}
