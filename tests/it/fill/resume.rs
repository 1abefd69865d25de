//! A copy and a catch-up that are cut off again and again while clients write: nothing is read twice for good, nothing is lost.

use super::Stage;
use crate::harness::fill::copy_options;
use crate::harness::{Pair, eventually};
use crate::level::for_both;
use cutover::database::account;
use cutover::database::copy::{self, Copied, CopyOptions, CopyTold, Ended};
use cutover::database::indexes;
use cutover::database::level::LevelError;
use cutover::plan::{CaptureMethod, Throttle};
use rand::Rng;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Client;

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

for_both!(a_copy_and_a_catch_up_cut_off_again_and_again_under_writes_end_equal);

async fn a_copy_and_a_catch_up_cut_off_again_and_again_under_writes_end_equal(method: CaptureMethod) {
    let stage = Stage::by(Pair::shared().await, method).await;
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
    let green = stage.pair.green.url();
    let keys = indexes::build_foreign_keys(&green, &stage.term, &stage.definitions, 2, 64 << 20, &|_, _, _| ()).await;
    keys.expect("every foreign key is valid");
    stage.assert_equal().await;
    assert_eq!(stage.pair.green.ask::<i64>("select count(*) from cutover.repair").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_a_chunk_builds_indexes_of_tables_that_stand() {
    let stage = Stage::new().await;
    let (blue, green) = (stage.pair.blue.url(), stage.pair.green.url());
    // One chunk for each table: the largest takes two seconds, and the other worker is soon through with the rest.
    let options = CopyOptions {
        throttle: UNHURRIED,
        chunk_blocks: 8192,
        idle: Some(stage.idle()),
        ..copy_options(&blue, &green, stage.term)
    };
    let built = Mutex::new(Vec::new());
    let tell = |told: CopyTold<'_>| {
        if let CopyTold::Index(name) = told {
            built.lock().unwrap().push(name.to_owned());
        }
    };
    let ended = copy::copy(&options, &stage.mapping, &tell).await.expect("the copy");
    assert!(matches!(ended, Ended::Whole(_)), "{ended:?}");
    let mut built = built.into_inner().unwrap();
    built.sort();
    assert_eq!(built, ["old_pkey", "owner_pkey", "owner_tag_key"]);
    let client = stage.pair.green.client().await;
    let standing = indexes::read(&client, &stage.mapping.carried()).await.expect("green's indexes").indexes;
    assert_eq!(
        standing.iter().map(|index| index.name.clone()).collect::<Vec<_>>(),
        built,
        "and none of the last table"
    );
    assert!(standing.iter().all(|index| stage.definitions.indexes.contains(index)), "{standing:?}");
    stage.build(&BTreeSet::new()).await;
    stage.assert_rows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_begun_anew_loses_the_indexes_that_an_idle_worker_built() {
    let stage = Stage::new().await;
    let copied = stage.copy(&|_| ()).await.expect("the copy");
    assert!(matches!(copied, Ended::Whole(_)), "{copied:?}");
    stage.build(&BTreeSet::new()).await;
    // As if the builder had died before the constraint adopted its index.
    let orphan = "alter table owner drop constraint owner_pkey; create unique index owner_pkey on owner (id)";
    stage.pair.green.execute(orphan).await;
    stage.pair.blue.execute("vacuum full owner").await;
    let cut = stage.copy_for(3).await;
    assert!(cut.is_none(), "it was cut off: {cut:?}");
    let client = stage.pair.green.client().await;
    let standing = indexes::read(&client, &stage.mapping.carried()).await.expect("green's indexes").indexes;
    assert!(standing.iter().all(|index| index.table.name != "owner"), "{standing:?}");
    stage.copy_in_spite().await;
    stage.build(&BTreeSet::new()).await;
    stage.assert_rows().await;
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
