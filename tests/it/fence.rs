//! The fence, the seal and the closed side, on real servers: who may write when, and who wins.

mod holders;

use crate::harness::{self, APPLICATION, Pair, Place, eventually};
use cutover::database::fence::{self, Budget, Fence, FenceError, Sealing, Unfenced};
use cutover::database::refusal::{self, Refusal, RefusalError, RefusalStanding};
use cutover::database::term::{self, Term};
use cutover::plan::Side;
use cutover::traffic::register::{self, Change, Recovered, RegisterError, State};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

const TABLES: &str = "create table public.b (id int primary key, v text);
create table public.a (id int primary key, v text);
create table public.p (id int primary key, v text) partition by range (id);
create table public.p1 partition of public.p for values from (0) to (100);
insert into public.a values (1, 'x'); insert into public.b values (1, 'x'); insert into public.p values (1, 'x');
grant all on all tables in schema public to hydra";
const BUDGET: Budget =
    Budget { hold: Duration::from_secs(20), locks: Duration::from_secs(5), attempt: Duration::from_millis(500) };

struct Stage {
    pair: Pair,
    term: Term,
    run: Uuid,
    nonce: Uuid,
}

impl Stage {
    /// Both sides with tables; blue open at 1, green closed at 0 by register and fence.
    async fn new() -> Self {
        let pair = Pair::shared().await;
        let (term, nonce) = (Term { term: 1, nonce: Uuid::new_v4() }, Uuid::new_v4());
        for (place, side, epoch) in [(&pair.blue, Side::Blue, 1), (&pair.green, Side::Green, 0)] {
            place.execute(TABLES).await;
            let client = place.client().await;
            term::install(&client, &term).await.expect("the term is installed");
            register::install(&client, side, epoch, nonce).await.expect("the register is installed");
        }
        Self { pair, term, run: Uuid::new_v4(), nonce }
    }

    async fn fence(&self, budget: Budget) -> Result<Fence, FenceError> {
        let unfenced = Unfenced::connect(&self.pair.blue.url(), Side::Blue, self.run).await?;
        let noted = register::note_fence(&self.pair.blue.client().await, 1, unfenced.pid()).await;
        assert!(noted.expect("the register answers"), "blue is open at 1");
        unfenced.take(&self.term, budget).await
    }

    fn seal(&self) -> String {
        Change::seal(1, 2, self.nonce).raise_sql()
    }

    async fn state(&self) -> (State, i64) {
        let register = register::read(&self.pair.blue.client().await).await.expect("it answers").expect("a row");
        (register.state, register.epoch)
    }
}

fn refused(result: Result<u64, tokio_postgres::Error>) -> bool {
    result.is_err_and(|error| error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION))
}

async fn app(place: &Place) -> Client {
    place.application().await
}

async fn triggers(place: &Place) -> i64 {
    place.ask("select count(*) from pg_trigger where tgname like 'cutover\\_%'").await
}

#[tokio::test]
async fn a_sealed_side_refuses_writers_with_older_snapshots_leaves_and_our_own_login() {
    let stage = Stage::new().await;
    let old = app(&stage.pair.blue).await;
    old.batch_execute("begin isolation level repeatable read; select * from public.a")
        .await
        .expect("a snapshot is taken");
    let fence = stage.fence(BUDGET).await.expect("the fence is taken");
    assert_eq!(fence.tables(), 4);
    fence.still_held().await.expect("it is held");
    let waiting = app(&stage.pair.blue).await;
    let write = async { waiting.execute("update public.p1 set v = 'late'", &[]).await };
    let decide = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fence.seal(&stage.seal()).await
    };
    let (written, sealing) = tokio::join!(write, decide);
    assert!(matches!(sealing, Sealing::Sealed), "{sealing:?}");
    assert!(refused(written), "the writer that waited is refused");
    assert!(refused(old.execute("update public.a set v = 'old'", &[]).await), "an older snapshot is refused");
    let client = app(&stage.pair.blue).await;
    for table in ["a", "b", "p", "p1"] {
        assert!(refused(client.execute(&format!("delete from public.{table}"), &[]).await), "{table}");
        let truncate = stage.pair.blue.client().await.execute(&format!("truncate public.{table}"), &[]).await;
        assert!(refused(truncate), "nobody passes: {table}");
    }
    assert_eq!(stage.state().await, (State::Sealed, 2));
    let mut ours = stage.pair.blue.client().await;
    assert_eq!(Refusal::Sealed.verify(&ours, stage.run).await.expect("it answers"), RefusalStanding::Refusing);
    assert_eq!(refusal::accepting_writes(&mut ours, APPLICATION).await.expect("tried"), vec![]);
}

#[tokio::test]
async fn going_back_before_green_opens_unseals_blue_and_leaves_nothing() {
    let stage = Stage::new().await;
    let sealing = stage.fence(BUDGET).await.expect("the fence is taken").seal(&stage.seal()).await;
    assert!(matches!(sealing, Sealing::Sealed), "{sealing:?}");
    let green = stage.pair.green.client().await;
    assert!(Change::keep_closed(0, 3, stage.nonce).apply(&green).await.expect("it answers"));
    assert!(!Change::open(0, 2, stage.nonce).apply(&green).await.expect("it answers"), "green cannot open any more");
    let mut blue = stage.pair.blue.client().await;
    let unseal = Change::unseal(2, 3, stage.nonce).raise_sql();
    Refusal::Sealed.lift(&mut blue, &stage.term, stage.run, &unseal).await.expect("the winner unseals");
    let again = Refusal::Sealed.lift(&mut blue, &stage.term, stage.run, &unseal).await;
    assert!(matches!(again, Err(RefusalError::RegisterLost { .. })), "only once");
    assert_eq!(stage.state().await, (State::Open, 3));
    app(&stage.pair.blue).await.execute("update public.a set v = 'back'", &[]).await.expect("blue takes writes again");
    for _ in 0..2 {
        Refusal::Sealed.remove(&mut blue, &stage.term, Duration::from_secs(2)).await.expect("removed");
        assert_eq!(triggers(&stage.pair.blue).await, 0);
    }
    assert_eq!(Refusal::Sealed.verify(&blue, stage.run).await.expect("it answers"), RefusalStanding::Absent);
}

#[tokio::test]
async fn an_abandoned_fence_is_ended_by_the_server_and_writers_go_on() {
    let stage = Stage::new().await;
    let old = app(&stage.pair.blue).await;
    old.batch_execute("begin isolation level repeatable read; select * from public.a")
        .await
        .expect("a snapshot is taken");
    let short = Budget { hold: Duration::from_millis(700), ..BUDGET };
    let fence = stage.fence(short).await.expect("the fence is taken");
    let writer = app(&stage.pair.blue).await;
    let patient = "set lock_timeout = '15s'";
    writer.batch_execute(patient).await.expect("set");
    writer.execute("update public.b set v = 'waited'", &[]).await.expect("the server let it go on");
    old.execute("update public.a set v = 'waited'", &[]).await.expect("the older snapshot goes on too");
    assert!(matches!(fence.still_held().await, Err(FenceError::Lost { .. })));
    let sealing = fence.seal(&stage.seal()).await;
    assert!(matches!(sealing, Sealing::Lost { .. }), "{sealing:?}");
    assert_eq!(stage.state().await, (State::Open, 1));
    assert_eq!(triggers(&stage.pair.blue).await, 0, "nothing is left behind");
}

#[tokio::test]
async fn a_fence_ended_under_its_owner_cannot_seal() {
    let stage = Stage::new().await;
    let fence = stage.fence(BUDGET).await.expect("the fence is taken");
    let blue = stage.pair.blue.client().await;
    let noted = register::read(&blue).await.expect("it answers").expect("a row").fence_pid;
    assert_eq!(noted, Some(fence.pid()));
    let other = stage.pair.blue.client().await;
    let stranger: i32 = other.query_one("select pg_backend_pid()", &[]).await.expect("a pid").get(0);
    assert!(fence::terminate_fence(&blue, stage.run, stranger, Duration::from_secs(5)).await.expect("it answers"));
    other.batch_execute("select 1").await.expect("a backend that is no fence is left alone");
    assert!(fence::terminate_fence(&blue, stage.run, fence.pid(), Duration::from_secs(5)).await.expect("it answers"));
    let recovered = register::recover(&blue, Side::Blue, 2, Uuid::new_v4()).await.expect("it answers");
    assert!(matches!(recovered, Recovered::Kept(_)));
    let sealing = fence.seal(&stage.seal()).await;
    assert!(!matches!(sealing, Sealing::Sealed), "{sealing:?}");
    assert_eq!(stage.state().await, (State::Open, 2));
    app(&stage.pair.blue).await.execute("update public.a set v = 'on'", &[]).await.expect("blue serves on");
}

#[tokio::test]
async fn of_seal_and_recovery_exactly_one_wins() {
    let stage = Stage::new().await;
    let (mut sealed, mut kept) = (0, 0);
    for round in 0..16u64 {
        let blue = stage.pair.blue.client().await;
        let epoch = register::read(&blue).await.expect("it answers").expect("a row").epoch;
        let unfenced = Unfenced::connect(&stage.pair.blue.url(), Side::Blue, stage.run).await.expect("it connects");
        let fence = unfenced.take(&stage.term, BUDGET).await.expect("the fence is taken");
        let seal = Change::seal(epoch, epoch + 1, stage.nonce).raise_sql();
        // Each gets a head start in turn, from one that decides the race down to none, however slow the machine is.
        let (recovery_ms, seal_ms) = if round % 2 == 0 { (0, 300 - round * 20) } else { (300 - round * 20, 0) };
        let recovery = async {
            tokio::time::sleep(Duration::from_millis(recovery_ms)).await;
            register::recover(&blue, Side::Blue, epoch + 1, Uuid::new_v4()).await.expect("it answers")
        };
        let sealing = async {
            tokio::time::sleep(Duration::from_millis(seal_ms)).await;
            fence.seal(&seal).await
        };
        let (sealing, recovered) = tokio::join!(sealing, recovery);
        match (sealing, recovered) {
            (Sealing::Sealed, Recovered::Sealed(_)) => {
                sealed += 1;
                let mut client = stage.pair.blue.client().await;
                let unseal = Change::unseal(epoch + 1, epoch + 2, stage.nonce).raise_sql();
                Refusal::Sealed.lift(&mut client, &stage.term, stage.run, &unseal).await.expect("unsealed");
            }
            (Sealing::Lost { .. }, Recovered::Kept(_)) => {
                kept += 1;
                app(&stage.pair.blue).await.execute("update public.a set v = 'on'", &[]).await.expect("blue serves on");
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
    assert!(sealed > 0 && kept > 0, "sealed {sealed}, kept {kept}: the race was not run from both ends");
}

#[tokio::test]
async fn writers_that_do_not_end_are_named_and_blue_serves_on() {
    let stage = Stage::new().await;
    let writer = app(&stage.pair.blue).await;
    writer
        .batch_execute("set application_name = 'long_job'; begin; update public.a set v = 'y'")
        .await
        .expect("a writer begins");
    let short = Budget { locks: Duration::from_millis(400), attempt: Duration::from_millis(100), ..BUDGET };
    let error = stage.fence(short).await.expect_err("a writer is there");
    assert!(matches!(error, FenceError::Writers { .. }) && error.to_string().contains("long_job"), "{error}");
    writer.batch_execute("commit").await.expect("committed");
    stage.fence(BUDGET).await.expect("the writer is gone").release().await.expect("released");
    writer.execute("update public.a set v = 'z'", &[]).await.expect("blue serves on");
}

#[tokio::test]
async fn a_fence_gives_way_to_a_writer_that_would_deadlock() {
    let stage = Stage::new().await;
    let mut writer = app(&stage.pair.blue).await;
    let transaction = writer.transaction().await.expect("begun");
    transaction
        .batch_execute("set local lock_timeout = '10s'; update public.b set v = 'first'")
        .await
        .expect("written");
    let second = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        transaction.batch_execute("update public.a set v = 'second'").await.expect("the fence gave way");
        transaction.commit().await.expect("committed");
    };
    let (fence, ()) = tokio::join!(stage.fence(BUDGET), second);
    fence.expect("the fence is taken afterwards").release().await.expect("released");
}

#[tokio::test]
async fn a_table_made_under_the_fence_makes_the_seal_fail() {
    let stage = Stage::new().await;
    let fence = stage.fence(BUDGET).await.expect("the fence is taken");
    stage.pair.blue.execute("create table public.fresh (id int primary key)").await;
    let sealing = fence.seal(&stage.seal()).await;
    assert!(matches!(&sealing, Sealing::Lost { why } if why.contains("created or dropped")), "{sealing:?}");
    assert_eq!((stage.state().await, triggers(&stage.pair.blue).await), ((State::Open, 1), 0));
    stage.pair.blue.execute("insert into public.fresh values (1)").await;
    let fence = stage.fence(BUDGET).await.expect("the fence is taken again, with the new table");
    assert_eq!(fence.tables(), 5);
    assert!(matches!(fence.seal(&stage.seal()).await, Sealing::Sealed));
    let write = app(&stage.pair.blue).await.execute("insert into public.a values (9, '')", &[]).await;
    assert!(refused(write));
}

#[tokio::test]
async fn a_fence_of_an_older_term_is_not_taken() {
    let stage = Stage::new().await;
    let next = Term { term: 2, nonce: Uuid::new_v4() };
    term::install(&stage.pair.blue.client().await, &next).await.expect("another takes over");
    let error = stage.fence(BUDGET).await.expect_err("superseded");
    assert!(matches!(&error, FenceError::Term(error) if error.is_superseded()), "{error}");
}

#[tokio::test]
async fn a_closed_green_lets_only_our_login_write_until_it_opens() {
    let stage = Stage::new().await;
    let mut green = stage.pair.green.client().await;
    assert_eq!(Refusal::Closed.verify(&green, stage.run).await.expect("it answers"), RefusalStanding::Absent);
    let lock = Duration::from_secs(2);
    for _ in 0..2 {
        refusal::close(&mut green, &stage.term, stage.run, lock).await.expect("green closes");
        assert_eq!(Refusal::Closed.verify(&green, stage.run).await.expect("it answers"), RefusalStanding::Refusing);
    }
    assert_eq!(Refusal::Closed.verify(&green, Uuid::new_v4()).await.expect("it answers"), RefusalStanding::Foreign);
    let engine = app(&stage.pair.green).await;
    engine.batch_execute("set session_replication_role = replica").await.expect_err("no privilege");
    assert!(refused(engine.execute("update public.p1 set v = 'no'", &[]).await));
    green.execute("update public.a set v = 'ours'", &[]).await.expect("our login passes");
    stage.pair.green.execute("create table public.later (id int)").await;
    let standing = Refusal::Closed.verify(&green, stage.run).await.expect("it answers");
    assert!(matches!(&standing, RefusalStanding::Partial(bare) if bare.len() == 1), "{standing:?}");
    let accepting = refusal::accepting_writes(&mut green, APPLICATION).await.expect("tried");
    assert_eq!(accepting, vec![], "the application has no right on it either");
    refusal::close(&mut green, &stage.term, stage.run, lock).await.expect("green closes again");
    let open = Change::open(0, 2, stage.nonce).raise_sql();
    let lost =
        Refusal::Closed.lift(&mut green, &stage.term, stage.run, &Change::open(7, 8, stage.nonce).raise_sql()).await;
    assert!(matches!(lost, Err(RefusalError::RegisterLost { .. })));
    assert!(refused(engine.execute("update public.a set v = 'no'", &[]).await), "still closed");
    Refusal::Closed.lift(&mut green, &stage.term, stage.run, &open).await.expect("green opens");
    engine.execute("update public.a set v = 'yes'", &[]).await.expect("green is open");
    assert_eq!(Refusal::Closed.verify(&green, stage.run).await.expect("it answers"), RefusalStanding::Lifted);
    Refusal::Closed.remove(&mut green, &stage.term, lock).await.expect("removed");
    assert_eq!(triggers(&stage.pair.green).await, 0);
}

#[tokio::test]
async fn what_holds_locks_for_long_is_named() {
    let stage = Stage::new().await;
    let blue = stage.pair.blue.client().await;
    assert_eq!(fence::lock_holders(&blue).await.expect("it answers"), Vec::<String>::new());
    let other = stage.pair.blue.client().await;
    let gid = format!("cutover-test-{}", stage.run);
    other
        .batch_execute(&format!("begin; update public.a set v = 'p'; prepare transaction '{gid}'"))
        .await
        .expect("prepared");
    let holders = fence::lock_holders(&blue).await.expect("it answers");
    other.batch_execute(&format!("rollback prepared '{gid}'")).await.expect("rolled back");
    assert!(matches!(holders.as_slice(), [only] if only.contains(&gid)), "{holders:?}");
    eventually(Duration::from_secs(5), "nothing holds locks", || async {
        fence::lock_holders(&blue).await.expect("it answers").is_empty().then_some(())
    })
    .await;
}

async fn backend(client: &Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.expect("it answers").get(0)
}

/// Returns once the commit of this backend waits for its standbys.
async fn waits_for_standbys(watcher: &Client, pid: i32) {
    let waits = "select exists (select from pg_stat_activity where pid = $1 and wait_event = 'SyncRep')";
    eventually(Duration::from_secs(10), "the commit waits for the standby", || async {
        watcher.query_one(waits, &[&pid]).await.is_ok_and(|row| row.get(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_decision_that_standbys_may_not_have_is_not_gone_on_from() {
    let place = Place::fresh(Arc::new(harness::server("standbys").await), "blue").await;
    let client = place.client().await;
    register::install(&client, Side::Blue, 1, Uuid::nil()).await.expect("installed");
    let (probe, sealer, watcher) = (place.client().await, place.client().await, place.client().await);
    // Nobody of this name follows, so a commit waits for ever, and what ends the wait leaves it committed here alone.
    watcher.batch_execute("alter system set synchronous_standby_names = 'away'").await.expect("set");
    watcher.batch_execute("select pg_reload_conf()").await.expect("reloaded");
    // The servers' processes hear of it one after another: commits wait from when one has been seen to.
    let probing = backend(&probe).await;
    let write = "select pg_logical_emit_message(true, 'test', '')";
    let commits = tokio::spawn(async move { while probe.query_one(write, &[]).await.is_ok() {} });
    waits_for_standbys(&watcher, probing).await;
    watcher.execute("select pg_terminate_backend($1)", &[&probing]).await.expect("it answers");
    commits.await.expect("no panic");

    let decision = Change::seal(1, 2, Uuid::nil()).raise_sql();
    let pid = backend(&sealer).await;
    let sealing = tokio::spawn(async move { sealer.batch_execute(&decision).await });
    waits_for_standbys(&watcher, pid).await;
    watcher.execute("select pg_terminate_backend($1)", &[&pid]).await.expect("it answers");
    assert!(sealing.await.expect("no panic").is_err(), "its answer is lost");
    let seen = register::read(&watcher).await.expect("it answers").expect("a row");
    assert_eq!(seen.state, State::Sealed, "and it stands here");
    let recovered = register::recover(&client, Side::Blue, 2, Uuid::nil()).await;
    assert!(matches!(recovered, Err(RegisterError::Unconfirmed { .. })), "{recovered:?}");

    watcher.batch_execute("alter system reset synchronous_standby_names").await.expect("reset");
    watcher.batch_execute("select pg_reload_conf()").await.expect("reloaded");
    let client = place.client().await;
    let recovered = register::recover(&client, Side::Blue, 2, Uuid::nil()).await.expect("it answers");
    assert_eq!(recovered, Recovered::Sealed(seen));
}
