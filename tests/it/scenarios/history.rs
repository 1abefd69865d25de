//! A long history: clients issue, refresh, ask, revoke by every door and grant again, through rounds of run, flip and way back, while every
//! part is killed at random. The prober judges from outside: nothing is accepted that was revoked, used or ended, no acknowledged write is lost.

use super::flip::{NEVER, count};
use crate::harness::sandbox::Sandbox;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;
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
/// Every way in which the load ends what somebody was given.
const DOORS: [&str; 11] = [
    "token",
    "consent",
    "subject",
    "client_tokens",
    "client_delete",
    "client_secret",
    "login_sessions",
    "logout",
    "added",
    "reuse",
    "code_replay",
];
/// Fewest uses of each.
const USES: u64 = 1;
/// Rounds of run, flip and way back: so many, and more until every part was killed.
const ROUNDS: usize = 2;
/// Rounds by which every part must have been killed; there are as many verbs in three as there are parts.
const ROUNDS_MAX: usize = 4;
/// Tries of one verb while parts are killed under it; after these nothing is killed any more.
const STORMS: usize = 3;
/// Tries of one verb in peace: a lease may have to run out first.
const CALMS: usize = 6;

struct Storm {
    sandbox: Sandbox,
    random: StdRng,
    /// What is killed next, the last first.
    deck: Vec<&'static str>,
    killed: Vec<(&'static str, &'static str)>,
}

impl Storm {
    /// Starts a verb and kills a part under it; says whether it came to its end all the same.
    async fn under_fire(&mut self, verb: &'static str, live: &str) -> bool {
        let part = self.deal();
        let (after, before_up) = (self.random.random_range(0..4000), self.random.random_range(0..1500));
        let underway = self.sandbox.start(verb);
        tokio::time::sleep(Duration::from_millis(after)).await;
        if part == "orchestrator" {
            if underway.kill().await {
                self.killed.push((verb, part));
            } else {
                // It was at its end before: the next time.
                self.deck.push(part);
            }
            return false;
        }
        self.killed.push((verb, part));
        self.fault(part, "kill").await;
        tokio::time::sleep(Duration::from_millis(before_up)).await;
        self.fault(part, "up").await;
        let (code, said) = underway.end().await;
        code == 0 && said["live"] == live
    }

    /// One part after another in a random order, each once before any comes again.
    fn deal(&mut self) -> &'static str {
        if self.deck.is_empty() {
            self.deck = PARTS.to_vec();
            self.deck.shuffle(&mut self.random);
        }
        self.deck.pop().expect("there are parts")
    }

    /// Parts that were not killed yet.
    fn spared(&self) -> BTreeSet<&'static str> {
        let killed: BTreeSet<&str> = self.killed.iter().map(|(_, part)| *part).collect();
        PARTS.into_iter().filter(|part| !killed.contains(part)).collect()
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
    let random = StdRng::seed_from_u64(seed);
    let mut storm = Storm { sandbox, random, deck: Vec::new(), killed: Vec::new() };
    let mut rounds = 0;
    while rounds < ROUNDS || !storm.spared().is_empty() {
        rounds += 1;
        assert!(rounds <= ROUNDS_MAX, "{:?} were never killed: {:?}", storm.spared(), storm.killed);
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
    for door in DOORS {
        assert!(report["prober"]["doors"][door].as_u64() >= Some(USES), "{door} in {report}");
    }
    assert!(count(&report, "revoked") > 200 && count(&report, "requests") > 3000, "{report}");
}
