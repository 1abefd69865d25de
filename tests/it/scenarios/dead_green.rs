//! A green that is dead: going back without it only when it is cut off, with every revocation of the queue on blue; and before the flip,
//! blue as it was.

use super::flip::count;
use super::way_back::LEFT;
use crate::harness::sandbox::Sandbox;
use crate::harness::stage::Stage;
use crate::harness::underway::Underway;
use cutover::sandbox::servers::free_port;
use serde_json::Value;
use std::time::Duration;

const WAIVED: &str = "rollback --yes --waive green-isolated --because its-power-is-off";

fn cost(event: &Value) -> bool {
    event["event"] == "cost"
}

/// What must hold without a green that was lost with everything it took. Lost with it is also what no queue has heard of: that a token was
/// used or a secret changed there (`ended_accepted`).
async fn nothing_resurrected(sandbox: &Sandbox) {
    let report = sandbox.verb(&["report"]).await;
    assert_eq!(report["live"], "blue", "{report}");
    for word in ["revoked_accepted", "two_writer_ms"] {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_opens_without_a_dead_green_once_a_person_has_cut_it_off() {
    let sandbox = Sandbox::up("dead", 2000, 50).await;
    sandbox.until("revoked", 3).await;
    for verb in ["run", "flip"] {
        assert_eq!(sandbox.run(verb).await.0, 0, "{verb}");
    }
    let (code, alive) = sandbox.run(WAIVED).await;
    assert_eq!((code, alive["live"].as_str()), (3, Some("green")), "nobody may call a living green dead: {alive}");
    let report = sandbox.verb(&["report"]).await;
    sandbox.until("revoked", count(&report, "revoked") + 5).await;
    assert_eq!(sandbox.verb(&["fault", "green", "kill"]).await["outcome"], "done");

    let (code, stuck) = sandbox.run("rollback --yes").await;
    assert_eq!((code, stuck["outcome"].as_str()), (8, Some("stuck")), "{stuck}");
    assert!(stuck["next"].as_str().is_some_and(|next| next.contains("--waive green-isolated")), "{stuck}");

    let opening = |event: &Value| event["event"] == "note" && event["body"]["phase"] == "opening";
    assert!(sandbox.killed(WAIVED, opening, Duration::ZERO).await, "killed on the way");
    let mut back = sandbox.start(WAIVED);
    let cost = back.until(cost).await.expect("the cost is told first");
    assert_eq!((&cost["writes_lost"], &cost["engine_revocations"]), (&Value::from(true), &Value::from("unknown")));
    let (code, back) = back.end().await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
    let (_, status) = sandbox.run("status").await;
    assert_eq!(status["live"], "blue", "{status}");
    for system in status["systems"].as_array().expect("the systems") {
        assert_eq!(system["side"], "blue", "{status}");
    }
    nothing_resurrected(&sandbox).await;

    // It comes back against all words: the later register counts, it is not flipped to, and what it holds is left alone.
    assert_eq!(sandbox.verb(&["fault", "green", "up"]).await["outcome"], "done");
    let (_, status) = sandbox.run("status").await;
    assert_eq!(status["live"], "blue", "{status}");
    let (code, flip) = sandbox.run("flip").await;
    assert_eq!((code, flip["live"].as_str()), (3, Some("blue")), "{flip}");
    let (code, undone) = sandbox.run("rollback --yes").await;
    assert_eq!((code, undone["live"].as_str()), (0, Some("blue")), "{undone}");
    assert_eq!(sandbox.ask("BLUE_URL", LEFT).await, 0, "nothing of ours is left on blue");
    assert!(sandbox.ask("GREEN_URL", "select count(*) from hydra_client").await > 0, "what was lost can be looked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flip_decided_for_a_green_that_dies_goes_back_once_the_plan_has_cut_it_off() {
    let sandbox = Sandbox::up("dead-undecided", 2000, 50).await;
    let mark = sandbox.dir.join("isolated");
    sandbox.add_to_plan(&format!("isolate_green: {{ run: [touch, \"{}\"] }}\n", mark.display()));
    sandbox.until("revoked", 3).await;
    assert_eq!(sandbox.run("run").await.0, 0);
    let decided = |event: &Value| event["event"] == "note" && event["body"]["phase"] == "decided";
    assert!(sandbox.killed("flip", decided, Duration::ZERO).await, "killed after the decision");
    assert_eq!(sandbox.verb(&["fault", "green", "kill"]).await["outcome"], "done");
    assert!(!mark.exists());
    let (code, back) = sandbox.run("rollback --yes").await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
    assert!(mark.exists(), "green was cut off before blue opened");
    assert_eq!(sandbox.ask("BLUE_URL", LEFT).await, 0, "nothing of ours is left on blue");
    nothing_resurrected(&sandbox).await;
}

/// A second gateway in front of the sandbox's engines, and what cuts one off; the first is started again, to know that it is one of two.
pub(super) async fn with_a_second_gateway(sandbox: &Sandbox) -> Underway {
    let file = |name: &str| std::fs::read_to_string(sandbox.dir.join(name)).expect("a file of the sandbox");
    let ports = || format!("http://127.0.0.1:{}", free_port().expect("a port"));
    let west = ports();
    let east = sandbox.variable("GATEWAY_CONTROL");
    let mut env = format!("{}EAST_CONTROL='{east}'\nWEST_CONTROL='{west}'\n", file("env"));
    std::fs::write(sandbox.dir.join("env"), &env).expect("it is written");
    for (name, own) in [("GATEWAY_PUBLIC", ports()), ("GATEWAY_ADMIN", ports()), ("GATEWAY_CONTROL", west)] {
        env = env.replace(&format!("\n{name}='{}'", sandbox.variable(name)), &format!("\n{name}='{own}'"));
    }
    std::fs::write(sandbox.dir.join("west.env"), env).expect("it is written");
    let cut =
        format!("count_out: {{ run: [sh, -c, 'echo \"$CUTOVER_GATEWAY\" >> {}'] }}", sandbox.dir.join("cut").display());
    let both =
        format!("gateway: {{ controls: {{ east: \"${{EAST_CONTROL}}\", west: \"${{WEST_CONTROL}}\" }}, {cut} }}");
    let plan = file("plan.yaml").replace("gateway: { control: \"${GATEWAY_CONTROL}\" }", &both);
    std::fs::write(sandbox.dir.join("plan.yaml"), plan).expect("it is written");
    for fault in ["down", "up"] {
        assert_eq!(sandbox.verb(&["fault", "gateway", fault]).await["outcome"], "done");
    }
    // Under its first name nobody queues any more.
    let control = sandbox.client("CONTROL_URL").await;
    let ended = "update cutover.producer set ended_at = clock_timestamp() where gateway = 'engine'";
    control.execute(ended, &[]).await.expect("control answers");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.arg("gateway").arg(sandbox.dir.join("plan.yaml")).arg("--name").arg("west");
    command.arg("--env-file").arg(sandbox.dir.join("west.env")).arg("--json");
    let mut west = Underway::start(command);
    if west.until(|event| event["event"] == "listening").await.is_none() {
        panic!("it does not listen: {:?}", west.end().await);
    }
    west
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_with_green_is_counted_out_on_the_way_back_without_it() {
    let sandbox = Sandbox::up("dead-both", 1000, 20).await;
    let west = with_a_second_gateway(&sandbox).await;
    for verb in ["run", "flip"] {
        let (code, said) = sandbox.run(verb).await;
        assert_eq!(code, 0, "{verb}: {said}");
    }
    assert!(west.kill().await, "it was running");
    assert_eq!(sandbox.verb(&["fault", "green", "kill"]).await["outcome"], "done");
    let (code, back) = sandbox.run(WAIVED).await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
    let cut = std::fs::read_to_string(sandbox.dir.join("cut")).expect("one was cut off");
    assert_eq!(cut, "west\n", "before anything was proposed, and no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_flip_blue_is_as_it_was_though_green_is_dead() {
    let stage = Stage::with_accounts(200).await;
    let before = stage.rows(true).await;
    assert_eq!(stage.verb(&["run"]).await.0, 0);
    stage.pair.green.server.kill().await.expect("green is killed");
    let (code, stuck) = stage.verb(&["rollback"]).await;
    assert_eq!((code, stuck["live"].as_str()), (8, Some("blue")), "{stuck}");
    let waived = ["rollback", "--waive", "green-isolated", "--because", "its disk is gone"];
    let (code, back) = stage.verb(&waived).await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
    assert_eq!(stage.left_on_blue().await, 0);
    assert_eq!(stage.rows(true).await, before);
}
