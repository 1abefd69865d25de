//! Both participants that we ship, each a real HTTP server with its state file: the gateway, and the internal systems' own.

use crate::gateway::world::{Engine, World};
use crate::harness::{eventually, fresh_folder};
use cutover::plan::{Secret, Side};
use cutover::sandbox::servers::free_port;
use cutover::traffic::protocol::{Order, Standing};
use cutover::traffic::register::Change;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
/// What a gateway waits before it writes against a flip that nobody finishes: longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// One participant under test.
pub(super) enum Subject {
    /// The gateway, behind its control listener.
    Gateway(Box<World>),
    /// An internal system, a process of its own.
    System(Box<System>),
}

/// An internal system: the sandbox's authorization service.
pub(super) struct System {
    dir: PathBuf,
    url: String,
    http: reqwest::Client,
    process: Child,
    _engine: Engine,
}

impl Subject {
    /// A gateway over registers that say `side` is open, whatever it is told.
    pub(super) async fn gateway(side: Side) -> Self {
        let world = World::with(|config| config.hold = LONG).await;
        if side == Side::Green {
            let (blue, green) = (world.pair.blue.client().await, world.pair.green.client().await);
            assert!(Change::seal(1, 2, Uuid::nil()).apply(&blue).await.expect("blue answers"));
            assert!(Change::open(0, 2, Uuid::nil()).apply(&green).await.expect("green answers"));
        }
        Self::Gateway(Box::new(world))
    }

    /// A gateway over registers that settle nothing: blue is sealed and green has not opened.
    pub(super) async fn undecided_gateway() -> Self {
        let world = World::with(|config| config.hold = LONG).await;
        let blue = world.pair.blue.client().await;
        assert!(Change::seal(1, 2, Uuid::nil()).apply(&blue).await.expect("blue answers"));
        Self::Gateway(Box::new(world))
    }

    /// A system that nobody tells which side is open.
    pub(super) async fn system() -> Self {
        let engine = Engine::start(Side::Blue, Secret::new("unused")).await;
        let dir = fresh_folder("participant");
        std::fs::create_dir_all(dir.join("state")).expect("a folder");
        let url = format!("http://127.0.0.1:{}", free_port().expect("a port is free"));
        let variables =
            format!("AUTHZ_CUTOVER='{url}'\nGATEWAY_PUBLIC='{}'\nGATEWAY_ADMIN='{}'\n", engine.url, engine.url);
        std::fs::write(dir.join("env"), variables).expect("the variables");
        let http = cutover::traffic::http_client().expect("a client");
        let process = System::spawn(&dir);
        let system = System { dir, url, http, process, _engine: engine };
        system.answers().await;
        Self::System(Box::new(system))
    }

    /// Sends an order: the status and the body.
    pub(super) async fn order(&self, verb: &str, order: &Order) -> (u16, Value) {
        match self {
            Self::Gateway(world) => world.order(verb, order).await,
            Self::System(system) => {
                let url = format!("{}/cutover/v1/{verb}", system.url);
                let response = system.http.post(url).json(order).send().await.expect("the system answers");
                (response.status().as_u16(), response.json().await.expect("it speaks JSON"))
            }
        }
    }

    /// Where it says that it stands.
    pub(super) async fn standing(&self) -> Standing {
        let said = match self {
            Self::Gateway(world) => world.ask_control("/cutover/v1/state").await,
            Self::System(system) => system.answers().await,
        };
        serde_json::from_value(said).expect("a standing")
    }

    /// Kills it and starts it again over the same state file.
    pub(super) async fn restart(&mut self) {
        match self {
            Self::Gateway(world) => world.restart_gateway().await,
            Self::System(system) => {
                system.process.kill().await.expect("it can be killed");
                system.process = System::spawn(&system.dir);
                system.answers().await;
            }
        }
    }
}

impl System {
    fn spawn(dir: &PathBuf) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.args(["sandbox", "part", "authorization", "--dir"]).arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command.spawn().expect("the binary starts")
    }

    async fn answers(&self) -> Value {
        let url = format!("{}/cutover/v1/state", self.url);
        eventually(SOON, "the system answers", async || self.http.get(&url).send().await.ok()?.json().await.ok()).await
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Its process dies with it; a folder that stays is in nobody's way.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
