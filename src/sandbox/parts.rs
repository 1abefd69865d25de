//! The parts of a sandbox and how each is started.

use super::environment::Layout;
use super::process::Recipe;

/// One part, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A PostgreSQL server.
    Server(&'static str),
    /// A process of this program.
    Process(&'static str),
}

/// Servers, in the order in which they are started.
pub(crate) const SERVERS: [&str; 3] = ["control", "blue", "green"];
/// Processes, in the order in which they are started; ended in reverse.
pub(crate) const PROCESSES: [&str; 6] =
    ["engine-blue", "engine-green", "gateway", "authorization", "dashboard", "prober"];

impl Part {
    pub(crate) fn named(name: &str) -> Option<Self> {
        let server = SERVERS.into_iter().find(|known| *known == name).map(Self::Server);
        server.or_else(|| PROCESSES.into_iter().find(|known| *known == name).map(Self::Process))
    }

    pub(crate) fn names() -> String {
        SERVERS.iter().chain(&PROCESSES).copied().collect::<Vec<_>>().join(", ")
    }
}

/// Where a process answers once it is up: the variable with its URL and the path.
///
/// An engine says its version as soon as it listens; whether its tables are there is another question.
pub(crate) fn door(part: &str) -> (&'static str, &'static str) {
    match part {
        "engine-blue" => ("BLUE_ADMIN", "/version"),
        "engine-green" => ("GREEN_ADMIN", "/version"),
        "gateway" => ("GATEWAY_CONTROL", "/cutover/v1/state"),
        "authorization" => ("AUTHZ_CUTOVER", "/health"),
        "dashboard" => ("DASHBOARD_CUTOVER", "/health"),
        _ => ("PROBER_CONTROL", "/report"),
    }
}

/// How a process is started. Every command line names the sandbox's folder, and none holds a secret.
pub(crate) fn recipe(layout: &Layout, part: &'static str) -> Recipe {
    let dir = layout.dir().display().to_string();
    let words: Vec<String> = match part {
        "gateway" => {
            let (plan, env) = (layout.plan().display().to_string(), layout.env_file().display().to_string());
            vec!["gateway".to_owned(), plan, "--env-file".to_owned(), env]
        }
        "engine-blue" => engine("1", &dir),
        "engine-green" => engine("2", &dir),
        other => ["sandbox", "part", other, "--dir", &dir].map(str::to_owned).to_vec(),
    };
    Recipe { part, arguments: words }
}

fn engine(version: &str, dir: &str) -> Vec<String> {
    ["sandbox", "part", "engine", "--version", version, "--dir", dir].map(str::to_owned).to_vec()
}
