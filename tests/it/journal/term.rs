//! The term row: held until commit, raised in all, higher wins.

use crate::harness::{Pair, Place};
use cutover::database::term::{Term, TermError, hold, install, raise, read};
use std::time::Duration;
use uuid::Uuid;

fn term(number: i64) -> Term {
    Term { term: number, nonce: Uuid::new_v4() }
}

#[tokio::test]
async fn a_raise_goes_one_above_the_highest_of_all() {
    let pair = Pair::shared().await;
    let (control, blue, green) = (pair.control.client().await, pair.blue.client().await, pair.green.client().await);
    assert_eq!(raise(&control, &[&blue, &green]).await.unwrap().term, 1);
    assert_eq!(read(&blue).await.unwrap(), None);
    install(&blue, &term(1)).await.unwrap();
    install(&green, &term(7)).await.unwrap();
    let raised = raise(&control, &[&blue, &green]).await.unwrap();
    assert_eq!(raised.term, 8);
    for client in [&control, &blue, &green] {
        assert_eq!(read(client).await.unwrap(), Some(raised));
    }
}

#[tokio::test]
async fn a_lower_or_another_term_is_superseded() {
    let place = Place::shared("blue").await;
    let mut client = place.client().await;
    let ours = term(3);
    install(&client, &ours).await.unwrap();
    install(&client, &ours).await.unwrap();
    for other in [term(2), term(3)] {
        let installed = install(&client, &other).await;
        assert!(matches!(installed, Err(TermError::Superseded { found, .. }) if found == ours), "{installed:?}");
        let transaction = client.transaction().await.unwrap();
        let held = hold(&transaction, &other).await;
        assert!(matches!(held, Err(TermError::Superseded { found, .. }) if found == ours), "{held:?}");
    }
    let transaction = client.transaction().await.unwrap();
    hold(&transaction, &ours).await.unwrap();
    transaction.execute("delete from cutover.term", &[]).await.unwrap();
    assert!(matches!(hold(&transaction, &ours).await, Err(TermError::Missing { .. })));
}

#[tokio::test]
async fn a_raise_waits_for_those_who_hold_the_row() {
    let pair = Pair::shared().await;
    let (control, mut blue, taker) = (pair.control.client().await, pair.blue.client().await, pair.blue.client().await);
    let ours = raise(&control, &[&taker]).await.unwrap();
    install(&blue, &ours).await.unwrap();
    blue.batch_execute("create table effect (made_in bigint)").await.unwrap();
    let transaction = blue.transaction().await.unwrap();
    hold(&transaction, &ours).await.unwrap();
    let sides = [&taker];
    let mut taking = Box::pin(raise(&control, &sides));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut taking).await;
    assert!(early.is_err(), "the term was raised under the holder: {early:?}");
    transaction.execute("insert into effect values ($1)", &[&ours.term]).await.unwrap();
    transaction.commit().await.unwrap();
    let raised = taking.await.unwrap();
    let transaction = blue.transaction().await.unwrap();
    assert!(hold(&transaction, &ours).await.unwrap_err().is_superseded());
    transaction.rollback().await.unwrap();
    let transaction = blue.transaction().await.unwrap();
    hold(&transaction, &raised).await.unwrap();
}

#[tokio::test]
async fn those_who_raise_at_once_end_with_one_holder() {
    let pair = Pair::shared().await;
    let blue = pair.blue.client().await;
    install(&blue, &term(1)).await.unwrap();
    let mut raising = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (control, blue) = (pair.control.client().await, pair.blue.client().await);
        raising.spawn(async move { raise(&control, &[&blue]).await });
    }
    let raised: Vec<_> = raising.join_all().await.into_iter().flatten().collect();
    let standing = read(&blue).await.unwrap().unwrap();
    assert!(raised.contains(&standing), "{standing} is nobody's: {raised:?}");
    let highest = raised.iter().map(|term| term.term).max().unwrap();
    assert_eq!(standing.term, highest);
}

#[tokio::test]
async fn a_raise_ends_a_holder_that_stands_still_and_waits_for_one_that_works() {
    let pair = Pair::shared().await;
    let (control, taker) = (pair.control.client().await, pair.blue.client().await);
    let (mut still, mut working) = (pair.blue.client().await, pair.blue.client().await);
    let ours = raise(&control, &[&taker]).await.unwrap();
    install(&taker, &ours).await.unwrap();
    taker.batch_execute("create table effect (made_by text)").await.unwrap();
    let stood = still.transaction().await.unwrap();
    hold(&stood, &ours).await.unwrap();
    stood.execute("insert into effect values ('still')", &[]).await.unwrap();
    let worked = working.transaction().await.unwrap();
    hold(&worked, &ours).await.unwrap();
    worked.execute("insert into effect values ('working')", &[]).await.unwrap();
    let work = async {
        worked.execute("select pg_sleep(7)", &[]).await.unwrap();
        worked.commit().await.unwrap();
    };
    let sides = [&taker];
    let (raised, ()) = tokio::join!(raise(&control, &sides), work);
    raised.unwrap();
    assert!(stood.commit().await.is_err(), "it was ended");
    let made: Vec<String> =
        taker.query("select made_by from effect", &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(made, ["working"]);
    let setting: String = taker.query_one("show lock_timeout", &[]).await.unwrap().get(0);
    assert_eq!(setting, "0", "its session is as it was");
}
