//! A process that stands still for longer than a hold, as a suspended machine does, and goes on: an orchestrator decides nothing any more, a
//! gateway does not answer for the side that was left.

use super::dead_green::with_a_second_gateway;
use super::matrix::{FLIP, WITHIN, fault, holds, let_go, served, standing, writer};
use super::phases::{OUT, serves_on};
use crate::harness::eventually;
use crate::harness::sandbox::Sandbox;
use rustix::process::Signal;
use std::time::Duration;

/// A fence that has its locks: the table on which a writer was waited for is the proof.
const FENCED: &str = "select count(*) from pg_locks l join pg_stat_activity a using (pid)
where a.application_name like 'cutover\\_fence\\_%' and l.relation = 'hydra_client'::regclass
  and l.mode = 'ShareRowExclusiveLock' and l.granted";
/// Sessions of a fence, whatever they hold.
const FENCES: &str = "select count(*) from pg_stat_activity where application_name like 'cutover\\_fence\\_%'";
/// The epoch at which blue is open, 0 when it is not.
pub(super) const OPEN_AT: &str = "select coalesce(max(epoch), 0) from cutover.register where state = 'open'";

/// Brings it to the flip point.
pub(super) async fn run(sandbox: &Sandbox) {
    sandbox.until("revoked", 3).await;
    let (code, said) = sandbox.run("run --set window.level=10m").await;
    assert_eq!(code, 0, "{said}");
}

/// Waits until blue answers this number.
pub(super) async fn blue_says(sandbox: &Sandbox, query: &str, wanted: i64, what: &'static str) {
    eventually(WITHIN, what, || async { (sandbox.ask("BLUE_URL", query).await == wanted).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrator_that_sleeps_past_its_fence_decides_nothing() {
    let sandbox = Sandbox::up("asleep", 1000, 20).await;
    run(&sandbox).await;
    let slow = writer(&sandbox).await;
    let mut flip = sandbox.start(FLIP.verb);
    let proposed = flip.until(FLIP.says("propose")).await.expect("it is proposed");
    holds(&sandbox, "GATEWAY_CONTROL").await;
    // All hold, and one of them does not answer right before the decision: the fence stands, and goes no further.
    fault(&sandbox, "authorization", "pause").await;
    let_go(slow).await;
    blue_says(&sandbox, FENCED, 1, "blue is fenced").await;
    flip.signal(Signal::STOP);
    fault(&sandbox, "authorization", "resume").await;

    // Nobody else knows anything of it: the server ends the fence, and the gateway writes against the proposal.
    blue_says(&sandbox, FENCES, 0, "the server ends the fence").await;
    served(&sandbox, "blue").await;
    assert_eq!(Some(sandbox.ask("BLUE_URL", OPEN_AT).await), proposed["body"]["epoch"].as_i64(), "settled without it");

    flip.signal(Signal::CONT);
    let (code, said) = flip.end().await;
    assert_eq!(
        (code, said["outcome"].as_str(), said["live"].as_str()),
        (7, Some("returned"), Some("blue")),
        "it finds that nothing is left to decide: {said}"
    );
    serves_on(&sandbox).await;
    FLIP.comes_through(&sandbox).await;
    serves_on(&sandbox).await;
}

/// What a gateway says of a token, each time in a header the side that it asked; none where it refuses.
async fn sides(answers: Vec<tokio::task::JoinHandle<reqwest::Result<reqwest::Response>>>) -> Vec<Option<String>> {
    let mut sides = Vec::new();
    for answer in answers {
        let answer = answer.await.expect("no panic").expect("it answers");
        let side = answer.headers().get("x-cutover-side").and_then(|side| side.to_str().ok());
        sides.push(side.map(str::to_owned));
    }
    sides
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_slept_through_a_flip_never_answers_for_the_side_that_was_left() {
    let sandbox = Sandbox::up("slept", 1000, 20).await;
    let west = with_a_second_gateway(&sandbox).await;
    run(&sandbox).await;
    let slow = writer(&sandbox).await;
    // As long a hold as the plan has, and all of it for the writer.
    let mut flip = sandbox.start("flip --set window.level=10m --set window.write_gap=5s");
    assert!(flip.until(OUT.says("propose")).await.is_some(), "it is proposed");
    holds(&sandbox, "WEST_CONTROL").await;
    west.signal(Signal::STOP);
    let_go(slow).await;
    let (code, said) = flip.end().await;
    let why = said["why"].as_str().unwrap_or_default();
    assert!((code, said["live"].as_str()) == (7, Some("blue")) && why.contains("engine/west"), "{code}: {said}");

    // Cut off, as the plan's command says who knows no better: the other goes over without it.
    let (code, said) = sandbox.run(OUT.verb).await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    let cut = std::fs::read_to_string(sandbox.dir.join("cut")).expect("one was cut off");
    assert_eq!(cut, "west\n");

    // Its hold has long ended, and it was told nothing. What blue would say of a token is what counts no more.
    let env = std::fs::read_to_string(sandbox.dir.join("west.env")).expect("its variables");
    let admin = env.lines().find_map(|line| line.strip_prefix("GATEWAY_ADMIN='")).expect("its address");
    let url = format!("{}/oauth2/introspect", admin.trim_end_matches('\''));
    let http = cutover::traffic::http_client().expect("a client");
    let ask = |_| tokio::spawn(http.post(&url).form(&[("token", "x.y")]).send());
    let asked: Vec<_> = (0..20).map(ask).collect();
    // They lie at its door when it wakes.
    tokio::time::sleep(Duration::from_millis(500)).await;
    west.signal(Signal::CONT);
    let sides = sides(asked).await;
    assert!(!sides.iter().flatten().any(|side| side == "blue"), "{sides:?}");
    let serves_green = || async { (standing(&sandbox, "WEST_CONTROL").await?["side"] == "green").then_some(()) };
    eventually(WITHIN, "it asks who serves", serves_green).await;
    serves_on(&sandbox).await;
}
