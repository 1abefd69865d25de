//! Rows read from a physical standby of blue: a real one, behind and caught up, and what is refused in its place.

use super::Stage;
use crate::harness::Pair;
use crate::harness::fill::{copy_options, copy_whole};
use crate::harness::standby::Standby;
use cutover::database::client::connect;
use cutover::database::copy::{self, CopyError};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_read_from_a_standby_once_it_has_caught_up() {
    let stage = Stage::of(Pair::separate().await).await;
    let standby = Standby::of(&stage.pair).await;
    let (blue, green) = (stage.pair.blue.url(), stage.pair.green.url());
    let options = copy::CopyOptions { standby: Some(&standby.url), ..copy_options(&blue, &green, stage.term) };

    // What is committed now lies behind the slot's beginning only for a standby that has not replayed it.
    let replay = connect(&standby.url, "standby").await.expect("the standby answers");
    replay.batch_execute("select pg_wal_replay_pause()").await.expect("the replay is paused");
    stage.pair.blue.execute("update item set pad = 'before the copy' where id % 3 = 0").await;
    let copying = copy_whole(&options, &stage.mapping);
    let resumed = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = "select count(*) from pg_class where relname = 'copied'";
        assert_eq!(stage.pair.green.ask::<i64>(begun).await, 0, "it waits for the standby");
        replay.batch_execute("select pg_wal_replay_resume()").await.expect("the replay goes on");
    };
    let (copied, ()) = tokio::join!(copying, resumed);
    let copied = copied.expect("the copy");
    assert!(copied.iter().all(|table| !table.is_mixed && table.rows > 0), "{copied:?}");
    let early = "select count(*) from item where pad = 'BEFORE THE COPY'";
    assert_eq!(stage.pair.green.ask::<i64>(early).await, 1000, "rows of the standby's moment");

    stage.pair.blue.execute("update item set pad = 'after it' where id % 4 = 0; delete from item where id = 1").await;
    stage.build(&std::collections::BTreeSet::new()).await;
    let mut worker = stage.worker().await;
    worker.until_level(&(), Duration::from_secs(20), Duration::from_secs(5)).await.expect("green gets level");
    stage.assert_rows().await;

    copy::empty(&mut stage.pair.green.client().await, &stage.term, &stage.mapping).await.expect("green is emptied");
    let other = stage.pair.control.url();
    for wrong in [&blue, &other] {
        let options = copy::CopyOptions { standby: Some(wrong), ..options.clone() };
        let refused = copy_whole(&options, &stage.mapping).await.expect_err("it is no standby of blue");
        assert!(matches!(refused, CopyError::NoStandby { .. }) && refused.is_refused(), "{refused}");
    }
}
