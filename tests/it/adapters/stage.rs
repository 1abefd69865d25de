//! A gateway between two small engines, and a plan in which more systems than the engine move.

use crate::gateway::world::World;
use crate::harness::fresh_folder;
use cutover::plan::{self, Plan};
use cutover::traffic::{Lockstep, http_client};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// Long enough for anything that succeeds.
pub(super) const HOLD: Duration = Duration::from_secs(5);

/// The gateway, and a folder for the plan, its programs and the proxies.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) folder: PathBuf,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let world = World::with(|config| config.hold = Duration::from_secs(3600)).await;
        crate::revocations::install(&world.pair)().await.expect("our tables are made");
        let folder = fresh_folder("adapters");
        std::fs::create_dir_all(&folder).expect("a folder");
        Self { world, folder }
    }

    /// A program of the plan: a shell script with a log of how it was called.
    pub(super) fn script(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        let log = self.folder.join("log");
        let head = format!("#!/bin/sh\necho \"$CUTOVER_VERB $CUTOVER_EPOCH $CUTOVER_SIDE\" >> {}\n", log.display());
        std::fs::write(&path, format!("{head}{text}\n")).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
        path.display().to_string()
    }

    /// What the programs were called for, in order.
    pub(super) fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The engine, and what else is given as items of `systems:`.
    pub(super) fn plan(&self, systems: &str) -> Plan {
        let engine = format!("control: \"http://{}\"", self.world.gateway.addresses.control);
        self.plan_of(&engine, systems)
    }

    /// The same, with the engine behind other gateways.
    pub(super) fn plan_of(&self, engine: &str, systems: &str) -> Plan {
        let pair = &self.world.pair;
        let text = format!(
            "version: 1\nname: plan\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: hydra }}\n  \
             green: {{ url: \"${{GREEN_URL}}\", role: hydra }}\nmigrate:\n  - command: {{ run: [\"true\"] }}\n\
             revocations: {{ queue: {{ postgres: {{}} }}, replay: {{ hydra: {{}} }} }}\nsystems:\n  \
             - {{ name: engine, gateway: {{ {engine} }} }}\n{systems}\ngateway:\n  \
             listen: {{ public: \"http://a:1\", admin: \"http://a:2\", control: \"http://a:3\" }}\n  \
             blue: {{ public: \"http://b:1\", admin: \"http://b:2\" }}\n  green: {{ public: \"http://c:1\", admin: \"http://c:2\" }}\n  \
             doors: hydra\n"
        );
        let (control, blue, green) = (pair.control.url(), pair.blue.url(), pair.green.url());
        let lookup = |name: &str| match name {
            "CONTROL_URL" => Some(control.expose().to_owned()),
            "BLUE_URL" => Some(blue.expose().to_owned()),
            "GREEN_URL" => Some(green.expose().to_owned()),
            "TOKEN" => Some("s3cret-token".to_owned()),
            _ => None,
        };
        plan::parse(&text, &self.folder, &lookup)
            .unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<String>()))
    }
}

/// A proposal of an epoch.
pub(super) fn proposal(plan: &Plan, epoch: i64) -> Lockstep {
    Lockstep::new(plan, &http_client().expect("a client"), Uuid::nil(), epoch, Uuid::new_v4())
}
