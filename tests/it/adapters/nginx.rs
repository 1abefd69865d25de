//! The real nginx behind the gateway's gate: its clients wait through a flip, none fails, none is sent to the side that was left.

use super::proxies::{Haproxy, Nginx};
use super::stage::{HOLD, Stage, proposal};
use cutover::plan::Side;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// One client's requests, one after the other: when each began and ended, its status, and who answered.
type History = Vec<(Instant, Instant, u16, String)>;

async fn keep_asking(url: String, end: Arc<AtomicBool>) -> History {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
    let mut history = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let (status, body) = match http.post(&url).body("x=1").send().await {
            Ok(response) => (response.status().as_u16(), response.text().await.unwrap_or_default()),
            Err(error) => (0, error.to_string()),
        };
        history.push((begun, Instant::now(), status, body));
    }
    history
}

#[tokio::test]
async fn clients_of_nginx_and_haproxy_go_over_together_and_none_fails() {
    let stage = Stage::new().await;
    let (blue, green) = (&stage.world.blue.url, &stage.world.green.url);
    let haproxy = Haproxy::start(&stage.folder, blue, green).await;
    let gate = stage.world.gateway.addresses.control.to_string();
    let nginx = Nginx::start(&stage.folder, &gate, blue, green).await;
    let url = format!("http://127.0.0.1:{}/who", nginx.port);
    let items = haproxy.items()
        + &format!(
            "  - {{ name: web, behind: engine, nginx: {{ verify: {{ url: \"{url}\" }} }}, answers: {{ blue: blue, green: green }} }}"
        );
    let plan = stage.plan(&items);
    let end = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(keep_asking(url.clone(), Arc::clone(&end)));
    }
    sleep(Duration::from_millis(200)).await;
    let lockstep = proposal(&plan, 2);
    lockstep.prepare(Side::Green, HOLD).await.expect("prepared");
    lockstep.hold(Side::Green, HOLD).await.expect("held");
    let held = Instant::now();
    sleep(Duration::from_millis(200)).await;
    lockstep.still_holding(Side::Green, HOLD).await.expect("held still");
    lockstep.switch(Side::Green, HOLD).await.expect("switched");
    lockstep.verify(Side::Green, HOLD).await.expect("seen through the held gate");
    let released = Instant::now();
    lockstep.release(Side::Green, HOLD).await.expect("released");
    sleep(Duration::from_millis(200)).await;
    end.store(true, Ordering::Relaxed);
    let history: History = clients.join_all().await.into_iter().flatten().collect();

    let failed: Vec<_> = history.iter().filter(|(_, _, status, _)| *status != 200).collect();
    assert!(failed.is_empty(), "{failed:?}");
    // Let through right before the hold, a request may still be on its way to blue; nothing that began in the hold is.
    let strayed = history.iter().filter(|(begun, _, _, side)| *begun > held && side != "green").count();
    let early = history.iter().filter(|(_, ended, _, side)| *ended < released && side != "blue").count();
    assert_eq!((strayed, early), (0, 0), "of {}", history.len());
    let waited = history.iter().filter(|(begun, ended, _, _)| *begun < released && *ended > released).count();
    assert!(waited == 8 && history.len() > 100, "{waited} waited, {} requests", history.len());

    // Nobody settles who serves: an honest refusal that says when to come again, and no guess.
    let lockstep = proposal(&plan, 3);
    lockstep.hold(Side::Blue, Duration::from_secs(1)).await.expect("held");
    let refused = stage.world.http.get(&url).send().await.expect("nginx answers");
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers().get("retry-after").map(|value| value.as_bytes()), Some(&b"1"[..]));
}
