//! The gate of a run and the verb, by the binary, while clients write: nothing false is told, everything planted stops the run.

use crate::harness::stage::Stage;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes on blue until it is told to end: rows come, change, and go.
async fn writing<T>(stage: &Stage, act: impl Future<Output = T>) -> T {
    let over = Arc::new(AtomicBool::new(false));
    let client = stage.pair.blue.application().await;
    let is_over = over.clone();
    let written = tokio::spawn(async move {
        let write = "insert into account (email) values (gen_random_uuid()::text); update note set body = body || '!' where id < 3000 and id % 97 = (random() * 96)::int; delete from account where id = (select min(id) from account where email not like 'user%')";
        let mut times = 0_u32;
        while !over.load(Ordering::Relaxed) {
            client.batch_execute(write).await.expect("the application writes on");
            times += 1;
        }
        times
    });
    let done = act.await;
    is_over.store(true, Ordering::Relaxed);
    assert!(written.await.expect("the writer ends") > 0);
    done
}

fn counts(summary: &Value) -> Value {
    json!([summary["missing"], summary["extra"], summary["changed"], summary["expected"]])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_and_the_verb_find_nothing_false_while_clients_write_and_all_that_is_planted() {
    let stage = Stage::with_accounts(2000).await;
    let (code, none) = stage.verb(&["diff"]).await;
    assert_eq!((code, none["outcome"].as_str()), (3, Some("refused")), "{none}");
    let (code, run) = writing(&stage, stage.verb(&["run"])).await;
    assert_eq!((code, run["state"].as_str()), (0, Some("at_flip_point")), "{run}");
    for _ in 0..3 {
        let (code, same) = writing(&stage, stage.verb(&["diff"])).await;
        assert_eq!((code, same["outcome"].as_str(), counts(&same)), (0, Some("done"), json!([0, 0, 0, 0])), "{same}");
        assert!(same["compared"].as_u64() > Some(7000), "{same}");
    }
    let planted = "set session_replication_role = replica; update note set body = 'x' where id = 4000; delete from note where id = 4001; insert into note (id, account_id, body) values (999999, 1500, 'y'); update account set created_at = created_at + interval '1 hour' where id = 1500";
    stage.pair.green.execute(planted).await;
    let (code, found) = writing(&stage, stage.verb(&["diff"])).await;
    assert_eq!((code, found["outcome"].as_str()), (3, Some("refused")), "{found}");
    assert_eq!(counts(&found), json!([1, 1, 2, 0]), "{found}");
    let rows = json!([
        { "table": "public.account", "key": "1500", "class": "changed", "columns": ["created_at"] },
        { "table": "public.note", "key": "4000", "class": "changed", "columns": ["body"] },
        { "table": "public.note", "key": "4001", "class": "missing", "columns": [] },
        { "table": "public.note", "key": "999999", "class": "extra", "columns": [] },
    ]);
    assert_eq!(found["rows"], rows);
    let (code, back) = stage.verb(&["rollback"]).await;
    assert_eq!((code, stage.left_on_blue().await), (0, 0), "{back}");
    let left: i64 = stage.pair.green.ask("select count(*) from pg_namespace where nspname = 'cutover'").await;
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_stops_a_run_until_it_is_gone_or_a_person_answers_for_it() {
    let stage = Stage::with_accounts(200).await;
    stage.write_plan("diff: { list: 1 }\n");
    let (code, early) = stage.verb(&["run", "--through", "copy-rows"]).await;
    assert_eq!(code, 0, "{early}");
    let (code, early) = stage.verb(&["diff"]).await;
    assert_eq!(code, 3, "{early}");
    assert!(early["why"].as_str().is_some_and(|why| why.contains("level-backlog is not done")), "{early}");
    let (code, filled) = stage.verb(&["run", "--through", "restore-green"]).await;
    assert_eq!(code, 0, "{filled}");
    stage
        .pair
        .green
        .execute("set session_replication_role = replica; update note set body = '' where id in (5, 6)")
        .await;
    let (code, stopped) = stage.verb(&["run"]).await;
    assert_eq!((code, stopped["outcome"].as_str()), (3, Some("refused")), "{stopped}");
    let why = stopped["why"].as_str().unwrap_or_default();
    let told = "step diff: green is not what the mapping makes of blue: 0 missing, 0 extra, 2 changed of 800 rows: public.note changed in body (such as 5)";
    assert_eq!(why, told);
    let (code, waived) = stage.verb(&["run", "--waive", "diff", "--because", "tried out"]).await;
    assert_eq!((code, waived["state"].as_str()), (0, Some("at_flip_point")), "{waived}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_may_leave_the_comparison_to_the_verb() {
    let stage = Stage::with_accounts(50).await;
    stage.write_plan("diff: { step: false }\n");
    let mut steps = stage.start(&["run"]);
    assert!(steps.until(|event| event["step"] == "diff").await.is_none(), "no step of that name");
    let (code, same) = stage.verb(&["diff"]).await;
    assert_eq!((code, counts(&same)), (0, json!([0, 0, 0, 0])), "{same}");
}
