//! What is told of keeping level while it goes on: how far green is behind, and that the slot's calls stay short.

use crate::harness::Pair;
use crate::level::{Stage, batch, for_both, mapping};
use cutover::database::level::{Answer, LevelError, Reapply, TouchedTable, age_s, unrest};
use cutover::database::mapping::judge;
use cutover::plan::{CaptureMethod, Level, Load, Side, Sql};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Transaction;

/// A batch that takes its time.
struct Slow(Duration);

impl Reapply for Slow {
    fn reapply<'a>(&'a self, _target: &'a Transaction<'a>, _touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async move {
            tokio::time::sleep(self.0).await;
            Ok(0)
        })
    }
}

for_both!(green_is_behind_by_the_age_of_its_snapshot_and_by_what_waits);

async fn green_is_behind_by_the_age_of_its_snapshot_and_by_what_waits(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    let (blue, green) = (stage.pair.blue.client().await, stage.pair.green.client().await);
    let waiting = async || {
        let counted = stage.capture.glance_at_pending(&blue, 1000, Duration::from_secs(5)).await;
        counted.expect("the slot stands")
    };
    stage.blue("insert into login select 'w' || i, 's' from generate_series(1, 3) i; delete from token where signature = 't1'").await;
    assert_eq!(waiting().await, Some(4));
    worker.batch(&Slow(Duration::from_millis(700))).await.expect("the batch succeeds");
    let age = age_s(&green).await.expect("green answers").expect("a batch has been");
    assert!((0.7..30.0).contains(&age), "what was written during the batch is not on green: {age} s");
    assert_eq!(waiting().await, Some(0));
    batch(&mut worker).await;
    let fresh = age_s(&green).await.expect("green answers").expect("a batch has been");
    assert!(fresh < age + 5.0, "{fresh}");
}

#[tokio::test]
async fn a_glance_at_a_slot_that_is_gone_is_an_error_and_no_zero() {
    let (stage, worker) = Stage::filled().await;
    drop(worker);
    stage.blue(&format!("select pg_drop_replication_slot('{}')", stage.capture.name())).await;
    let blue = stage.pair.blue.client().await;
    assert!(stage.capture.glance_at_pending(&blue, 10, Duration::from_secs(5)).await.is_err());
}

const TRAIL: &str = "select (pg_current_wal_lsn() - restart_lsn)::bigint from pg_replication_slots";

#[tokio::test]
async fn the_slot_s_position_is_drawn_near_and_nothing_waits_for_an_open_writer() {
    let (stage, mut worker) = Stage::on(Pair::separate().await, CaptureMethod::Slot).await.fill().await;
    let fill =
        "insert into login select gen_random_uuid()::text, repeat(md5(i::text), 8) from generate_series(1, 8000) i";
    stage.blue(fill).await;
    batch(&mut worker).await;
    let before: i64 = stage.pair.blue.ask(TRAIL).await;
    assert!(before > 1 << 20, "only {before} bytes trail");
    worker.draw_near().await;
    batch(&mut worker).await;
    let after: i64 = stage.pair.blue.ask(TRAIL).await;
    assert!(after < before / 4, "{before} bytes trailed, {after} do");
    let slots: i64 = stage.pair.blue.ask("select count(*) from pg_replication_slots").await;
    assert_eq!(slots, 1, "nothing is left but our slot");

    let mut worker = stage.worker().await;
    let writer = stage.pair.blue.client().await;
    writer.batch_execute("begin; insert into login values ('open', 's')").await.expect("it stays open");
    stage.blue(fill).await;
    batch(&mut worker).await;
    let begun = Instant::now();
    worker.draw_near().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited for the open writer");
    batch(&mut worker).await;
    writer.batch_execute("commit").await.expect("committed");
    batch(&mut worker).await;
    stage.assert_level().await;
}

fn load(query: &str, most: f64) -> Level {
    let query = Sql { text: query.to_owned(), file: None };
    Level {
        replica_lag: Some(Duration::from_secs(5)),
        load: Some(Load { query, most }),
        every: Duration::from_secs(1),
        fan_out: 1,
    }
}

#[tokio::test]
async fn the_load_is_asked_for_and_the_question_can_change_nothing() {
    let stage = Stage::new().await;
    stage.blue("create sequence counter").await;
    let blue = stage.pair.blue.client().await;
    let ask = async |level: &Level| unrest(&blue, Side::Blue, level).await;
    let quiet = Level { replica_lag: None, load: None, every: Duration::from_secs(1), fan_out: 1 };
    assert_eq!(ask(&quiet).await.expect("nothing is asked"), None);
    assert_eq!(ask(&load("select count(*) from login", 40.0)).await.expect("an answer"), None, "as much as allowed");
    let said = ask(&load("select count(*) from login", 39.5)).await.expect("an answer");
    assert_eq!(said.as_deref(), Some("the load on blue is 40, over 39.5"));
    for wrong in [
        "select challenge from login",
        "delete from login returning 1",
        "select pg_sleep(9)",
        "select nextval('counter')",
    ] {
        let refused = ask(&load(wrong, 1.0)).await.expect_err(wrong);
        assert!(matches!(refused, LevelError::Server { .. }), "{refused}");
    }
    assert_eq!(stage.pair.blue.ask::<i64>("select count(*) from login").await, 40);
    assert!(!stage.pair.blue.ask::<bool>("select is_called from counter").await, "a number was drawn");
    assert_eq!(ask(&load("select 1", 1.0)).await.expect("the session is in order"), None);
}

#[tokio::test]
async fn a_mapping_that_calls_an_unsteady_function_of_blue_is_refused() {
    let stage = Stage::new().await;
    stage
        .blue(
            "create function steady(t text) returns text language sql immutable as 'select $1';
        create function dice(t text) returns text language sql volatile as 'select $1 || random()'",
        )
        .await;
    let blue = stage.pair.blue.client().await;
    let mut mapping = mapping();
    let calls = |name: &str| format!("select id, {name}(name) as name, tag from client");
    mapping.tables[0].select = calls("steady");
    assert_eq!(judge(&mapping, Side::Blue, &blue).await.expect("an answer"), []);
    mapping.tables[0].select = calls("dice");
    let problems = judge(&mapping, Side::Blue, &blue).await.expect("an answer");
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].contains("calls dice(text), which is not immutable on blue"), "{said:?}");
    let left: i64 = stage.pair.blue.ask("select count(*) from pg_class where relname = 'cutover_judged'").await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn rows_change_where_they_stand_unless_an_index_may_refuse_two_that_are_alike() {
    let (stage, mut worker) = Stage::filled().await;
    let places = "select string_agg(ctid::text, ' ' order by signature) from token where signature in ('t1', 't2')";
    let xmin = "select count(distinct xmin::text) from token where signature in ('t1', 't2')";
    stage.pair.green.execute("alter table token disable trigger shout; create index on token (active)").await;
    stage.blue("update token set active = false where signature = 't1'").await;
    let before: String = stage.pair.green.ask(places).await;
    let report = batch(&mut worker).await;
    assert_eq!((report.rows_deleted, report.rows_inserted), (1, 1), "replaced, as it is counted");
    stage.assert_level().await;
    assert_ne!(before, stage.pair.green.ask::<String>(places).await);
    assert_eq!(stage.pair.green.ask::<i64>(xmin).await, 2, "only the row that differs is written");

    // Two rows swap a value that a partial index holds: one after the other they would be refused.
    stage
        .pair
        .green
        .execute("create unique index on token (amount) where signature in ('t1', 't2') and amount > 1")
        .await;
    stage
        .blue("update token set amount = case signature when 't1' then 5 else 6 end where signature in ('t1', 't2')")
        .await;
    let mut worker = stage.worker().await;
    batch(&mut worker).await;
    stage.blue("update token set amount = 11 - amount where signature in ('t1', 't2')").await;
    batch(&mut worker).await;
    stage.assert_level().await;
}
