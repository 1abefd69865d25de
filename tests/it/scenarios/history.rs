//! A long history: clients issue, refresh, ask, revoke by every door and grant again, through two rounds of run, flip and way back, while
//! one part after another is killed at random. The prober judges from outside: no revoked token is accepted, no acknowledged write is lost.

use super::flip::{NEVER, count};
use crate::harness::sandbox::Sandbox;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::io::Write as _;
use std::time::Duration;

/// What is killed; `orchestrator` is the verb that is at work.
const PARTS: [&str; 9] = [
    "orchestrator",
    "gateway",
    "control",
    "blue",
    "green",
    "engine-blue",
    "engine-green",
    "authorization",
    "dashboard",
];
/// Tries of one verb while parts are killed under it; after these nothing is killed any more.
const STORMS: usize = 3;
/// Tries of one verb in peace: a lease may have to run out first.
const CALMS: usize = 6;

struct Storm {
    sandbox: Sandbox,
    random: StdRng,
    killed: Vec<(&'static str, &'static str)>,
}

impl Storm {
    /// Starts a verb and kills a part under it; says whether it came to its end all the same.
    async fn under_fire(&mut self, verb: &'static str, live: &str) -> bool {
        let part = *PARTS.choose(&mut self.random).expect("there are parts");
        let (after, before_up) = (self.random.random_range(0..4000), self.random.random_range(0..1500));
        self.killed.push((verb, part));
        let underway = self.sandbox.start(verb);
        tokio::time::sleep(Duration::from_millis(after)).await;
        if part == "orchestrator" {
            underway.kill().await;
            return false;
        }
        self.fault(part, "kill").await;
        tokio::time::sleep(Duration::from_millis(before_up)).await;
        self.fault(part, "up").await;
        let (code, said) = underway.end().await;
        code == 0 && said["live"] == live
    }

    async fn fault(&self, part: &str, what: &str) {
        let said = self.sandbox.verb(&["fault", part, what]).await;
        assert_eq!(said["outcome"], "done", "{what} {part}: {said}");
    }

    /// Repeats a verb until it has done what it was asked for.
    async fn through(&mut self, verb: &'static str, live: &'static str) {
        for _ in 0..STORMS {
            if self.under_fire(verb, live).await {
                return;
            }
        }
        let mut last = String::new();
        for _ in 0..CALMS {
            let (code, said) = self.sandbox.run(verb).await;
            if code == 0 && said["live"] == live {
                return;
            }
            last = format!("{code}: {said}");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        panic!("{verb} does not come through after {:?}: {last}", self.killed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn a_long_history_of_every_door_holds_whatever_is_killed() {
    let seed = std::env::var("CUTOVER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    // Shown also when it passes, by `--nocapture`; a failure names it too.
    let _ = writeln!(std::io::stderr(), "CUTOVER_SEED={seed}");
    let sandbox = Sandbox::up("history", 3000, 60).await;
    sandbox.until("revoked", 20).await;
    let mut storm = Storm { sandbox, random: StdRng::seed_from_u64(seed), killed: Vec::new() };
    for _ in 0..2 {
        for (verb, live) in [("run", "blue"), ("flip", "green"), ("rollback --yes", "blue")] {
            storm.through(verb, live).await;
            let (sandbox, writes) = (&storm.sandbox, storm.sandbox.seen("acked_writes").await.unwrap_or(0));
            sandbox.until("acked_writes", writes + 100).await;
            for word in NEVER {
                assert_eq!(sandbox.seen(word).await, Some(0), "{word} after {verb}, killed {:?}", storm.killed);
            }
        }
    }
    let report = storm.sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} after {:?}: {report}", storm.killed);
    }
    assert!(count(&report, "revoked") > 200 && count(&report, "requests") > 3000, "{report}");
}
