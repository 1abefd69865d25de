//! Keeping blue level with green after the flip, on real servers: what goes back, what stays behind, and what is never taken for granted.

use crate::harness::{Pair, Place};
use crate::level::for_both;
use cutover::database::capture::{Capture, CaptureError, Opened};
use cutover::database::level::{
    Answer, BatchReport, Explained, Gone, LevelError, LevelSetup, Limits, Reapply, TouchedTable, Unexplained, Worker,
    begin_progress,
};
use cutover::database::mapping::{Mapping, resolve, resolve_back};
use cutover::database::term::{self, Term};
use cutover::database::{catalog, mapping};
use cutover::plan::{self, CaptureMethod, Plan, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Transaction;
use uuid::Uuid;

for_both!(
    rows_made_changed_and_removed_on_green_go_back_with_blue_s_own_columns_kept,
    a_client_deleted_on_green_takes_what_hangs_on_it_also_what_green_never_had,
    of_tokens_only_what_is_stricter_goes_back,
    a_reverse_delete_is_applied_when_it_is_explained_and_recorded_when_it_is_not,
    what_green_never_had_and_what_was_touched_before_it_opened_stays_untouched,
    there_and_back_and_there_again_green_is_equal_without_a_copy,
    a_zombie_neither_levels_blue_nor_applies_what_is_unexplained,
    the_past_is_skipped_within_the_log_and_identities_come_back,
);

const BLUE: &str = "
create table client (pk serial primary key, id text not null unique, name text not null, tags text not null default '', own text default 'blue''s');
create table jwk (pk serial primary key, sid text not null unique, data text);
create table consent (challenge text primary key, client_id text references client (id) on delete cascade);
create table token (signature text primary key, request_id text not null, client_id text references client (id) on delete cascade,
  consent text references consent (challenge) on delete cascade, active boolean default true);
create table refresh (signature text primary key, request_id text not null, client_id text references client (id) on delete cascade,
  active boolean default true);
create table code (signature text primary key, request_id text not null, active boolean default true);
create table session (id text primary key, subject text);
create table login (challenge text primary key, session_id text references session (id) on delete cascade, client_id text references client (id) on delete set null);
insert into client (id, name, tags) select 'c' || i, 'name ' || i, 'a|b' || i from generate_series(0, 9) i;
insert into jwk (sid, data) select 'k' || i, 'key' from generate_series(0, 4) i;
insert into consent select 'k' || i, 'c' || i % 10 from generate_series(0, 19) i;
insert into token select 't' || i, 'r' || i, 'c' || i % 10, 'k' || i % 20 from generate_series(0, 39) i;
insert into token values ('old1', 'old1', 'c1'), ('old2', 'old2', 'c2');
insert into refresh select 'f' || i, 'r' || i, 'c' || i % 10 from generate_series(0, 39) i;
insert into code select 'd' || i, 'r' || i from generate_series(0, 39) i;
insert into session select 's' || i, 'subject' from generate_series(0, 9) i;
insert into login select 'l' || i, 's' || i, 'c' || i from generate_series(0, 9) i;
create table mark (id text primary key, consent text);
insert into mark values ('m1', 'k1'), ('m2', null), ('lost', 'nobody');";
const GREEN: &str = "
create table client (id text not null, nid int not null, pk uuid not null default gen_random_uuid() unique, pk_deprecated int not null unique,
  name text not null, tags jsonb not null default '[]', strategy text default 'new', origin text, primary key (id, nid));
create table jwk (pk uuid primary key default gen_random_uuid(), pk_deprecated int not null unique, sid text not null unique, data text);
create table token (signature text primary key, request_id text not null, client_id text, nid int not null, active boolean default true, consent text,
  foreign key (client_id, nid) references client (id, nid) on delete cascade);
create table refresh (signature text primary key, request_id text not null, client_id text, active boolean default true);
create table code (signature text primary key, request_id text not null, active boolean default true);
create table session (id text primary key, subject text);
create table mark (id text primary key, consent text);";
const PLAN: &str = "
version: 1
name: there-and-back
control: ${CONTROL}
databases: { blue: { url: '${BLUE}', role: hydra }, green: { url: '${GREEN}', role: hydra } }
drop: [consent, login]
cleanup:
  - { name: old, table: token, where: \"signature like 'old%'\", cap: { rows: 10, percent: 50 }, because: nobody uses them }
  - { name: lost, table: mark, orphan_of: { table: consent, columns: [consent] }, cap: { rows: 10, percent: 50 }, because: it marks nothing }
carry:
  client:
    set: { nid: '1', pk: md5(id)::uuid, pk_deprecated: pk, origin: own, tags: \"to_jsonb(string_to_array(tags, '|'))\" }
    own_columns: [strategy]
  jwk: { set: { pk: md5(sid)::uuid, pk_deprecated: pk }, key: [sid] }
  token: { set: { nid: '1' } }
reverse:
  client: { carry: { set: { pk: pk_deprecated, tags: \"array_to_string(array(select jsonb_array_elements_text(tags)), '|')\" } } }
  jwk: { carry: { set: { pk: pk_deprecated } } }
  token: revocations
  refresh: revocations
  code: revocations
  session: revocations
  mark: carry
";

fn plan_of(text: &str) -> Plan {
    let url = |name: &str| Some(format!("postgres://login@127.0.0.1:5432/{}", name.to_lowercase()));
    plan::parse(text, Path::new("."), &url).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// What knows revocations here: events by request, and a used code.
#[derive(Default)]
struct Known {
    revoked: Vec<String>,
}

impl Reapply for Known {
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>, _touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async move {
            let dead = target.execute("delete from token where request_id = any($1)", &[&self.revoked]).await?;
            let off = "update refresh set active = false where request_id = any($1) and active";
            Ok(dead + target.execute(off, &[&self.revoked]).await?)
        })
    }

    fn explain<'a>(&'a self, source: &'a Transaction<'a>, gone: Gone<'a>) -> Answer<'a, Explained> {
        Box::pin(async move {
            if gone.table.name == "code" {
                return Ok(Explained::All);
            }
            let known = "select request_id from token where request_id = any($1) union select request_id from refresh where request_id = any($1)";
            let rows = source.query(known, &[&gone.chains]).await?;
            Ok(Explained::Chains(rows.iter().map(|row| row.get(0)).collect()))
        })
    }
}

struct Stage {
    pair: Pair,
    term: Term,
    run: Uuid,
    method: CaptureMethod,
    forward: Mapping,
    back: Mapping,
}

impl Stage {
    /// Green filled from blue by the forward worker, captured for the way back; green is not open yet.
    async fn closed(method: CaptureMethod) -> Self {
        let pair = Pair::shared().await;
        pair.blue.execute(BLUE).await;
        pair.green.execute(GREEN).await;
        let term = Term { term: 1, nonce: Uuid::new_v4() };
        for side in [&pair.blue, &pair.green] {
            term::install(&side.client().await, &term).await.expect("the term is installed");
        }
        let plan = plan_of(PLAN);
        let blue = catalog::read(&pair.blue.client().await).await.expect("blue's catalog");
        let green = catalog::read(&pair.green.client().await).await.expect("green's catalog");
        let values = BTreeMap::new();
        let mut plan_there = plan.clone();
        plan_there.reverse.clear();
        let forward = resolve(&plan_there, &blue, &green, &values).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let back = resolve_back(&plan, &blue, &green, &values).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let stage = Self { pair, term, run: Uuid::new_v4(), method, forward, back };
        stage.start(Side::Blue).await;
        let mut worker = stage.worker(Side::Blue, term).await;
        worker.touch_everything();
        worker.batch(&()).await.expect("green is filled");
        stage.assert_green_is_level().await;
        stage.start(Side::Green).await;
        stage
    }

    /// And green has opened: what was captured until now is skipped.
    async fn open(method: CaptureMethod) -> (Self, Worker) {
        let stage = Self::closed(method).await;
        let worker = stage.turn_back().await;
        (stage, worker)
    }

    fn capture(&self, side: Side) -> Capture {
        Capture { run: self.run, side, method: self.method }
    }

    fn place(&self, side: Side) -> &Place {
        if side == Side::Blue { &self.pair.blue } else { &self.pair.green }
    }

    async fn start(&self, side: Side) {
        let (mut source, mut target) = (self.place(side).client().await, self.place(side.other()).client().await);
        let mapping = if side == Side::Blue { &self.forward } else { &self.back };
        let (capture, bound) = (self.capture(side), Duration::from_secs(30));
        capture
            .identify(&mut source, &self.term, mapping, bound)
            .await
            .expect("rows are known by what the other keeps");
        let tables = if side == Side::Blue { self.forward.captured() } else { self.forward.carried() };
        let captured = capture.start(&mut source, &self.term, &tables, bound).await.expect("capture starts");
        if side == Side::Blue {
            begin_progress(&mut target, &self.term, &captured).await.expect("the first position is stored");
        }
    }

    /// Everything until now is green's past; from here on blue is kept level.
    async fn turn_back(&self) -> Worker {
        let (mut blue, green) = (self.pair.blue.client().await, self.pair.green.client().await);
        let capture = self.capture(Side::Green);
        let end: i64 = self.pair.green.ask("select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint").await;
        let snapshot: String = self.pair.green.ask("select pg_current_snapshot()::text").await;
        let opened = Opened { lsn: end.cast_unsigned(), snapshot };
        for _ in 0..2 {
            capture.skip_to(&green, &opened).await.expect("the past is skipped");
            let cutover::database::capture::CaptureStanding::Present(captured) =
                capture.verify(&green).await.expect("it answers")
            else {
                panic!("the capture stands")
            };
            begin_progress(&mut blue, &self.term, &captured).await.expect("the position is stored");
        }
        self.worker(Side::Green, self.term).await
    }

    fn setup(&self, side: Side, term: Term) -> LevelSetup {
        LevelSetup {
            source: self.place(side).url(),
            target: self.place(side.other()).url(),
            capture: self.capture(side),
            mapping: if side == Side::Blue { self.forward.clone() } else { self.back.clone() },
            term,
            limits: Limits { lock: Duration::from_secs(1), statement: Duration::from_secs(30), page_keys: 3 },
        }
    }

    async fn worker(&self, source: Side, term: Term) -> Worker {
        Worker::open(self.setup(source, term)).await.expect("the worker opens")
    }

    async fn green(&self, statements: &str) {
        self.pair.green.execute(statements).await;
    }

    /// The one text that a question about blue has for an answer.
    async fn blue(&self, question: &str) -> String {
        self.pair
            .blue
            .ask::<Option<String>>(&format!("select string_agg(t::text, ' ' order by t::text) from ({question}) q(t)"))
            .await
            .unwrap_or_default()
    }

    async fn assert_green_is_level(&self) {
        let (blue, green) = (self.pair.blue.client().await, self.pair.green.client().await);
        for table in &self.forward.tables {
            let list: Vec<String> = table.columns.iter().map(|column| format!("q.{}::text", column.name)).collect();
            let rows = |from: &str| format!("select row({})::text from ({from}) q", list.join(", "));
            let mut found = [BTreeSet::new(), BTreeSet::new()];
            for (place, client, from) in
                [(0, &blue, table.select.clone()), (1, &green, format!("select * from {}", table.target.name))]
            {
                let rows = client.query(&rows(&from), &[]).await.expect("rows");
                found[place] = rows.iter().map(|row| row.get::<_, String>(0)).collect();
            }
            assert_eq!(found[0], found[1], "{}", table.target);
        }
    }
}

async fn batch(worker: &mut Worker, known: &Known) -> BatchReport {
    worker.batch(known).await.expect("the batch succeeds")
}

async fn unexplained(worker: &mut Worker) -> Vec<(String, u64, String)> {
    let found: Vec<Unexplained> = worker.unexplained().await.expect("it answers");
    found.into_iter().map(|one| (one.table.name, one.count, one.samples.join(" "))).collect()
}

async fn rows_made_changed_and_removed_on_green_go_back_with_blue_s_own_columns_kept(method: CaptureMethod) {
    let (stage, mut worker) = Stage::open(method).await;
    stage.pair.blue.execute("update client set own = 'kept' where id = 'c1'").await;
    stage
        .green(
            "update client set name = 'other', tags = '[\"x\", \"y\"]' where id = 'c1';
             insert into client (id, nid, pk_deprecated, name) values ('new', 1, 100, 'made on green');
             update jwk set data = 'turned' where sid = 'k1'; delete from jwk where sid = 'k2';
             insert into jwk (pk_deprecated, sid, data) values (101, 'made', 'key'), (102, 'short', 'key')",
        )
        .await;
    let report = batch(&mut worker, &Known::default()).await;
    assert_eq!((report.rows_deleted, report.rows_inserted, report.rows_fallen), (3, 5, 0), "{report:?}");
    let client = |id: &str| format!("select concat_ws(',', pk, id, name, tags, own) from client where id = '{id}'");
    assert_eq!(stage.blue(&client("c1")).await, "2,c1,other,x|y,kept");
    assert_eq!(stage.blue(&client("new")).await, "100,new,made on green,,blue's");
    assert_eq!(stage.blue(&client("c3")).await, "4,c3,name 3,a|b3,blue's");
    stage.green("delete from jwk where sid = 'short'; update jwk set sid = 'moved' where sid = 'k3'").await;
    batch(&mut worker, &Known::default()).await;
    let keys = stage.blue("select concat(pk, sid, data) from jwk").await;
    assert_eq!(keys, "101madekey 1k0key 2k1turned 4movedkey 5k4key", "also one that was made and removed on green");
    assert_eq!(stage.blue("select signature from token where client_id = 'c1'").await, "old1 t1 t11 t21 t31");
    assert_eq!(batch(&mut worker, &Known::default()).await.keys, 0, "nothing is left to do");
}

async fn a_client_deleted_on_green_takes_what_hangs_on_it_also_what_green_never_had(method: CaptureMethod) {
    let (stage, mut worker) = Stage::open(method).await;
    stage.pair.blue.execute("create table paper (client_id text references client (id))").await;
    stage.green("delete from client where id = 'c1'").await;
    let mut worker_before = std::mem::replace(&mut worker, stage.worker(Side::Green, stage.term).await);
    stage.pair.blue.execute("insert into paper values ('c1')").await;
    let refused = worker.batch(&Known::default()).await.expect_err("a paper hangs on the client and refuses");
    assert!(matches!(refused, LevelError::ForeignKey { .. }), "{refused}");
    assert_eq!(stage.blue("select signature from token where client_id = 'c1'").await, "old1 t1 t11 t21 t31");
    stage.pair.blue.execute("truncate paper").await;
    let report = batch(&mut worker, &Known::default()).await;
    // Five tokens, four refresh tokens, two consents.
    assert_eq!((report.rows_deleted, report.rows_fallen, report.rows_unexplained), (1, 11, 0), "{report:?}");
    let left = "select signature from token where client_id = 'c1' or signature in ('old1', 't1') union all select signature from refresh where client_id = 'c1' union all select challenge from consent where client_id = 'c1'";
    assert_eq!(stage.blue(left).await, "");
    assert_eq!(stage.blue("select count(*) from login where client_id is null").await, "1", "a login lets go");
    let refused = worker_before.batch(&Known::default()).await.expect_err("the position was moved");
    assert!(matches!(refused, LevelError::AnotherWorker { .. } | LevelError::LostSlot { .. }), "{refused}");
}

async fn of_tokens_only_what_is_stricter_goes_back(method: CaptureMethod) {
    let (stage, mut worker) = Stage::open(method).await;
    stage.pair.blue.execute("update token set active = false where signature = 't1'; update refresh set active = null where signature = 'f7'").await;
    stage
        .green(
            "insert into token values ('fresh', 'r1', 'c1', 1); update token set request_id = request_id where signature = 't1';
             update token set active = false where signature = 't2'; update token set active = null where signature = 't3';
             update refresh set active = false where signature in ('f7', 'f8'); update token set client_id = 'c9' where signature = 't4'",
        )
        .await;
    let report = batch(&mut worker, &Known::default()).await;
    assert_eq!((report.rows_deactivated, report.rows_removed, report.rows_inserted), (2, 0, 0), "{report:?}");
    assert_eq!(
        stage.blue("select signature from token where active is false").await,
        "t1 t2",
        "never switched on again, and a null means nothing"
    );
    assert_eq!(stage.blue("select concat(signature, active) from refresh where active is not true").await, "f7 f8f");
    assert_eq!(stage.blue("select client_id from token where signature = 't4'").await, "c4", "nothing else goes back");
    assert_eq!(stage.blue("select signature from token where signature = 'fresh'").await, "");
}

async fn a_reverse_delete_is_applied_when_it_is_explained_and_recorded_when_it_is_not(method: CaptureMethod) {
    let (stage, mut worker) = Stage::open(method).await;
    stage
        .green(
            "delete from token where signature in ('t1', 't2', 't3', 't4', 't5'); delete from refresh where signature in ('f1', 'f3', 'f4', 'f5');
             insert into refresh values ('g3', 'r3', 'c3');
             delete from code where signature = 'd6'; delete from session where id = 's7'",
        )
        .await;
    // r1 was revoked by an event; r2's refresh token lives; r3 was rotated; of r4 and r5 nothing is left.
    let known = Known { revoked: vec!["r1".into()] };
    let report = batch(&mut worker, &known).await;
    assert_eq!((report.rows_reapplied, report.rows_removed, report.rows_unexplained), (2, 4, 5), "{report:?}");
    assert_eq!(
        stage.blue("select concat(signature, active) from refresh where request_id in ('r1', 'r2', 'r3')").await,
        "f1f f2t"
    );
    assert_eq!(stage.blue("select signature from code where signature = 'd6'").await, "", "a used code stays used");
    let open = [
        ("refresh".to_owned(), 2, "f4 f5".to_owned()),
        ("session".to_owned(), 1, "s7".to_owned()),
        ("token".to_owned(), 2, "t4 t5".to_owned()),
    ];
    assert_eq!(unexplained(&mut worker).await, open);
    assert_eq!(
        stage.blue("select signature from token where request_id in ('r1', 'r2', 'r3', 'r4', 'r5')").await,
        "t4 t5",
        "they stand"
    );

    drop(worker);
    let mut worker = stage.worker(Side::Green, stage.term).await;
    assert_eq!(unexplained(&mut worker).await, open, "it outlives the worker");
    let known = Known { revoked: vec!["r1".into(), "r5".into()] };
    stage.green("insert into token values ('t4', 'r4', 'c4', 1)").await;
    let report = batch(&mut worker, &known).await;
    assert_eq!((report.rows_unexplained, report.rows_removed), (0, 0), "{report:?}");
    let open = [("refresh".to_owned(), 1, "f4".to_owned()), ("session".to_owned(), 1, "s7".to_owned())];
    assert_eq!(unexplained(&mut worker).await, open, "one came back, another was explained by an event");

    assert_eq!(worker.apply_unexplained().await.expect("it is applied"), 2);
    assert_eq!(stage.blue("select signature from refresh where signature = 'f4' union all select challenge from login where session_id = 's7' or challenge = 'l7'").await, "");
    assert_eq!(stage.blue("select signature from token where signature = 't4'").await, "t4");
    assert_eq!((worker.apply_unexplained().await.expect("again"), unexplained(&mut worker).await), (0, Vec::new()));
}

async fn what_green_never_had_and_what_was_touched_before_it_opened_stays_untouched(method: CaptureMethod) {
    let stage = Stage::closed(method).await;
    stage.green("delete from token where signature = 't9'; delete from client where id = 'c8'; update token set active = false where signature = 't1'").await;
    let mut worker = stage.turn_back().await;
    stage.pair.blue.execute("insert into client (id, name) values ('late', 'made on blue'); insert into token values ('late', 'late', 'late')").await;
    stage.green("update token set active = false where signature = 't2'").await;
    let report = batch(&mut worker, &Known::default()).await;
    assert_eq!(
        (report.keys > 0, report.rows_deactivated, report.rows_deleted, report.rows_unexplained),
        (true, 1, 0, 0),
        "{report:?}"
    );
    let untouched = "select signature from token where signature in ('t9', 'old1', 'late', 't1') and active union all select id from client where id in ('c8', 'late')";
    assert_eq!(stage.blue(untouched).await, "c8 late late old1 t1 t9");
    stage.green("truncate token").await;
    let report = batch(&mut worker, &Known::default()).await;
    assert_eq!(
        stage.blue("select u.key[1] from cutover.unexplained u where key[1] like 'old%'").await,
        "",
        "what was cleaned was never on green"
    );
    assert!(report.rows_unexplained > 0 || report.rows_removed > 0, "{report:?}");
    stage.green("truncate mark").await;
    batch(&mut worker, &Known::default()).await;
    assert_eq!(stage.blue("select id from mark").await, "lost", "an orphan that green never had stays");
}

async fn there_and_back_and_there_again_green_is_equal_without_a_copy(method: CaptureMethod) {
    let (stage, mut back) = Stage::open(method).await;
    stage
        .green(
            "delete from client where id = 'c1'; insert into client (id, nid, pk_deprecated, name) values ('new', 1, 100, 'n');
             insert into token values ('fresh', 'fresh', 'new', 1); delete from token where signature = 't2'; delete from session where id = 's1';
             delete from token where signature = 't4'; delete from refresh where signature = 'f4'",
        )
        .await;
    batch(&mut back, &Known::default()).await;
    assert!(!unexplained(&mut back).await.is_empty());
    stage.pair.blue.execute("update client set name = 'on blue again' where id = 'c2'; delete from token where signature = 't3'; insert into jwk (sid) values ('again')").await;
    let mut there = stage.worker(Side::Blue, stage.term).await;
    there.batch(&()).await.expect("only what was touched");
    let fresh: i64 = stage.pair.green.ask("select count(*) from token where signature = 'fresh'").await;
    assert_eq!(fresh, 1, "green's own row was never touched on blue");
    there.touch_everything();
    there.batch(&()).await.expect("everything");
    stage.assert_green_is_level().await;
    assert_eq!(there.batch(&()).await.expect("once").keys, 0, "the next batch touches what was touched");

    let mut back = stage.turn_back().await;
    assert_eq!(unexplained(&mut back).await, [], "what was unexplained the first time is forgotten");
    stage.green("delete from token where signature = 't5'").await;
    let report = batch(&mut back, &Known::default()).await;
    assert_eq!((report.rows_removed, report.rows_deleted, report.rows_unexplained), (1, 0, 0), "{report:?}");
    assert_eq!(stage.blue("select id from client where id in ('c1', 'new')").await, "new");
}

async fn a_zombie_neither_levels_blue_nor_applies_what_is_unexplained(method: CaptureMethod) {
    let (stage, mut zombie) = Stage::open(method).await;
    stage.green("delete from session where id = 's1'").await;
    batch(&mut zombie, &Known::default()).await;
    let next = Term { term: 2, nonce: Uuid::new_v4() };
    for side in [&stage.pair.blue, &stage.pair.green] {
        term::install(&side.client().await, &next).await.expect("another takes over");
    }
    stage.green("delete from client where id = 'c1'").await;
    for refused in [zombie.batch(&Known::default()).await.map(|_| 0), zombie.apply_unexplained().await] {
        let refused = refused.expect_err("the term is another's");
        assert!(matches!(&refused, LevelError::Term(error) if error.is_superseded()), "{refused}");
    }
    assert_eq!(
        stage.blue("select id from client where id = 'c1' union select id from session where id = 's1'").await,
        "c1 s1"
    );
    let mut worker = stage.worker(Side::Green, next).await;
    batch(&mut worker, &Known::default()).await;
    assert_eq!(worker.apply_unexplained().await.expect("the new owner may"), 1);
    assert_eq!(
        stage.blue("select id from client where id = 'c1' union select id from session where id = 's1'").await,
        ""
    );
}

async fn the_past_is_skipped_within_the_log_and_identities_come_back(method: CaptureMethod) {
    let stage = Stage::closed(method).await;
    let mut green = stage.pair.green.client().await;
    let capture = stage.capture(Side::Green);
    let beyond = Opened { lsn: u64::MAX >> 1, snapshot: String::new() };
    let beyond = capture.skip_to(&green, &beyond).await.expect_err("no log reaches that far");
    assert!(matches!(beyond, CaptureError::Beyond { .. }), "{beyond}");
    let identity = "select relreplident::text from pg_class where oid = 'jwk'::regclass";
    assert_eq!(stage.pair.green.ask::<String>(identity).await, "i", "a key is known by what blue keeps of it");
    capture.stop(&mut green, &stage.term).await.expect("it stops");
    assert_eq!(stage.pair.green.ask::<String>(identity).await, "d");
    let left: i64 = stage.pair.green.ask("select count(*) from pg_class where relnamespace = 'cutover'::regnamespace and relname in ('capture', 'replica_identity')").await;
    assert_eq!(left, 0);
}

/// One change of blue's schema, green's or the plan, and what is said of it.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("", "", "session: revocations|session: carry", ""),
    (
        "",
        "",
        "set: { pk: pk_deprecated, tags|set: { tags",
        "public.client: column pk was changed by set: on its way to green",
    ),
    (
        "",
        "",
        "  jwk: { carry: { set: { pk: pk_deprecated } } }|  jwk: carry",
        "public.jwk: column pk was changed by set:",
    ),
    (
        "alter table session add column seat int not null default 1; alter table session alter seat drop default",
        "",
        "session: revocations|session: carry",
        "public.session: green gives nothing for column seat",
    ),
    (
        "alter table session add column at timestamptz",
        "alter table session add column at timestamp",
        "session: revocations|session: carry",
        "public.session: column at is timestamp without time zone on green and timestamp with time zone on blue",
    ),
    (
        "drop table session cascade",
        "",
        "session: revocations|session: carry",
        "public.session: blue has no table of its own",
    ),
    ("drop table session cascade", "", "x|x", ""),
    ("", "", "  session: rev|  sessions: rev", "public.sessions: reverse: names this table and green does not have it"),
    ("alter table session drop constraint session_pkey cascade", "", "x|x", "public.session: blue has no unique key"),
    (
        "",
        "",
        "{ set: { pk: pk_deprecated } }|{ set: { pk: pk_deprecated, zz: pk } }",
        "public.jwk: reverse: names column zz and blue does not have it",
    ),
    (
        "",
        "",
        "jwk: { carry: { set: { pk: pk_deprecated } } }|jwk: { carry: { set: { pk: pk_deprecated }, key: [data] } }",
        "public.jwk: blue has no unique key (data)",
    ),
    (
        "",
        "alter table code drop constraint code_pkey",
        "x|x",
        "public.code: blue keeps no column of a unique key of green",
    ),
];

#[tokio::test]
async fn what_cannot_go_back_as_the_plan_says_is_told() {
    for (blue, green, plan, expected) in REFUSED {
        let pair = Pair::shared().await;
        pair.blue.execute(&format!("{BLUE}; {blue}")).await;
        pair.green.execute(&format!("{GREEN}; {green}")).await;
        let (from, to) = plan.split_once('|').expect("a change");
        assert!(from == "x" || PLAN.contains(from), "{from}");
        let plan = plan_of(&if from == "x" { PLAN.to_owned() } else { PLAN.replace(from, to) });
        let catalogs =
            (catalog::read(&pair.blue.client().await).await, catalog::read(&pair.green.client().await).await);
        let (blue, source) = (catalogs.0.expect("blue's"), pair.green.client().await);
        let found = resolve_back(&plan, &blue, &catalogs.1.expect("green's"), &BTreeMap::new());
        match found {
            Ok(back) => {
                assert_eq!(*expected, "", "{from} → {to}");
                assert_eq!(mapping::judge(&back, Side::Green, &source).await.expect("an answer"), []);
            }
            Err(problems) => {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                assert!(
                    told.len() == 1 && !expected.is_empty() && told[0].starts_with(expected),
                    "{from} → {to}: {told:#?}"
                );
            }
        }
    }
}
