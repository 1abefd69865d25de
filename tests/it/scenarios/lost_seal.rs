//! The answer to the decision is lost on its way, three times in a real flip: the decision arrives too late, is still being made, was made. Each
//! time the orchestrator writes against it, and goes where that leads; reading would have told it the same thing the first two times.

use super::matrix::{let_go, locked};
use super::paused::{OPEN_AT, blue_says};
use super::phases::{BACK, OUT, Way, serves_on};
use super::way_back::clean;
use crate::harness::relay::{Relay, Stopped};
use crate::harness::sandbox::Sandbox;
use crate::harness::underway::Underway;
use std::path::PathBuf;

/// With time between the hold and its end for all that the test does in it: the seal waits for a lock for a sixth of that at most.
const FLIP: Way = Way { verb: "flip --set window.level=10m --set window.hold=20s --set window.write_gap=20s", ..OUT };
/// What only the decision says to blue.
const SEAL: &str = "update cutover.register set state = 'sealed'";
/// A decision that has arrived and waits for whoever has the register's row; a fence waits for nobody else's transaction.
const SEALING: &str = "select count(*) from pg_stat_activity
where application_name like 'cutover\\_fence\\_%' and wait_event_type = 'Lock' and wait_event in ('transactionid', 'tuple')";
/// Somebody who writes against it and waits for how it ends.
const RESOLVING: &str = "select count(*) from pg_stat_activity
where wait_event_type = 'Lock' and query like 'update cutover.register set state = ''open''%'";
const SEALED: &str = "select count(*) from cutover.register where state = 'sealed'";
/// What the compare-and-set of a seal that came too late raises.
const LOST: &str = "CUT01";

/// Blue as the orchestrator reaches it, and nobody else: by a road that the decision does not pass.
struct Road {
    relay: Relay,
    variables: PathBuf,
}

impl Road {
    async fn to_blue(sandbox: &Sandbox) -> Self {
        let url = sandbox.variable("BLUE_URL");
        let port = url::Url::parse(&url).expect("a URL").port().expect("a port");
        let relay = Relay::before(port, SEAL).await;
        let by_relay = url.replace(&format!(":{port}/"), &format!(":{}/", relay.port));
        assert_ne!(url, by_relay);
        let text = std::fs::read_to_string(sandbox.dir.join("env")).expect("the variables");
        let line = format!("\nBLUE_URL='{url}'\n");
        assert_eq!(text.matches(&line).count(), 1, "the sandbox has the variable once");
        let variables = sandbox.dir.join("by-relay.env");
        std::fs::write(&variables, text.replace(&line, &format!("\nBLUE_URL='{by_relay}'\n"))).expect("it is written");
        Self { relay, variables }
    }

    /// A flip that has come to its decision: nothing of it has arrived on blue. With the epoch that it has proposed.
    async fn decides(&mut self, sandbox: &Sandbox) -> (Underway, Stopped, i64) {
        let mut flip = sandbox.start_by(FLIP.verb, &self.variables);
        let Some(proposed) = flip.until(FLIP.says("propose")).await else {
            panic!("it ended before it was proposed: {:?}", flip.end().await);
        };
        let stopped = tokio::select! {
            stopped = self.relay.stopped() => Some(stopped),
            _ = flip.until(|_| false) => None,
        };
        let Some(stopped) = stopped else { panic!("it ended before it decided: {:?}", flip.end().await) };
        (flip, stopped, proposed["body"]["epoch"].as_i64().expect("an epoch"))
    }
}

/// The flip came to its end on green.
async fn is_on_green(sandbox: &Sandbox, flip: Underway) {
    let (code, said) = flip.end().await;
    assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (0, Some("done"), Some("green")), "{said}");
    assert_eq!(sandbox.ask("BLUE_URL", SEALED).await, 1, "blue is left");
    serves_on(sandbox).await;
}

/// It arrives when the orchestrator has given it up and written against it: it may not count any more.
async fn too_late(sandbox: &Sandbox, road: &mut Road) {
    let (flip, mut seal, epoch) = road.decides(sandbox).await;
    seal.cut_off();
    blue_says(sandbox, OPEN_AT, epoch, "blue stays open by a write against the decision").await;
    seal.deliver().await;
    let answer = seal.answer().await;
    assert!(answer.contains(LOST) && !answer.contains("COMMIT"), "{answer:?}");
    let (code, said) = flip.end().await;
    assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (7, Some("returned"), Some("blue")), "{said}");
    assert!(said["why"].as_str().is_some_and(|why| why.contains("the answer was lost")), "{said}");
    assert_eq!(sandbox.ask("BLUE_URL", OPEN_AT).await, epoch, "and nothing has closed it since");
    serves_on(sandbox).await;
}

/// It is being committed while the orchestrator asks: who reads finds blue open, who writes waits for it and finds it sealed.
async fn under_way(sandbox: &Sandbox, road: &mut Road) {
    let (flip, mut seal, epoch) = road.decides(sandbox).await;
    let row = locked(sandbox, "BLUE_URL", "select from cutover.register for update").await;
    seal.deliver().await;
    blue_says(sandbox, SEALING, 1, "the decision waits for the register").await;
    seal.cut_off();
    blue_says(sandbox, RESOLVING, 1, "the orchestrator writes against it").await;
    let open_at = sandbox.ask("BLUE_URL", OPEN_AT).await;
    assert!(0 < open_at && open_at < epoch, "blue is open to whoever reads, at {open_at}");
    let_go(row).await;
    let answer = seal.answer().await;
    assert!(answer.contains("COMMIT"), "the first in the row wins: {answer:?}");
    is_on_green(sandbox, flip).await;
}

/// It was committed, and only the answer is missing.
async fn made(sandbox: &Sandbox, road: &mut Road) {
    let (flip, mut seal, _) = road.decides(sandbox).await;
    seal.deliver().await;
    let answer = seal.answer().await;
    assert!(answer.contains("COMMIT"), "{answer:?}");
    blue_says(sandbox, SEALED, 1, "blue is sealed, and the orchestrator has not heard of it").await;
    seal.cut_off();
    is_on_green(sandbox, flip).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_whose_answer_is_lost_is_settled_by_writing_against_it() {
    let sandbox = Sandbox::up("lost-seal", 1000, 20).await;
    sandbox.until("revoked", 3).await;
    let (code, said) = sandbox.run("run --set window.level=10m").await;
    assert_eq!(code, 0, "{said}");
    let mut road = Road::to_blue(&sandbox).await;
    too_late(&sandbox, &mut road).await;
    under_way(&sandbox, &mut road).await;
    BACK.comes_through(&sandbox).await;
    made(&sandbox, &mut road).await;
    clean(&sandbox, "green").await;
}
