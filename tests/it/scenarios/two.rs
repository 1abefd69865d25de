//! Two who move the traffic at once: the second is refused, unless it names the lease that it takes over; the first, asleep meanwhile, changes nothing
//! when it wakes.

use super::flip::{NEVER, count};
use crate::harness::sandbox::Sandbox;
use rustix::process::Signal;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_wakes_after_another_has_taken_over_moves_nothing() {
    let sandbox = Sandbox::up("two", 2000, 30).await;
    sandbox.until("revoked", 3).await;
    assert_eq!(sandbox.run("run").await.0, 0);
    let proposed = |event: &Value| event["event"] == "note" && event["body"]["phase"] == "propose";
    let mut first = sandbox.start("flip");
    first.until(proposed).await.expect("it is proposed");
    first.signal(Signal::STOP);

    let (code, locked) = sandbox.run("flip").await;
    assert_eq!((code, locked["outcome"].as_str()), (4, Some("locked")), "{locked}");
    let next = locked["next"].as_str().expect("a command");
    let lease = next.split("--take-over ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it names the lease");
    let (code, flipped) = sandbox.run(&format!("flip --take-over {lease}")).await;
    assert_eq!((code, flipped["live"].as_str()), (0, Some("green")), "{flipped}");

    first.signal(Signal::CONT);
    let (code, late) = first.end().await;
    assert_eq!((code, late["live"].as_str()), (4, Some("green")), "{late}");
    let written = sandbox.seen("acked_writes").await.unwrap_or(0);
    sandbox.until("acked_writes", written + 10).await;
    let (_, status) = sandbox.run("status").await;
    assert_eq!(status["live"], "green", "{status}");
    for system in status["systems"].as_array().expect("the systems") {
        assert_eq!((system["side"].as_str(), system["state"].as_str()), (Some("green"), Some("serving")), "{status}");
    }
    let report = sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(count(&report, word), 0, "{word} in {report}");
    }
}
