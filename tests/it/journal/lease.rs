//! One run at a time; whoever takes over fences the one before.

use super::{begin, claim, control, is_superseded, naming, resume};
use crate::engine::toy::{There, Toy, World};
use crate::harness::{Pair, eventually};
use cutover::database::term;
use cutover::engine::{Engine, Events, FailureKind, Outcome, Runbook, StepId, Stop};
use cutover::journal::{Claim, Entry, Journal, JournalError, Kind, LeaseHolder, Log};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

async fn locked(journal: &Journal, claim: &Claim) -> LeaseHolder {
    match journal.acquire(claim, &[]).await {
        Err(error @ JournalError::Locked(_)) => {
            assert!(error.hint().contains("--take-over"), "{}", error.hint());
            let JournalError::Locked(holder) = error else { unreachable!() };
            holder
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_run_is_locked_out_until_the_lease_is_released() {
    let (_place, journal) = control().await;
    assert_eq!(journal.lease_holder().await.unwrap(), None);
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let holder = locked(&journal, &claim()).await;
    assert_eq!((holder.lease, holder.holder.as_str()), (lease.id(), "me@here pid 1"));
    assert_eq!(journal.lease_holder().await.unwrap().map(|holder| holder.lease), Some(lease.id()));
    // Naming another lease than the one that stands is not taking over.
    assert_eq!(locked(&journal, &naming(Uuid::new_v4())).await.lease, lease.id());
    let first = lease.term();
    lease.release().await.unwrap();
    assert!(journal.acquire(&claim(), &[]).await.unwrap().term().term > first.term);
}

#[tokio::test]
async fn a_dead_holders_lease_goes_to_its_own_plan_alone() {
    let (_place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let id = lease.id();
    drop(lease);
    let other = Claim { plan: "another".to_owned(), ..claim() };
    assert_eq!(locked(&journal, &other).await.lease, id);
    let taken = eventually(Duration::from_secs(10), "the dead holder's session ends", || async {
        journal.acquire(&claim(), &[]).await.ok()
    })
    .await;
    assert_ne!(taken.id(), id);
}

#[tokio::test]
async fn a_silent_lease_expires_for_its_own_plan() {
    let (place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    locked(&journal, &claim()).await;
    place.execute("update cutover.lease set renewed_at = renewed_at - interval '31 seconds'").await;
    let taken = journal.acquire(&claim(), &[]).await.unwrap();
    assert!(taken.term().term > lease.term().term);
}

#[tokio::test]
async fn taking_over_raises_the_term_everywhere_and_fences_the_zombie() {
    let pair = Pair::shared().await;
    let journal = Journal::open(&pair.control.url()).await.unwrap();
    let (blue, green) = (pair.blue.client().await, pair.green.client().await);
    let claim = Claim { ttl: Duration::from_millis(300), ..claim() };
    let zombie = journal.acquire(&claim, &[&blue, &green]).await.unwrap();
    let zombies_log = begin(&journal, &zombie).await;
    term::install(&blue, &zombie.term()).await.unwrap();

    let named = Claim { ttl: Duration::from_secs(30), ..naming(zombie.id()) };
    let owner = journal.acquire(&named, &[&blue, &green]).await.unwrap();
    assert_eq!(owner.term().term, zombie.term().term + 1);
    assert_eq!(term::read(&blue).await.unwrap(), Some(owner.term()));
    assert_eq!(term::read(&green).await.unwrap(), None, "a side that is not claimed has no term yet");

    assert!(is_superseded(zombies_log.append(Entry::of_run(Kind::Halted, json!({}))).await));
    let world = World::default();
    let runbook = Runbook::new(vec![Toy::undoable("a")]).unwrap();
    let engine = Engine {
        runbook: &runbook,
        world: &world,
        log: &zombies_log,
        events: Events::silent(),
        stop: Stop::never(),
        waiver: None,
    };
    let Outcome::Halted(halt) = engine.advance(None).await else { panic!("a zombie went on") };
    assert_eq!((halt.kind, world.see(&StepId::new("a"))), (FailureKind::Locked, There::Nothing));
    let lost = || async { zombie.is_lost().then_some(()) };
    eventually(Duration::from_secs(10), "the zombie sees that its lease is lost", lost).await;

    let log = resume(&journal, &owner).await;
    assert_eq!(log.run(), zombies_log.run());
    log.append(Entry::of_step(Kind::Intent, "a", json!(null))).await.unwrap();
    assert_eq!(log.records().await.unwrap().len(), 3, "nothing of the zombie's is in the journal");
}

#[tokio::test]
async fn a_run_killed_between_intent_and_outcome_is_resumed() {
    let (_place, journal) = control().await;
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    let log = begin(&journal, &lease).await;
    let world = World::default();
    let steps = ["made", "half", "later"].map(Toy::undoable);
    let runbook = Runbook::new(steps.to_vec()).unwrap();
    log.append(Entry::of_step(Kind::Intent, "made", json!(null))).await.unwrap();
    world.put(&StepId::new("made"), There::Whole);
    let id = lease.id();
    drop((log, lease));

    let lease = journal.acquire(&naming(id), &[]).await.unwrap();
    let log = resume(&journal, &lease).await;
    let engine = Engine {
        runbook: &runbook,
        world: &world,
        log: &log,
        events: Events::silent(),
        stop: Stop::never(),
        waiver: None,
    };
    assert_eq!(engine.advance(None).await, Outcome::Done);
    assert!(!world.asked().contains(&"forward made".to_owned()), "what is there is not made again");
    let state = journal.state(log.info()).await.unwrap();
    assert_eq!(state.step("made").unwrap().receipt, Some(json!("seen")));

    assert_eq!(engine.unwind().await, Outcome::Done);
    let info = journal.last_run(&log.info().plan).await.unwrap().unwrap();
    assert!(info.finished_at.is_some(), "a run that is rolled back is over");
    let again = begin(&journal, &lease).await;
    assert_ne!(again.run(), log.run(), "and the next one is another");
}

#[tokio::test]
async fn a_request_to_park_is_its_leases_alone() {
    let (_place, journal) = control().await;
    assert!(journal.at_work(&claim().plan).await.unwrap().is_none());
    let lease = journal.acquire(&claim(), &[]).await.unwrap();
    assert!(journal.at_work("another").await.unwrap().is_none(), "what is at work is of this plan");
    let holder = journal.at_work(&claim().plan).await.unwrap().expect("it is at work");
    assert!(journal.ask_to_pause(holder.lease, "you@there pid 2").await.unwrap());
    let seen = tokio::time::timeout(Duration::from_secs(2), lease.pause_asked()).await;
    assert_eq!(seen.expect("it is seen at the next renewal"), "you@there pid 2");
    let old = lease.id();
    lease.release().await.unwrap();
    assert!(!journal.ask_to_pause(old, "you@there pid 2").await.unwrap(), "nobody holds it any more");
    let next = journal.acquire(&claim(), &[]).await.unwrap();
    assert!(!journal.ask_to_pause(old, "you@there pid 2").await.unwrap(), "somebody else is at work");
    let seen = tokio::time::timeout(Duration::from_millis(1500), next.pause_asked()).await;
    assert!(seen.is_err(), "a later run is not parked by an older request");
}
