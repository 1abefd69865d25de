//! A log of touched keys that triggers write: what it catches, what makes it worthless, and that blue is not harmed by it.

use crate::harness::{APPLICATION, Pair, Place, eventually};
use crate::level::{Stage, batch, mapping};
use cutover::database::capture::{Capture, CaptureError, CaptureStanding};
use cutover::database::client::connect;
use cutover::database::level::{Answer, LevelError, Reapply, TouchedTable, Worker, begin_progress};
use cutover::plan::{CaptureMethod, Secret, TableName};
use cutover::sandbox::servers::Stop;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, Transaction};

const BOUND: Duration = Duration::from_secs(20);
const WAITING: &str = "select count(*) from cutover.touched where relation <> 0";
/// Everything that a run could leave: relations, functions, triggers, and the rights on tables.
const CATALOG: &str = "select md5((select coalesce(string_agg(c.oid::regclass || coalesce(c.relacl::text, '') || c.relreplident::text, ' ' order by c.oid), '')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^pg_' and (n.nspname <> 'cutover' or c.relname !~ '^term')) ||
  (select coalesce(string_agg(p.oid::regprocedure || p.prosrc, ' ' order by p.oid), '') from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'cutover')) ||
  (select coalesce(string_agg(pg_get_triggerdef(t.oid), ' ' order by t.oid), '') from pg_trigger t where not t.tgisinternal))";

async fn filled() -> (Stage, Worker) {
    Stage::filled_by(CaptureMethod::Triggers).await
}

async fn standing(stage: &Stage) -> CaptureStanding {
    stage.capture.verify(&stage.pair.blue.client().await).await.expect("it answers")
}

/// A batch, and a worker that opens, both refuse; and for a reason with this word.
async fn assert_lost(stage: &Stage, worker: &mut Worker, word: &str) {
    let refused = worker.batch(&()).await.expect_err("changes may be lost");
    assert!(matches!(&refused, LevelError::LostSlot { why } if why.contains(word)), "{refused}");
    let refused = Worker::open(stage.setup(stage.term)).await.map(drop).expect_err("changes may be lost");
    assert!(refused.to_string().contains(word), "{refused}");
}

#[tokio::test]
async fn writers_of_every_kind_are_caught_and_need_no_right_on_the_log() {
    let (stage, mut worker) = filled().await;
    let blue = &stage.pair.blue;
    blue.execute(&format!("grant all on all tables in schema public to {APPLICATION}")).await;
    let application = blue.application().await;
    let statements =
        "set search_path = pg_temp, public; create temp table touched (x int); insert into login values ('app', 's');
        update token set signature = 'moved' where signature = 't5'; delete from login where challenge = 'l39'";
    application.batch_execute(statements).await.expect("the application writes");
    let read = application.batch_execute("select from cutover.touched").await;
    assert!(read.is_err(), "the log is none of its business");
    let replica = "set session_replication_role = replica; update token set active = false where signature = 't8'";
    blue.client().await.batch_execute(replica).await.expect("a replica writes");
    let copied = "begin; copy login from program 'printf \"copied\\tc\\n\"'; savepoint s; insert into login values ('never', 's');
        rollback to s; prepare transaction 'p1'";
    blue.client().await.batch_execute(copied).await.expect("a copy is prepared");
    blue.execute(
        "insert into client values ('c7', 'upserted', null) on conflict (id) do update set name = excluded.name",
    )
    .await;
    blue.execute("merge into login using (values ('l1'), ('merged')) v (c) on challenge = c when matched then update set subject = 'm' when not matched then insert values (c, 'm')").await;
    let report = batch(&mut worker).await;
    assert_eq!(report.commits, 4, "the prepared one is none yet: {report:?}");
    blue.execute("commit prepared 'p1'").await;
    assert_eq!(batch(&mut worker).await.rows_inserted, 1);
    stage.assert_level().await;
    assert_eq!(blue.ask::<i64>(WAITING).await, 0, "what is on green is consumed");
}

#[tokio::test]
async fn keys_are_logged_as_a_slot_prints_them_whatever_the_application_has_set() {
    let stage = Stage::by(CaptureMethod::Triggers).await;
    let table = "create table odd (at timestamptz, flag boolean, code char(4), raw bytea, every interval, number float8, address inet,
        \"A b\" text, primary key (at, flag, code, raw, every, number, address, \"A b\"))";
    stage.blue(table).await;
    let (mut blue, tables) =
        (stage.pair.blue.client().await, [TableName { schema: "public".into(), name: "odd".into() }]);
    stage.capture.start(&mut blue, &stage.term, &tables, BOUND).await.expect("capture starts");
    let settings = "set timezone = 'Asia/Tokyo'; set datestyle = 'German'; set bytea_output = 'escape'; set intervalstyle = 'iso_8601'; set extra_float_digits = -3";
    let insert = "insert into odd values ('2026-01-02 03:04:05.678901+00', true, 'x', '\\x0041', '1 day 2 hours', 0.1::float8 + 0.2, '10.0.0.1', 'it''s \"so\" \\')";
    stage.pair.blue.client().await.batch_execute(&format!("{settings}; {insert}")).await.expect("written");
    let key: Vec<String> =
        blue.query_one("select key from cutover.touched where relation <> 0", &[]).await.expect("a row").get(0);
    let expected = [
        "2026-01-02 03:04:05.678901+00",
        "t",
        "x   ",
        "\\x0041",
        "1 day 02:00:00",
        "0.30000000000000004",
        "10.0.0.1",
        "it's \"so\" \\",
    ];
    assert_eq!(key, expected);
}

#[tokio::test]
async fn a_changed_key_leaves_the_old_one_and_the_new_one_and_nothing_twice() {
    let (stage, _) = filled().await;
    let keys = "select coalesce(string_agg(array_to_string(key, '/'), ' ' order by key), 'every') from cutover.touched where relation = ";
    let of = |table: &str| format!("{keys}'{table}'::regclass");
    stage.blue("update member set person = person + 10 where client_id = 'c1' and person < 3").await;
    assert_eq!(stage.pair.blue.ask::<String>(&of("member")).await, "c1/1 c1/11 c1/12 c1/2");
    stage.blue("update token set active = false where signature in ('t1', 't2'); update token set active = true where false").await;
    assert_eq!(stage.pair.blue.ask::<String>(&of("token")).await, "t1 t2");
    stage.blue("truncate consent").await;
    assert_eq!(stage.pair.blue.ask::<String>(&of("consent")).await, "every");
}

/// Breaks the worker's sessions on blue right before green commits.
struct Breaks<'a>(&'a Place);

impl Reapply for Breaks<'_> {
    fn reapply<'a>(&'a self, _target: &'a Transaction<'a>, _touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async move {
            let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
            self.0.ask::<i64>(kill).await;
            Ok(0)
        })
    }
}

#[tokio::test]
async fn what_green_has_and_blue_has_not_let_go_is_taken_again() {
    let (stage, mut worker) = filled().await;
    stage.blue("delete from token where signature = 't7'; insert into login values ('late', 's')").await;
    worker.batch(&Breaks(&stage.pair.blue)).await.expect_err("blue went away");
    assert_eq!(
        stage.pair.green.ask::<i64>("select count(*) from token where signature = 't7'").await,
        0,
        "green has it"
    );
    assert_eq!(stage.pair.blue.ask::<i64>(WAITING).await, 2, "and blue does not know");
    let mut worker = stage.worker().await;
    let again = batch(&mut worker).await;
    assert_eq!((again.commits, again.rows_deleted, again.rows_inserted), (1, 0, 0), "{again:?}");
    assert_eq!(stage.pair.blue.ask::<i64>(WAITING).await, 0);
    stage.assert_level().await;
}

#[tokio::test]
async fn a_log_that_may_have_missed_something_is_lost() {
    let spoilers = [
        ("alter table token disable trigger cutover_touch_delete", "disabled"),
        (
            "alter table token disable trigger user; delete from token where signature = 't1'; alter table token enable trigger user",
            "disabled",
        ),
        ("drop trigger cutover_touch_update on member", "is gone"),
        (
            "do $$ declare f text; begin select proname into f from pg_proc where proname ~ '^touch_'; execute format('create or replace function cutover.%I() returns trigger language plpgsql as ''begin return null; end''', f); end $$",
            "altered",
        ),
        ("truncate cutover.touched", "emptied"),
        ("delete from cutover.touched", "emptied"),
        ("drop table cutover.touched", "is gone"),
        ("alter table consent rename to consent_old; create table consent (like consent_old including all)", "renamed"),
        ("update cutover.capture set server = regexp_replace(server, '........$', '00000002')", "failed over"),
        ("update cutover.capture set mark = 0", "failed over"),
        ("update cutover.capture set nonce = gen_random_uuid()", "emptied or made anew"),
        ("drop table cutover.capture", ""),
    ];
    for (spoiler, word) in spoilers {
        let (stage, mut worker) = filled().await;
        batch(&mut worker).await;
        stage.blue(spoiler).await;
        assert_lost(&stage, &mut worker, word).await;
    }
}

#[tokio::test]
async fn a_log_made_anew_or_of_another_run_does_not_go_on_where_green_stands() {
    let (stage, mut worker) = filled().await;
    batch(&mut worker).await;
    let other = Capture { run: uuid::Uuid::new_v4(), ..stage.capture };
    let mut blue = stage.pair.blue.client().await;
    assert!(matches!(other.verify(&blue).await.expect("it answers"), CaptureStanding::Foreign(_)));
    assert!(matches!(other.stop(&mut blue, &stage.term).await, Err(CaptureError::Foreign { .. })));
    stage.capture.stop(&mut blue, &stage.term).await.expect("it stops");
    stage.blue("delete from token where signature = 't7'").await;
    let captured = stage.capture.start(&mut blue, &stage.term, &mapping().captured(), BOUND).await.expect("anew");
    let mut green = stage.pair.green.client().await;
    let refused = begin_progress(&mut green, &stage.term, &captured).await.expect_err("another log");
    assert!(matches!(refused, LevelError::LostSlot { .. }), "{refused}");
    let refused = worker.batch(&()).await.expect_err("another log");
    assert!(matches!(&refused, LevelError::LostSlot { why } if why.contains("anew")), "{refused}");
    let refused = Worker::open(stage.setup(stage.term)).await.map(drop).expect_err("another log");
    assert!(matches!(refused, LevelError::LostSlot { .. }), "{refused}");
}

#[tokio::test]
async fn a_server_that_failed_over_stops_the_run() {
    let stage = Stage::on(Pair::separate().await, CaptureMethod::Triggers).await;
    let (stage, mut worker) = stage.fill().await;
    stage.blue("delete from token where signature = 't7'").await;
    batch(&mut worker).await;
    let server = &stage.pair.blue.server;
    server.restart(Stop::Immediate).await.expect("a crash");
    assert!(matches!(standing(&stage).await, CaptureStanding::Present(_)), "a crash is no failover");
    let mut worker = stage.worker().await;
    batch(&mut worker).await;
    std::fs::write(server.folder().join("data/standby.signal"), "").expect("the signal");
    server.restart(Stop::Fast).await.expect("a standby");
    stage.blue("select pg_promote()").await;
    let standing = standing(&stage).await;
    assert!(matches!(&standing, CaptureStanding::Lost(why) if why.contains("failed over")), "{standing:?}");
    let refused = Worker::open(stage.setup(stage.term)).await.map(drop).expect_err("commits may be lost");
    assert!(matches!(refused, LevelError::LostSlot { .. }), "{refused}");
}

#[tokio::test]
async fn a_server_without_decoding_and_a_login_that_may_not_replicate_will_do() {
    let pair = Pair::separate().await;
    pair.blue.execute("alter system set wal_level = replica").await;
    pair.blue.execute("alter system set max_replication_slots = 0").await;
    pair.blue.server.restart(Stop::Fast).await.expect("blue is up again");
    let mut stage = Stage::on(pair, CaptureMethod::Triggers).await;
    let blue = &stage.pair.blue;
    blue.execute(&format!(
        "create role owner_of_tables; create role ours login bypassrls in role owner_of_tables; grant create on schema cutover to ours;
         alter schema cutover owner to ours; alter table cutover.term owner to ours; grant usage, create on schema public to owner_of_tables;
         grant set on parameter session_replication_role, deadlock_timeout to ours;
         do $$ declare t text; begin for t in select tablename from pg_tables where schemaname = 'public' loop
           execute format('alter table public.%I owner to owner_of_tables', t); end loop; end $$;
         grant all on all tables in schema public to {APPLICATION}"
    ))
    .await;
    blue.server.create_role("ours_with_password", "in role ours").await.expect("a login");
    blue.execute("alter role ours_with_password bypassrls").await;
    let url = blue.server.url("ours_with_password", &blue.database);
    let ours = connect(&url, "blue").await.expect("it logs in");
    let may: bool = ours
        .query_one("select rolreplication or rolsuper from pg_roles where rolname = session_user", &[])
        .await
        .expect("a row")
        .get(0);
    assert!(!may, "an ordinary login");
    started(&stage, &url).await;
    stage.copy().await;
    let mut setup = stage.setup(stage.term);
    setup.source = url;
    let mut worker = Worker::open(setup).await.expect("the worker opens");
    stage
        .pair
        .blue
        .application()
        .await
        .batch_execute("delete from token where signature = 't7'; update member set role = 'x'")
        .await
        .expect("written");
    assert_eq!(batch(&mut worker).await.commits, 1);
    stage.assert_level().await;
    worker.draw_near().await;
    stage.capture.method = CaptureMethod::Slot;
    let mut client = stage.pair.blue.client().await;
    let refused = stage.capture.start(&mut client, &stage.term, &mapping().captured(), BOUND).await;
    assert!(refused.is_err(), "there is no slot to be had");
}

async fn started(stage: &Stage, url: &Secret) {
    let mut client = connect(url, "blue").await.expect("it logs in");
    let captured =
        stage.capture.start(&mut client, &stage.term, &mapping().captured(), BOUND).await.expect("it starts");
    let mut green = stage.pair.green.client().await;
    begin_progress(&mut green, &stage.term, &captured).await.expect("the first position is stored");
}

#[tokio::test]
async fn an_undone_capture_leaves_the_catalog_as_it_was() {
    let stage = Stage::by(CaptureMethod::Triggers).await;
    stage.blue("create table parts (id int primary key) partition by range (id); create table parts_0 partition of parts for values from (0) to (10)").await;
    let before: String = stage.pair.blue.ask(CATALOG).await;
    let mut blue = stage.pair.blue.client().await;
    let mut tables = mapping().captured();
    tables.push(TableName { schema: "public".into(), name: "parts".into() });
    for _ in 0..2 {
        let first = stage.capture.start(&mut blue, &stage.term, &tables, BOUND).await.expect("it starts");
        assert_eq!(stage.capture.start(&mut blue, &stage.term, &tables, BOUND).await.expect("again"), first);
        stage
            .blue(
                "create table parts_1 partition of parts for values from (10) to (20); insert into parts_1 values (11)",
            )
            .await;
        assert_eq!(stage.pair.blue.ask::<i64>(WAITING).await, 1, "a partition that came later is caught");
        assert!(matches!(standing(&stage).await, CaptureStanding::Present(_)));
        stage.blue("drop table parts_1").await;
        for _ in 0..2 {
            stage.capture.stop(&mut blue, &stage.term).await.expect("it stops");
            assert_eq!(standing(&stage).await, CaptureStanding::Absent);
        }
        assert_eq!(stage.pair.blue.ask::<String>(CATALOG).await, before);
    }
}

#[tokio::test]
async fn a_key_column_that_is_renamed_stops_the_run_and_no_write_of_the_application() {
    let (stage, mut worker) = filled().await;
    stage.blue("alter table login rename challenge to question; insert into login values ('after', 's'); update login set subject = 'x' where question = 'l1'").await;
    let refused = worker.batch(&()).await.expect_err("the columns changed");
    assert!(matches!(refused, LevelError::Changed { .. }), "{refused}");
    stage.blue("alter table login rename question to challenge").await;
    batch(&mut worker).await;
    stage.assert_level().await;
}

/// A session that holds a table and has written; and how long another writer waits meanwhile.
async fn longest_wait(place: &Place, until: Instant) -> Duration {
    let writer = place.client().await;
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        let begun = Instant::now();
        writer.batch_execute("update login set subject = 'w' where challenge = 'l1'").await.expect("it writes");
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stays_open_is_named_and_others_hardly_wait_behind_us() {
    let stage = Stage::by(CaptureMethod::Triggers).await;
    let holder = stage.pair.blue.client().await;
    let hold = "set application_name = 'slow_job'; begin; insert into login values ('slow', 's')";
    holder.batch_execute(hold).await.expect("begun");
    let mut blue = stage.pair.blue.client().await;
    let (bound, tables) = (Duration::from_secs(2), mapping().captured());
    let starting = stage.capture.start(&mut blue, &stage.term, &tables, bound);
    let (blocked, waited) = tokio::join!(starting, longest_wait(&stage.pair.blue, Instant::now() + bound));
    let error = blocked.expect_err("the table is held");
    assert!(matches!(error, CaptureError::Blocked { .. }) && error.to_string().contains("slow_job"), "{error}");
    assert!(waited < Duration::from_millis(1000), "a writer waited for {waited:?}");
    assert_eq!(standing(&stage).await, CaptureStanding::Partial);
    holder.batch_execute("commit").await.expect("committed");
    stage.start().await;
    stage.copy().await;
    batch(&mut stage.worker().await).await;
    stage.assert_level().await;
}

/// The first snapshot sees a row whose writer was under way when the triggers came, since they came after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_outlast_every_writer_that_does_not_fire_them() {
    let stage = std::sync::Arc::new(Stage::by(CaptureMethod::Triggers).await);
    let writer = stage.pair.blue.client().await;
    writer.batch_execute("begin; insert into login values ('older', 's')").await.expect("begun");
    let starting = tokio::spawn({
        let stage = stage.clone();
        async move { stage.start().await }
    });
    let begun = async || {
        let made = "select count(*) from pg_trigger where tgname ~ '^cutover_touch_' and tgrelid <> 'login'::regclass";
        (stage.pair.blue.ask::<i64>(made).await > 0).then_some(())
    };
    eventually(BOUND, "the triggers of a table before it", begun).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!starting.is_finished(), "a snapshot taken now would miss what the log never gets");
    writer.batch_execute("commit").await.expect("committed");
    starting.await.expect("it starts");
    stage.copy().await;
    batch(&mut stage.worker().await).await;
    stage.assert_level().await;
}

#[tokio::test]
async fn a_long_log_is_emptied_of_what_was_consumed_and_given_up_where_it_must() {
    let (stage, mut worker) = filled().await;
    let size = async |client: &Client| stage.capture.kept(client).await.expect("it answers");
    let mut blue = stage.pair.blue.client().await;
    stage.blue("insert into login select repeat('long key ', 20) || i, 's' from generate_series(1, 40000) i").await;
    let full = size(&blue).await;
    assert!(full.bytes > 6 << 20 && full.lost.is_none(), "{full:?}");
    assert_eq!(batch(&mut worker).await.rows_inserted, 40_000);
    worker.draw_near().await;
    let near = async || (size(&stage.pair.blue.client().await).await.bytes < 1 << 20).then_some(());
    // Another test's open transaction may keep the rows for a while.
    eventually(BOUND, "the log is short again", async || {
        stage.blue("vacuum cutover.touched").await;
        near().await
    })
    .await;
    assert_eq!(batch(&mut worker).await.keys, 0);
    for _ in 0..2 {
        stage.capture.give_up(&mut blue, &stage.term).await.expect("given up");
    }
    assert!(size(&blue).await.lost.is_some());
    stage.blue("delete from token where signature = 't7'").await;
    assert_eq!(
        stage.pair.blue.ask::<i64>("select count(*) from cutover.touched").await,
        0,
        "nothing is logged any more"
    );
    assert_lost(&stage, &mut worker, "gone").await;
    stage.capture.stop(&mut blue, &stage.term).await.expect("it stops");
    assert_eq!(standing(&stage).await, CaptureStanding::Absent);
}

#[tokio::test]
async fn a_table_that_others_inherit_from_is_refused() {
    let stage = Stage::by(CaptureMethod::Triggers).await;
    stage.blue("create table heir () inherits (login)").await;
    let mut blue = stage.pair.blue.client().await;
    let refused = stage.capture.start(&mut blue, &stage.term, &mapping().captured(), BOUND).await;
    assert!(matches!(refused, Err(CaptureError::Inherited { .. })), "{refused:?}");
    stage.capture.stop(&mut blue, &stage.term).await.expect("there is nothing to stop");
}
