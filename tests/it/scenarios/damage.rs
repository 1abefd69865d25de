//! A journal that somebody has changed: refused by every verb that acts, shown, and left by the way out that `check` names.

use crate::harness::stage::Stage;
use serde_json::Value;

/// Runs a verb to its end with every event it told.
async fn told(stage: &Stage, verb: &[&str], word: &str) -> (i32, Value, Vec<Value>) {
    let mut underway = stage.start(verb);
    let mut events = Vec::new();
    while let Some(event) = underway.until(|event| event["event"] == word).await {
        events.push(event);
    }
    let (code, summary) = underway.end().await;
    (code, summary, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_shown_refused_and_left_by_hand() {
    let stage = Stage::with_accounts(50).await;
    let (code, none, _) = told(&stage, &["journal", "check"], "record").await;
    assert_eq!((code, none["records"].as_i64()), (0, Some(0)), "{none}");
    assert_eq!(stage.verb(&["run"]).await.0, 0);
    let rows = stage.rows(true).await;
    let (code, whole, records) = told(&stage, &["journal", "show"], "record").await;
    assert_eq!((code, whole["records"].as_u64()), (0, Some(records.len() as u64)), "{whole}");
    assert_eq!((records[0]["kind"].as_str(), records[0]["seq"].as_i64()), (Some("opened"), Some(1)));
    assert!(records.iter().any(|record| record["step"] == "copy-rows" && record["body"]["rows"] == 200));

    stage.pair.control.execute("update cutover.record set body = '{}' where seq = 7").await;
    for verb in [["run"].as_slice(), &["rollback"]] {
        let (code, refused) = stage.verb(verb).await;
        assert_eq!((code, refused["outcome"].as_str()), (8, Some("stuck")), "{refused}");
        assert!(refused["next"].as_str().is_some_and(|next| next.contains("cutover journal check ")), "{refused}");
    }
    let (code, _, still) = told(&stage, &["journal", "show"], "record").await;
    assert_eq!((code, still.len()), (8, records.len()), "a damaged journal is shown all the same");
    let (code, check, _) = told(&stage, &["journal", "check"], "record").await;
    assert_eq!((code, check["damaged_at"].as_i64(), check["live"].as_str()), (8, Some(7), Some("blue")), "{check}");

    let (code, pause) = stage.verb(&["pause"]).await;
    assert_eq!((code, pause["outcome"].as_str()), (0, Some("done")), "nothing is at work: {pause}");
    for step in check["way_out"].as_array().expect("a way out") {
        let Some(sql) = step["sql"].as_str() else { continue };
        match step["on"].as_str().expect("where") {
            "blue" => stage.pair.blue.execute(sql).await,
            "green" => stage.pair.green.execute(sql).await,
            _ => stage.pair.control.execute(sql).await,
        }
    }
    assert_eq!((stage.left_on_blue().await, stage.rows(true).await), (0, rows.clone()));
    stage.pair.green.execute("drop schema public cascade; create schema public authorization hydra").await;
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!((code, run["state"].as_str()), (0, Some("at_flip_point")), "{run}");
    assert_eq!(stage.rows(false).await, rows, "green equals blue");
}
