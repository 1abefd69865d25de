//! Rows that are left behind, as a person meets them: refused before a row moves, previewed, parked through kills, and brought back after the flip.

use crate::harness::sandbox::Sandbox;
use crate::harness::stage::Stage;
use serde_json::Value;

/// Accounts are left behind, and their notes with them.
const ACCOUNTS: &str = "cleanup:
  - { name: old-accounts, table: account, where: id <= 20, cap: { rows: 100, percent: 50 }, because: a test }
";
const NOTES: &str = "  - { name: lost-notes, table: note, orphan_of: { table: account }, cap: { rows: 300, percent: 50 }, because: a test }
";

#[tokio::test(flavor = "multi_thread")]
async fn dirty_rows_and_rows_that_would_hang_stop_the_run_before_a_row_moves() {
    let stage = Stage::with_accounts(200).await;
    let dirty = "dirty:\n  - { name: empty-notes, find: select id from note where body = '', expect: none, because: nobody reads them }\n";
    stage.write_plan(&format!("{ACCOUNTS}{dirty}"));
    stage.pair.blue.execute("update note set body = '' where id in (7, 8)").await;
    let (code, check) = stage.verb(&["check"]).await;
    assert_eq!((code, check["errors"].as_u64()), (3, Some(1)), "{check}");
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!((code, run["outcome"].as_str(), run["live"].as_str()), (3, Some("refused"), Some("blue")), "{run}");
    let why = run["why"].as_str().expect("a reason");
    for words in [
        "empty-notes: 2 rows, nothing deals with them (id=7; id=8): nobody reads them",
        "60 rows of public.note point to rows of public.account that old-accounts leaves behind (note_account_id_fkey",
    ] {
        assert!(why.contains(words), "{why}");
    }
    let copied: bool = stage.pair.green.ask("select to_regclass('cutover.copied') is not null").await;
    assert!(!copied, "no row has moved");
    let (code, back) = stage.verb(&["rollback"]).await;
    assert_eq!(code, 0, "{back}");

    stage.write_plan(&format!("{ACCOUNTS}{NOTES}{dirty}"));
    let (code, run) = stage.verb(&["run"]).await;
    assert!(code == 3 && !run["why"].as_str().unwrap_or_default().contains("point to"), "{run}");
    stage.pair.blue.execute("update note set body = 'mended' where body = ''").await;
    let (code, preview) = stage.verb(&["cleanup", "preview"]).await;
    assert_eq!(
        (code, preview["rules"].as_u64(), preview["hanging"].as_array().map(Vec::len)),
        (0, Some(2), Some(0)),
        "{preview}"
    );
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!((code, run["outcome"].as_str()), (0, Some("done")), "mended on blue it goes on: {run}");
    let counts = async |table: &str| stage.pair.green.ask::<i64>(&format!("select count(*) from {table}")).await;
    assert_eq!((counts("account").await, counts("note").await), (180, 540));
    assert_eq!((counts("cutover.parked_account").await, counts("cutover.parked_note").await), (20, 60));
    let (code, restore) = stage.verb(&["cleanup", "restore", "--rule", "lost-notes", "--yes"]).await;
    assert_eq!(code, 3, "before the flip the plan says what is left behind: {restore}");
    assert!(restore["why"].as_str().unwrap_or_default().contains("green does not serve"), "{restore}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_while_it_parks_parks_every_row_once() {
    let stage = Stage::with_accounts(200).await;
    stage.write_plan(&format!("{ACCOUNTS}{NOTES}"));
    // A kill may come late: the next process then stands further on, and every step is killed at most once.
    let steps = ["probe-dirty-data", "park-rows", "level-backlog", "assert-cleaned"];
    let mut killed: Vec<String> = Vec::new();
    let is_next = |event: &Value, killed: &[String]| {
        let step = event["step"].as_str().unwrap_or_default();
        event["event"] == "step_started" && steps.contains(&step) && !killed.iter().any(|one| one == step)
    };
    while let Some(at) = stage.killed("run", |event| is_next(event, &killed)).await {
        stage.pair.blue.execute("update account set email = 'x' || email where id in (3, 30); delete from account where id = 19; insert into account (id, email) values (19, 'again')").await;
        killed.push(at["step"].as_str().expect("a step").to_owned());
    }
    assert!(killed.len() >= 2, "only killed at {killed:?}");
    let levelled = killed.iter().take_while(|step| *step != "level-backlog" && *step != "assert-cleaned").count();
    let changed =
        format!("select count(*) from cutover.parked_account where email like '{}%' and id = 3", "x".repeat(levelled));
    let (code, run) = stage.verb(&["run"]).await;
    assert_eq!(code, 0, "{run}");
    for (query, wanted) in [
        ("select count(*) from account", 180),
        ("select count(*) from cutover.parked_account where cutover_rule = 'old-accounts'", 20),
        (changed.as_str(), 1),
        ("select count(*) from cutover.parked_note where cutover_rule = 'lost-notes'", 57),
        ("select count(*) from note", 540),
    ] {
        assert_eq!(stage.pair.green.ask::<i64>(query).await, wanted, "{query}");
    }
    let (code, back) = stage.verb(&["rollback"]).await;
    assert_eq!(code, 0, "{back}");
    assert_eq!(stage.left_on_blue().await, 0);
    assert_eq!(stage.pair.green.ask::<i64>("select count(*) from pg_namespace where nspname = 'cutover'").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_rows_come_back_once_green_serves() {
    let sandbox = Sandbox::up("parked", 2000, 30).await;
    let path = sandbox.dir.join("plan.yaml");
    let rule = "cleanup:\n  - { name: old-codes, table: hydra_oauth2_code, where: \"requested_at < '1990-01-01'\", cap: { rows: 10, percent: 1 }, because: a test }\n";
    let plan = std::fs::read_to_string(&path).expect("the plan").replacen("cleanup:\n", rule, 1);
    std::fs::write(&path, plan).expect("the plan");
    assert_eq!(sandbox.run("run").await.0, 0);
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    let (code, unknown) = sandbox.run("cleanup restore --rule nothing --yes").await;
    assert!(code == 3 && unknown["why"].as_str().unwrap_or_default().contains("no cleanup rule nothing"), "{unknown}");
    let (code, alone) = sandbox.run("cleanup restore --rule legacy-batch-tokens --yes").await;
    assert!(code == 3 && alone["why"].as_str().unwrap_or_default().contains("park: false"), "{alone}");
    let (code, revocable) = sandbox.run("cleanup restore --rule old-codes --yes").await;
    assert!(code == 3 && revocable["why"].as_str().unwrap_or_default().contains("what people revoke"), "{revocable}");
    let (code, unsure) = sandbox.run("cleanup restore --rule unfinished-logouts").await;
    assert_eq!(code, 3, "nobody agreed: {unsure}");
    let (code, restored) = sandbox.run("cleanup restore --rule unfinished-logouts --yes").await;
    assert_eq!(code, 0, "{restored}");
    let (asked, rows) = (restored["asked"]["restorable"].as_u64(), restored["restored"]["rows"].as_u64());
    assert!(asked > Some(0) && asked == rows, "{restored}");
    let (_, again) = sandbox.run("cleanup restore --rule unfinished-logouts --yes").await;
    assert_eq!(again["restored"]["rows"].as_u64(), Some(0), "{again}");
    let (_, status) = sandbox.run("status").await;
    assert_eq!((status["live"].as_str(), status["state"].as_str()), (Some("green"), Some("flipped")), "{status}");
    let (code, back) = sandbox.run("rollback --yes").await;
    assert_eq!((code, back["live"].as_str()), (0, Some("blue")), "{back}");
}
