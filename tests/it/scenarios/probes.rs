//! Probes and canaries through a whole cutover: what they hold up, what they leave, and what becomes of a plan that is wrong about its engine.

use crate::harness::sandbox::Sandbox;
use serde_json::Value;
use std::time::Duration;

/// Clients that a probe or a canary has left.
const OURS: &str = "select count(*) from hydra_client where owner like 'cutover-%'";
/// Logins and grants of users that we made up.
const TRACES: &str = "select count(*) from hydra_oauth2_authentication_session where subject like 'cutover-%'";

/// Refresh tokens of the canary that is revoked while blue serves, and those of them and of the one that is revoked on green that live.
const CHAIN: &str = "select count(*) from hydra_oauth2_refresh where subject like 'cutover-canary-%-withdrawn'";
const WITHDRAWN: &str =
    "select count(*) from hydra_oauth2_refresh where active and subject like 'cutover-canary-%-withdrawn'";
const WITHDRAWN_ON_GREEN: &str =
    "select count(*) from hydra_oauth2_refresh where active and subject like 'cutover-canary-%-withdrawn-on-green'";

/// The first refresh token of the canary that is revoked, the only one that the copy has seen, lives on under another chain: with its own it
/// would be replayed and proved anew before any gate is asked. And back.
const ASTRAY: &str = "update hydra_oauth2_refresh set active = true, request_id = 'astray', challenge_id = null where signature =
  (select signature from hydra_oauth2_refresh where subject like 'cutover-canary-%-withdrawn' order by requested_at limit 1)";
const MENDED: &str = "update hydra_oauth2_refresh lost set active = false, request_id = kept.request_id, challenge_id = kept.challenge_id
  from hydra_oauth2_refresh kept where lost.request_id = 'astray' and kept.subject = lost.subject and kept.request_id <> 'astray'";

/// The canary's revocation in the queue, executed and proved on green.
const ASKED: &str = "select count(*) from cutover.revocation where door = 'token' and chain ->> 'subject' like 'cutover-canary-%-withdrawn'
  and outcome = 'executed' and proved_at is not null";

/// A count, asked of both sides.
async fn both(sandbox: &Sandbox, query: &str) -> (i64, i64) {
    (sandbox.ask("BLUE_URL", query).await, sandbox.ask("GREEN_URL", query).await)
}

/// Puts other text in the place of one in the sandbox's plan.
fn change_plan(sandbox: &Sandbox, from: &str, to: &str) {
    let file = sandbox.dir.join("plan.yaml");
    let plan = std::fs::read_to_string(&file).expect("the plan");
    assert!(plan.contains(from), "{from}");
    std::fs::write(&file, plan.replace(from, to)).expect("the plan is written");
}

/// Takes a section out of the sandbox's plan.
fn leave_out(sandbox: &Sandbox, section: &str) {
    let file = sandbox.dir.join("plan.yaml");
    let plan = std::fs::read_to_string(&file).expect("the plan");
    let mut is_inside = false;
    let kept = plan.lines().filter(|line| {
        is_inside = *line == section || (is_inside && line.starts_with(' '));
        !is_inside
    });
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    assert!(kept.len() < plan.len(), "{section}");
    std::fs::write(&file, kept).expect("the plan is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canaries_go_all_the_way_and_only_they_stay_until_the_end() {
    let sandbox = Sandbox::up("probes", 2000, 30).await;
    // Cut off while the flows are tried and while canaries are made: the next call goes on, and nothing doubles.
    for step in ["probe-blue", "issue-canaries"] {
        let begun = |event: &serde_json::Value| event["event"] == "step_started" && event["step"] == step;
        assert!(sandbox.killed("run", begun, Duration::from_millis(300)).await, "{step}");
    }
    // And around the refresh and the revocation of one of them, of which the second call makes none anew.
    for phase in ["refreshing", "refreshed"] {
        let noted = |event: &Value| {
            event["event"] == "note" && event["step"] == "revoke-canaries" && event["body"]["phase"] == phase
        };
        assert!(sandbox.killed("run", noted, Duration::ZERO).await || phase == "refreshed", "{phase}");
    }
    let (code, said) = sandbox.run("run").await;
    assert_eq!((code, said["outcome"].as_str()), (0, Some("done")), "{said}");
    assert_eq!(both(&sandbox, OURS).await, (2, 2), "the canaries'");
    assert_eq!((both(&sandbox, WITHDRAWN).await, both(&sandbox, WITHDRAWN_ON_GREEN).await), ((0, 0), (1, 1)));

    // The engine of a closed green must answer before traffic is held for it.
    assert_eq!(sandbox.verb(&["fault", "engine-green", "kill"]).await["outcome"], "done");
    let (code, refused) = sandbox.run("flip").await;
    let why = refused["why"].as_str().expect("a reason");
    assert!(code == 3 && why.contains("probe engine, discovery") && why.contains("no answer"), "{refused}");
    assert_eq!(sandbox.verb(&["fault", "engine-green", "up"]).await["outcome"], "done");
    sandbox.until("requests", 200).await;
    // The authorization service tells how often it was asked, so that the soak can hold green to it.
    let url = format!("{}/cutover/v1/figures?seconds=3600", sandbox.variable("AUTHZ_CUTOVER"));
    let told: serde_json::Value = reqwest::get(&url).await.expect("it answers").json().await.expect("figures");
    let count = |word: &str| told["blue"][word].as_u64().unwrap_or_default();
    assert!(count("requests") > count("forbidden") && count("requests") > 0, "{told}");
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");

    let soak = "run --through soak --set window.soak=3s";
    let mut watch = sandbox.start(&format!("{soak} --set window.hold=5s"));
    let probed = |event: &serde_json::Value| {
        event["event"] == "step_done" && event["step"] == "soak" && event["receipt"]["probe_rounds"].as_u64() > Some(0)
    };
    assert!(watch.until(probed).await.is_some(), "no round of probes was made");
    assert_eq!(watch.end().await.0, 0);
    assert_eq!(sandbox.ask("GREEN_URL", OURS).await, 2, "the flows have left nothing");

    for part in ["prober", "engine-blue"] {
        assert_eq!(sandbox.verb(&["fault", part, "kill"]).await["outcome"], "done", "{part}");
    }
    let (code, said) = sandbox.run("finalize --yes --set window.soak=50ms").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    assert_eq!((sandbox.ask("GREEN_URL", OURS).await, sandbox.ask("GREEN_URL", TRACES).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn a_green_that_does_not_bear_what_the_plan_says_is_told_in_the_soak_and_left_without_a_trace() {
    let sandbox = Sandbox::up("probes-worse", 2000, 30).await;
    change_plan(&sandbox, "      every: 30s\n", "      every: 30s\n      grace: { green: 1s }\n");
    sandbox.add_to_plan("soak: { slower: 100 }\n");
    let (code, said) = sandbox.run("run").await;
    assert_eq!(code, 0, "{said}");
    sandbox.until("requests", 200).await;
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    let (code, worse) = sandbox.run("run --through soak --set window.soak=4s").await;
    let why = worse["why"].as_str().expect("a reason");
    assert_eq!((code, worse["outcome"].as_str()), (9, Some("failed_on_green")), "{worse}");
    assert!(why.contains("engine, reuse: use a refresh token again inside the grace period: answered 400"), "{why}");
    assert_eq!(sandbox.ask("GREEN_URL", OURS).await, 2, "the flows have left nothing");

    // Back, and then undone: blue is as if nobody had been there.
    let (code, back) = sandbox.run("rollback --yes").await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
    let (code, undone) = sandbox.run("rollback --yes").await;
    assert_eq!((code, undone["live"].as_str()), (0, Some("blue")), "{undone}");
    assert_eq!((sandbox.ask("BLUE_URL", OURS).await, sandbox.ask("BLUE_URL", TRACES).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_was_revoked_in_the_window_is_dead_on_both_sides_at_every_gate() {
    let sandbox = Sandbox::up("withdrawn", 2000, 30).await;
    // They are asked before the canaries, and would say the same.
    leave_out(&sandbox, "invariants:");
    let (code, said) = sandbox.run("run").await;
    assert_eq!(code, 0, "{said}");
    assert_eq!((both(&sandbox, CHAIN).await, both(&sandbox, WITHDRAWN).await), ((2, 2), (0, 0)));
    assert_eq!(both(&sandbox, WITHDRAWN_ON_GREEN).await, (1, 1), "its time has not come");
    assert_eq!(sandbox.ask("CONTROL_URL", ASKED).await, 1, "it came by a door, as everybody's");

    // As if its revocation had never found what the copy has brought to green.
    assert_eq!(sandbox.client("GREEN_URL").await.execute(ASTRAY, &[]).await.expect("our own login may"), 1);
    let (code, refused) = sandbox.run("flip").await;
    let why = refused["why"].as_str().unwrap_or_default();
    assert_eq!((code, refused["live"].as_str()), (3, Some("blue")), "{refused}");
    assert!(why.contains("canary withdrawn: see a canary: token 2: is active, and must not be"), "{why}");
    assert_eq!(sandbox.client("GREEN_URL").await.execute(MENDED, &[]).await.expect("our own login may"), 1);

    let canaries = |step: &'static str| {
        move |event: &Value| {
            event["event"] == "step_done" && event["step"] == step && event["receipt"]["canaries"].is_object()
        }
    };
    let mut out = sandbox.start("flip");
    let done = out.until(canaries("flip")).await.expect("the flip tells of the canaries");
    assert_eq!((&done["receipt"]["canaries"]["held"], out.end().await.0), (&8.into(), 0), "{done}");

    // Whoever begins to go back and thinks better of it: green is watched on, and knows what was revoked there.
    let begun = |event: &Value| event["event"] == "step_started" && event["step"] == "revoke-canaries-on-green";
    assert!(sandbox.killed("rollback --yes", begun, Duration::ZERO).await);
    let (code, soaked) = sandbox.run("run --through soak --set window.soak=6s").await;
    assert_eq!(code, 0, "{soaked}");
    assert_eq!(both(&sandbox, WITHDRAWN_ON_GREEN).await, (1, 0), "blue learns of it when it is gone back to");

    let mut back = sandbox.start("rollback --yes");
    let done = back.until(canaries("return")).await.expect("the way back tells of the canaries");
    assert_eq!((&done["receipt"]["canaries"]["held"], back.end().await.0), (&8.into(), 0), "{done}");
    assert_eq!((both(&sandbox, WITHDRAWN).await, both(&sandbox, WITHDRAWN_ON_GREEN).await), ((0, 0), (0, 0)));
    let (code, again) = sandbox.run("flip").await;
    assert_eq!((code, again["live"].as_str()), (0, Some("green")), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jwt_of_blue_s_is_what_it_was_on_both_sides_at_every_gate() {
    let sandbox = Sandbox::up("jwt", 1000, 10).await;
    sandbox.set_variable("ACCESS_TOKENS", "jwt");
    for part in ["engine-blue", "engine-green"] {
        for what in ["kill", "up"] {
            assert_eq!(sandbox.verb(&["fault", part, what]).await["outcome"], "done", "{what} {part}");
        }
    }
    let (code, said) = sandbox.run("run").await;
    assert_eq!((code, both(&sandbox, OURS).await), (0, (3, 3)), "{said}");
    // By its row, which both versions keep under a digest.
    let row = "select count(*) from hydra_oauth2_access where subject like 'cutover-canary-%-jwt' and signature ~ '^[0-9a-f]{96}$'";
    assert_eq!(both(&sandbox, row).await, (1, 1));
    for (verb, step, live) in [("flip", "flip", "green"), ("rollback --yes", "return", "blue")] {
        let mut underway = sandbox.start(verb);
        let told = |event: &Value| {
            event["event"] == "step_done" && event["step"] == step && event["receipt"]["canaries"].is_object()
        };
        let done = underway.until(told).await.expect("it tells of the canaries");
        assert_eq!(done["receipt"]["canaries"], serde_json::json!({ "held": 9, "broken": [] }), "{done}");
        let (code, said) = underway.end().await;
        assert_eq!((code, said["live"].as_str()), (0, Some(live)), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_on_blue_is_told_before_anything_is_touched() {
    let sandbox = Sandbox::up("probes-blue", 500, 10).await;
    let (bare, relying) = ("\n  doors: hydra\n", "\n  doors: hydra\n  refresh: { engine_grace: 60s }\n");
    change_plan(&sandbox, bare, relying);
    let (code, checked) = sandbox.run("check").await;
    assert_eq!((code, checked["errors"].as_u64()), (3, Some(2)), "neither engine has a grace period: {checked}");
    change_plan(&sandbox, relying, bare);
    change_plan(&sandbox, "      every: 30s\n", "      every: 30s\n      grace: { blue: 1s }\n");
    let (code, refused) = sandbox.run("run").await;
    let why = refused["why"].as_str().expect("a reason");
    assert_eq!((code, refused["live"].as_str()), (3, Some("blue")), "{refused}");
    assert!(why.contains("probe engine, reuse: use a refresh token again inside the grace period"), "{why}");
    let ours = "select count(*) from pg_namespace where nspname = 'cutover'";
    assert_eq!((sandbox.ask("BLUE_URL", ours).await, sandbox.ask("BLUE_URL", OURS).await), (0, 0));
}
