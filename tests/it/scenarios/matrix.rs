//! Any one part killed in any phase of a flip: within the hold and the time to settle all systems serve one side, and the flip goes on or has
//! gone back by itself.

use super::phases::{BACK, OUT, Way, serves_on};
use super::way_back::clean;
use crate::harness::eventually;
use crate::harness::sandbox::Sandbox;
use crate::harness::underway::Underway;
use rustix::process::Signal;
use serde_json::Value;
use std::io::Write as _;
use std::time::Duration;
use tokio_postgres::Client;

/// With a hold that leaves time to strike in it.
pub(super) const FLIP: Way =
    Way { verb: "flip --set window.level=10m --set window.hold=8s --set window.write_gap=8s", ..OUT };
/// Longest until all serve one side again: the hold, and as long again to settle it.
pub(super) const WITHIN: Duration = Duration::from_secs(15);
/// Where each system says where it stands.
pub(super) const SYSTEMS: [&str; 3] = ["GATEWAY_CONTROL", "AUTHZ_CUTOVER", "DASHBOARD_CUTOVER"];
const PARTS: [&str; 4] = ["orchestrator", "gateway", "authorization", "control"];
const PHASES: [&str; 5] = ["propose", "hold", "decided", "opening", "released"];

/// What is killed, and in which phase.
#[derive(Debug, Clone, Copy)]
struct Cell {
    part: &'static str,
    phase: &'static str,
}

/// A transaction that is left open, with what it locks.
pub(super) async fn locked(sandbox: &Sandbox, variable: &str, lock: &str) -> Client {
    let client = sandbox.client(variable).await;
    client.batch_execute(&format!("begin; {lock}")).await.expect("it is locked");
    client
}

/// Somebody who writes on blue and does not end: the fence waits for them, so nothing is decided.
pub(super) async fn writer(sandbox: &Sandbox) -> Client {
    locked(sandbox, "BLUE_URL", "lock table hydra_client in row exclusive mode").await
}

/// Lets go of what [`locked`] holds.
pub(super) async fn let_go(client: Client) {
    client.batch_execute("rollback").await.expect("it is let go");
}

/// Where a system stands; none when it does not say.
pub(super) async fn standing(sandbox: &Sandbox, system: &str) -> Option<Value> {
    let url = format!("{}/cutover/v1/state", sandbox.variable(system));
    reqwest::get(url).await.ok()?.json().await.ok()
}

/// Waits until this system holds.
pub(super) async fn holds(sandbox: &Sandbox, system: &str) {
    let held = || async { (standing(sandbox, system).await?["state"] == "holding").then_some(()) };
    eventually(WITHIN, "it holds", held).await;
}

/// Within the budget all systems serve this side, and the writes of clients are taken.
pub(super) async fn served(sandbox: &Sandbox, side: &str) {
    let all = || async {
        for system in SYSTEMS {
            let standing = standing(sandbox, system).await?;
            // One that has accepted a proposal serves on until it is held.
            let serves = matches!(standing["state"].as_str(), Some("serving" | "prepared"));
            (serves && standing["side"] == side).then_some(())?;
        }
        Some(())
    };
    eventually(WITHIN, "all systems serve the side", all).await;
    let before = sandbox.seen("acked_writes").await.unwrap_or(0);
    let written = || async { (sandbox.seen("acked_writes").await? > before).then_some(()) };
    eventually(WITHIN, "writes are taken", written).await;
}

/// Breaks or mends a part.
pub(super) async fn fault(sandbox: &Sandbox, part: &str, what: &str) {
    let said = sandbox.verb(&["fault", part, what]).await;
    assert_eq!(said["outcome"], "done", "{what} {part}: {said}");
}

impl Cell {
    fn is_decided(self) -> bool {
        !matches!(self.phase, "propose" | "hold")
    }

    fn side(self) -> &'static str {
        if self.is_decided() { "green" } else { "blue" }
    }

    /// What keeps the flip from leaving the phase: a writer for whom blue's fence waits, or somebody who keeps green's register as it is.
    async fn kept(self, sandbox: &Sandbox) -> Option<Client> {
        match self.phase {
            "propose" | "hold" => Some(writer(sandbox).await),
            "decided" | "opening" => {
                Some(locked(sandbox, "GREEN_URL", "select from cutover.register for update").await)
            }
            _ => None,
        }
    }

    async fn is_reached(self, sandbox: &Sandbox, flip: &mut Underway) {
        let says = if self.phase == "hold" { "propose" } else { self.phase };
        assert!(flip.until(FLIP.says(says)).await.is_some(), "{self:?}: it ended before");
        if self.phase == "hold" {
            // The gateway is the last to be asked.
            holds(sandbox, "GATEWAY_CONTROL").await;
        }
    }

    /// Kills the part in the phase; gives the flip that goes on without it.
    async fn strike(self, sandbox: &Sandbox) -> Option<Underway> {
        let kept = self.kept(sandbox).await;
        let mut flip = sandbox.start(FLIP.verb);
        self.is_reached(sandbox, &mut flip).await;
        let left = if self.part == "orchestrator" {
            // After its last word a process may be faster than the blow.
            assert!(flip.kill().await || self.phase == "released", "{self:?}: it ended before");
            None
        } else {
            // Frozen, it is in the phase still when the part has died.
            flip.signal(Signal::STOP);
            fault(sandbox, self.part, "kill").await;
            Some(flip)
        };
        if let Some(kept) = kept {
            let_go(kept).await;
        }
        if let Some(flip) = &left {
            flip.signal(Signal::CONT);
        }
        left
    }

    /// Whether the flip may end so, once the part is back.
    fn may_end(self, code: i32, said: &Value) -> bool {
        match (self.part, self.is_decided()) {
            // Nobody is held yet, and a part that is back in time has kept nobody from going on.
            _ if self.phase == "propose" && code == 0 => said["live"] == "green",
            // What it did is written down nowhere, so that it may have to be asked again.
            ("control", true) => matches!(code, 0 | 8 | 9),
            ("control", false) => matches!(code, 1 | 7 | 8),
            (_, true) => code == 0 && said["live"] == "green",
            (_, false) => code == 7 && said["outcome"] == "returned" && said["live"] == "blue",
        }
    }

    /// After the blow one side serves; the part comes back, and the flip is finished.
    async fn comes_through(self, sandbox: &Sandbox) {
        // What fails below is of the cell that was named last.
        let _ = writeln!(std::io::stderr(), "{self:?}");
        let flip = self.strike(sandbox).await;
        match (self.part, self.phase) {
            // Decided, and green is not open: only whoever asks for the flip again can open it, and until then everybody refuses.
            ("orchestrator", "decided" | "opening") => {}
            ("orchestrator", _) => served(sandbox, self.side()).await,
            ("control", _) => {
                served(sandbox, self.side()).await;
                fault(sandbox, "control", "up").await;
            }
            (part, _) => {
                fault(sandbox, part, "up").await;
                served(sandbox, self.side()).await;
            }
        }
        if let Some(flip) = flip {
            let (code, said) = flip.end().await;
            assert!(self.may_end(code, &said), "{self:?}: {code} {said}");
        }
        FLIP.comes_through(sandbox).await;
        serves_on(sandbox).await;
    }
}

/// Goes out through each cell, and back from it.
async fn all_come_through(name: &str, cells: impl IntoIterator<Item = Cell>) {
    let sandbox = Sandbox::up(name, 1000, 20).await;
    sandbox.until("revoked", 3).await;
    let (code, said) = sandbox.run("run --set window.level=10m").await;
    assert_eq!(code, 0, "{said}");
    for cell in cells {
        cell.comes_through(&sandbox).await;
        BACK.comes_through(&sandbox).await;
    }
    clean(&sandbox, BACK.to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_killed_after_the_decision_leaves_one_side_within_the_budget() {
    all_come_through("parts", [Cell { part: "control", phase: "decided" }]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn any_part_killed_in_any_phase_leaves_one_side_within_the_budget() {
    let cells = PARTS.into_iter().flat_map(|part| PHASES.map(|phase| Cell { part, phase }));
    all_come_through("matrix", cells).await;
}
