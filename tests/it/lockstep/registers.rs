//! Every change of a register from every state, on both sides, and against its opposite.

use crate::harness::Place;
use cutover::plan::Side;
use cutover::traffic::register::{self, Change, Register, State};
use tokio_postgres::Client;
use uuid::Uuid;

type Make = fn(i64, i64, Uuid) -> Change;

/// Each change, the state that it needs and the one that it leaves.
const CHANGES: [(&str, Make, State, State); 6] = [
    ("seal", Change::seal, State::Open, State::Sealed),
    ("keep open", Change::keep_open, State::Open, State::Open),
    ("open", Change::open, State::Closed, State::Open),
    ("keep closed", Change::keep_closed, State::Closed, State::Closed),
    ("shut", Change::shut, State::Sealed, State::Closed),
    ("unseal", Change::unseal, State::Sealed, State::Open),
];
const STATES: [State; 3] = [State::Open, State::Sealed, State::Closed];

async fn registers() -> [(Side, Place); 2] {
    let registers = [(Side::Blue, Place::shared("register").await), (Side::Green, Place::shared("register").await)];
    for (side, place) in &registers {
        register::install(&place.client().await, *side, 0, Uuid::nil()).await.expect("installed");
    }
    registers
}

async fn set(client: &Client, state: State, epoch: i64) -> Register {
    let row = format!("update cutover.register set state = '{state}', epoch = {epoch}, nonce = gen_random_uuid()");
    client.batch_execute(&row).await.expect("set");
    read(client).await
}

async fn read(client: &Client) -> Register {
    register::read(client).await.expect("it answers").expect("a row")
}

#[tokio::test]
async fn a_change_wins_from_its_own_state_and_epoch_and_from_nothing_else() {
    for (side, place) in registers().await {
        let client = place.client().await;
        for (name, make, needs, leaves) in CHANGES {
            let nonce = Uuid::new_v4();
            for state in STATES.into_iter().filter(|state| *state != needs) {
                let before = set(&client, state, 5).await;
                assert!(!make(5, 6, nonce).apply(&client).await.expect("it answers"), "{name} on {side} {state}");
                assert_eq!(read(&client).await, before);
            }
            let before = set(&client, needs, 5).await;
            for (from, to, why) in [(4, 6, "an older epoch"), (6, 7, "a later one"), (5, 5, "no step"), (5, 4, "back")]
            {
                assert!(!make(from, to, nonce).apply(&client).await.expect("it answers"), "{name} on {side}: {why}");
            }
            assert_eq!(read(&client).await, before, "{name} on {side}: what lost has changed nothing");
            assert!(make(5, 8, nonce).apply(&client).await.expect("it answers"), "{name} on {side}");
            assert_eq!(read(&client).await, Register { side, epoch: 8, nonce, state: leaves, fence_pid: None });
        }
    }
}

#[tokio::test]
async fn of_two_opposite_changes_at_once_the_second_waits_and_loses_or_wins_with_the_first_undone() {
    for (side, place) in registers().await {
        let (mut one, other) = (place.client().await, place.client().await);
        for [first, second] in [[0, 1], [1, 0], [2, 3], [3, 2], [4, 5], [5, 4]] {
            for first_commits in [true, false] {
                let ((name, make, needs, leaves), (against, oppose, _, wins)) = (CHANGES[first], CHANGES[second]);
                set(&other, needs, 5).await;
                let transaction = one.transaction().await.expect("begun");
                assert!(make(5, 6, Uuid::nil()).apply(&transaction).await.expect("it answers"), "{name} on {side}");
                let end = async {
                    waits(&place, "update cutover.register").await;
                    if first_commits { transaction.commit().await } else { transaction.rollback().await }
                };
                let opposite = oppose(5, 7, Uuid::nil());
                let (second_won, ended) = tokio::join!(opposite.apply(&other), end);
                ended.expect("ended");
                assert_eq!(second_won.expect("it answers"), !first_commits, "{against} on {side} after {name}");
                let register = read(&other).await;
                let expected = if first_commits { (leaves, 6) } else { (wins, 7) };
                assert_eq!((register.state, register.epoch), expected, "{name} and {against} on {side}");
            }
        }
    }
}

/// Returns when somebody in the database waits for a lock with a statement that begins so.
async fn waits(place: &Place, statement: &str) {
    let client = place.client().await;
    let waiting = format!(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '{statement}%'"
    );
    crate::harness::eventually(std::time::Duration::from_secs(30), "the other waits", async || {
        (client.query_one(&waiting, &[]).await.expect("it answers").get::<_, i64>(0) == 1).then_some(())
    })
    .await;
}
