//! A system that programs move: each order reaches its program, an order of the past reaches none, and nothing outlives its time.

use super::stage::{HOLD, Stage, proposal};
use cutover::plan::Side;
use cutover::traffic::adapters::AdapterError;
use cutover::traffic::protocol::State;
use cutover::traffic::{Lockstep, LockstepError};
use std::time::Duration;
use tokio::time::Instant;

const ANSWERS: &str = "answers: { blue: on-blue, green: on-green }";

/// The plan's item for a system whose programs are one script, named by the verbs that it gives.
fn item(script: &str, verbs: &[&str], more: &str) -> String {
    let verbs: String = verbs.iter().map(|verb| format!("{verb}: [\"{script}\"], ")).collect();
    format!("  - {{ name: reports, command: {{ {verbs} env: {{ TOKEN: \"${{TOKEN}}\" }} }}, {ANSWERS}{more} }}")
}

const ALL: &[&str] = &["prepare", "hold", "drain", "switch", "verify", "release", "undo"];

fn member(lockstep: &Lockstep) -> &cutover::traffic::adapters::Member {
    lockstep.systems().iter().find(|member| member.name() == "reports").expect("it is in the plan")
}

#[tokio::test]
async fn every_order_reaches_its_program_and_one_of_the_past_reaches_none() {
    let stage = Stage::new().await;
    // Busy for the first three looks; its input must be the order.
    let script = stage.script(
        "reports",
        "[ \"$CUTOVER_VERB\" = drain ] && [ $(grep -c '^drain' \"$(dirname \"$0\")/log\") -lt 3 ] && exit 75\n\
         grep -q \"\\\"epoch\\\":$CUTOVER_EPOCH\" || exit 9\n[ \"$TOKEN\" = s3cret-token ] || exit 8\n\
         [ \"$CUTOVER_VERB\" = verify ] && echo \"on-$CUTOVER_SIDE\"\nexit 0",
    );
    let plan = stage.plan(&item(&script, ALL, ""));
    let first = proposal(&plan, 2);
    assert_eq!(first.highest_epoch(HOLD).await.expect("all answer"), 1, "the register's");
    first.prepare(Side::Green, HOLD).await.expect("prepared");
    first.hold(Side::Green, HOLD).await.expect("held");
    first.still_holding(Side::Green, HOLD).await.expect("held still");
    let overtaken = proposal(&plan, 3);
    let late = overtaken.switch(Side::Green, HOLD).await;
    assert!(late.is_err_and(|error| error.is_superseded()), "an epoch that nobody holds at");
    first.switch(Side::Green, HOLD).await.expect("switched");
    first.verify(Side::Green, HOLD).await.expect("verified");
    first.release(Side::Green, HOLD).await.expect("released");
    let lines = |verbs: &[&str]| verbs.iter().map(|verb| format!("{verb} 2 green")).collect::<Vec<_>>();
    let orders = ["prepare", "hold", "drain", "drain", "drain", "drain", "switch", "verify", "release"];
    assert_eq!(stage.log(), lines(&orders), "three looks until it is idle, one before the decision");

    // Back again, called off before the decision: another process, which knows nothing but what is written down.
    let second = proposal(&plan, 5);
    assert_eq!(second.highest_epoch(HOLD).await.expect("all answer"), 2);
    second.prepare(Side::Blue, HOLD).await.expect("prepared");
    second.hold(Side::Blue, HOLD).await.expect("held");
    second.release(Side::Green, HOLD).await.expect("called off");
    assert_eq!(stage.log().last().map(String::as_str), Some("undo 5 green"), "it never left green");

    // Of what was, nothing is obeyed and no program is run.
    let before = stage.log();
    for stale in [&first, &proposal(&plan, 4), &proposal(&plan, 5)] {
        let order = stale.release(Side::Blue, HOLD).await.expect_err("it was overtaken");
        assert!(order.is_superseded(), "{order}");
    }
    let late = second.switch(Side::Blue, HOLD).await.expect_err("this epoch is over");
    assert!(late.is_superseded(), "{late}");
    assert_eq!(stage.log(), before);
    let standing = member(&second).standing(HOLD).await.expect("written down");
    assert_eq!((standing.epoch, standing.side, standing.state), (5, Side::Green, State::Serving));
}

#[tokio::test]
async fn a_program_that_refuses_lies_or_does_not_end_is_told_and_killed() {
    let stage = Stage::new().await;
    let script = stage.script(
        "reports",
        "case $CUTOVER_VERB in\n  prepare) echo \"no: $TOKEN is bad\" >&2; exit 3;;\n  hold) (sleep 0.7; touch \"$(dirname \"$0\")/outlived\") & sleep 30;;\n  \
         verify) echo on-blue;;\nesac\nexit 0",
    );
    let plan = stage.plan(&item(&script, ALL, ""));
    let refused = proposal(&plan, 2).prepare(Side::Green, HOLD).await.expect_err("it refuses").to_string();
    assert!(refused.contains("exit code 3") && refused.contains("no: *** is bad"), "{refused}");
    proposal(&plan, 3).release(Side::Blue, HOLD).await.expect("called off");

    let begun = Instant::now();
    let slow = proposal(&plan, 4);
    let stuck = slow.hold(Side::Green, Duration::from_millis(500)).await.expect_err("it does not end");
    assert!(begun.elapsed() < Duration::from_secs(15), "bounded: {:?}", begun.elapsed());
    assert!(matches!(&stuck, LockstepError::Adapter(AdapterError::Failed { .. })), "{stuck}");
    slow.release(Side::Blue, HOLD).await.expect("called off");

    // Switched by word, and not by effect.
    let quick = stage.script("quick", "[ \"$CUTOVER_VERB\" = verify ] && echo on-blue\nexit 0");
    let plan = stage.plan(&item(&quick, ALL, ""));
    let lying = proposal(&plan, 6);
    lying.hold(Side::Green, HOLD).await.expect("held");
    lying.switch(Side::Green, HOLD).await.expect("so it says");
    let verified = lying.verify(Side::Green, HOLD).await.expect_err("blue answers");
    assert!(matches!(&verified, LockstepError::WrongAnswer { answered, .. } if answered == "on-blue"), "{verified}");
    tokio::time::sleep(Duration::from_secs(2).saturating_sub(begun.elapsed())).await;
    assert!(!stage.folder.join("outlived").exists(), "what a program started dies with it");
}

#[tokio::test]
async fn an_act_that_nobody_ended_is_outwaited_and_a_dead_memory_moves_nothing() {
    let stage = Stage::new().await;
    let script = stage.script("reports", "[ \"$CUTOVER_VERB\" = switch ] && mkdir \"$0.once\" && sleep 1\nexit 0");
    let plan = stage.plan(&item(&script, &["drain", "switch", "verify"], ", behind: engine"));
    let first = proposal(&plan, 2);
    first.hold(Side::Green, HOLD).await.expect("nothing in flight");
    let order = |lockstep: &Lockstep, bound: Duration| cutover::traffic::protocol::Order {
        run: uuid::Uuid::nil(),
        epoch: lockstep.epoch(),
        nonce: lockstep.nonce(),
        side: Side::Green,
        deadline_ms: u64::try_from(bound.as_millis()).expect("short"),
        resolvers: Vec::new(),
    };
    // The orchestrator dies in the middle of its act.
    let dying = order(&first, Duration::from_millis(1500));
    let died = tokio::time::timeout(Duration::from_millis(400), member(&first).order("switch", &dying)).await;
    assert!(died.is_err(), "it was still acting");
    let begun = Instant::now();
    let again = proposal(&plan, 2);
    let mut order = order(&again, HOLD);
    order.nonce = first.nonce();
    let standing = member(&again).order("switch", &order).await.expect("the next one goes on");
    assert_eq!((standing.state, standing.side), (State::Switched, Side::Green));
    assert!(begun.elapsed() > Duration::from_secs(1), "only when the first one's time is over: {:?}", begun.elapsed());

    let mut plan = plan;
    plan.control = crate::gateway::world::nowhere();
    let before = stage.log();
    let blind = proposal(&plan, 7).release(Side::Blue, HOLD).await.expect_err("nobody can write it down");
    assert!(blind.to_string().contains("control"), "{blind}");
    assert_eq!(stage.log(), before);
}
