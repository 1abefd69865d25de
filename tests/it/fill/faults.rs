//! What breaks while green is filled: a server restarts, a connection is killed, the disk is full, a table is altered, a mapping is wrong. Each is
//! told with the table and the rule; nothing of it is left half done, and the next call goes on.

use super::Stage;
use crate::harness::fill::copy_options;
use crate::harness::{Pair, eventually, fresh_folder};
use cutover::database::capture::CaptureError;
use cutover::database::capture::CaptureStanding;
use cutover::database::copy::{self, CopyError, Ended};
use cutover::plan::Throttle;
use cutover::sandbox::servers::Stop;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Stage {
    /// A copy that takes two seconds or so, and something that happens to it once a chunk stands.
    async fn copy_beside(&self, happens: impl Future<Output = ()>) -> Result<Ended, CopyError> {
        let (blue, green) = (self.pair.blue.url(), self.pair.green.url());
        let mut options = copy_options(&blue, &green, self.term);
        options.throttle = Throttle { rate_bytes: Some(400_000), ..options.throttle };
        let beside = async {
            let client = self.pair.green.client().await;
            let stands = "select count(*) > 3 from cutover.copied where rows is not null";
            eventually(Duration::from_secs(20), "some chunks stand", || async {
                client.query_one(stands, &[]).await.ok().filter(|row| row.get(0))
            })
            .await;
            happens.await;
        };
        tokio::join!(copy::copy(&options, &self.mapping, &|_| ()), beside).0
    }

    /// The copy goes on, and green is made equal to blue.
    async fn goes_on(&self) {
        let copied = self.copy_in_spite().await;
        let mixed: BTreeSet<_> =
            copied.iter().filter(|table| table.is_mixed).map(|table| table.table.clone()).collect();
        assert!(copied.iter().any(|table| table.is_mixed), "some chunks stood before: {copied:?}");
        self.build(&mixed).await;
        let mut worker = self.worker().await;
        worker.until_level(&(), Duration::from_secs(20), Duration::from_secs(5)).await.expect("green gets level");
        self.build(&BTreeSet::new()).await;
        self.assert_rows().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_outlives_a_killed_connection_and_a_restart_of_either_server() {
    let stage = Stage::of(Pair::separate().await).await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cutover' and query ilike 'copy %'";
    let killed = stage.copy_beside(async { stage.pair.blue.execute(kill).await }).await.expect_err("it was cut off");
    assert!(matches!(killed, CopyError::Server { .. }), "{}", words(&killed));
    stage.pair.blue.execute("update item set pad = 'after the kill', slot = slot + 10000 where id % 7 = 0").await;

    for place in [&stage.pair.green, &stage.pair.blue] {
        let broken = stage.copy_beside(async { place.server.restart(Stop::Fast).await.expect("a restart") }).await;
        assert!(broken.is_err(), "{broken:?}");
        stage
            .pair
            .blue
            .execute("update item set slot = slot + 20000 where id % 5 = 0; delete from item where id % 11 = 0")
            .await;
    }
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_altered_on_blue_is_told_before_more_is_copied() {
    let stage = Stage::new().await;
    let blue = stage.pair.blue.client().await;
    let captured = match stage.capture.verify(&blue).await.expect("an answer") {
        CaptureStanding::Present(captured) => captured,
        other => panic!("{other:?}"),
    };
    stage.capture.require_unaltered(&blue, &captured).await.expect("nothing was altered");
    stage.pair.blue.execute("alter table item add column late text").await;
    let altered = stage.capture.require_unaltered(&blue, &captured).await.expect_err("a column came");
    assert!(matches!(&altered, CaptureError::Altered { table, .. } if table == "public.item"), "{altered}");
    assert!(altered.to_string().contains("late text"), "{altered}");
    stage.pair.blue.execute("drop table item").await;
    let dropped = stage.capture.require_unaltered(&blue, &captured).await.expect_err("it is gone");
    assert!(matches!(&dropped, CaptureError::NoTable { table, .. } if table.name == "item"), "{dropped}");
}

/// A folder on a disk of its own of a few megabytes, when we may make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = fresh_folder("disk");
        std::fs::create_dir_all(&folder).expect("a folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs"]).arg(&folder).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_green_is_told_with_the_table_and_the_copy_goes_on_when_there_is_room() {
    // Only root may mount; the error's own path is the same for every refusal of the server.
    let Some(disk) = SmallDisk::mount() else { return };
    let stage = Stage::new().await;
    let green = stage.pair.green.client().await;
    let space = format!("small_{}", std::process::id());
    let folder = disk.0.join("space");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::process::Command::new("chown")
        .arg("-R")
        .arg("--reference")
        .arg(stage.pair.green.server.folder().join("data"))
        .arg(&folder)
        .status()
        .expect("the folder is the server's");
    green
        .batch_execute(&format!("create tablespace {space} location '{}'", folder.display()))
        .await
        .expect("a tablespace");
    green.batch_execute(&format!("alter table item set tablespace {space}")).await.expect("a small place");
    // Larger than the disk.
    stage.pair.blue.execute("update item set pad = repeat('wide', 200)").await;
    let full = stage.copy(&|_| ()).await.expect_err("there is no room");
    let said = words(&full);
    assert!(said.contains("public.item") && said.contains("No space left on device"), "{said}");
    let stands: i64 =
        stage.pair.green.ask("select sum(rows)::bigint from cutover.copied where green_table = 'public.item'").await;
    assert_eq!(stage.pair.green.ask::<i64>("select count(*) from item").await, stands, "no chunk is half there");
    green.batch_execute("alter table item set tablespace pg_default").await.expect("there is room");
    green.batch_execute(&format!("drop tablespace {space}")).await.expect("the small place is gone");
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_with_two_rows_for_one_key_or_a_null_key_is_named() {
    let mut stage = Stage::new().await;
    let good = stage.mapping.clone();
    let owner = stage.mapping.tables.iter_mut().find(|table| table.target.name == "owner").expect("it is mapped");
    let select = owner.select.clone();
    owner.driven_by = None;
    owner.select = format!("{select} union all select 'o7', null, 'calm', 'twin'");
    owner.count_sql = "select 301".to_owned();
    owner.count_sql.push_str("::bigint");
    stage.copy_in_spite().await;
    let twice = stage.try_build(&BTreeSet::new()).await.expect_err("two rows have one key");
    let said = words(&twice);
    assert!(["owner_pkey of public.owner", "(id)=(o7)"].iter().all(|word| said.contains(word)), "{said}");

    copy::empty(&mut stage.pair.green.client().await, &stage.term, &stage.mapping).await.expect("the copy is undone");
    stage.pair.green.execute("alter table owner alter column id set not null").await;
    let owner = stage.mapping.tables.iter_mut().find(|table| table.target.name == "owner").expect("it is mapped");
    owner.select = format!("{select} union all select null, null, 'calm', 'nobody'");
    let null = loop {
        if let Some(Err(error)) = stage.copy_for(usize::MAX).await {
            break error;
        }
    };
    let said = words(&null);
    assert!(["public.owner", "null value in column \"id\""].iter().all(|word| said.contains(word)), "{said}");

    stage.mapping = good;
    copy::empty(&mut stage.pair.green.client().await, &stage.term, &stage.mapping).await.expect("the copy is undone");
    stage.copy_in_spite().await;
    stage.build(&stage.mapping.carried().into_iter().collect()).await;
}
