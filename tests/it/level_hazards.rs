//! The ways in which keeping level goes wrong that need a server of their own, a crash or a particular moment.

use crate::harness::{APPLICATION, Pair, Place, eventually};
use crate::level::{Stage, batch, for_both, mapping, touch};
use cutover::database::catalog;
use cutover::database::level::{LevelError, Worker, judge_lookups};
use cutover::database::mapping::Mapping;
use cutover::database::refusal;
use cutover::plan::CaptureMethod;
use cutover::sandbox::servers::Stop;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, IsolationLevel};

for_both!(
    what_a_batch_has_derived_outlives_a_crash_of_blue,
    what_a_batch_has_committed_outlives_a_crash_of_green,
    what_left_blue_while_a_chunk_was_read_does_not_come_back,
    a_batch_of_many_pages_and_tables_is_one_transaction_of_green,
    a_truncate_under_way_keeps_the_batch_away_and_is_taken_over_afterwards,
    a_commit_that_the_snapshot_does_not_see_is_left_for_the_next_batch,
);

const PATIENCE: Duration = Duration::from_secs(20);
const WAITING: &str = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";

/// Makes every synchronous commit of a server wait for a standby that never comes, or lets them go again.
async fn demand_standby(place: &Place, is_demanded: bool) {
    let client = place.client().await;
    let change =
        if is_demanded { "set synchronous_standby_names = 'nobody'" } else { "reset synchronous_standby_names" };
    client.batch_execute(&format!("alter system {change}")).await.expect("the setting is written");
    client.batch_execute("select pg_reload_conf()").await.expect("the setting is read");
}

async fn waiting_for_standby(place: &Place, wanted: i64) {
    eventually(PATIENCE, "commits wait for the standby", async || {
        (place.ask::<i64>(WAITING).await == wanted).then_some(())
    })
    .await;
}

/// Inserts a login whose commit stands in the log and is seen by nobody, since it waits for a standby. The server takes a moment to
/// demand one, so the first may pass.
async fn hang_a_commit(place: &Place) -> JoinHandle<()> {
    demand_standby(place, true).await;
    for number in 0.. {
        let writer = place.client().await;
        let insert = format!("insert into login values ('hung {number}', 's')");
        let hung = tokio::spawn(async move { writer.batch_execute(&insert).await.expect("it commits in the end") });
        let seen = async || match (hung.is_finished(), place.ask::<i64>(WAITING).await) {
            (true, _) => Some(false),
            (false, 1) => Some(true),
            _ => None,
        };
        if eventually(PATIENCE, "a commit waits or passes", seen).await {
            return hung;
        }
    }
    unreachable!("the server demands a standby at some time")
}

async fn own_client(place: &Place) -> Client {
    let client = place.client().await;
    client.batch_execute("set synchronous_commit = local").await.expect("this session waits for no standby");
    client
}

async fn a_commit_that_the_snapshot_does_not_see_is_left_for_the_next_batch(method: CaptureMethod) {
    let (stage, mut worker) = Stage::on(Pair::separate().await, method).await.fill().await;
    let hung = hang_a_commit(&stage.pair.blue).await;
    batch_while_hung(&stage, &mut worker).await;
    hung.await.expect("the commit ends");
    assert_eq!(batch(&mut worker).await.left_in_slot, 0);
    stage.assert_level().await;
}

/// The batch's own marker waits for the standby too; by then its snapshot is taken.
async fn batch_while_hung(stage: &Stage, worker: &mut Worker) {
    let release = async {
        waiting_for_standby(&stage.pair.blue, 2).await;
        demand_standby(&stage.pair.blue, false).await;
    };
    let (report, ()) = tokio::join!(batch(worker), release);
    // Of a trigger log nothing is known that the snapshot does not see, and nothing else is let go.
    let is_left = report.left_in_slot >= 1 || stage.capture.method == CaptureMethod::Triggers;
    assert!(is_left && report.keys == 0, "a commit was consumed that the snapshot did not see: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capture_outlasts_a_commit_older_than_the_slot_that_nobody_sees_yet() {
    let stage = std::sync::Arc::new(Stage::on(Pair::separate().await, CaptureMethod::Slot).await);
    let blue = &stage.pair.blue;
    let (first, second) = (own_client(blue).await, own_client(blue).await);
    first.batch_execute("begin; insert into login values ('first', 's')").await.expect("begun");
    let starting = {
        let stage = stage.clone();
        tokio::spawn(async move {
            let mut ours = own_client(&stage.pair.blue).await;
            let tables = mapping().captured();
            stage.capture.start(&mut ours, &stage.term, &tables, PATIENCE).await.expect("capture starts")
        })
    };
    let waits = "select count(*) from pg_locks where locktype = 'transactionid' and not granted";
    let is_waiting = async || (blue.ask::<i64>(waits).await == 1).then_some(());
    eventually(PATIENCE, "the slot waits for the first writer", is_waiting).await;
    // The slot waits for the first, then for the second. A third that begins and commits meanwhile lies before the slot's start.
    second.batch_execute("begin; insert into login values ('second', 's')").await.expect("begun");
    let held: i64 = second.query_one("select pg_current_xact_id()::text::bigint", &[]).await.expect("its id").get(0);
    first.batch_execute("commit").await.expect("committed");
    let waits = format!("{waits} and transactionid::text::bigint = {held}");
    let is_waiting = async || (blue.ask::<i64>(&waits).await == 1).then_some(());
    eventually(PATIENCE, "the slot waits for the second writer", is_waiting).await;
    let hung = hang_a_commit(blue).await;
    second.batch_execute("commit").await.expect("committed");
    let stands = "select count(*) from pg_replication_slots where confirmed_flush_lsn is not null";
    eventually(PATIENCE, "the slot stands", async || (blue.ask::<i64>(stands).await == 1).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!starting.is_finished(), "a snapshot taken now would miss what the slot never delivers");
    demand_standby(blue, false).await;
    let captured = starting.await.expect("capture starts");
    hung.await.expect("the commit ends");
    let mut green = stage.pair.green.client().await;
    let begun = cutover::database::level::begin_progress(&mut green, &stage.term, &captured).await;
    begun.expect("the first position is stored");
    stage.copy().await;
    batch(&mut stage.worker().await).await;
    stage.assert_level().await;
}

async fn what_a_batch_has_derived_outlives_a_crash_of_blue(method: CaptureMethod) {
    let stage = Stage::on(Pair::separate().await, method).await;
    stage.blue("alter system set wal_writer_delay = '10s'").await;
    stage.blue("select pg_reload_conf()").await;
    let (stage, mut worker) = stage.fill().await;
    let insert = |key: &str| format!("set synchronous_commit = off; insert into login values ('{key}', 's')");
    stage.blue(&insert("seen by the batch")).await;
    batch(&mut worker).await;
    stage.blue(&insert("lost in the crash, most likely")).await;
    stage.pair.blue.server.restart(Stop::Immediate).await.expect("blue is up again");
    let derived = "select count(*) from flow where login_challenge = 'seen by the batch'";
    assert_eq!(stage.pair.green.ask::<i64>(derived).await, 1);
    let there = "select count(*) from login where challenge = 'seen by the batch'";
    assert_eq!(stage.pair.blue.ask::<i64>(there).await, 1, "green holds what blue has lost");
    batch(&mut stage.worker().await).await;
    stage.assert_level().await;
}

async fn what_a_batch_has_committed_outlives_a_crash_of_green(method: CaptureMethod) {
    let stage = Stage::on(Pair::separate().await, method).await;
    for statement in ["set wal_writer_delay = '10s'", "set synchronous_commit = off"] {
        stage.pair.green.execute(&format!("alter system {statement}")).await;
    }
    stage.pair.green.execute("select pg_reload_conf()").await;
    let (stage, mut worker) = stage.fill().await;
    stage.blue("delete from token where signature = 't7'; insert into login values ('late', 's')").await;
    assert_eq!(batch(&mut worker).await.commits, 1);
    stage.pair.green.server.restart(Stop::Immediate).await.expect("green is up again");
    batch(&mut stage.worker().await).await;
    stage.assert_level().await;
}

async fn what_left_blue_while_a_chunk_was_read_does_not_come_back(method: CaptureMethod) {
    let stage = Stage::by(method).await;
    stage.start().await;
    let mut reader = stage.pair.blue.client().await;
    let chunk = reader.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await;
    let chunk = chunk.expect("a snapshot");
    chunk.query_one("select count(*) from token", &[]).await.expect("the snapshot is taken");
    stage
        .blue("delete from token where signature = 't3'; update token set active = false where signature = 't4'")
        .await;
    stage.copy_from(&chunk).await;
    let stale = "select count(*) from token where active and signature in ('t3', 't4')";
    assert_eq!(stage.pair.green.ask::<i64>(stale).await, 2, "the chunk was written late");
    batch(&mut stage.worker().await).await;
    assert_eq!(stage.pair.green.ask::<i64>(stale).await, 0, "a token was resurrected");
    stage.assert_level().await;
}

#[tokio::test]
async fn a_row_that_a_rule_leaves_behind_stays_behind_when_it_is_touched() {
    let (stage, _) = Stage::filled().await;
    let mut setup = stage.setup(stage.term);
    let token = &mut setup.mapping.tables[3];
    token.select = format!("{} where (amount < 0) is not true", token.select);
    let mut worker = Worker::open(setup).await.expect("the worker opens");
    stage.blue("update token set amount = -1 where signature in ('t1', 't2')").await;
    batch(&mut worker).await;
    let there = "select count(*) from token where signature in ('t1', 't2')";
    assert_eq!(stage.pair.green.ask::<i64>(there).await, 0, "the rule leaves them behind now");
    stage.blue("update token set session = '{}' where signature = 't1'; update token set amount = 1 where signature = 't2'").await;
    batch(&mut worker).await;
    assert_eq!(
        stage
            .pair
            .green
            .ask::<String>("select string_agg(signature, ' ') from token where signature in ('t1', 't2')")
            .await,
        "t2"
    );
}

async fn a_batch_of_many_pages_and_tables_is_one_transaction_of_green(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    stage
        .blue(
            "begin; insert into client select 'n' || i, 'n', null from generate_series(1, 300) i;
        insert into token select 'n' || i, 'r', 'n' || i, true, null, null from generate_series(1, 300) i; commit",
        )
        .await;
    assert_eq!(batch(&mut worker).await.rows_inserted, 600);
    let transactions = "select count(distinct xmin::text) from
        (select xmin from client where id like 'n%' union all select xmin from token where signature like 'n%') t";
    assert_eq!(stage.pair.green.ask::<i64>(transactions).await, 1);
    stage.assert_level().await;
}

async fn a_truncate_under_way_keeps_the_batch_away_and_is_taken_over_afterwards(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    let writer = stage.pair.blue.client().await;
    writer.batch_execute("begin; truncate token").await.expect("under way");
    let error = worker.batch(&()).await.expect_err("the table is locked");
    assert!(matches!(error, LevelError::Locked { .. }) && error.is_passing(), "{error}");
    writer.batch_execute("commit").await.expect("committed");
    assert_eq!(batch(&mut worker).await.rows_deleted, 200);
    stage.assert_level().await;
}

#[tokio::test]
async fn one_row_that_leads_to_many_keys_is_derived_page_by_page() {
    let stage = Stage::new().await;
    stage.blue("insert into member select 'c1', p, 'role' from generate_series(10, 1000) p").await;
    stage.start().await;
    stage.copy().await;
    let mut setup = stage.setup(stage.term);
    let by_client = "select client_id, person::text from member where client_id = any($1::text[])";
    setup.mapping.tables[2].touched_by.push(touch("client", &[("id", "text")], by_client, &["client_id"]));
    let mut worker = Worker::open(setup).await.expect("the worker opens");
    stage.blue("update client set name = 'x' where id = 'c1'").await;
    let report = batch(&mut worker).await;
    assert!(report.keys >= 995, "{report:?}");
    assert_eq!((report.rows_deleted, report.rows_inserted), (1, 1), "only what differs is written");
    stage.assert_level().await;
}

#[tokio::test]
async fn ways_that_read_whole_tables_or_lead_to_too_many_rows_are_refused() {
    let stage = Stage::new().await;
    let many =
        "insert into token select 'y' || i, 'r', 'c1', true, null, 1 from generate_series(1, 12000) i; analyze token";
    stage.blue(many).await;
    let mut good = mapping();
    good.tables[3].estimated_rows = 12_000;
    assert_eq!(lookups(&stage, &good).await, "", "the ways of a sound mapping");

    let mut opaque = good.clone();
    opaque.tables[3].select = opaque.tables[3].select.replace("from token", "from (select * from token offset 0) t");
    assert_eq!(
        lookups(&stage, &opaque).await,
        "public.token: each batch would read all of blue's public.token to derive a few rows"
    );

    let mut by_client = good.clone();
    let keys = "select signature::text from token where client_id = any($1::text[])";
    by_client.tables[3].touched_by.push(touch("client", &[("id", "text")], keys, &["client_id"]));
    let told = lookups(&stage, &by_client).await;
    let wanted = [
        "public.token: each batch would read all of blue's public.token to find the keys of touched rows of public.client",
        "public.token: each batch would read all of it to find rows that were derived from touched rows of public.client",
        "public.token: one touched row of public.client leads to about",
    ];
    let told: Vec<&str> = told.split("; ").collect();
    assert!(told.len() == 3 && told.iter().zip(wanted).all(|(told, wanted)| told.starts_with(wanted)), "{told:#?}");

    stage.pair.blue.execute("create index on token (client_id)").await;
    stage.pair.green.execute("create index on token (client_id)").await;
    let told = lookups(&stage, &by_client).await;
    assert!(told.starts_with(wanted[2]) && !told.contains(';'), "{told}");
}

/// What is wrong with the ways of a mapping, where one row may lead to a hundred.
async fn lookups(stage: &Stage, mapping: &Mapping) -> String {
    let (mut blue, mut green) = (stage.pair.blue.client().await, stage.pair.green.client().await);
    let on_blue = catalog::read(&blue).await.expect("blue's catalog");
    let on_green = catalog::read(&green).await.expect("green's catalog");
    let problems = judge_lookups(&mut blue, &on_blue, &mut green, &on_green, mapping, 100).await.expect("explained");
    problems.iter().map(|problem| format!("{}: {}", problem.table, problem.what)).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn a_probe_of_green_takes_no_number_and_leaves_no_row() {
    let (stage, _) = Stage::filled().await;
    let green = &stage.pair.green;
    green.execute("drop function shout() cascade").await;
    green.execute(&format!("grant all on all tables in schema public to {APPLICATION}")).await;
    let numbers = "select format('%s %s', last_value, is_called) from client_number_seq";
    let (before, rows) = (green.ask::<String>(numbers).await, green.ask::<i64>("select count(*) from client").await);
    let accepting = refusal::accepting_writes(&mut green.client().await, APPLICATION).await.expect("tried");
    assert_eq!(accepting.len(), 4, "an open green takes writes: {accepting:?}");
    assert_eq!(
        (green.ask::<String>(numbers).await, green.ask::<i64>("select count(*) from client").await),
        (before, rows)
    );
}
