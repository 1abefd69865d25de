//! A whole sandbox as a user meets it: up, load, faults, the prober's word, down. And the prober itself: damage done behind the engine's
//! back must be seen, or its clean bill says nothing.

use crate::harness::{self, sandbox::Sandbox};
use serde_json::Value;

fn count(summary: &Value, word: &str) -> u64 {
    summary["prober"][word].as_u64().unwrap_or_else(|| panic!("no {word} in {summary}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandbox_a_quiet_blue_gets_a_clean_bill_and_a_broken_one_does_not() {
    let sandbox = Sandbox::up("sandbox", 2000, 20).await;
    for word in ["revoked", "acked_writes"] {
        sandbox.until(word, 5).await;
    }
    let quiet = sandbox.verb(&["report"]).await;
    assert_eq!(
        (&quiet["outcome"], &quiet["live"], &quiet["settled"]),
        (&"done".into(), &"blue".into(), &true.into()),
        "{quiet}"
    );
    for word in ["failed", "lost_writes", "revoked_accepted", "ended_accepted", "two_writer_ms"] {
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
