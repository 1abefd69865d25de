//! Migrations on a database that serves: every lock that can be in the way held, clients never kept waiting, builds cut off and resumed.

use crate::harness::{APPLICATION, Place, eventually, fresh_folder};
use cutover::database::client::connect;
use cutover::database::migrate::{Applied, Apply, MigrateError, Pace, Source, engine_folder, refinery_folder};
use cutover::database::term::{self, Term};
use cutover::plan::{Live, TableName};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// Longer than anything here should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database that serves, with our term and a folder of migrations.
#[derive(Clone)]
struct Serving {
    place: Arc<Place>,
    term: Term,
    folder: PathBuf,
    told: Arc<Mutex<Vec<String>>>,
    live: Live,
}

impl Serving {
    async fn with(schema: &str) -> Self {
        let place = Place::shared("live").await;
        let term = Term { term: 1, nonce: Uuid::new_v4() };
        term::install(&place.client().await, &term).await.expect("the term is installed");
        place.application().await.batch_execute(schema).await.expect("the application's schema");
        let folder = fresh_folder("live");
        std::fs::create_dir_all(&folder).expect("a folder");
        let live = Live { lock_timeout: Duration::from_millis(200), bound: PATIENCE, ..Live::default() };
        Self { place: Arc::new(place), term, folder, told: Arc::default(), live }
    }

    /// Makes `files` the folder's only ones.
    fn files(&self, files: &[(&str, &str)]) {
        std::fs::remove_dir_all(&self.folder).expect("emptied");
        std::fs::create_dir_all(&self.folder).expect("a folder");
        for (name, text) in files {
            std::fs::write(self.folder.join(name), text).expect("a file");
        }
    }

    async fn migrate(&self) -> Result<Applied, MigrateError> {
        self.migrate_from(&self.folder).await
    }

    async fn migrate_from(&self, folder: &Path) -> Result<Applied, MigrateError> {
        let (url, told) = (self.place.url(), self.told.clone());
        let tell = move |line: &str| told.lock().expect("unpoisoned").push(line.to_owned());
        let (pace, owner) = (Pace::live(&self.live), Some(APPLICATION));
        let apply = Apply { url: &url, side: "blue", term: &self.term, owner, pace, tell: &tell };
        refinery_folder(&apply, Source { name: "live", folder, history: None }).await
    }

    fn spawn(&self) -> JoinHandle<Result<Applied, MigrateError>> {
        let serving = self.clone();
        tokio::spawn(async move { serving.migrate().await })
    }

    fn spawn_apart(&self) -> Runner {
        let serving = self.clone();
        apart(async move { serving.migrate().await })
    }

    async fn hears(&self, words: &str) -> String {
        let found = || async {
            let told = self.told.lock().expect("unpoisoned");
            told.iter().find(|line| line.contains(words)).cloned()
        };
        eventually(PATIENCE, "a line is told", found).await
    }

    /// Waits until the server has noticed that a runner is gone.
    async fn is_left_alone(&self) {
        let query = "select count(*) from pg_stat_activity where datname = current_database() and query ilike '%index concurrently%' and state = 'active' and pid <> pg_backend_pid()";
        let gone = || async { (self.place.ask::<i64>(query).await == 0).then_some(()) };
        eventually(PATIENCE, "the server has noticed that the runner is gone", gone).await;
    }

    fn forget(&self) {
        self.told.lock().expect("unpoisoned").clear();
    }

    async fn is_valid(&self, index: &str) -> bool {
        let query = format!(
            "select coalesce((select indisvalid from pg_index where indexrelid = to_regclass('{index}')), false)"
        );
        self.place.ask(&query).await
    }
}

/// A runner whose connections end with it, as those of a process do: an aborted task would leave its statement under way.
struct Runner(tokio::runtime::Runtime);

fn apart<F>(work: F) -> Runner
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.spawn(work);
    Runner(runtime)
}

impl Runner {
    fn die(self) {
        self.0.shutdown_background();
    }
}

const GRANTS: &str = "create table grant_made (id bigint primary key, subject text, day date);
insert into grant_made select n, 'subject ' || n, current_date from generate_series(1, 2000) n";

/// Statements of every kind that waits for others, each with what holds it up: as much as there is.
const COLUMN: &str = "alter table grant_made add column more text";
const TRIGGER: &str = "create trigger touch before update on grant_made for each row execute function suppress_redundant_updates_trigger()";
const BUILD: &str = "create index concurrently grant_by_day on grant_made (day)";
const CHECK: &str = "alter table grant_made add constraint known check (subject is not null) not valid;
alter table grant_made validate constraint known";
const ROWS: &str = "update grant_made set day = day + 1 where id = 1";

#[tokio::test]
async fn live_every_lock_in_the_way_is_outwaited_and_its_holder_named() {
    let cases = [
        (COLUMN, "lock table grant_made in access share mode"),
        (COLUMN, "lock table grant_made in row share mode"),
        (COLUMN, "lock table grant_made in row exclusive mode"),
        (BUILD, "lock table grant_made in share update exclusive mode"),
        (TRIGGER, "lock table grant_made in share mode"),
        (CHECK, "lock table grant_made in share row exclusive mode"),
        (BUILD, "lock table grant_made in exclusive mode"),
        (BUILD, "lock table grant_made in access exclusive mode"),
        (BUILD, "insert into grant_made values (-1, 'written and not committed')"),
        (ROWS, "select from grant_made where id = 1 for update"),
        (COLUMN, "select count(*) from grant_made where subject = 'a secret'"),
    ];
    for (statement, hold) in cases {
        let serving = Serving::with(GRANTS).await;
        serving.files(&[("V1__change.sql", statement)]);
        let other = serving.place.application().await;
        other.batch_execute(&format!("set application_name = 'reporting'; begin; {hold}")).await.expect("held");
        let run = serving.spawn();
        let line = serving.hears("in the way: backend").await;
        assert!(line.contains("of hydra (reporting), idle in transaction"), "{hold}: {line}");
        assert!(!line.contains("secret") && !line.contains("written"), "no value is told: {line}");
        other.batch_execute("rollback").await.expect("let go");
        let applied = run.await.expect("it ran").unwrap_or_else(|error| panic!("{statement} after {hold}: {error:?}"));
        assert_eq!(applied.applied, 1, "{hold}");
    }
}

#[tokio::test]
async fn live_a_build_outwaits_a_snapshot_that_somebody_holds() {
    let serving = Serving::with(GRANTS).await;
    serving.files(&[("V1__index.sql", BUILD)]);
    let other = serving.place.application().await;
    other
        .batch_execute("begin isolation level repeatable read; select from grant_made where id = 1")
        .await
        .expect("held");
    let run = serving.spawn();
    serving.hears("in the way: backend").await;
    // Writers pass while the build waits.
    let begun = Instant::now();
    serving.place.application().await.batch_execute("update grant_made set day = day").await.expect("written");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    other.batch_execute("commit").await.expect("let go");
    assert_eq!(run.await.expect("it ran").expect("applied").indexes_concurrent, 1);
    assert!(serving.is_valid("grant_by_day").await);
}

#[tokio::test]
async fn live_a_lock_that_is_never_let_go_ends_the_tries_and_nothing_is_changed() {
    let mut serving = Serving::with(GRANTS).await;
    serving.live.tries = 2;
    serving.files(&[("V1__change.sql", COLUMN)]);
    let other = serving.place.application().await;
    other.batch_execute("begin; select from grant_made").await.expect("held");
    let error = serving.migrate().await.expect_err("nobody lets go");
    assert!(matches!(error, MigrateError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("in the way: backend"), "{error}");
    let absent: bool = serving
        .place
        .ask(
            "select not exists (select from pg_attribute where attname = 'more' and attrelid = 'grant_made'::regclass)",
        )
        .await;
    assert!(absent);
}

#[tokio::test]
async fn live_a_file_that_keeps_clients_waiting_is_cut_off_and_refused() {
    let serving = Serving::with(GRANTS).await;
    serving.files(&[("V1__long.sql", "alter table grant_made add column more text; select pg_sleep(3600)")]);
    let is_over = Arc::new(AtomicBool::new(false));
    let client = {
        let (place, is_over) = (serving.place.clone(), is_over.clone());
        tokio::spawn(async move {
            let client = place.application().await;
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client.execute("update grant_made set day = day where id = 5", &[]).await.expect("written");
                longest = longest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            longest
        })
    };
    let error = serving.migrate().await.expect_err("it blocks");
    assert!(matches!(error, MigrateError::Blocks { cuts: 3, .. }), "{error:?}");
    is_over.store(true, Ordering::Relaxed);
    let longest = client.await.expect("it wrote");
    assert!(longest >= Duration::from_millis(400), "the client did wait, or this shows nothing: {longest:?}");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    let absent: bool = serving
        .place
        .ask(
            "select not exists (select from pg_attribute where attname = 'more' and attrelid = 'grant_made'::regclass)",
        )
        .await;
    assert!(absent, "nothing of the file is left");
}

#[tokio::test]
async fn live_a_runner_that_died_inside_a_build_is_followed_by_one_that_finishes_the_file() {
    let serving = Serving::with(GRANTS).await;
    let file = "insert into grant_made values (-7, 'once');\ncreate index concurrently grant_by_day on grant_made (day);\ninsert into grant_made values (-8, 'once');";
    serving.files(&[("V1__index.sql", &format!("-- cutover: no-transaction\n{file}"))]);
    let other = serving.place.application().await;
    other.batch_execute("begin; insert into grant_made values (-1, 'a')").await.expect("held");
    let run = serving.spawn_apart();
    serving.hears("in the way: backend").await;
    // The server's own word on how far the build is.
    serving.hears("waiting for writers before build, 0 of 1 transactions before it have ended").await;
    run.die();
    serving.is_left_alone().await;
    other.batch_execute("commit").await.expect("let go");
    let left: bool = serving
        .place
        .ask("select exists (select from pg_index where indexrelid = to_regclass('grant_by_day') and not indisvalid)")
        .await;
    assert!(left, "the build left an invalid index, or this shows nothing");

    serving.forget();
    let applied = serving.migrate().await.expect("finished");
    assert_eq!((applied.applied, applied.indexes_concurrent), (1, 1));
    assert!(serving.is_valid("grant_by_day").await);
    serving.hears("done before: insert").await;
    serving.hears("was left invalid; dropping it").await;
    let rows: i64 = serving.place.ask("select count(*) from grant_made where id in (-7, -8)").await;
    assert_eq!(rows, 2, "each statement once");
}

#[tokio::test]
async fn live_a_detachment_that_was_cut_off_half_way_is_finished() {
    let serving = Serving::with(
        "create table entry (id bigint, day date) partition by range (day);
         create table entry_2025 partition of entry for values from ('2025-01-01') to ('2026-01-01');
         create table entry_2026 partition of entry for values from ('2026-01-01') to ('2027-01-01')",
    )
    .await;
    let file = "-- cutover: no-transaction\nalter table entry detach partition entry_2025 concurrently;\n";
    serving.files(&[("V1__detach.sql", file)]);
    // The second half of the detachment waits for who reads the partitioned table.
    let reader = serving.place.application().await;
    reader.batch_execute("begin; select * from entry").await.expect("read");
    let run = serving.spawn_apart();
    let pending = "select count(*) from pg_inherits where inhdetachpending";
    let half = || async { (serving.place.ask::<i64>(pending).await == 1).then_some(()) };
    eventually(PATIENCE, "half of it is done", half).await;
    run.die();
    let at_work = "from pg_stat_activity where datname = current_database() and query ilike 'alter table%detach%' and pid <> pg_backend_pid()";
    serving.place.ask::<i64>(&format!("select count(pg_terminate_backend(pid)) {at_work}")).await;
    let gone = || async { (serving.place.ask::<i64>(&format!("select count(*) {at_work}")).await == 0).then_some(()) };
    eventually(PATIENCE, "the server has noticed that the runner is gone", gone).await;
    reader.batch_execute("commit").await.expect("let go");

    assert_eq!(serving.migrate().await.expect("finished").applied, 1);
    serving.hears("half done before, now its rest").await;
    let left = "select count(*) from pg_inherits where inhparent = 'entry'::regclass";
    assert_eq!((serving.place.ask::<i64>(left).await, serving.place.ask::<i64>(pending).await), (1, 0));
}

#[tokio::test]
async fn live_a_partitioned_table_gets_its_index_partition_by_partition() {
    let serving = Serving::with(
        "create table log (day date, what text) partition by range (day);
         create table log_old partition of log for values from (minvalue) to ('2026-01-01') partition by list (what);
         create table log_old_a partition of log_old for values in ('a');
         create table log_old_rest partition of log_old default;
         create table log_new partition of log for values from ('2026-01-01') to (maxvalue);
         insert into log select date '2025-12-01' + n, case n % 2 when 0 then 'a' else 'b' end from generate_series(1, 60) n",
    )
    .await;
    serving.files(&[("V1__index.sql", "create index concurrently log_by_what on log (what) where what <> 'on'")]);
    let other = serving.place.application().await;
    other.batch_execute("begin; insert into log_old_rest values ('2025-12-24', 'held')").await.expect("held");
    let run = serving.spawn_apart();
    serving.hears("in the way: backend").await;
    run.die();
    serving.is_left_alone().await;
    other.batch_execute("commit").await.expect("let go");
    assert!(!serving.is_valid("log_by_what").await, "one partition is missing, or this shows nothing");

    let applied = serving.migrate().await.expect("finished");
    assert!(applied.indexes_concurrent >= 1, "{applied:?}");
    assert!(serving.is_valid("log_by_what").await);
    let parts: i64 = serving.place.ask("select count(*) from pg_partition_tree('log_by_what') where isleaf").await;
    assert_eq!(parts, 3);
    let invalid: i64 = serving.place.ask("select count(*) from pg_index where not indisvalid").await;
    assert_eq!(invalid, 0);
    let kept: bool = serving.place.ask("select bool_and(pg_get_indexdef(relid) like '%WHERE (what <> ''on''%') from pg_partition_tree('log_by_what') where isleaf").await;
    assert!(kept, "each has the whole of the definition");
}

#[tokio::test]
async fn live_leftovers_of_a_reindex_are_dropped_before_it_is_tried_again() {
    let serving = Serving::with(&format!("{GRANTS}; create index grant_by_day on grant_made (day)")).await;
    serving.files(&[("V1__reindex.sql", "reindex index concurrently grant_by_day")]);
    let other = serving.place.application().await;
    other.batch_execute("begin; insert into grant_made values (-1, 'a')").await.expect("held");
    let run = serving.spawn_apart();
    serving.hears("in the way: backend").await;
    run.die();
    let left = || async {
        let count: i64 = serving.place.ask("select count(*) from pg_index where not indisvalid").await;
        let active: i64 = serving
            .place
            .ask("select count(*) from pg_stat_progress_create_index where datname = current_database()")
            .await;
        (count == 1 && active == 0).then_some(())
    };
    eventually(PATIENCE, "the leftover is there", left).await;
    other.batch_execute("commit").await.expect("let go");
    serving.migrate().await.expect("reindexed");
    serving.hears("was left behind; dropping it").await;
    let names: String = serving.place.ask("select string_agg(relname, ' ' order by relname) from pg_class where relkind = 'i' and relname like 'grant%'").await;
    assert_eq!(names, "grant_by_day grant_made_pkey");
}

#[tokio::test]
async fn live_what_a_file_did_is_measured() {
    let serving = Serving::with(&format!("{GRANTS}; create table quiet (id int)")).await;
    serving.files(&[
        ("V1__rewrite.sql", "alter table grant_made alter subject type varchar(64) using left(subject, 64); alter table grant_made alter id type numeric"),
        ("V2__index.sql", BUILD),
        ("V3__table.sql", "create table later (id bigint references quiet_key (id))"),
    ]);
    serving
        .place
        .application()
        .await
        .batch_execute("create table quiet_key (id bigint primary key)")
        .await
        .expect("made");
    let applied = serving.migrate().await.expect("applied");
    let [rewrite, index, table] = applied.files.as_slice() else { panic!("{applied:?}") };
    let lock = |file: &cutover::database::migrate::Measured, table: &str| file.locks.get(table).cloned();
    assert_eq!(lock(rewrite, "public.grant_made").as_deref(), Some("AccessExclusive"));
    assert_eq!(rewrite.rewritten, ["public.grant_made"]);
    assert!(rewrite.wal_bytes > 10_000, "{rewrite:?}");
    assert_eq!(index.rewritten, Vec::<String>::new());
    assert_ne!(lock(index, "public.grant_made").as_deref(), Some("AccessExclusive"));
    assert_eq!(lock(table, "public.quiet_key").as_deref(), Some("ShareRowExclusive"));
    assert_eq!(table.locks.len(), 1, "what the file made itself is left out: {table:?}");
}

#[tokio::test]
async fn live_only_one_runner_is_at_work() {
    let mut serving = Serving::with(GRANTS).await;
    serving.files(&[("V1__change.sql", COLUMN)]);
    let other = serving.place.application().await;
    other.batch_execute("begin; select from grant_made").await.expect("held");
    let run = serving.spawn();
    serving.hears("in the way: backend").await;
    serving.live.bound = Duration::from_millis(300);
    let error = serving.migrate().await.expect_err("another is at work");
    assert!(matches!(error, MigrateError::Busy { .. }), "{error:?}");
    let waits: i64 = connect(&serving.place.url(), "blue")
        .await
        .expect("connected")
        .query_one("select count(*) from pg_locks where locktype = 'advisory' and not granted", &[])
        .await
        .expect("asked")
        .get(0);
    assert_eq!(waits, 0, "nobody waits in an advisory lock");
    other.batch_execute("commit").await.expect("let go");
    run.await.expect("it ran").expect("applied");
}

#[tokio::test]
async fn live_a_backfill_goes_in_pieces_and_on_where_it_was_killed() {
    let mut serving = Serving::with(GRANTS).await;
    serving.live.tries = 2;
    let file =
        "-- cutover: batch key=id rows=150\nupdate grant_made g set subject = subject || '!' where day is not null;";
    serving.files(&[("V1__fill.sql", file)]);
    let other = serving.place.application().await;
    other.batch_execute("begin; select from grant_made where id = 700 for update").await.expect("held");
    let error = serving.migrate().await.expect_err("a row is locked");
    assert!(matches!(error, MigrateError::Locked { .. }), "{error:?}");
    let done: i64 = serving.place.ask("select count(*) from grant_made where subject like '%!'").await;
    assert_eq!(done, 600, "the pieces before it are done");
    other.batch_execute("rollback").await.expect("let go");
    serving.migrate().await.expect("finished");
    let counts: String = serving
        .place
        .ask("select format('%s of %s', count(*) filter (where subject ~ '^[^!]*!$'), count(*)) from grant_made")
        .await;
    assert_eq!(counts, "2000 of 2000", "each row once");

    serving.files(&[
        ("V1__fill.sql", file),
        ("V2__fill.sql", "-- cutover: batch key=subject\nupdate grant_made set day = day"),
    ]);
    let error = serving.migrate().await.expect_err("no key").to_string();
    assert!(error.contains("(subject) is no unique key"), "{error}");
}

async fn engine(serving: &Serving) -> Result<Applied, MigrateError> {
    let (url, told) = (serving.place.url(), serving.told.clone());
    let tell = move |line: &str| told.lock().expect("unpoisoned").push(line.to_owned());
    let (pace, owner) = (Pace::live(&serving.live), Some(APPLICATION));
    let apply = Apply { url: &url, side: "blue", term: &serving.term, owner, pace, tell: &tell };
    let tracking = TableName { schema: "public".to_owned(), name: "schema_migration".to_owned() };
    engine_folder(&apply, Source { name: "engine", folder: &serving.folder, history: None }, &tracking, &[]).await
}

/// An engine's history: one version applied by the engine itself, a blank file, several statements, one that runs outside a transaction.
const HISTORY: [(&str, &str); 5] = [
    ("20190101000001000000_first.up.sql", "create table account (id bigint primary key, name text);"),
    ("20190101000001000000_first.down.sql", "drop table account;"),
    ("20200101000001000000_blank.up.sql", ""),
    (
        "20210101000001000000_more.postgres.up.sql",
        "alter table account add column a text;\nalter table account add column b text;",
    ),
    (
        "20220101000001000000_index.autocommit.up.sql",
        "insert into account values (1, 'once');\ncreate index concurrently by_name on account (name);\ninsert into account values (2, 'once');",
    ),
];

async fn with_an_engine() -> Serving {
    let serving = Serving::with(
        "create table account (id bigint primary key, name text);
         create table schema_migration (version varchar(48) not null, version_self int not null default 0);
         create unique index schema_migration_version_idx on schema_migration (version);
         insert into schema_migration (version) values ('20190101000001000000')",
    )
    .await;
    serving.files(&HISTORY);
    serving
}

async fn versions(serving: &Serving) -> String {
    serving.place.ask("select string_agg(substr(version, 1, 4), ' ' order by version) from schema_migration").await
}

#[tokio::test]
async fn live_an_engine_s_folder_is_applied_by_difference_and_its_table_kept_true() {
    let serving = with_an_engine().await;
    assert_eq!(engine(&serving).await.expect("applied").applied, 3);
    assert_eq!(versions(&serving).await, "2019 2020 2021 2022");
    assert_eq!(engine(&serving).await.expect("again").applied, 0);
    let mut files = HISTORY.to_vec();
    files.push(("20150101000001000000_networks.up.sql", "create table networks (id uuid primary key)"));
    serving.files(&files);
    assert_eq!(engine(&serving).await.expect("out of order").applied, 1);
    serving.hears("out of order").await;
    let owner: String = serving.place.ask("select tableowner::text from pg_tables where tablename = 'networks'").await;
    assert_eq!(owner, APPLICATION);

    files[0].1 = "create table account (id bigint primary key, name text, edited text);";
    serving.files(&files);
    let error = engine(&serving).await.expect_err("edited, though the engine applied it").to_string();
    assert!(error.contains("20190101000001000000 was edited since it was applied"), "{error}");
    files[0] = HISTORY[0];
    files.retain(|(name, _)| !name.contains("_more."));
    serving.files(&files);
    let error = engine(&serving).await.expect_err("a version is missing").to_string();
    assert!(error.contains("has 20210101000001000000 that the folder lacks"), "{error}");
    assert_eq!(versions(&serving).await, "2015 2019 2020 2021 2022", "nothing was changed");
}

#[tokio::test]
async fn live_an_engine_s_file_that_was_cut_off_half_way_goes_on_in_its_middle() {
    let serving = with_an_engine().await;
    serving.files(&HISTORY[..4]);
    assert_eq!(engine(&serving).await.expect("applied").applied, 2);
    serving.files(&HISTORY);
    let other = serving.place.application().await;
    other.batch_execute("begin; insert into account values (-1, 'held')").await.expect("held");
    let one = serving.clone();
    let run = apart(async move { engine(&one).await });
    serving.hears("20220101000001000000_index.autocommit.up: waiting; in the way").await;
    run.die();
    other.batch_execute("commit").await.expect("let go");
    assert_eq!(engine(&serving).await.expect("finished").applied, 1);
    assert_eq!(versions(&serving).await, "2019 2020 2021 2022");
    let rows: i64 = serving.place.ask("select count(*) from account where id > 0").await;
    assert_eq!(rows, 2, "each statement once");
    assert!(serving.is_valid("by_name").await);
}
