//! Several gateways of one system: all or none, and one that was counted out is not asked.

use super::stage::{HOLD, Stage, proposal};
use cutover::plan::Side;
use cutover::traffic::LockstepError;
use cutover::traffic::adapters::AdapterError;

#[tokio::test]
async fn a_gateway_that_does_not_answer_blocks_all_until_it_is_counted_out() {
    let stage = Stage::new().await;
    let east = stage.world.gateway.addresses.control;
    let plan = stage.plan_of(&format!("controls: {{ east: \"http://{east}\", west: \"http://127.0.0.1:1\" }}"), "");
    let lockstep = proposal(&plan, 2);
    let names: Vec<_> = lockstep.systems().iter().map(|member| (member.name(), member.gateway())).collect();
    assert_eq!(names, [("engine/east", Some("east")), ("engine/west", Some("west"))]);
    let silent = lockstep.prepare(Side::Green, HOLD).await.expect_err("west is away");
    let is_west = |error: &LockstepError| matches!(error, LockstepError::Adapter(AdapterError::Silent { system, .. }) if system == "engine/west");
    assert!(is_west(&silent), "{silent}");
    let silent = lockstep.hold(Side::Green, HOLD).await.expect_err("west is away");
    assert!(is_west(&silent), "{silent}");
    let released = lockstep.release(Side::Blue, HOLD).await.expect_err("west is away");
    assert!(is_west(&released), "east was released all the same: {released}");
    assert_eq!(stage.world.get("/who").await.text().await.expect("answered"), "blue");

    let others = proposal(&plan, 3).without(&["west".to_owned()]);
    others.prepare(Side::Green, HOLD).await.expect("prepared");
    others.hold(Side::Green, HOLD).await.expect("held");
    others.switch(Side::Green, HOLD).await.expect("switched");
    others.release(Side::Green, HOLD).await.expect("released");
    assert_eq!(stage.world.get("/who").await.text().await.expect("answered"), "green");
}
