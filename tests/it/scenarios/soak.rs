//! The soak: green is watched against blue before the flip; when it does worse a person decides, or the traffic goes back by itself.

use crate::harness::sandbox::Sandbox;
use serde_json::Value;
use std::time::Duration;

/// At the flip point, with more requests behind it than `soak.least` asks for; then flipped.
async fn flipped(name: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::up(name, 2000, 50).await;
    sandbox.add_to_plan(more);
    assert_eq!(sandbox.run("run").await.0, 0);
    sandbox.until("requests", 200).await;
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    sandbox
}

fn watching(event: &Value) -> bool {
    event["event"] == "step_progress" && event["step"] == "soak"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn green_that_does_well_soaks_and_one_that_fails_is_left_by_a_person() {
    // How fast a busy machine answers is not asked here.
    let sandbox = flipped("soak", "soak: { slower: 100 }\n").await;
    // Killed while it watches, it watches again: nothing was changed.
    assert!(sandbox.killed("run --through soak --set window.soak=1h", watching, Duration::ZERO).await);
    let (code, soaked) = sandbox.run("run --through soak --set window.soak=4s").await;
    assert_eq!((code, soaked["live"].as_str()), (0, Some("green")), "{soaked}");

    let mut watch = sandbox.start("run --through soak --set window.soak=1h");
    assert!(watch.until(watching).await.is_some(), "it watches on");
    assert_eq!(sandbox.verb(&["fault", "engine-green", "kill"]).await["outcome"], "done");
    let (code, worse) = watch.end().await;
    assert_eq!((code, worse["outcome"].as_str()), (9, Some("failed_on_green")), "{worse}");
    let (why, next) = (worse["why"].as_str().expect("a reason"), worse["next"].as_str().expect("a command"));
    assert!(
        (why.contains("requests failed") || why.contains("no answer")) && next.contains("cutover rollback"),
        "{worse}"
    );

    // The engine is gone and its database is not: the ordinary way back loses nothing.
    let (code, back) = sandbox.run("rollback --yes").await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
    let report = sandbox.verb(&["report"]).await;
    for word in super::flip::NEVER {
        assert_eq!(super::flip::count(&report, word), 0, "{word} in {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_goes_back_by_itself_where_the_plan_says_so() {
    let sandbox = flipped("soak-returns", "soak: { when_worse: return }\n").await;
    assert_eq!(sandbox.verb(&["fault", "engine-green", "kill"]).await["outcome"], "done");
    let (code, back) = sandbox.run("run --through soak --set window.soak=1h").await;
    assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (7, Some("returned"), Some("blue")), "{back}");
    let (_, status) = sandbox.run("status").await;
    assert_eq!((status["state"].as_str(), status["live"].as_str()), (Some("returned"), Some("blue")), "{status}");
    let report = sandbox.verb(&["report"]).await;
    for word in super::flip::NEVER {
        assert_eq!(super::flip::count(&report, word), 0, "{word} in {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_is_no_yes_and_a_person_may_answer_for_it() {
    let sandbox = flipped("soak-unclear", "soak: { least: 1000000 }\n").await;
    let (code, unclear) = sandbox.run("run --through soak --set window.soak=1s").await;
    assert_eq!((code, unclear["live"].as_str()), (3, Some("green")), "{unclear}");
    let why = unclear["why"].as_str().expect("a reason");
    assert!(why.contains("cannot be told") && why.contains("soak.least"), "{why}");
    for part in ["prober", "engine-blue"] {
        assert_eq!(sandbox.verb(&["fault", part, "kill"]).await["outcome"], "done", "{part}");
    }
    let (code, unclear) = sandbox.run("finalize --yes --set window.soak=1s").await;
    assert_eq!((code, unclear["live"].as_str()), (3, Some("green")), "{unclear}");
    // Whoever owns blue's tables can take its seal away, and a second writer would be seen by nobody.
    let blue = sandbox.client("BLUE_URL").await;
    let trigger = async |word: &str| {
        let alter = format!("alter table hydra_client {word} trigger cutover_seal");
        blue.batch_execute(&alter).await.expect("the owner may");
    };
    trigger("disable").await;
    let (code, broken) = sandbox.run("finalize --yes --set window.soak=1s --waive soak --because a-quiet-night").await;
    assert_eq!((code, broken["live"].as_str()), (3, Some("green")), "{broken}");
    assert!(broken["why"].as_str().is_some_and(|why| why.contains("hydra_client")), "{broken}");
    trigger("enable always").await;
    let (code, usage) = sandbox.run("finalize --yes --set window.soak=1s --waive soaked --because no").await;
    assert_eq!(code, 2, "what keeps a promise cannot be waived: {usage}");
    let (code, done) = sandbox.run("finalize --yes --set window.soak=1s --waive soak --because a-quiet-night").await;
    assert_eq!((code, done["live"].as_str()), (0, Some("green")), "{done}");
}
