//! The real HAProxy: two systems of one map turn at once, a restart finds them there, and whoever was overtaken turns nothing.

use super::proxies::Haproxy;
use super::stage::{HOLD, Stage, proposal};
use cutover::plan::Side;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn systems_of_one_map_turn_in_one_transaction_and_stay_turned_after_a_restart() {
    let stage = Stage::new().await;
    let haproxy = Haproxy::start(&stage.folder, &stage.world.blue.url, &stage.world.green.url).await;
    let plan = stage.plan(&haproxy.items());
    let haproxy = Arc::new(haproxy);
    let lockstep = proposal(&plan, 2);
    let names: Vec<&str> = lockstep.systems().iter().map(|member| member.name()).collect();
    assert_eq!(names, ["engine", "api+admin"]);
    lockstep.prepare(Side::Green, HOLD).await.expect("prepared");

    // A request that is under way keeps the hold from being complete.
    let (http, url) = (stage.world.http.clone(), format!("http://127.0.0.1:{}/slow", haproxy.api));
    let slow = tokio::spawn(async move { http.get(url).send().await?.text().await });
    while stage.world.blue.count("GET /slow") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let busy = lockstep.hold(Side::Green, Duration::from_millis(400)).await.expect_err("it is not idle").to_string();
    assert!(busy.contains("1 requests are still in flight on blue"), "{busy}");
    stage.world.blue.slow.add_permits(1);
    assert_eq!(slow.await.expect("no panic").expect("answered"), "blue");
    lockstep.release(Side::Blue, HOLD).await.expect("called off");

    let lockstep = proposal(&plan, 3);
    lockstep.hold(Side::Green, HOLD).await.expect("idle");
    let watched = Arc::clone(&haproxy);
    let watch = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while seen.insert(watched.routes().await) || !seen.iter().any(|(api, _)| api == "be_green") {}
        seen
    });
    lockstep.switch(Side::Green, HOLD).await.expect("switched");
    let seen = watch.await.expect("no panic");
    assert!(seen.iter().all(|(api, admin)| api == admin), "never apart: {seen:?}");
    lockstep.verify(Side::Green, HOLD).await.expect("green answers for both");
    lockstep.release(Side::Green, HOLD).await.expect("released");

    let file = std::fs::read_to_string(&haproxy.map).expect("the file");
    assert_eq!(file, "# who goes where\nother be_other\napi be_green\nadmin be_green\n");
    let mut haproxy = Arc::into_inner(haproxy).expect("nobody looks any more");
    haproxy.restart().await;
    assert_eq!(haproxy.routes().await, ("be_green".to_owned(), "be_green".to_owned()));

    // Somebody has turned one by hand: not ours to move.
    haproxy.say(&format!("set map {} admin be_blue", haproxy.map)).await;
    let differs =
        proposal(&plan, 4).prepare(Side::Blue, HOLD).await.expect_err("it is not where it should be").to_string();
    assert!(differs.contains("admin serves green, and the map has be_blue"), "{differs}");
}

#[tokio::test]
async fn one_that_died_between_its_words_leaves_either_side_and_comes_too_late() {
    let stage = Stage::new().await;
    let haproxy = Haproxy::start(&stage.folder, &stage.world.blue.url, &stage.world.green.url).await;
    let plan = stage.plan(&haproxy.items());
    let (map, both) = (&haproxy.map, |side: &str| (format!("be_{side}"), format!("be_{side}")));
    // An orchestrator that goes to green has staged its transaction, and stands still.
    let stage_by_hand = async || {
        let staged = haproxy.say(&format!("prepare map {map}")).await;
        let version = staged.trim().rsplit(' ').next().expect("a version").to_owned();
        let answer = haproxy.say(&format!("add map @{version} {map} <<\napi be_green\nadmin be_green\n")).await;
        assert_eq!(answer.trim(), "");
        assert_eq!(haproxy.routes().await, both("blue"), "what is staged is not in use");
        version
    };
    let version = stage_by_hand().await;

    // Another goes on to green and back to blue again.
    let (out, back) = (proposal(&plan, 2), proposal(&plan, 3));
    for (lockstep, side) in [(&out, Side::Green), (&back, Side::Blue)] {
        lockstep.hold(side, HOLD).await.expect("held");
        lockstep.switch(side, HOLD).await.expect("switched");
        lockstep.verify(side, HOLD).await.expect("verified");
        assert_eq!(haproxy.routes().await, both(side.as_str()));
        lockstep.release(side, HOLD).await.expect("released");
    }
    // Or it only gives blue back what blue has.
    let another = stage_by_hand().await;
    proposal(&plan, 4).release(Side::Blue, HOLD).await.expect("released");
    for version in [version, another] {
        let late = haproxy.say(&format!("commit map @{version} {map}")).await;
        assert_ne!(late.trim(), "", "HAProxy refuses a version that was overtaken");
        assert_eq!(haproxy.routes().await, both("blue"));
    }
}
