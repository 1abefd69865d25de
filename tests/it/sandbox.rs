//! A whole sandbox as a user meets it: up, load, faults, the prober's word, down. And the prober itself: damage done behind the engine's
//! back must be seen, or its clean bill says nothing.

use crate::harness;
use cutover::plan::Secret;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

/// One sandbox with little in it; ended when dropped, also by a failed test.
struct Sandbox {
    dir: PathBuf,
}

impl Sandbox {
    async fn up(name: &str) -> Self {
        let sandbox = Self { dir: harness::fresh_folder(name) };
        let summary = sandbox.verb(&["up", "--rows", "2000", "--rate", "20"]).await;
        assert_eq!(summary["outcome"], "done", "{summary}");
        sandbox
    }

    /// Runs `cutover sandbox WORDS --dir DIR --json` and gives its last line.
    async fn verb(&self, words: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.arg("sandbox").args(words).arg("--dir").arg(&self.dir).arg("--json");
        let output = command.output().await.expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .unwrap_or_else(|_| panic!("no summary: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn variable(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join("env")).expect("the variables");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).expect("the variable");
        line.trim_matches('\'').to_owned()
    }

    async fn sql(&self, statement: &str) -> u64 {
        let url = Secret::new(self.variable("BLUE_URL"));
        let client = cutover::database::client::connect(&url, "blue").await.expect("blue answers");
        client.execute(statement, &[]).await.expect("the statement runs")
    }

    /// Waits until the prober has seen at least `least` of `word`, without its end check.
    async fn until(&self, word: &str, least: u64) {
        let url = format!("{}/report", self.variable("PROBER_CONTROL"));
        for _ in 0..600 {
            let report: Value = reqwest::get(&url).await.expect("the prober").json().await.expect("a report");
            if report["prober"][word].as_u64().is_some_and(|seen| seen >= least) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the prober never saw {least} {word}");
    }

    fn pids(&self) -> Vec<u64> {
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

fn count(summary: &Value, word: &str) -> u64 {
    summary["prober"][word].as_u64().unwrap_or_else(|| panic!("no {word} in {summary}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandbox_a_quiet_blue_gets_a_clean_bill_and_a_broken_one_does_not() {
    install_provider();
    let sandbox = Sandbox::up("sandbox").await;
    for word in ["revoked", "acked_writes"] {
        sandbox.until(word, 5).await;
    }
    let quiet = sandbox.verb(&["report"]).await;
    assert_eq!(
        (&quiet["outcome"], &quiet["live"], &quiet["settled"]),
        (&"done".into(), &"blue".into(), &true.into()),
        "{quiet}"
    );
    for word in ["failed", "lost_writes", "revoked_accepted", "two_writer_ms"] {
        assert_eq!(count(&quiet, word), 0, "{word} in {quiet}");
    }
    assert_eq!(quiet["flips"], 0);

    // Revocations are acknowledged and not carried out, and a client vanishes, behind the engine's back.
    sandbox.sql("create function keep() returns trigger language plpgsql as 'begin return null; end'").await;
    sandbox.sql("create trigger keep before delete on hydra_oauth2_access for each row execute function keep()").await;
    sandbox.until("revoked", count(&quiet, "revoked") + 3).await;
    sandbox.sql("drop function keep cascade").await;
    let newest = "delete from hydra_client where id in (select client_id from hydra_oauth2_access order by requested_at desc limit 1)";
    assert_eq!(sandbox.sql(newest).await, 1);
    let damaged = sandbox.verb(&["report"]).await;
    assert!(count(&damaged, "revoked_accepted") > 0, "{damaged}");
    assert!(count(&damaged, "lost_writes") > 0, "{damaged}");

    // An engine that is gone is seen by clients, and the sandbox mends it.
    let before = count(&damaged, "failed");
    assert_eq!(sandbox.verb(&["fault", "engine-blue", "kill"]).await["outcome"], "done");
    sandbox.until("failed", before + 5).await;
    assert_eq!(sandbox.verb(&["fault", "engine-blue", "up"]).await["outcome"], "done");
    let wrong = sandbox.verb(&["fault", "engine-red", "kill"]).await;
    assert_eq!(wrong["outcome"], "failed", "{wrong}");

    let pids = sandbox.pids();
    assert_eq!(sandbox.verb(&["down"]).await["outcome"], "done");
    assert!(!sandbox.dir.exists(), "nothing of it is left");
    let alive = |pid: &&u64| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    assert_eq!(pids.iter().filter(alive).count(), 0, "no process is left");
}

#[tokio::test]
async fn sandbox_a_used_folder_is_refused_and_left_alone() {
    let dir = harness::fresh_folder("sandbox-used");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("precious"), "data").expect("a file");
    let sandbox = Sandbox { dir };
    assert_eq!(sandbox.verb(&["up", "--rows", "100"]).await["outcome"], "failed");
    assert_eq!(sandbox.verb(&["down"]).await["outcome"], "failed", "it is no sandbox");
    assert_eq!(std::fs::read_to_string(sandbox.dir.join("precious")).expect("still there"), "data");
    std::fs::remove_dir_all(&sandbox.dir).expect("the test's own folder");
}

/// The client of this test wants a provider of cryptography; another test may have installed it.
fn install_provider() {
    let _already_there = rustls::crypto::ring::default_provider().install_default();
}
