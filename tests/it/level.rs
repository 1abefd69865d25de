//! Keeping green level, on real servers: a twin comparison after random concurrent writes, and each way in which a naive build fails.

use crate::harness::Pair;
use cutover::database::capture::{Capture, CaptureError, CaptureStanding, Captured};
use cutover::database::level::{
    Answer, BatchReport, LevelError, LevelSetup, Limits, Reapply, TouchedTable, Worker, begin_progress,
};
use cutover::database::mapping::{Equality, KeyColumn, Mapping, TableMapping, Touch};
use cutover::database::term::{self, Term};
use cutover::plan::{CaptureMethod, Side, TableName};
use rand::Rng;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, GenericClient, Transaction};
use uuid::Uuid;

/// Tests that hold for both ways to capture: each is a function of the way, and two tests.
macro_rules! for_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use cutover::plan::CaptureMethod;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn slot() {
                super::$name(CaptureMethod::Slot).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn triggers() {
                super::$name(CaptureMethod::Triggers).await;
            }
        }
    )*};
}
pub(crate) use for_both;

for_both!(
    green_equals_the_mapping_of_blue_after_random_concurrent_writes,
    green_equals_an_exported_moment_of_blue_while_clients_write,
    a_moved_row_leaves_its_old_place,
    swaps_cascades_and_green_s_own_columns_survive,
    values_that_are_equal_and_print_differently_are_carried,
    a_truncated_or_rewritten_table_is_derived_anew,
    a_changed_table_parks,
    a_zombie_commits_nothing_and_a_batch_can_be_repeated,
    of_two_workers_in_one_term_the_second_to_commit_gives_way,
    a_captured_revocation_outlives_a_touch_on_blue,
    rows_that_would_point_to_nothing_are_refused,
    a_table_without_identity_is_refused,
    a_partitioned_table_is_captured_through_its_root,
);

const BLUE: &str = "
create table client (id text primary key, name text, tag text unique);
create table token (signature varchar(40) primary key, request_id text not null, client_id text not null references client(id)
  on delete cascade on update cascade, active boolean not null default true, session json, amount numeric);
create table login (challenge text primary key, subject text);
create table consent (challenge text primary key, login_challenge text unique references login(challenge)
  on delete set null on update cascade, body text);
create table member (client_id text references client(id) on delete cascade on update cascade, person int, role text,
  primary key (client_id, person));
insert into client select 'c' || i, 'name ' || i, 'tag' || i from generate_series(0, 19) i;
insert into login select 'l' || i, 'subject ' || i from generate_series(0, 39) i;
insert into consent select 'k' || i, 'l' || i, 'body' from generate_series(0, 19) i;
insert into token select 't' || i, 'r' || i / 3, 'c' || i % 20, true, '{\"a\": 1}', 1.0 from generate_series(0, 199) i;
insert into member select 'c' || i, p, 'role' from generate_series(0, 19) i, generate_series(1, 3) p;";
const GREEN: &str = "
create table client (id text primary key, name text, tag text unique, note text default 'new',
  number bigint generated always as identity);
create table token (signature varchar(40) primary key, request_id text not null, client_id text not null references client(id)
  on delete cascade, active boolean not null, session json, amount numeric, doubled numeric generated always as (amount * 2) stored);
create table flow (login_challenge text primary key, subject text, consent_challenge text unique, body text);
create table member (client_id text references client(id) on delete cascade, person int, role text, primary key (client_id, person));
create function shout() returns trigger language plpgsql as $$ begin raise exception 'a trigger of green fired'; end $$;";

fn name(table: &str) -> TableName {
    TableName { schema: "public".into(), name: table.into() }
}

fn columns(list: &[(&str, &str)]) -> Vec<KeyColumn> {
    list.iter().map(|(name, kind)| KeyColumn { name: (*name).into(), type_sql: (*kind).into() }).collect()
}

pub(crate) fn table(
    target: &str,
    key: &[(&str, &str)],
    carried: &[(&str, &str)],
    select: &str,
    touched_by: Vec<Touch>,
) -> TableMapping {
    TableMapping {
        target: name(target),
        equality: Equality::Equal,
        key: columns(key),
        columns: columns(carried),
        own_columns: Vec::new(),
        overrides_identity: false,
        select: select.to_owned(),
        count_sql: String::new(),
        cleanup: Vec::new(),
        touched_by,
        driven_by: None,
        spared: Vec::new(),
        estimated_rows: 0,
    }
}

pub(crate) fn touch(source: &str, key: &[(&str, &str)], keys_sql: &str, back: &[&str]) -> Touch {
    let back = back.iter().map(|column| (*column).to_owned()).collect();
    Touch { source: name(source), source_key: columns(key), keys_sql: keys_sql.to_owned(), back }
}

/// A generated mapping of every kind, and a written one that merges two tables.
pub(crate) fn mapping() -> Mapping {
    let (id, signature, challenge) =
        ([("id", "text")], [("signature", "character varying(40)")], [("challenge", "text")]);
    let by_client = "select id from client where id = any($1::text[])";
    let mut client = table(
        "client",
        &id,
        &[("id", "text"), ("name", "text"), ("tag", "text")],
        "select id, name, tag from client",
        vec![touch("client", &id, by_client, &["id"])],
    );
    client.own_columns = vec!["note".into(), "number".into()];
    let token = [
        ("signature", "character varying(40)"),
        ("request_id", "text"),
        ("client_id", "text"),
        ("active", "boolean"),
        ("session", "json"),
        ("amount", "numeric"),
    ];
    let token = table(
        "token",
        &signature,
        &token,
        "select signature, request_id, client_id, active, session, amount from token",
        vec![touch(
            "token",
            &signature,
            "select signature::text from token where signature = any($1::text[])",
            &["signature"],
        )],
    );
    let flow = table(
        "flow",
        &[("login_challenge", "text")],
        &[("login_challenge", "text"), ("subject", "text"), ("consent_challenge", "text"), ("body", "text")],
        "select l.challenge as login_challenge, l.subject, c.challenge as consent_challenge, c.body
         from login l left join consent c on c.login_challenge = l.challenge",
        vec![
            touch(
                "login",
                &challenge,
                "select challenge from login where challenge = any($1::text[])",
                &["login_challenge"],
            ),
            touch(
                "consent",
                &challenge,
                "select login_challenge from consent where challenge = any($1::text[])",
                &["consent_challenge"],
            ),
        ],
    );
    let pair = [("client_id", "text"), ("person", "integer")];
    let member = table(
        "member",
        &pair,
        &[("client_id", "text"), ("person", "integer"), ("role", "text")],
        "select client_id, person, role from member",
        vec![touch(
            "member",
            &pair,
            "select client_id, person::text from member where (client_id, person) in
             (select c, p::int from unnest($1::text[], $2::text[]) u(c, p))",
            &["client_id", "person"],
        )],
    );
    Mapping { tables: vec![client, flow, member, token] }
}

pub(crate) struct Stage {
    pub(crate) pair: Pair,
    pub(crate) term: Term,
    pub(crate) capture: Capture,
}

impl Stage {
    /// Blue with rows, green with its schema, both with our schema; nothing captured yet.
    pub(crate) async fn new() -> Self {
        Self::by(CaptureMethod::Slot).await
    }

    pub(crate) async fn by(method: CaptureMethod) -> Self {
        Self::on(Pair::shared().await, method).await
    }

    pub(crate) async fn on(pair: Pair, method: CaptureMethod) -> Self {
        pair.blue.execute(BLUE).await;
        pair.green.execute(GREEN).await;
        for table in ["client", "token", "flow", "member"] {
            let trigger =
                format!("create trigger shout before insert or update or delete on {table} execute function shout()");
            pair.green.execute(&trigger).await;
        }
        let term = Term { term: 1, nonce: Uuid::new_v4() };
        for side in [&pair.blue, &pair.green] {
            term::install(&side.client().await, &term).await.expect("the term is installed");
        }
        Self { pair, term, capture: Capture { run: Uuid::new_v4(), side: Side::Blue, method } }
    }

    pub(crate) async fn start(&self) -> Captured {
        let mut blue = self.pair.blue.client().await;
        let bound = Duration::from_secs(30);
        let captured = self.capture.start(&mut blue, &self.term, &mapping().captured(), bound).await;
        let captured = captured.expect("capture starts");
        let mut green = self.pair.green.client().await;
        begin_progress(&mut green, &self.term, &captured).await.expect("the first position is stored");
        captured
    }

    /// Captures, fills green by a copy in one snapshot, and opens the worker.
    pub(crate) async fn filled() -> (Self, Worker) {
        Self::new().await.fill().await
    }

    pub(crate) async fn filled_by(method: CaptureMethod) -> (Self, Worker) {
        Self::by(method).await.fill().await
    }

    pub(crate) async fn fill(self) -> (Self, Worker) {
        self.start().await;
        self.copy().await;
        let worker = self.worker().await;
        (self, worker)
    }

    pub(crate) async fn copy(&self) {
        let mut blue = self.pair.blue.client().await;
        let snapshot = blue.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
        self.copy_from(&snapshot.start().await.expect("a snapshot")).await;
    }

    /// Fills green with what a snapshot of blue sees, however old it is.
    pub(crate) async fn copy_from(&self, snapshot: &Transaction<'_>) {
        let green = self.pair.green.client().await;
        green.batch_execute("set session_replication_role = replica").await.expect("green is a replica");
        for table in mapping().tables {
            let list = table.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ");
            let query = format!("select coalesce(json_agg(q)::text, '[]') from ({}) q", table.select);
            let rows: String = snapshot.query_one(&query, &[]).await.expect("blue is read").get(0);
            let name = &table.target.name;
            let fill = format!(
                "insert into {name} ({list}) select {list} from json_populate_recordset(null::{name}, $1::text::json)"
            );
            green.execute(&fill, &[&rows]).await.expect("green is filled");
        }
    }

    pub(crate) fn setup(&self, term: Term) -> LevelSetup {
        LevelSetup {
            source: self.pair.blue.url(),
            target: self.pair.green.url(),
            capture: self.capture,
            mapping: mapping(),
            term,
            limits: Limits { lock: Duration::from_secs(1), statement: Duration::from_secs(30), page_keys: 50 },
        }
    }

    pub(crate) async fn worker(&self) -> Worker {
        Worker::open(self.setup(self.term)).await.expect("the worker opens")
    }

    pub(crate) async fn blue(&self, statements: &str) {
        self.pair.blue.execute(statements).await;
    }

    /// Every carried row of green must be what the mapping gives on blue, as text.
    pub(crate) async fn assert_level(&self) {
        self.assert_level_with(&self.pair.blue.client().await).await;
    }

    /// The same, with blue as `blue` sees it.
    async fn assert_level_with(&self, blue: &impl GenericClient) {
        let green = self.pair.green.client().await;
        for table in mapping().tables {
            let list =
                table.columns.iter().map(|column| format!("q.{}::text", column.name)).collect::<Vec<_>>().join(", ");
            let select = |from: String| {
                format!("select t from (select row({list})::text as t from {from} q) r order by t collate \"C\"")
            };
            let expected = texts(blue, &select(format!("({})", table.select))).await;
            let found = texts(&green, &select(table.target.name.clone())).await;
            let (wanted, given) = (BTreeSet::from_iter(&expected), BTreeSet::from_iter(&found));
            let missing: Vec<_> = wanted.difference(&given).take(3).collect();
            let extra: Vec<_> = given.difference(&wanted).take(3).collect();
            assert!(missing.is_empty() && extra.is_empty(), "{}: missing {missing:?}, extra {extra:?}", table.target);
            assert_eq!(expected.len(), found.len());
        }
    }
}

async fn texts(client: &impl GenericClient, query: &str) -> Vec<String> {
    client.query(query, &[]).await.expect("the query runs").iter().map(|row| row.get(0)).collect()
}

pub(crate) async fn batch(worker: &mut Worker) -> BatchReport {
    worker.batch(&()).await.expect("the batch succeeds")
}

/// A row that is written once and never again: a commit that is consumed and not derived would lose it for good.
const ONCE: &str = "insert into login values (gen_random_uuid()::text, 'once')";

/// One random transaction of an application; refused ones are as good as none.
async fn write_something(client: &Client) -> bool {
    let (a, b, t, action) = {
        let mut random = rand::rng();
        (
            random.random_range(0..20),
            random.random_range(0..20),
            random.random_range(0..300),
            random.random_range(0..16),
        )
    };
    let statement = match action {
        0..=2 => format!("insert into token values ('t{t}', 'r{}', 'c{a}', true, '{{\"a\":  {b}}}', {b}.0)", t / 3),
        3..=4 => format!("update token set active = not active, session = '{{\"a\":{b}}}', amount = {b}.00 where signature = 't{t}'"),
        5 => format!("delete from token where signature = 't{t}'"),
        6 => format!("update token set signature = 't{}' where signature = 't{t}'", (t + b) % 300),
        7 => format!(
            "with old as (select tag from client where id = 'c{a}') update client set tag = null where id = 'c{a}';
             update client set tag = 'tag{a}' where id = 'c{b}' and not exists (select from client where tag = 'tag{a}');
             update client set tag = 'tag{b}' where id = 'c{a}' and not exists (select from client where tag = 'tag{b}')"
        ),
        8 => format!("update client set id = 'c{b}' where id = 'c{a}'"),
        9 => format!("delete from client where id = 'c{a}'"),
        10 | 11 => format!("insert into client values ('c{a}', 'again {t}', null)"),
        12 => format!("update consent set login_challenge = 'l{t}' where challenge = 'k{a}'"),
        13 => format!("update consent set login_challenge = null where login_challenge = 'l{b}'; update consent set login_challenge = 'l{b}', body = 'moved' where challenge = 'k{a}'"),
        14 => format!("delete from login where challenge = 'l{b}'; insert into login values ('l{b}', 'anew {t}')"),
        _ => format!("insert into member values ('c{a}', {}, 'role {t}') on conflict (client_id, person) do update set role = excluded.role", b % 4),
    };
    let durability = if t % 3 == 0 { "set local synchronous_commit = off; " } else { "" };
    let written = client.batch_execute(&format!("begin; {durability}{ONCE}; {statement}; commit")).await.is_ok();
    if !written {
        let _ = client.batch_execute("rollback").await;
    }
    written
}

/// Clients that write on blue until they are told to stop, and how often they did.
struct Writers {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    tasks: tokio::task::JoinSet<()>,
}

impl Writers {
    async fn begin(stage: &Stage) -> Self {
        let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (client, stop, commits) = (stage.pair.blue.client().await, stop.clone(), commits.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    commits.fetch_add(u64::from(write_something(&client).await), Ordering::Relaxed);
                    // On a busy machine writers without a pause outrun every batch.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Self { stop, commits, tasks }
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.commits.load(Ordering::Relaxed)
    }
}

async fn green_equals_an_exported_moment_of_blue_while_clients_write(method: CaptureMethod) {
    let stage = Stage::by(method).await;
    let writers = Writers::begin(&stage).await;
    stage.start().await;
    stage.copy().await;
    let mut worker = stage.worker().await;
    let mut blue = stage.pair.blue.client().await;
    let mut left = 0;
    for _ in 0..5 {
        // A moment that is some commits old when its batch begins.
        let moment = worker.moment().await.expect("a moment is exported");
        tokio::time::sleep(Duration::from_millis(20)).await;
        left += worker.batch_at(Some(&moment), &()).await.expect("the batch succeeds").left_in_slot;
        let seen = moment.look(&mut blue).await.expect("the moment is looked through");
        stage.assert_level_with(&seen).await;
        worker.draw_near().await;
    }
    assert!(writers.end().await > 100);
    assert!(left > 0 || method == CaptureMethod::Triggers, "no commit was younger than its moment");
}

async fn green_equals_the_mapping_of_blue_after_random_concurrent_writes(method: CaptureMethod) {
    let stage = Stage::by(method).await;
    let writers = Writers::begin(&stage).await;
    stage.start().await;
    stage.copy().await;
    let mut worker = stage.worker().await;
    let begun = tokio::time::Instant::now();
    let (mut batches, mut seen) = (0, 0);
    // On a busy machine one batch may take all of these seconds.
    while begun.elapsed() < Duration::from_secs(5) || batches < 3 {
        seen += batch(&mut worker).await.commits;
        batches += 1;
    }
    let commits = writers.end().await;
    let last =
        worker.until_level(&(), Duration::from_secs(20), Duration::from_secs(5)).await.expect("green gets level");
    assert_eq!(last.total.left_in_slot, 0);
    assert!(batches > 1 && seen > 100, "{batches} batches with {seen} commits of {commits}");
    stage.assert_level().await;
}

async fn a_moved_row_leaves_its_old_place(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    stage.assert_level().await;
    stage.blue("update consent set login_challenge = 'l30' where challenge = 'k1'").await;
    let report = batch(&mut worker).await;
    stage.assert_level().await;
    assert_eq!((report.rows_deleted, report.rows_inserted), (2, 2), "both logins changed");
    let again = batch(&mut worker).await;
    assert_eq!((again.keys, again.rows_deleted), (0, 0), "nothing is left to do");
}

async fn swaps_cascades_and_green_s_own_columns_survive(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    stage
        .pair
        .green
        .execute("alter table client disable trigger shout; update client set note = 'kept' where id in ('c1', 'c2')")
        .await;
    let before: i64 = stage.pair.green.ask("select sum(number)::bigint from client where id in ('c1', 'c2')").await;
    stage
        .blue("begin; update client set tag = null where id = 'c1'; update client set tag = 'tag1' where id = 'c2'; update client set tag = 'tag2' where id = 'c1'; commit")
        .await;
    let report = batch(&mut worker).await;
    stage.assert_level().await;
    assert_eq!(report.rows_deleted, 2, "no child was taken by a cascade of green");
    let own: i64 = stage.pair.green.ask("select count(*) from client where id in ('c1', 'c2') and note = 'kept'").await;
    let after: i64 = stage.pair.green.ask("select sum(number)::bigint from client where id in ('c1', 'c2')").await;
    assert_eq!((own, before), (2, after), "green's own columns went along");
    stage.blue("delete from client where id = 'c3'; update client set id = 'renamed' where id = 'c4'").await;
    batch(&mut worker).await;
    stage.assert_level().await;
}

async fn values_that_are_equal_and_print_differently_are_carried(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    stage.blue("update token set amount = 1.00 where signature = 't1'; update token set session = '{\"a\":1}' where signature = 't2'").await;
    batch(&mut worker).await;
    stage.assert_level().await;
}

async fn a_truncated_or_rewritten_table_is_derived_anew(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    stage.blue("truncate token; insert into token values ('only', 'r', 'c1', true, null, null)").await;
    let report = batch(&mut worker).await;
    assert_eq!((report.rows_deleted, report.rows_inserted), (200, 1));
    stage.assert_level().await;
    stage.blue("alter table member alter column role type text using 'rewritten ' || role").await;
    batch(&mut worker).await;
    stage.assert_level().await;
}

async fn a_changed_table_parks(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    stage.blue("alter table token add column more text; update token set more = 'x'").await;
    let error = worker.batch(&()).await.expect_err("the columns changed");
    assert!(matches!(error, LevelError::Changed { .. }), "{error}");
    assert!(error.to_string().contains("public.token"), "{error}");
}

#[tokio::test]
async fn a_slot_beyond_green_s_position_is_refused() {
    let (stage, worker) = Stage::filled().await;
    drop(worker);
    stage.blue("delete from token where signature = 't7'").await;
    let advance = format!("select pg_replication_slot_advance('{}', pg_current_wal_lsn())", stage.capture.name());
    stage.blue(&advance).await;
    let refused = Worker::open(stage.setup(stage.term)).await.map(|_| ()).expect_err("a change was lost");
    assert!(matches!(refused, LevelError::LostSlot { .. }), "{refused}");
}

#[tokio::test]
async fn a_slot_made_anew_is_refused_even_by_a_worker_at_work() {
    let (stage, mut worker) = Stage::filled().await;
    let name = stage.capture.name();
    stage.blue("delete from token where signature = 't7'").await;
    stage.blue(&format!("select pg_drop_replication_slot('{name}')")).await;
    stage.blue(&format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
    let refused = worker.batch(&()).await.expect_err("a change was lost");
    assert!(matches!(refused, LevelError::LostSlot { .. }), "{refused}");
}

async fn a_zombie_commits_nothing_and_a_batch_can_be_repeated(method: CaptureMethod) {
    let (stage, mut zombie) = Stage::filled_by(method).await;
    stage.blue("delete from token where signature = 't7'").await;
    let next = Term { term: 2, nonce: Uuid::new_v4() };
    for side in [&stage.pair.blue, &stage.pair.green] {
        term::install(&side.client().await, &next).await.expect("another takes over");
    }
    let refused = zombie.batch(&()).await.expect_err("the term is another's");
    assert!(matches!(&refused, LevelError::Term(error) if error.is_superseded()), "{refused}");
    let there: i64 = stage.pair.green.ask("select count(*) from token where signature = 't7'").await;
    assert_eq!(there, 1, "the zombie committed nothing");
    let mut worker = Worker::open(stage.setup(next)).await.expect("the new owner opens");
    batch(&mut worker).await;
    stage.assert_level().await;
}

async fn of_two_workers_in_one_term_the_second_to_commit_gives_way(method: CaptureMethod) {
    let (stage, mut one) = Stage::filled_by(method).await;
    let mut two = stage.worker().await;
    stage.blue("delete from token where signature = 't7'").await;
    batch(&mut one).await;
    let refused = two.batch(&()).await.expect_err("the position was moved");
    let is_refused = matches!(refused, LevelError::AnotherWorker { .. } | LevelError::LostSlot { .. });
    assert!(is_refused, "{refused}");
}

struct Revoked(Vec<String>);

impl Reapply for Revoked {
    fn reapply<'a>(&'a self, green: &'a Transaction<'a>, _touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async move {
            let kill = "update token set active = false where request_id = any($1) and active";
            green.execute(kill, &[&self.0]).await
        })
    }
}

async fn a_captured_revocation_outlives_a_touch_on_blue(method: CaptureMethod) {
    let (stage, mut worker) = Stage::filled_by(method).await;
    let revoked = Revoked(vec!["r1".into()]);
    stage.blue("update token set session = '{}' where request_id = 'r1'").await;
    let report = worker.batch(&revoked).await.expect("the batch succeeds");
    assert_eq!(report.rows_reapplied, 3);
    let active: i64 = stage.pair.green.ask("select count(*) from token where request_id = 'r1' and active").await;
    assert_eq!(active, 0);
}

/// Tells, for rows reapplied, how many rows of the target the batch has read one after another.
struct RowsRead;

impl Reapply for RowsRead {
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>, touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async move {
            for table in touched {
                target.query(&format!("select t.* from {}", table.from), &[]).await?;
            }
            // Of small tables the planner rightly reads all.
            let read = "select seq_tup_read from pg_stat_xact_user_tables where relid = 'public.token'::regclass";
            Ok(target.query_one(read, &[]).await?.get::<_, i64>(0).cast_unsigned())
        })
    }
}

#[tokio::test]
async fn a_batch_of_few_keys_reads_no_table_from_end_to_end() {
    let stage = Stage::new().await;
    let more = "insert into client select 'x' || i, 'name', 'more' || i from generate_series(1, 2000) i;
insert into token select 'y' || i, 'r', 'x' || i % 2000 + 1, true, json_build_array(repeat('b', 100)), 1.0 from generate_series(1, 100000) i;
insert into member select 'x' || i, 1, 'role' from generate_series(1, 2000) i";
    stage.blue(more).await;
    stage.start().await;
    stage.copy().await;
    stage.pair.green.execute("create index on token (client_id); analyze").await;
    let mut worker = stage.worker().await;
    let few = "delete from token where signature in ('y1', 'y2'); update token set amount = 2 where signature = 'y3';
insert into token values ('new', 'r', 'x7', true, null, null);
update client set name = 'changed' where id = 'x9'; insert into login values ('new', 'subject')";
    stage.blue(few).await;
    let report = worker.batch(&RowsRead).await.expect("the batch succeeds");
    assert_eq!((report.rows_deleted, report.rows_inserted), (4, 4));
    assert!(report.rows_reapplied < 500, "{} rows were read one after another", report.rows_reapplied);
    stage.assert_level().await;
}

async fn rows_that_would_point_to_nothing_are_refused(method: CaptureMethod) {
    let (stage, _) = Stage::filled_by(method).await;
    let mut setup = stage.setup(stage.term);
    setup.mapping.tables[0].select = "select id, name, tag from client where id <> 'c1'".into();
    let mut worker = Worker::open(setup).await.expect("the worker opens");
    stage.blue("update client set name = 'x' where id = 'c1'").await;
    let refused = worker.batch(&()).await.expect_err("tokens of c1 need it");
    assert!(matches!(refused, LevelError::ForeignKey { .. }), "{refused}");
    let there: i64 = stage.pair.green.ask("select count(*) from client where id = 'c1'").await;
    assert_eq!(there, 1, "nothing was changed");
}

#[tokio::test]
async fn capture_waits_for_older_transactions_and_names_them() {
    let stage = Stage::new().await;
    let writer = stage.pair.blue.client().await;
    writer
        .batch_execute("set application_name = 'slow_job'; begin; insert into login values ('slow', 's')")
        .await
        .expect("begun");
    let mut blue = stage.pair.blue.client().await;
    let short = Duration::from_millis(300);
    let blocked = stage.capture.start(&mut blue, &stage.term, &mapping().captured(), short).await;
    let error = blocked.expect_err("an older transaction runs");
    assert!(matches!(error, CaptureError::Blocked { .. }) && error.to_string().contains("slow_job"), "{error}");
    assert_eq!(stage.capture.verify(&blue).await.expect("it answers"), CaptureStanding::Partial);
    writer.batch_execute("commit").await.expect("committed");
    stage.start().await;
    stage.copy().await;
    let mut worker = stage.worker().await;
    batch(&mut worker).await;
    stage.assert_level().await;
}

#[tokio::test]
async fn capture_is_found_again_stopped_and_leaves_nothing() {
    let stage = Stage::new().await;
    let first = stage.start().await;
    assert_eq!(stage.start().await, first, "a second start finds the first");
    let mut blue = stage.pair.blue.client().await;
    assert_eq!(stage.capture.kept(&blue).await.expect("it answers").lost, None);
    let other = Capture { run: Uuid::new_v4(), ..stage.capture };
    assert!(matches!(other.verify(&blue).await.expect("it answers"), CaptureStanding::Foreign(_)));
    for _ in 0..2 {
        stage.capture.stop(&mut blue, &stage.term).await.expect("it stops");
        assert_eq!(stage.capture.verify(&blue).await.expect("it answers"), CaptureStanding::Absent);
    }
    let left: i64 = stage.pair.blue.ask("select (select count(*) from pg_publication) + (select count(*) from pg_replication_slots where database = current_database())").await;
    assert_eq!(left, 0);
}

async fn a_table_without_identity_is_refused(method: CaptureMethod) {
    let stage = Stage::by(method).await;
    stage.blue("create table public.bare (x int)").await;
    let mut blue = stage.pair.blue.client().await;
    let refused = stage.capture.start(&mut blue, &stage.term, &[name("bare")], Duration::from_secs(5)).await;
    assert!(matches!(refused, Err(CaptureError::NoIdentity { .. })));
    stage.blue("insert into public.bare values (1); update public.bare set x = 2").await;
}

async fn a_partitioned_table_is_captured_through_its_root(method: CaptureMethod) {
    let stage = Stage::by(method).await;
    stage.blue("drop table public.member; create table public.member (client_id text, person int, role text, primary key (client_id, person)) partition by hash (client_id);
        create table public.member_0 partition of public.member for values with (modulus 2, remainder 0);
        create table public.member_1 partition of public.member for values with (modulus 2, remainder 1);
        insert into member select 'c' || i % 20, i, 'r' from generate_series(1, 60) i").await;
    stage.start().await;
    stage.copy().await;
    let mut worker = stage.worker().await;
    stage.blue("update member set role = 'x' where person < 10; delete from member where person > 50; update member set client_id = 'c0' where person = 20").await;
    batch(&mut worker).await;
    stage.assert_level().await;
    stage.blue("delete from member_0 where person < 20; update member_1 set role = 'straight' where person > 30").await;
    batch(&mut worker).await;
    stage.assert_level().await;
}

#[tokio::test]
async fn a_table_that_inherits_keeps_its_rows_in_the_same_places() {
    let (stage, mut worker) = Stage::filled().await;
    let heirs = "create table heir () inherits (token);
insert into heir select 'h' || n, 'r', 'c1', true, null, n from generate_series(1, 2000) n";
    stage.pair.green.execute(heirs).await;
    stage.blue("delete from token where signature in (select signature from token limit 3)").await;
    worker.batch(&()).await.expect("the batch succeeds");
    assert_eq!(
        stage.pair.green.ask::<i64>("select count(*) from only token where signature !~ '^h'").await,
        stage.pair.blue.ask::<i64>("select count(*) from token").await
    );
    assert_eq!(stage.pair.green.ask::<i64>("select count(*) from heir").await, 2000);
}
