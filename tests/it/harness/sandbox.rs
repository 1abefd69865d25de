//! A whole sandbox, driven by its verbs as a user would.

use super::underway::Underway;
use cutover::plan::Secret;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;

/// One sandbox with little in it; ended when dropped, also by a failed test.
pub(crate) struct Sandbox {
    pub(crate) dir: PathBuf,
}

impl Sandbox {
    pub(crate) async fn up(name: &str, rows: u32, rate: u32) -> Self {
        // The client below wants a provider of cryptography; another test may have installed it.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let sandbox = Self { dir: super::fresh_folder(name) };
        let summary = sandbox.verb(&["up", "--rows", &rows.to_string(), "--rate", &rate.to_string()]).await;
        assert_eq!(summary["outcome"], "done", "{summary}");
        sandbox
    }

    /// Runs `cutover sandbox WORDS --dir DIR --json` and gives its last line.
    pub(crate) async fn verb(&self, words: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.arg("sandbox").args(words).arg("--dir").arg(&self.dir).arg("--json");
        summary(&command.output().await.expect("the binary runs"))
    }

    /// Adds text at the end of the sandbox's plan.
    pub(crate) fn add_to_plan(&self, more: &str) {
        let file = self.dir.join("plan.yaml");
        let plan = std::fs::read_to_string(&file).expect("the plan");
        std::fs::write(&file, format!("{plan}{more}")).expect("the plan is written");
    }

    /// Replaces text that the sandbox's plan has once.
    pub(crate) fn change_plan(&self, text: &str, by: &str) {
        let file = self.dir.join("plan.yaml");
        let plan = std::fs::read_to_string(&file).expect("the plan");
        assert_eq!(plan.matches(text).count(), 1, "{text}");
        std::fs::write(&file, plan.replace(text, by)).expect("the plan is written");
    }

    /// Sets a variable that the sandbox does not have; parts see it when they are started again.
    pub(crate) fn set_variable(&self, name: &str, value: &str) {
        let file = self.dir.join("env");
        let text = std::fs::read_to_string(&file).expect("the variables");
        std::fs::write(&file, format!("{text}{name}='{value}'\n")).expect("the variables are written");
    }

    /// One of the verbs of a run and its options, on the sandbox's plan with these variables.
    fn on_plan(&self, words: &str, variables: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.args(words.split(' ')).arg(self.dir.join("plan.yaml")).arg("--env-file").arg(variables).arg("--json");
        command
    }

    /// Runs a verb on the sandbox's plan to its end: exit code and summary.
    pub(crate) async fn run(&self, verb: &str) -> (i32, Value) {
        self.start(verb).end().await
    }

    /// Starts a verb on the sandbox's plan.
    pub(crate) fn start(&self, verb: &str) -> Underway {
        self.start_by(verb, &self.dir.join("env"))
    }

    /// The same with another file of variables than the sandbox's own.
    pub(crate) fn start_by(&self, verb: &str, variables: &Path) -> Underway {
        Underway::start(self.on_plan(verb, variables))
    }

    /// Runs a verb on the sandbox's plan, killed with -9 some time after the first event that `moment` recognises. False when it
    /// ended before.
    pub(crate) async fn killed(&self, verb: &str, moment: impl Fn(&Value) -> bool, after: Duration) -> bool {
        let mut underway = self.start(verb);
        let is_there = underway.until(moment).await.is_some();
        if is_there {
            tokio::time::sleep(after).await;
        }
        underway.kill().await && is_there
    }

    pub(crate) fn variable(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join("env")).expect("the variables");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).expect("the variable");
        line.trim_matches('\'').to_owned()
    }

    pub(crate) async fn sql(&self, statement: &str) -> u64 {
        let url = Secret::new(self.variable("BLUE_URL"));
        let client = cutover::database::client::connect(&url, "blue").await.expect("blue answers");
        client.execute(statement, &[]).await.expect("the statement runs")
    }

    /// A connection to the database whose URL the variable holds.
    pub(crate) async fn client(&self, variable: &str) -> tokio_postgres::Client {
        let url = Secret::new(self.variable(variable));
        cutover::database::client::connect(&url, "database").await.expect("it answers")
    }

    /// One number, asked of the database whose URL the variable holds.
    pub(crate) async fn ask(&self, variable: &str, query: &str) -> i64 {
        self.client(variable).await.query_one(query, &[]).await.expect("the query runs").get(0)
    }

    /// How many of `word` the prober has seen, without its end check.
    pub(crate) async fn seen(&self, word: &str) -> Option<u64> {
        let url = format!("{}/report", self.variable("PROBER_CONTROL"));
        let report: Value = reqwest::get(&url).await.expect("the prober").json().await.expect("a report");
        report["prober"][word].as_u64()
    }

    /// Waits until the prober has seen at least `least` of `word`.
    pub(crate) async fn until(&self, word: &str, least: u64) {
        for _ in 0..600 {
            if self.seen(word).await.is_some_and(|seen| seen >= least) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the prober never saw {least} {word}");
    }

    pub(crate) fn pids(&self) -> Vec<u64> {
        let text = std::fs::read(self.dir.join("pids.json")).expect("the process ids");
        let pids: std::collections::BTreeMap<String, u64> = serde_json::from_slice(&text).expect("a map");
        pids.into_values().collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cutover"));
        let ended = command.args(["sandbox", "down", "--dir"]).arg(&self.dir).output();
        if !std::thread::panicking() {
            assert!(ended.expect("the binary runs").status.success());
        }
    }
}

/// The last line of a verb's JSON.
pub(crate) fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .unwrap_or_else(|_| panic!("no summary: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
