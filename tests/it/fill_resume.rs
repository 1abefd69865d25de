//! A copy and a catch-up that are cut off again and again while clients write: nothing is read twice for good, nothing is lost.

use crate::harness::fill::copy_options;
use crate::harness::{Pair, eventually};
use cutover::database::capture::Capture;
use cutover::database::copy::{self, Copied, CopyOptions, Ended};
use cutover::database::indexes::{self, Definitions};
use cutover::database::level::{LevelError, LevelSetup, Limits, Worker, begin_progress};
use cutover::database::mapping::{self, Mapping};
use cutover::database::term::{self, Term};
use cutover::database::{account, catalog};
use cutover::plan::{self, Side, Throttle};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

/// Rows wide enough for some tens of blocks, in a table that is copied in binary and one (an enum) that is not.
const SCHEMA: &str = "
create type mood as enum ('calm', 'cross');
create table owner (id text primary key, tag text unique, mood mood not null default 'calm', pad text);
create table item (id int primary key, owner text references owner(id) on delete cascade on update cascade, slot int,
  pad text, unique (owner, slot));
create table old (id int primary key, dead boolean not null, pad text);";
const ROWS: &str = "
insert into owner select 'o' || n, 'tag' || n, 'calm', repeat('p', 300) from generate_series(1, 300) n;
insert into item select n, 'o' || n % 300 + 1, n, repeat('q', 200) from generate_series(1, 3000) n;
insert into old select n, n % 5 = 0, repeat('r', 100) from generate_series(1, 1000) n;";
const PLAN: &str = "version: 1
name: fill
control: ${CONTROL_URL}
databases:
  blue: { url: \"${BLUE_URL}\", role: hydra }
  green: { url: \"${GREEN_URL}\", role: hydra }
migrate:
  - command: { run: [\"true\"] }
cleanup:
  - { name: dead, table: old, where: dead, cap: { rows: 900, percent: 90 }, because: nobody asks for them }
carry:
  item: { set: { pad: \"upper(pad)\" } }
";

struct Stage {
    pair: Pair,
    term: Term,
    capture: Capture,
    mapping: Mapping,
    definitions: Definitions,
}

impl Stage {
    /// Blue with rows and a slot, green with its schema, stripped for a copy.
    async fn new() -> Self {
        let pair = Pair::shared().await;
        pair.blue.execute(&format!("{SCHEMA}{ROWS}")).await;
        pair.green.execute(SCHEMA).await;
        let term = Term { term: 1, nonce: Uuid::new_v4() };
        for side in [&pair.blue, &pair.green] {
            term::install(&side.client().await, &term).await.expect("the term is installed");
        }
        let mapping = resolved(&pair).await;
        let capture = Capture { run: Uuid::new_v4(), side: Side::Blue };
        let (mut blue, mut green) = (pair.blue.client().await, pair.green.client().await);
        let definitions = indexes::read(&green, &mapping.carried()).await.expect("green's indexes");
        indexes::strip(&mut green, &term, &definitions).await.expect("green is stripped");
        let bound = Duration::from_secs(30);
        let captured = capture.start(&mut blue, &term, &mapping.captured(), bound).await.expect("the capture starts");
        begin_progress(&mut green, &term, &captured).await.expect("the first position is stored");
        Self { pair, term, capture, mapping, definitions }
    }

    /// Copies until something was told `tells` times, and is then cut off in the middle of whatever it does.
    async fn copy_for(&self, tells: usize) -> Option<Result<Ended, copy::CopyError>> {
        let (told, enough) = (AtomicUsize::new(0), Notify::new());
        let tell = |_: copy::CopyProgress<'_>| {
            if told.fetch_add(1, Ordering::Relaxed) + 1 == tells {
                enough.notify_one();
            }
        };
        tokio::select! {
            biased;
            () = enough.notified() => None,
            copied = self.copy(&tell) => Some(copied),
        }
    }

    async fn copy(&self, tell: &(dyn Fn(copy::CopyProgress<'_>) + Sync)) -> Result<Ended, copy::CopyError> {
        let (blue, green) = (self.pair.blue.url(), self.pair.green.url());
        let options = copy_options(&blue, &green, self.term);
        copy::copy(&options, &self.mapping, tell).await
    }

    /// Copies, cut off again and again until it gets to its end.
    async fn copy_in_spite(&self) -> Vec<Copied> {
        for _ in 0..400 {
            let tells = rand::rng().random_range(1..25);
            match self.copy_for(tells).await {
                Some(Ok(Ended::Whole(copied))) => return copied,
                // What was cut off may have been committed meanwhile.
                None | Some(Ok(Ended::Part { .. })) | Some(Err(copy::CopyError::Twice { .. })) => {}
                Some(Err(other)) => panic!("{other}: {:?}", std::error::Error::source(&other)),
            }
        }
        panic!("400 attempts did not come to an end");
    }

    async fn build(&self, mixed: &BTreeSet<plan::TableName>) {
        let built =
            indexes::build(&self.pair.green.url(), &self.term, &self.definitions, 2, 64 << 20, mixed, &|_, _, _| ())
                .await;
        built.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    }

    async fn worker(&self) -> Worker {
        let setup = LevelSetup {
            source: self.pair.blue.url(),
            target: self.pair.green.url(),
            capture: self.capture,
            mapping: self.mapping.clone(),
            term: self.term,
            limits: Limits { lock: Duration::from_secs(5), statement: Duration::from_secs(30), page_keys: 50 },
        };
        Worker::open(setup).await.expect("the worker opens")
    }

    /// Every carried row of green is what the mapping gives on blue, as text.
    async fn assert_rows(&self) {
        let (blue, green) = (self.pair.blue.client().await, self.pair.green.client().await);
        for table in &self.mapping.tables {
            let list: Vec<String> = table.columns.iter().map(|column| format!("q.{}::text", column.name)).collect();
            let select = |from: &str| format!("select row({})::text from {from} q", list.join(", "));
            let wanted = texts(&blue, &select(&format!("({})", table.select))).await;
            let found = texts(&green, &select(&table.target.name)).await;
            let missing: Vec<_> = wanted.difference(&found).take(3).collect();
            let extra: Vec<_> = found.difference(&wanted).take(3).collect();
            assert!(missing.is_empty() && extra.is_empty(), "{}: missing {missing:?}, extra {extra:?}", table.target);
        }
    }

    /// That, and green's keys and indexes stand.
    async fn assert_equal(&self) {
        self.assert_rows().await;
        let green = self.pair.green.client().await;
        let standing = indexes::read(&green, &self.mapping.carried()).await.expect("green's indexes");
        assert_eq!(standing, self.definitions);
    }
}

async fn texts(client: &Client, query: &str) -> BTreeSet<String> {
    client.query(query, &[]).await.expect("the query runs").iter().map(|row| row.get(0)).collect()
}

async fn resolved(pair: &Pair) -> Mapping {
    let lookup = |name: &str| {
        let place = match name {
            "CONTROL_URL" => &pair.control,
            "BLUE_URL" => &pair.blue,
            _ => &pair.green,
        };
        Some(place.url().expose().to_owned())
    };
    let plan = plan::parse(PLAN, Path::new("."), &lookup).unwrap_or_else(|problems| panic!("{problems:?}"));
    let blue = catalog::read(&pair.blue.client().await).await.expect("blue's catalog");
    let green = catalog::read(&pair.green.client().await).await.expect("green's catalog");
    mapping::resolve(&plan, &blue, &green, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// One random transaction of an application; refused ones are as good as none.
async fn write_something(client: &Client) -> bool {
    let (a, b, n, action) = {
        let mut random = rand::rng();
        (
            random.random_range(1..320),
            random.random_range(1..320),
            random.random_range(1..3600),
            random.random_range(0..12),
        )
    };
    let statement = match action {
        0 | 1 => format!("insert into item values ({n}, 'o{a}', {n}, repeat('s', {b}))"),
        2 | 3 => format!("update item set pad = repeat('t', {b}) where id = {n}"),
        4 => format!("delete from item where id = {n}"),
        5 => format!("update item set id = {} where id = {n}", n + 4000 - 2 * (n % 4000).min(n)),
        6 => format!("update item set owner = 'o{b}' where id = {n}"),
        7 => format!(
            "with one as (select tag from owner where id = 'o{a}'), other as (update owner set tag = null where id = 'o{b}' returning id)
             update owner set tag = tag || '' where id = 'o{a}';
             update owner set tag = 'swap{a}' where id = 'o{a}'; update owner set tag = 'tag{a}' where id = 'o{b}';
             update owner set tag = 'tag{b}' where id = 'o{a}'"
        ),
        8 => format!("update owner set id = 'o{b}' where id = 'o{a}'"),
        9 => format!("delete from owner where id = 'o{a}'"),
        10 => format!("insert into owner values ('o{a}', 'new{n}', 'cross', repeat('u', {b}))"),
        _ => format!("update old set dead = not dead, pad = repeat('v', {b}) where id = {}", n % 1000),
    };
    let written = client.batch_execute(&format!("begin; {statement}; commit")).await.is_ok();
    if !written {
        let _ = client.batch_execute("rollback").await;
    }
    written
}

struct Writers {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    all: JoinSet<()>,
}

impl Writers {
    async fn start(stage: &Stage) -> Self {
        let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut all = JoinSet::new();
        for _ in 0..3 {
            let (client, stop, commits) = (stage.pair.blue.client().await, stop.clone(), commits.clone());
            all.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    commits.fetch_add(u64::from(write_something(&client).await), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
        Self { stop, commits, all }
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while self.all.join_next().await.is_some() {}
        self.commits.load(Ordering::Relaxed)
    }
}

/// Sometimes long enough for a batch, sometimes not.
fn a_moment() -> Duration {
    Duration::from_millis(rand::rng().random_range(40..160))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_and_a_catch_up_cut_off_again_and_again_under_writes_end_equal() {
    let stage = Stage::new().await;
    let writers = Writers::start(&stage).await;
    let copied = stage.copy_in_spite().await;
    let mixed: BTreeSet<_> = copied.iter().filter(|table| table.is_mixed).map(|table| table.table.clone()).collect();
    let (chunks, repeated) = copied.iter().fold((0, 0), |sum, table| (sum.0 + table.chunks, sum.1 + table.repeated));
    assert!(!mixed.is_empty() && repeated > 0 && chunks > 50, "{repeated} of {chunks} chunks repeated: {copied:?}");
    let green = stage.pair.green.client().await;
    let accounts = account::count(&green, &stage.mapping.carried()).await.expect("green is counted");
    assert_eq!(account::judge(&accounts), [], "rows taken away again are accounted for");
    stage.build(&mixed).await;

    let mut worker = stage.worker().await;
    for _ in 0..30 {
        match tokio::time::timeout(a_moment(), worker.batch(&())).await {
            Ok(Ok(_)) => {}
            // What was cut off still reads the slot for a moment.
            Ok(Err(LevelError::AnotherWorker { .. })) | Err(_) => worker = stage.worker().await,
            Ok(Err(other)) => panic!("{other}: {:?}", std::error::Error::source(&other)),
        }
    }
    let commits = writers.end().await;
    assert!(commits > 200, "{commits} commits");
    let mut worker = stage.worker().await;
    worker.until_level(&(), Duration::from_secs(20), Duration::from_secs(5)).await.expect("green gets level");
    stage.build(&BTreeSet::new()).await;
    let mut green = stage.pair.green.client().await;
    let keys = indexes::build_foreign_keys(&mut green, &stage.term, &stage.definitions).await;
    keys.expect("every foreign key is valid");
    stage.assert_equal().await;
    assert_eq!(stage.pair.green.ask::<i64>("select count(*) from cutover.repair").await, 0);
}

/// Copies with `throttle` until the end; the reasons for which snapshots were let go.
async fn copy_in_parts(stage: &Stage, throttle: Throttle) -> (Vec<Copied>, Vec<String>) {
    let (blue, green) = (stage.pair.blue.url(), stage.pair.green.url());
    let options = CopyOptions { throttle, ..copy_options(&blue, &green, stage.term) };
    let mut reasons = Vec::new();
    loop {
        match copy::copy(&options, &stage.mapping, &|_| ()).await.expect("the copy") {
            Ended::Whole(copied) => return (copied, reasons),
            Ended::Part { why } => reasons.push(why),
        }
        assert!(reasons.len() < 20, "{reasons:?}");
    }
}

const UNHURRIED: Throttle =
    Throttle { rate_bytes: Some(400_000), replica_lag: None, snapshot: Duration::from_secs(3600) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_grows_old_is_let_go_and_the_rest_read_from_a_new_one() {
    let stage = Stage::new().await;
    let begun = tokio::time::Instant::now();
    let (copied, reasons) = copy_in_parts(&stage, Throttle { snapshot: Duration::from_millis(100), ..UNHURRIED }).await;
    assert!(reasons.iter().any(|why| why.contains("older than 100ms")), "{reasons:?}");
    assert!(begun.elapsed() > Duration::from_secs(2), "about 900 kB at 400 kB a second: {:?}", begun.elapsed());
    assert!(copied.iter().any(|table| table.is_mixed) && copied.iter().all(|table| table.repeated == 0), "{copied:?}");
    stage.build(&BTreeSet::new()).await;
    stage.assert_rows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_who_alters_a_table_of_blue_does_not_wait_for_the_copy() {
    let stage = Stage::new().await;
    let blue = stage.pair.blue.client().await;
    blue.batch_execute("set application_name = 'a deployment'").await.expect("a name");
    let alters = async {
        let noted = "select count(*) > 0 from cutover.copied where rows is not null";
        let green = stage.pair.green.client().await;
        eventually(Duration::from_secs(20), "a chunk stands", || async {
            green.query_one(noted, &[]).await.ok().filter(|row| row.get(0))
        })
        .await;
        let begun = tokio::time::Instant::now();
        blue.batch_execute("truncate old; insert into old values (7, false, 'after')").await.expect("the truncate");
        begun.elapsed()
    };
    let ((copied, reasons), waited) = tokio::join!(copy_in_parts(&stage, UNHURRIED), alters);
    assert!(waited < Duration::from_secs(4), "it waited {waited:?}, the whole copy takes longer than 2 s: {reasons:?}");
    assert!(reasons.iter().any(|why| why.contains("a deployment") && why.contains("truncate")), "{reasons:?}");
    let old = copied.iter().find(|table| table.table.name == "old").expect("it was copied");
    assert!(old.rows == 1 || old.rows == 800, "of one file only: {old:?}");
    let mut worker = stage.worker().await;
    worker.until_level(&(), Duration::from_secs(20), Duration::from_secs(5)).await.expect("green gets level");
    stage.build(&BTreeSet::new()).await;
    stage.assert_rows().await;
}
