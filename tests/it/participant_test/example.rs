//! The example service of the documents keeps every rule; with one line of it changed, exactly the rules break that name the slip.

use super::{Started, broken};
use crate::gateway::world::Engine;
use crate::harness::fresh_folder;
use cutover::plan::{Secret, Side};
use cutover::traffic::conformance::{Trial, Tried, conform};
use futures_util::future::join_all;
use std::collections::BTreeSet;

const EXAMPLE: &str = include_str!("../../../docs/examples/participant/participant.py");

/// One slip: a line of the example, what stands there instead, and the rules that must be found broken.
struct Slip {
    line: &'static str,
    instead: &'static str,
    broken: &'static [&'static str],
}

const RESTARTS: [&str; 5] =
    ["restart-serving", "restart-prepared", "restart-holding", "restart-switched", "restart-refusing"];

const SLIPS: [Slip; 12] = [
    // It accepts a lower epoch.
    Slip { line: r#"if order["epoch"] < self.stand["epoch"]:"#, instead: "if False:", broken: &["lower-epoch"] },
    // It accepts a second proposal of one epoch.
    Slip {
        line: r#"if order["epoch"] == self.stand["epoch"] and order["nonce"] != self.stand["nonce"]:"#,
        instead: "if False:",
        broken: &["other-nonce"],
    },
    // It forgets everything when it is started again.
    Slip { line: "os.replace(new, self.file)", instead: "pass", broken: &RESTARTS },
    // Started again it serves from memory.
    Slip {
        line: r#"self.stand["state"] = "refusing"  # rule 6: never serve from memory"#,
        instead: r#"self.stand["state"] = "serving""#,
        broken: &["restart-holding", "restart-switched", "restart-refusing"],
    },
    // Its hold ends in serving.
    Slip {
        line: r#"self.store(stand, state="refusing")"#,
        instead: r#"self.store(stand, state="serving")"#,
        broken: &["hold-not-prolonged", "hold-ends", "resolver-older", "resolver-undecided", "resolver-open"],
    },
    // It says that it refuses, and serves its users on.
    Slip {
        line: r#"if self.stand["state"] in HELD:
                raise NotNow("held: no side is known to be open")"#,
        instead: "pass",
        broken: &["hold-ends", "resolver-older", "resolver-undecided", "restart-holding", "restart-switched"],
    },
    // It answers users while it is held.
    Slip {
        line: r#"self.changed.wait_for(lambda: self.stand["state"] not in ("holding", "switched"), WAIT_AT_MOST_S)"#,
        instead: "pass",
        broken: &["requests-wait"],
    },
    // It does not wait for work in flight.
    Slip { line: "if self.in_flight > 0:", instead: "if False:", broken: &["work-in-flight"] },
    // A second hold prolongs the first.
    Slip { line: r#"if state != "holding":"#, instead: "if True:", broken: &["hold-not-prolonged"] },
    // It believes whatever a resolver says.
    Slip {
        line: r#"if said and said["state"] == "open" and said["epoch"] >= stand["epoch"]:"#,
        instead: r#"if said and said["side"]:"#,
        broken: &["resolver-older", "resolver-undecided"],
    },
    // It never asks.
    Slip {
        line: r#"for resolver in stand["resolvers"]:"#,
        instead: "for resolver in []:",
        broken: &["resolver-older", "resolver-undecided", "resolver-open"],
    },
    // It turns without having been held.
    Slip {
        line: "if not (known and state in HELD):",
        instead: "if False:",
        broken: &["released-is-over", "switch-only-held"],
    },
];

/// Tries the example with this text, in all that these rules need: a restart and slow work take their time.
async fn tried(text: &str, engine: &Engine, rules: &[&str]) -> Tried {
    let started = Started::new(fresh_folder("example"), |address, dir| {
        std::fs::write(dir.join("participant.py"), text).expect("the service");
        let dir = dir.display();
        format!("python3 '{dir}/participant.py' --listen {address} --state '{dir}/state.json' --engine {}", engine.url)
    });
    started.begin().await;
    let (ask, slow) = (format!("{}/greeting", started.url), format!("{}/greeting?seconds=3", started.url));
    let trial = Trial {
        ask: Some(ask),
        slow: rules.contains(&"work-in-flight").then_some(slow),
        restart: started.trial().restart.filter(|_| rules.contains(&"restart-holding")),
        ..started.trial()
    };
    conform(&trial, &|_| ()).await.expect("it is tried")
}

#[tokio::test(flavor = "multi_thread")]
async fn participant_test_passes_the_example_and_names_every_slip() {
    let engine = Engine::start(Side::Blue, Secret::new("unused")).await;
    let slips = SLIPS.iter().map(|slip| async {
        assert_eq!(EXAMPLE.matches(slip.line).count(), 1, "the example has the line once: {}", slip.line);
        let tried = tried(&EXAMPLE.replacen(slip.line, slip.instead, 1), &engine, slip.broken).await;
        let found = broken(&tried);
        let names: BTreeSet<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, slip.broken.iter().copied().collect(), "without {}: {found:#?}", slip.line);
    });
    let sound = async {
        let tried = tried(EXAMPLE, &engine, &["work-in-flight", "restart-holding"]).await;
        assert_eq!(broken(&tried), [], "the example keeps the protocol");
        assert!(tried.findings.iter().all(|finding| finding.ok.is_some()), "{:#?}", tried.findings);
        assert!(tried.left_at.is_some(), "it serves again");
    };
    tokio::join!(join_all(slips), sound);
}
