//! The register: compare-and-set alone changes it, and only what is definite may be concluded from reading it.

use crate::harness::Place;
use cutover::plan::Side;
use cutover::traffic::register::{self, Change, Decision, LOST_CODE, Recovered, Register, Seen, State, decide};
use uuid::Uuid;

fn row(side: Side, state: State, epoch: i64) -> Seen {
    Seen::Row(Register { side, epoch, nonce: Uuid::nil(), state, fence_pid: None })
}

fn blue(state: State, epoch: i64) -> Seen {
    row(Side::Blue, state, epoch)
}

fn green(state: State, epoch: i64) -> Seen {
    row(Side::Green, state, epoch)
}

#[test]
fn only_what_is_definite_is_concluded() {
    use Decision::{Serving, Undecided, Unreachable};
    use State::{Closed, Open, Sealed};
    let cases = [
        (blue(Open, 1), green(Closed, 0), 0, Serving(Side::Blue, 1), "before a flip"),
        (blue(Open, 1), green(Closed, 0), 2, Undecided, "the flip of epoch 2 may be deciding"),
        (blue(Open, 2), green(Closed, 0), 2, Serving(Side::Blue, 2), "kept open against it"),
        (blue(Sealed, 2), green(Closed, 0), 2, Undecided, "decided, green not open yet"),
        (blue(Sealed, 2), green(Open, 2), 2, Serving(Side::Green, 2), "after the flip"),
        (blue(Sealed, 2), green(Open, 2), 3, Undecided, "a flip back may be deciding"),
        (blue(Sealed, 2), Seen::Unreachable, 2, Unreachable, "who knows"),
        (Seen::Unreachable, green(Open, 2), 2, Serving(Side::Green, 2), "green's own row is enough"),
        (Seen::Unreachable, green(Closed, 0), 0, Unreachable, "blue may be open or sealed"),
        (blue(Open, 1), Seen::Unreachable, 0, Serving(Side::Blue, 1), "blue's own row is enough"),
        (blue(Open, 1), Seen::Unreachable, 2, Undecided, "resolve by writing"),
        (Seen::Absent, Seen::Absent, 0, Serving(Side::Blue, 0), "never part of a cutover"),
        (Seen::Absent, Seen::Unreachable, 0, Serving(Side::Blue, 0), "never part of a cutover"),
        (Seen::Absent, Seen::Unreachable, 2, Unreachable, "it once was part of one"),
        (Seen::Absent, green(Closed, 0), 2, Serving(Side::Blue, 0), "fully undone on blue"),
        (Seen::Absent, green(Open, 2), 0, Serving(Side::Green, 2), "green is open"),
        (blue(Open, 1), green(Open, 2), 0, Serving(Side::Green, 2), "read across a change: the later one"),
        (blue(Open, 4), green(Open, 2), 0, Serving(Side::Blue, 4), "green was left for dead and came back"),
        (blue(Open, 4), green(Open, 2), 5, Undecided, "a flip of epoch 5 may be deciding"),
        (blue(Open, 2), green(Open, 2), 0, Undecided, "this cannot be"),
        (Seen::Unreachable, Seen::Unreachable, 0, Unreachable, "nothing answers"),
    ];
    for (blue, green, accepted, expected, why) in cases {
        assert_eq!(decide(&blue, &green, accepted), expected, "{why}: {blue:?} {green:?} {accepted}");
    }
}

#[tokio::test]
async fn a_change_is_made_once_and_a_lost_one_raises() {
    let place = Place::shared("register").await;
    let client = place.client().await;
    assert_eq!(register::read(&client).await.expect("it answers"), None);
    for epoch in [1, 7] {
        register::install(&client, Side::Blue, epoch, Uuid::nil()).await.expect("installed");
    }
    let standing = register::read(&client).await.expect("it answers").expect("a row");
    assert_eq!((standing.state, standing.epoch), (State::Open, 1), "what stands is left as it is");
    assert!(!register::note_fence(&client, 9, 5).await.expect("it answers"));
    assert!(register::note_fence(&client, 1, 5).await.expect("it answers"));
    let seal = Change::seal(1, 2, Uuid::nil());
    client.batch_execute(&seal.raise_sql()).await.expect("sealed");
    let lost = client.batch_execute(&seal.raise_sql()).await.expect_err("only once");
    assert_eq!(lost.code().expect("a code").code(), LOST_CODE);
    let sealed = register::read(&client).await.expect("it answers").expect("a row");
    assert_eq!((sealed.state, sealed.epoch, sealed.fence_pid), (State::Sealed, 2, None));
    let backwards = Change::unseal(2, 2, Uuid::nil());
    assert!(!backwards.apply(&client).await.expect("it answers"), "an epoch only grows");
    let recovered = register::recover(&client, Side::Blue, 9, Uuid::nil()).await.expect("it answers");
    assert_eq!(recovered, Recovered::Sealed(sealed));
}

#[tokio::test]
async fn the_register_keeps_the_moment_in_which_its_side_opened() {
    let place = Place::shared("register").await;
    let client = place.client().await;
    register::install(&client, Side::Green, 0, Uuid::nil()).await.expect("installed");
    assert_eq!(register::opening(&client).await.expect("it answers"), None, "it never was");
    let log = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    let before: i64 = client.query_one(log, &[]).await.expect("it answers").get(0);
    client.batch_execute(&Change::open(0, 2, Uuid::nil()).raise_sql()).await.expect("opened");
    let after: i64 = client.query_one(log, &[]).await.expect("it answers").get(0);
    let opening = register::opening(&client).await.expect("it answers").expect("it opened");
    assert!(before <= opening.lsn && opening.lsn < after, "{before} {opening:?} {after}");
    assert!(client.batch_execute(&Change::open(0, 3, Uuid::nil()).raise_sql()).await.is_err(), "once");
    let recovered = register::recover(&client, Side::Green, 4, Uuid::nil()).await.expect("it answers");
    assert!(matches!(recovered, Recovered::Kept(_)), "{recovered:?}");
    assert_eq!(register::opening(&client).await.expect("it answers"), Some(opening), "nothing else moves it");
}

#[tokio::test]
async fn recovery_writes_against_a_proposal_once() {
    let place = Place::shared("register").await;
    let client = place.client().await;
    register::install(&client, Side::Blue, 1, Uuid::nil()).await.expect("installed");
    for _ in 0..2 {
        let recovered = register::recover(&client, Side::Blue, 2, Uuid::nil()).await.expect("it answers");
        assert!(matches!(&recovered, Recovered::Kept(register) if register.epoch == 2), "{recovered:?}");
    }
    assert!(!Change::seal(1, 2, Uuid::nil()).apply(&client).await.expect("it answers"), "the proposal lost");
}

#[tokio::test]
async fn a_gateway_s_login_reads_the_register_settles_a_hold_and_does_nothing_else() {
    let place = Place::shared("register").await;
    let client = place.client().await;
    register::install(&client, Side::Blue, 1, Uuid::nil()).await.expect("installed");
    client.batch_execute("create table cutover.other (x int)").await.expect("created");
    let gateway = place.application().await;
    assert!(register::read(&gateway).await.is_err(), "no right yet");
    client.batch_execute(&register::grant_sql(crate::harness::APPLICATION)).await.expect("granted");
    assert!(register::read(&gateway).await.expect("it answers").is_some());
    assert!(gateway.query("select * from cutover.other", &[]).await.is_err());
    assert!(register::recover(&gateway, Side::Blue, 2, Uuid::nil()).await.is_err(), "and writes nothing");
    let kept = register::keep_open(&gateway, 2, Uuid::nil()).await.expect("save through its one function");
    assert_eq!((kept.state, kept.epoch), (State::Open, 2));
    assert!(!Change::seal(1, 2, Uuid::nil()).apply(&client).await.expect("it answers"), "the proposal lost");
    let older = register::keep_open(&gateway, 1, Uuid::nil()).await.expect("it answers");
    assert_eq!((older.state, older.epoch), (State::Open, 2), "never back");
    assert!(Change::seal(2, 3, Uuid::nil()).apply(&client).await.expect("it answers"));
    let sealed = register::keep_open(&gateway, 4, Uuid::nil()).await.expect("it answers");
    assert_eq!((sealed.state, sealed.epoch), (State::Sealed, 3), "a decision stands");
}
