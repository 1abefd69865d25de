//! Killed right after each word of the flip and of the way back, and asked again: one side serves, all systems agree, nothing is lost.

use super::flip::NEVER;
use super::way_back::clean;
use crate::harness::sandbox::Sandbox;
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;

/// A verb that moves traffic, its step, and the side where it ends.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) verb: &'static str,
    pub(super) step: &'static str,
    pub(super) to: &'static str,
}

pub(super) const OUT: Way = Way { verb: "flip --set window.level=10m", step: "flip", to: "green" };
pub(super) const BACK: Way = Way { verb: "rollback --yes --set window.level=10m", step: "return", to: "blue" };

impl Way {
    /// The event by which the step tells that it has come to `phase`.
    pub(super) fn says(self, phase: &'static str) -> impl Fn(&Value) -> bool {
        move |event| event["event"] == "note" && event["step"] == self.step && event["body"]["phase"] == phase
    }

    /// Killed as soon as it says `phase`. False when it ended before the blow, as it may after its last word.
    async fn killed_at(self, sandbox: &Sandbox, phase: &'static str) -> bool {
        if phase == "returned" {
            return self.killed_as_it_stays(sandbox).await;
        }
        // On a busy machine a hold may end before the decision, and nothing has moved: then once more.
        for _ in 0..3 {
            if sandbox.killed(self.verb, self.says(phase), Duration::ZERO).await {
                return true;
            }
        }
        false
    }

    /// Asked to park before its decision, and killed as soon as it says that it stays where it was.
    async fn killed_as_it_stays(self, sandbox: &Sandbox) -> bool {
        let mut underway = sandbox.start(self.verb);
        if underway.until(self.says("propose")).await.is_none() {
            panic!("it ended before it was proposed: {:?}", underway.end().await);
        }
        underway.signal(Signal::INT);
        let stays = underway.until(self.says("returned")).await.is_some();
        underway.kill().await && stays
    }

    /// Asked again it ends where it was to go; or it has stayed and names itself as what to do next, and then ends there.
    pub(super) async fn comes_through(self, sandbox: &Sandbox) {
        let (mut code, mut said) = sandbox.run(self.verb).await;
        if said["live"] != self.to {
            let word = self.verb.split(' ').next().expect("a verb");
            let names_itself = said["next"].as_str().is_some_and(|next| next.contains(&format!("cutover {word} ")));
            assert!(code != 0 && names_itself, "{code}: {said}");
            (code, said) = sandbox.run(self.verb).await;
        }
        assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (0, Some("done"), Some(self.to)), "{said}");
        self.all_are_there(sandbox).await;
    }

    async fn all_are_there(self, sandbox: &Sandbox) {
        let (_, status) = sandbox.run("status").await;
        assert_eq!(status["live"], self.to, "{status}");
        let systems = status["systems"].as_array().expect("the systems");
        assert_eq!(systems.len(), 3, "{status}");
        for system in systems {
            assert_eq!(
                (system["side"].as_str(), system["state"].as_str()),
                (Some(self.to), Some("serving")),
                "{status}"
            );
        }
    }
}

/// Clients are served, and nothing that they saw so far may not be.
pub(super) async fn serves_on(sandbox: &Sandbox) {
    let before = sandbox.seen("acked_writes").await.unwrap_or(0);
    sandbox.until("acked_writes", before + 5).await;
    for word in NEVER {
        assert_eq!(sandbox.seen(word).await, Some(0), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_word_of_either_way_it_is_one_side_and_comes_through() {
    let sandbox = Sandbox::up("phases", 2000, 20).await;
    sandbox.until("revoked", 3).await;
    assert_eq!(sandbox.run("run --set window.level=10m").await.0, 0);
    let mut missed = Vec::new();
    let rounds: [(&[&str], &[&str]); 3] =
        [(&["returned", "opening"], &["returned", "decided"]), (&["released"], &["opening"]), (&[], &["released"])];
    for (out, back) in rounds {
        for (way, phases) in [(OUT, out), (BACK, back)] {
            for phase in phases {
                if !way.killed_at(&sandbox, phase).await {
                    missed.push((way.step, *phase));
                }
            }
            way.comes_through(&sandbox).await;
            serves_on(&sandbox).await;
        }
    }
    clean(&sandbox, BACK.to).await;
    // After its last word, and when it was decided before it was asked to stop, a process may be faster than the blow.
    assert!(missed.iter().all(|(_, phase)| matches!(*phase, "released" | "returned")), "not killed at {missed:?}");
    assert!(missed.len() <= 3, "not killed at {missed:?}");
}
