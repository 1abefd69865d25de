//! The participant's promises, without any server.

use super::*;
use crate::plan::Side;
use crate::traffic::protocol::{Resolution, ResolutionState, State};
use axum::{Json, Router, routing::get};
use std::sync::atomic::{AtomicU32, Ordering};
use uuid::Uuid;

fn order(epoch: i64, nonce: Uuid, side: Side, deadline_ms: u64, resolver: &str) -> Order {
    Order { run: Uuid::nil(), epoch, nonce, side, deadline_ms, resolvers: vec![resolver.to_owned()] }
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("cutover-participant-{}", Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn start(folder: &std::path::Path) -> Participant {
    let settings = Settings { state_file: folder.join("state.json"), engine_admin: "http://127.0.0.1:9".to_owned() };
    Participant::start(settings, crate::sandbox::http::client()).unwrap()
}

/// A resolver with one fixed answer.
async fn resolver(side: Option<Side>, epoch: i64, state: ResolutionState) -> String {
    let answer = Resolution { side, epoch, state };
    resolve_by(move || Json(answer.clone())).await
}

/// A resolver that says what it is asked for by `say`.
async fn resolve_by(say: impl Fn() -> Json<Resolution> + Clone + Send + Sync + 'static) -> String {
    let routes = Router::new().route("/resolve", get(move || async move { say() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

async fn eventually(participant: &Participant, state: State) -> Standing {
    for _ in 0..400 {
        let standing = participant.standing().await;
        if standing.state == state {
            return standing;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {state:?}: {:?}", participant.standing().await);
}

#[tokio::test]
async fn an_older_epoch_and_another_nonce_are_refused() {
    let participant = start(&folder());
    let (mine, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    participant.prepare(&order(2, mine, Side::Green, 1000, "")).await.unwrap();
    for wrong in [order(1, mine, Side::Green, 1000, ""), order(2, theirs, Side::Green, 1000, "")] {
        let Err(OrderError::Conflict(conflict)) = participant.hold(&wrong).await else { panic!("accepted {wrong:?}") };
        assert_eq!((conflict.epoch, conflict.nonce), (2, mine));
    }
    assert!(participant.enter().await.is_ok(), "a refused order changes nothing");
}

#[tokio::test]
async fn hold_waits_for_work_in_flight_and_lets_none_start_until_release() {
    let participant = start(&folder());
    let nonce = Uuid::new_v4();
    let pass = participant.enter().await.unwrap();
    let busy = participant.hold(&order(1, nonce, Side::Green, 50, "http://127.0.0.1:9")).await;
    assert!(matches!(busy, Err(OrderError::NotNow(Standing { in_flight: 1, .. }))), "{busy:?}");
    participant.release(&order(1, nonce, Side::Blue, 1000, "")).await.unwrap();
    drop(pass);
    let held = participant.hold(&order(2, nonce, Side::Green, 10_000, "")).await.unwrap();
    assert_eq!((held.state, held.in_flight), (State::Holding, 0));
    let waiting = tokio::spawn({
        let participant = participant.clone();
        async move { participant.enter().await.map(|pass| pass.side) }
    });
    assert_eq!(participant.switch(&order(2, nonce, Side::Green, 10_000, "")).await.unwrap().state, State::Switched);
    assert!(!waiting.is_finished(), "switched is still held");
    participant.release(&order(2, nonce, Side::Green, 10_000, "")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(Side::Green));
}

#[tokio::test]
async fn a_hold_without_word_obeys_a_definite_answer_alone() {
    let nonce = Uuid::new_v4();
    let undecided = resolver(Some(Side::Blue), 6, ResolutionState::Open).await;
    let participant = start(&folder());
    participant.hold(&order(7, nonce, Side::Green, 50, &undecided)).await.unwrap();
    eventually(&participant, State::Refusing).await;
    assert!(participant.enter().await.is_err(), "blue open at the epoch before says nothing");

    let decided = resolver(Some(Side::Green), 7, ResolutionState::Open).await;
    let participant = start(&folder());
    participant.hold(&order(7, nonce, Side::Green, 50, &decided)).await.unwrap();
    assert_eq!(eventually(&participant, State::Serving).await.side, Side::Green);
    assert_eq!(participant.enter().await.map(|pass| pass.side), Ok(Side::Green));
}

#[tokio::test]
async fn who_waits_is_served_when_a_resolver_knows_a_moment_after_the_hold() {
    let asked = Arc::new(AtomicU32::new(0));
    let late = resolve_by(move || {
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        let undecided = Resolution { side: None, epoch: 7, state: ResolutionState::Undecided };
        let open = Resolution { side: Some(Side::Blue), epoch: 7, state: ResolutionState::Open };
        Json(if is_first { undecided } else { open })
    })
    .await;
    let participant = start(&folder());
    participant.hold(&order(7, Uuid::new_v4(), Side::Green, 50, &late)).await.unwrap();
    assert_eq!(participant.enter().await.map(|pass| pass.side), Ok(Side::Blue));
}

#[tokio::test]
async fn one_that_died_while_holding_asks_before_it_serves() {
    let (folder, nonce) = (folder(), Uuid::new_v4());
    let gone = "http://127.0.0.1:9";
    start(&folder).hold(&order(3, nonce, Side::Green, 60_000, gone)).await.unwrap();
    let again = start(&folder);
    assert!(again.enter().await.is_err(), "a cached side is never served");
    assert_eq!(again.standing().await.epoch, 3);
    again.release(&order(3, nonce, Side::Blue, 1000, gone)).await.unwrap();
    assert_eq!(again.enter().await.map(|pass| pass.side), Ok(Side::Blue));
    assert!(matches!(again.hold(&order(2, nonce, Side::Green, 10, gone)).await, Err(OrderError::Conflict(_))));
}
