//! `probe`: what clients feel is told as it was, by a server whose moves, stalls and lies are known.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use cutover::prober::{Probe, Seen, Target, probe};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answer(&'static str),
    Hold,
    Fail,
    Reset,
}

/// A server that does as it is told.
struct Server {
    url: String,
    word: watch::Sender<Does>,
    seen: Arc<Mutex<u64>>,
}

type Told = (watch::Receiver<Does>, Arc<Mutex<u64>>);

impl Server {
    async fn start(first: Does) -> Self {
        let (word, heard) = watch::channel(first);
        let seen = Arc::<Mutex<u64>>::default();
        let routes = Router::new().fallback(answer).with_state((heard, Arc::clone(&seen)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/a", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, word, seen }
    }

    fn target(&self) -> Target {
        Target { name: "it".to_owned(), url: self.url.clone() }
    }
}

async fn answer(State((mut heard, seen)): State<Told>) -> Response {
    *seen.lock().expect("no panic") += 1;
    let does = *heard.wait_for(|does| *does != Does::Hold).await.expect("the test goes on");
    match does {
        Does::Answer(side) => ([("x-cutover-side", side)], Json(json!({ "version": { "of": side } }))).into_response(),
        Does::Hold | Does::Fail => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Does::Reset => panic!("a connection that breaks"),
    }
}

fn probe_of(targets: Vec<Target>, rate: u32) -> Probe {
    Probe {
        targets,
        rate,
        length: None,
        timeout: Duration::from_secs(10),
        side_header: "x-cutover-side".to_owned(),
        side_pointer: None,
        expected: Vec::new(),
    }
}

/// Probes while `meanwhile` goes on.
async fn probed(probe_: Probe, meanwhile: impl Future<Output = ()>) -> Seen {
    probe(probe_, meanwhile, &|_| ()).await.expect("it probes")
}

async fn ms(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_sees_a_clean_move_and_counts_the_wait_of_every_request_that_was_due() {
    let server = Server::start(Does::Answer("blue")).await;
    let seen = probed(probe_of(vec![server.target()], 200), async {
        ms(500).await;
        server.word.send_replace(Does::Hold);
        ms(600).await;
        server.word.send_replace(Does::Answer("green"));
        ms(500).await;
    })
    .await;
    assert!(seen.is_clean(), "{seen:#?}");
    assert_eq!((seen.changed, seen.changes[0].from.as_str(), seen.changes[0].to.as_str()), (1, "blue", "green"));
    assert_eq!(seen.asked.requests, *server.seen.lock().expect("no panic"), "every request is accounted for");
    // The hold is seen by about 120 requests at 200 a second, from nothing to all of it: a client that waited for its answer first would have met it once.
    assert!(seen.asked.worst_ms.is_some_and(|worst| worst >= 590.0), "{seen:#?}");
    assert!(seen.asked.p99_ms.is_some_and(|p99| p99 > 400.0), "{seen:#?}");
    // Sent at any moment of a hold of 600 ms; a busy machine sends them in heaps, and never fewer.
    assert!(seen.held >= 50 && seen.hold_ms_max.is_some_and(|most| most >= 500.0), "{seen:#?}");
    assert!(seen.hold_ms_p50 < seen.hold_ms_max, "{seen:#?}");
    let answered: u64 = seen.timeline.iter().map(|bin| bin.requests).sum();
    assert_eq!(answered, seen.asked.requests);
    let picture = cutover::prober::svg(&seen);
    assert!(
        picture.starts_with("<svg") && picture.contains("blue") && picture.contains("stroke-dasharray"),
        "{picture}"
    );
    let lines = cutover::prober::line(&seen, 20);
    assert!(
        lines[0].contains('█') && lines.last().is_some_and(|sides| sides.contains("bb") && sides.contains("gg")),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_names_a_system_that_stays_behind_and_every_failure() {
    let (first, second) = (Server::start(Does::Answer("blue")).await, Server::start(Does::Answer("blue")).await);
    let more = async |server: &Server, than: u64| {
        let count = async || (*server.seen.lock().expect("no panic") >= than).then_some(());
        crate::harness::eventually(Duration::from_secs(30), "it is asked", count).await;
    };
    let mixed = probed(probe_of(vec![first.target(), second.target()], 50), async {
        more(&second, 10).await;
        first.word.send_replace(Does::Answer("green"));
        // Both go on being asked for so long that some of it is seen however busy the machine is.
        ms(1000).await;
        let asked = *second.seen.lock().expect("no panic");
        more(&second, asked + 30).await;
        second.word.send_replace(Does::Answer("green"));
        ms(300).await;
    })
    .await;
    assert!(
        mixed.mixed_side_ms > 0.0 && mixed.mixed_side_ms < mixed.seconds * 1000.0 && !mixed.is_clean(),
        "{mixed:#?}"
    );
    assert_eq!((mixed.asked.failed, mixed.targets.len()), (0, 2));

    let failing = probed(probe_of(vec![first.target()], 100), async {
        for does in [Does::Fail, Does::Reset, Does::Hold] {
            ms(200).await;
            first.word.send_replace(does);
        }
        ms(200).await;
    });
    let failing = tokio::join!(failing, async {
        ms(1500).await;
        first.word.send_replace(Does::Answer("green"));
    });
    let failing = failing.0;
    assert!(failing.asked.failed >= 2 && failing.mixed_side_ms == 0.0 && !failing.is_clean(), "{failing:#?}");
    assert!(failing.reasons.contains_key("status 503") && failing.reasons.len() >= 2, "{failing:#?}");
    assert_eq!(failing.reasons.values().sum::<u64>(), failing.asked.failed);

    let impatient = Probe { timeout: Duration::from_millis(200), ..probe_of(vec![first.target()], 50) };
    first.word.send_replace(Does::Hold);
    let late = probed(impatient, ms(300)).await;
    assert!(
        late.asked.requests > 0 && late.asked.failed == late.asked.requests && late.reasons.contains_key("time-out"),
        "{late:#?}"
    );
}

async fn verb(words: &[&str]) -> (i32, Value) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cutover"));
    let output = command.args(["probe", "--json"]).args(words).output().await.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or("null");
    (output.status.code().expect("an exit code"), serde_json::from_str(last).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_as_a_user_runs_it() {
    let server = Server::start(Does::Answer("blue")).await;
    let chart = crate::harness::fresh_folder("probe");
    std::fs::create_dir_all(&chart).expect("a folder");
    let file = chart.join("chart.svg").display().to_string();
    let named = format!("engine={}", server.url);
    let words =
        ["--target", &named, "--rate", "50", "--for", "1200ms", "--chart", &file, "--side-pointer", "/version/of"];
    let (code, last) = verb(&words).await;
    assert_eq!((code, &last["outcome"], &last["failed"]), (0, &"done".into(), &0.into()), "{last}");
    assert_eq!((&last["targets"][0]["name"], &last["sides"][0]["side"]), (&"engine".into(), &"blue".into()), "{last}");
    assert!((55..=61).contains(&last["requests"].as_u64().expect("a number")), "{last}");
    assert!(std::fs::read_to_string(&file).expect("a chart").ends_with("</svg>\n"));
    let _ = std::fs::remove_dir_all(&chart);

    let (code, last) = verb(&["--target", &server.url, "--for", "300ms", "--expect-status", "204"]).await;
    assert_eq!((code, &last["outcome"]), (3, &"refused".into()), "{last}");
    assert_eq!(last["failed"], last["requests"], "{last}");
    for wrong in [["--target", "ftp://x/"], ["--target", "http://u:p@x/"]] {
        assert_eq!(verb(&wrong).await.0, 2);
    }

    // Without an end it goes on until it is asked to stop, and reports then.
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.args(["probe", "--json", "--target", &server.url]).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let before = *server.seen.lock().expect("no panic");
    let child = command.spawn().expect("the binary starts");
    let soon = Duration::from_secs(30);
    let count = async || (*server.seen.lock().expect("no panic") > before + 5).then_some(());
    crate::harness::eventually(soon, "it asks", count).await;
    let pid =
        rustix::process::Pid::from_raw(i32::try_from(child.id().expect("it runs")).expect("small")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it can be asked");
    let output = child.wait_with_output().await.expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or("null")).expect("JSON");
    assert_eq!((output.status.code(), &last["outcome"]), (Some(0), &"done".into()), "{last}");
}
