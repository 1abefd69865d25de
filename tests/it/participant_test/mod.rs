//! `participant test`: participants that keep the protocol pass, and one with a single slip breaks exactly the rules that name it.

mod example;
mod systems;

use cutover::sandbox::servers::free_port;
use cutover::traffic::conformance::{Trial, Tried};
use std::path::{Path, PathBuf};

/// A participant that a shell command starts again, by the process number in its folder.
struct Started {
    dir: PathBuf,
    url: String,
    start: String,
}

impl Started {
    /// `start` gets the address to listen on and gives a shell command.
    fn new(dir: PathBuf, start: impl FnOnce(&str, &Path) -> String) -> Self {
        std::fs::create_dir_all(&dir).expect("a folder");
        let address = format!("127.0.0.1:{}", free_port().expect("a port is free"));
        let command = start(&address, &dir);
        let pid = dir.join("pid");
        let start = format!("{command} </dev/null >/dev/null 2>&1 & echo $! > '{}'", pid.display());
        Self { dir, url: format!("http://{address}"), start }
    }

    fn kill(&self) -> String {
        format!("kill -9 \"$(cat '{}')\"", self.dir.join("pid").display())
    }

    fn trial(&self) -> Trial {
        Trial {
            base: self.url.clone(),
            ask: None,
            slow: None,
            restart: Some(format!("{}; {}", self.kill(), self.start)),
            patience: std::time::Duration::from_secs(3),
            resolver: "127.0.0.1:0".parse().expect("an address"),
            is_under_test: false,
        }
    }

    async fn begin(&self) {
        shell(&self.start).await;
        let http = cutover::traffic::http_client().expect("a client");
        let url = format!("{}/cutover/v1/state", self.url);
        let soon = std::time::Duration::from_secs(30);
        crate::harness::eventually(soon, "it answers", async || http.get(&url).send().await.ok()).await;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It is gone already when it never started; nobody else has its folder.
        let _ = std::process::Command::new("sh").args(["-c", &self.kill()]).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn shell(command: &str) {
    let status = tokio::process::Command::new("sh").args(["-c", command]).status().await.expect("a shell");
    assert!(status.success(), "{command}");
}

/// Names of the rules that were broken, and why.
fn broken(tried: &Tried) -> Vec<(&'static str, String)> {
    let broken = tried.findings.iter().filter(|finding| finding.ok == Some(false));
    broken.map(|finding| (finding.name, finding.why.clone().unwrap_or_default())).collect()
}
