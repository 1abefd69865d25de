//! To the flip point and back: green equals blue, and an undone run leaves nothing.

use crate::harness::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn run_reaches_the_flip_point_and_rollback_leaves_nothing() {
    let stage = Stage::with_accounts(500).await;
    let before = stage.rows(true).await;

    let (code, check) = stage.verb(&["check"]).await;
    assert_eq!(code, 0, "{check}");
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!((code, run["outcome"].as_str()), (0, Some("done")), "{run}");
    assert_eq!(run["figures"]["rows_copied"], 2000, "{run}");
    assert_eq!(stage.rows(false).await, before, "green equals blue");
    let (_, status) = stage.verb(&["status"]).await;
    assert_eq!(status["live"], "blue", "{status}");

    let (code, back) = stage.verb(&["rollback"]).await;
    assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (0, Some("done"), Some("blue")), "{back}");
    assert_eq!(stage.left_on_blue().await, 0);
    assert_eq!(stage.rows(true).await, before, "blue is as it was");
    let tables: i64 = stage.pair.green.ask("select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace where relkind in ('r','S') and nspname in ('public','cutover')").await;
    assert_eq!(tables, 0, "green is empty again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_rolls_back_cleanly() {
    let stage = Stage::with_accounts(200).await;
    let before = stage.rows(true).await;
    assert!(stage.killed_at("run", "copy-rows").await);
    let (code, back) = stage.verb(&["rollback"]).await;
    assert_eq!(code, 0, "{back}");
    assert_eq!(stage.left_on_blue().await, 0);
    assert_eq!(stage.rows(true).await, before);
}
