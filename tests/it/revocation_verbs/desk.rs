//! The verbs that look at the queue and judge single events, through the binary.

use crate::harness::sandbox::summary;
use crate::harness::{Pair, fresh_folder};
use crate::revocations::{captured, ledger, producer, token};
use cutover::plan::Side;
use cutover::revocations::{Chain, Drained, Outcome, drained};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;
use uuid::Uuid;

const PLAN: &str = "version: 1
name: plan
control: ${CONTROL_URL}
databases:
  blue: { url: \"${BLUE_URL}\", role: hydra }
  green: { url: \"${GREEN_URL}\", role: hydra }
revocations: { queue: { postgres: {} }, replay: { hydra: {} } }
";

struct Desk {
    pair: Pair,
    plan: PathBuf,
}

impl Desk {
    async fn new() -> Self {
        let (pair, folder) = (Pair::shared().await, fresh_folder("desk"));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("plan.yaml"), PLAN).expect("the plan");
        Self { pair, plan: folder.join("plan.yaml") }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.arg("revocations").args(words).arg(&self.plan).arg("--json");
        command.env("CONTROL_URL", self.pair.control.url().expose());
        command.env("BLUE_URL", self.pair.blue.url().expose());
        command.env("GREEN_URL", self.pair.green.url().expose());
        command
    }

    /// Exit code, all that was said, and the summary.
    async fn verb(&self, words: &[&str]) -> (i32, String, Value) {
        let output = self.command(words).output().await.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), said, summary(&output))
    }

    async fn state(&self, id: Uuid) -> String {
        let (code, said, _) = self.verb(&["show", &id.to_string()]).await;
        assert_eq!(code, 0, "{said}");
        events(&said)[0]["state"].as_str().expect("a state").to_owned()
    }
}

fn events(said: &str) -> Vec<Value> {
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|event| event["event"] == "revocation").collect()
}

/// What came of each of five: executed, refused, unknown, one that cannot be understood, one that cannot be replayed.
async fn five(desk: &Desk) -> [Uuid; 5] {
    let producer = producer(&desk.pair, "engine");
    let mut ids = [Uuid::nil(); 5];
    for (n, id) in ids.iter_mut().enumerate() {
        let requests = [format!("r{n}")].into();
        let chain = Chain { requests, signatures: vec![format!("a-whole-signature-{n}")], ..Chain::default() };
        *id = producer.append(captured(&token("a.b"), chain)).await.expect("it is queued").id;
    }
    producer.settle(ids[0], Outcome::Executed, Some(200)).await;
    producer.settle(ids[1], Outcome::Refused, Some(401)).await;
    producer.barrier(2).await.expect("the barrier is written");
    let poison = format!(
        "update cutover.revocation set door = E'win\\x1b[2Jdow', chain = '\"a.token\"' where id = '{}'",
        ids[3]
    );
    let ledger = ledger(&desk.pair);
    ledger.collect().await.expect("all of it is in control");
    desk.pair.control.execute(&poison).await;
    ledger.pending(Duration::ZERO).await.expect("control answers");
    for _ in 0..5 {
        ledger.failed(ids[4], "a table is missing").await.expect("control answers");
    }
    ids
}

#[tokio::test]
async fn revocation_verbs_list_show_put_back_and_waive() {
    let desk = Desk::new().await;
    let (code, _, said) = desk.verb(&["list"]).await;
    assert_eq!((code, said["listed"].as_i64()), (0, Some(0)), "nothing was ever captured: {said}");
    let [executed, refused, unknown, poison, failing] = five(&desk).await;
    lists(&desk, [executed, refused, unknown, poison, failing]).await;
    puts_back(&desk, executed, failing).await;
    waives(&desk, [executed, refused, unknown, poison]).await;
}

async fn lists(desk: &Desk, [executed, refused, unknown, poison, failing]: [Uuid; 5]) {
    let (code, said, last) = desk.verb(&["list"]).await;
    assert_eq!(code, 0, "{said}");
    let state = |event: &Value| (event["id"].as_str().unwrap_or_default().to_owned(), event["state"].clone());
    let states: BTreeMap<String, Value> = events(&said).iter().map(state).collect();
    let expected =
        [(executed, "queued"), (refused, "refused"), (unknown, "queued"), (poison, "dead"), (failing, "dead")];
    assert_eq!(states, expected.map(|(id, state)| (id.to_string(), state.into())).into(), "{said}");
    assert!(!said.contains("a-whole-signature") && !said.contains("a.token"), "no token, no whole signature: {said}");
    assert!(!said.contains("\\u001b"), "a terminal obeys nothing of it: {said}");
    assert_eq!((&last["totals"]["dead"], &last["totals"]["unsettled"]), (&2.into(), &3.into()), "{last}");
    assert!(last["totals"]["oldest_unproved_s"].as_f64().is_some_and(|s| s >= 0.0), "{last}");

    let (_, said, last) = desk.verb(&["list", "--limit", "2"]).await;
    assert_eq!((events(&said).len(), &last["more"]), (2, &true.into()), "{last}");
    let after = last["after"].as_str().expect("where the next page begins");
    let (_, said, last) = desk.verb(&["list", "--limit", "3", "--after", after]).await;
    assert_eq!((events(&said).len(), &last["more"]), (3, &false.into()), "{last}");
    let unknown_state = desk.command(&["list", "--state", "lost"]).output().await.expect("the binary runs");
    assert_eq!(unknown_state.status.code(), Some(2));

    let (code, said, last) = desk.verb(&["dead"]).await;
    assert_eq!((code, &last["outcome"], events(&said).len()), (3, &"refused".into(), 2), "{said}");
    let (_, said, _) = desk.verb(&["show", &failing.to_string()]).await;
    assert_eq!(events(&said)[0]["last_error"], "a table is missing", "{said}");
    assert_eq!(desk.verb(&["show", &Uuid::new_v4().to_string()]).await.0, 3, "no such revocation");
}

async fn puts_back(desk: &Desk, executed: Uuid, failing: Uuid) {
    let (code, _, last) = desk.verb(&["replay", &executed.to_string()]).await;
    assert_eq!(code, 3, "it is not dead: {last}");
    assert_eq!(desk.verb(&["replay", &failing.to_string()]).await.0, 0);
    assert_eq!(desk.state(failing).await, "queued");
    let pending = ledger(&desk.pair).pending(Duration::ZERO).await.expect("control answers");
    assert!(pending.iter().any(|event| event.id == failing), "the worker finds it again");
}

async fn waives(desk: &Desk, [executed, refused, unknown, poison]: [Uuid; 4]) {
    let waive = async |id: Uuid, because: &str| desk.verb(&["waive", &id.to_string(), "--because", because]).await;
    assert_eq!(waive(unknown, "  ").await.0, 2, "without a reason");
    assert_eq!(waive(refused, "why not").await.0, 3, "it stops nothing");
    let ledger = ledger(&desk.pair);
    let drained = async || match drained(&ledger, 2, &["engine".to_owned()]).await.expect("control answers") {
        Drained::Yes => Vec::new(),
        Drained::No(reasons) => reasons,
    };
    ledger.replayed(&[executed]).await.expect("control answers");
    ledger.proved(&[executed]).await.expect("control answers");
    assert_eq!(waive(executed, "to be sure").await.0, 3, "it is proved");
    assert!(drained().await.iter().any(|why| why.contains("dead")), "{:?}", drained().await);

    for (id, reason) in [(unknown, "its token ran out last week"), (poison, "asked the user")] {
        let (code, _, last) = waive(id, reason).await;
        assert_eq!((code, &last["state"], &last["journalled"]), (0, &"waived".into(), &false.into()), "{last}");
        assert!(last["why"].as_str().is_some_and(|why| why.contains("may not hold")), "{last}");
    }
    let (code, _, last) = waive(unknown, "another reason").await;
    assert_eq!((code, &last["state"]), (0, &"waived".into()), "{last}");
    assert!(
        last["why"].as_str().is_some_and(|why| why.contains("its token ran out")),
        "the first verdict stands: {last}"
    );
    let (_, said, _) = desk.verb(&["list", "--state", "waived"]).await;
    let listed = events(&said);
    assert_eq!(listed.len(), 2, "{said}");
    assert!(listed[0]["waived"]["by"].as_str().is_some_and(|by| by.contains("pid")), "{said}");
    let open = drained().await;
    assert_eq!(open.len(), 2, "only the one that was put back is open, not replayed and not proved: {open:?}");
    assert_eq!(desk.verb(&["dead"]).await.0, 0, "nobody's dead letter is left");
    assert!(ledger.dead().await.expect("control answers").is_empty());
    let events = ledger.effective(Duration::ZERO).await.expect("control answers");
    assert!(events.iter().any(|event| event.id == unknown), "a waived one is killed all the same, where it can be");
    assert_eq!(events.iter().filter(|event| event.what.live == Side::Blue).count(), 3);
}
