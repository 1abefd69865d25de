//! A whole cutover, there and back, between two servers that cannot decode their log, captured by triggers and judged by the prober.

use super::flip::{NEVER, count};
use super::way_back::{LEFT, clean};
use crate::harness::sandbox::Sandbox;
use cutover::sandbox::servers::{Server, Stop};

/// Takes logical decoding from both sides, and has the plan say so.
pub(super) async fn without_decoding(sandbox: &Sandbox) {
    for (side, variable) in [("blue", "BLUE_URL"), ("green", "GREEN_URL")] {
        let client = sandbox.client(variable).await;
        for setting in ["wal_level = replica", "max_replication_slots = 0"] {
            client.batch_execute(&format!("alter system set {setting}")).await.expect("the setting is written");
        }
        let server = Server::open(&sandbox.dir.join("servers").join(side)).expect("the sandbox's server");
        server.restart(Stop::Fast).await.expect("it is up again");
    }
    by_triggers(sandbox);
}

/// Has the plan say that both sides are captured by triggers.
pub(super) fn by_triggers(sandbox: &Sandbox) {
    let file = sandbox.dir.join("plan.yaml");
    let plan = std::fs::read_to_string(&file).expect("the plan");
    let with = plan.replace("_URL}\", role: hydra }", "_URL}\", role: hydra, capture: triggers }");
    assert_eq!(with.matches("capture: triggers").count(), 2, "{plan}");
    std::fs::write(&file, with).expect("the plan is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cutover_by_triggers_there_and_back_loses_nothing_and_leaves_nothing() {
    let sandbox = Sandbox::up("triggers", 5000, 50).await;
    without_decoding(&sandbox).await;
    sandbox.until("revoked", 5).await;
    for (verb, live) in [("check", "blue"), ("run", "blue"), ("flip", "green")] {
        let (code, said) = sandbox.run(verb).await;
        assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (0, Some("done"), Some(live)), "{said}");
    }
    clean(&sandbox, "green").await;
    let (_, status) = sandbox.run("status").await;
    assert!(status["wal_kept_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
    assert_eq!(status["revocations"]["captured"], status["revocations"]["proved"], "{status}");
    let (code, back) = sandbox.run("rollback --yes").await;
    assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (0, Some("done"), Some("blue")), "{back}");
    let report = clean(&sandbox, "blue").await;
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
    let (code, undone) = sandbox.run("rollback").await;
    assert_eq!((code, undone["live"].as_str()), (0, Some("blue")), "{undone}");
    for side in ["BLUE_URL", "GREEN_URL"] {
        assert_eq!(sandbox.ask(side, LEFT).await, 0, "nothing of ours is left behind {side}");
    }
    clean(&sandbox, "blue").await;
}
