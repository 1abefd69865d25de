//! What would hold the fence off for long is named before anybody is held, each by what it does and by its backend; and a fence that meets it all
//! the same gives up within its budget.

use super::{BUDGET, Stage, app};
use crate::harness::eventually;
use cutover::database::fence::{Budget, FenceError, lock_holders};
use std::time::Duration;
use tokio_postgres::Client;

const SOON: Duration = Duration::from_secs(20);

/// Waits until one is named that does this in this backend.
async fn is_named(stage: &Stage, what: &str, pid: i32) {
    let blue = stage.pair.blue.client().await;
    let backend = format!(" by backend {pid}");
    let named = || async {
        let holders = lock_holders(&blue).await.expect("it answers");
        holders.iter().any(|holder| holder.starts_with(what) && holder.ends_with(&backend)).then_some(())
    };
    eventually(SOON, "it is named", named).await;
}

async fn nothing_is_named(stage: &Stage) {
    let blue = stage.pair.blue.client().await;
    let quiet = || async { lock_holders(&blue).await.expect("it answers").is_empty().then_some(()) };
    eventually(SOON, "nothing holds locks", quiet).await;
}

async fn pid(client: &Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.expect("it answers").get(0)
}

#[tokio::test]
async fn a_vacuum_by_hand_is_named_and_a_fence_gives_up_before_it() {
    let stage = Stage::new().await;
    let rows = "insert into public.a select n, repeat('x', 500) from generate_series(2, 20000) n; delete from public.a where id % 2 = 0";
    stage.pair.blue.execute(rows).await;
    let other = stage.pair.blue.client().await;
    let pid = pid(&other).await;
    // A tenth of a second for each page at least: it lasts for minutes.
    other.batch_execute("set vacuum_cost_limit = 1; set vacuum_cost_delay = 100").await.expect("set");
    let vacuum = tokio::spawn(async move { other.batch_execute("vacuum public.a").await });
    is_named(&stage, "vacuum of a", pid).await;

    let short = Budget { locks: Duration::from_millis(400), attempt: Duration::from_millis(100), ..BUDGET };
    let error = stage.fence(short).await.expect_err("it vacuums");
    let names_it = error.to_string().contains(&format!("backend {pid}"));
    assert!(matches!(error, FenceError::Writers { .. }) && names_it, "{error}");
    app(&stage.pair.blue).await.execute("update public.a set v = 'y' where id = 1", &[]).await.expect("blue serves on");

    let cancelled: bool = stage.pair.blue.ask(&format!("select pg_cancel_backend({pid})")).await;
    assert!(cancelled && vacuum.await.expect("no panic").is_err(), "it was at work");
    nothing_is_named(&stage).await;
    stage.fence(BUDGET).await.expect("nothing is in the way").release().await.expect("released");
}

#[tokio::test]
async fn an_index_that_is_built_beside_its_writers_is_named() {
    let stage = Stage::new().await;
    let writer = app(&stage.pair.blue).await;
    writer.batch_execute("begin; update public.a set v = 'y'").await.expect("a writer begins");
    let other = stage.pair.blue.client().await;
    let pid = pid(&other).await;
    let build = "create index concurrently a_by_v on public.a (v)";
    let build = tokio::spawn(async move { other.batch_execute(build).await });
    is_named(&stage, "CREATE INDEX CONCURRENTLY of a", pid).await;
    writer.batch_execute("rollback").await.expect("it ends");
    build.await.expect("no panic").expect("it was waiting for the writer");
    nothing_is_named(&stage).await;
}
