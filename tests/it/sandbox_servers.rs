//! Throw-away servers: they start, die, freeze and come back with what was committed.

use crate::harness::{Place, eventually, server};
use cutover::database::client;
use cutover::sandbox::servers::Stop;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_server_dies_freezes_and_comes_back_with_what_was_committed() {
    let place = Place::fresh(Arc::new(server("broken").await), "app").await;
    place.execute("create table kept(id int); insert into kept values (1)").await;
    let role: String =
        place.application().await.query_one("select current_user::text", &[]).await.expect("asks").get(0);
    assert_eq!(role, "hydra");
    let first = place.server.pid().expect("it runs");

    place.server.kill().await.expect("it dies");
    assert_eq!(place.server.pid(), None);
    assert!(client::connect(&place.url(), "the dead server").await.is_err());
    place.server.start_again().await.expect("it starts again");
    assert_ne!(place.server.pid(), Some(first));
    assert_eq!(place.ask::<i64>("select count(*) from kept").await, 1);

    let standing = place.client().await;
    place.server.pause().expect("it freezes");
    eventually(PATIENCE, "the server is frozen", async || place.server.is_paused().then_some(())).await;
    let silent = tokio::time::timeout(Duration::from_millis(300), standing.query_one("select 1", &[])).await;
    assert!(silent.is_err(), "a frozen server answered on a standing connection");
    place.server.resume().expect("it goes on");
    assert_eq!(place.ask::<i64>("select count(*) from kept").await, 1);

    place.server.restart(Stop::Fast).await.expect("it restarts");
    assert_eq!(place.ask::<i64>("select count(*) from kept").await, 1);
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_nothing_behind() {
    let server = server("dropped").await;
    let (folder, pid) = (server.folder(), server.pid().expect("it runs"));
    server.pause().expect("it freezes");
    drop(server);
    assert!(!folder.exists());
    eventually(PATIENCE, "the process is gone", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    })
    .await;
}
