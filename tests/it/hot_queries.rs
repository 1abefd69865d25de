//! Hot queries planned on both sides: what is worse on green stops a run, nothing is ever executed, and a person may answer for it.

use crate::harness::stage::Stage;
use crate::harness::{Pair, Place};
use cutover::database::hot_queries::{Limits, Planned, QueryError, Worse, ask, worse};
use cutover::plan::{Side, TableName};
use serde_json::Value;
use std::time::Duration;

const TOKENS: &str = "
create table token (id bigint primary key, signature text not null, a int not null, b int not null, body text);
insert into token select n, md5(n::text), n % 100, n, repeat('x', 200) from generate_series(1, 20000) n;";
const BY_SIGNATURE: &str = "select * from token where signature = $1";

/// Blue with an index more than green, both analyzed.
async fn pair_of(index: &str) -> Pair {
    let pair = Pair::shared().await;
    pair.blue.execute(&format!("{TOKENS}{index}; analyze token")).await;
    pair.green.execute(&format!("{TOKENS} analyze token")).await;
    pair
}

async fn planned(place: &Place, side: Side, text: &str) -> Result<Planned, QueryError> {
    ask(&mut place.client().await, side, "one", text).await
}

async fn judged(pair: &Pair, text: &str, small_mb: u64) -> Vec<Worse> {
    let blue = planned(&pair.blue, Side::Blue, text).await.expect("blue plans it");
    let green = planned(&pair.green, Side::Green, text).await.expect("green plans it");
    let limits = Limits { cost_ratio: 10.0, small_table_bytes: small_mb << 20 };
    worse(&blue, &green, limits, &|table: &TableName| vec![table.clone()])
}

#[tokio::test]
async fn hot_queries_miss_an_index_on_green_and_not_a_small_tables() {
    let pair = pair_of("create index token_signature on token (signature)").await;
    let found = judged(&pair, BY_SIGNATURE, 1).await;
    let Some(Worse::Sequential { table, bytes, blue: Some(node) }) = found.first() else { panic!("{found:?}") };
    assert_eq!((table.to_string().as_str(), node.as_str()), ("public.token", "Index Scan on public.token"));
    assert!(*bytes > 4 << 20, "{bytes}");
    let small = judged(&pair, BY_SIGNATURE, 8).await;
    assert!(matches!(small.as_slice(), [Worse::Cost { .. }]), "only its cost is told: {small:?}");
    for place in [&pair.blue, &pair.green] {
        place.execute("create table little as select * from token where id <= 40; analyze little").await;
    }
    pair.blue.execute("create index little_signature on little (signature)").await;
    let little = "select * from little where signature = $1";
    assert_eq!(judged(&pair, little, 1).await, [], "a small table may be read from end to end");
}

#[tokio::test]
async fn hot_queries_that_cost_much_more_are_told_with_their_dearest_node() {
    let pair = pair_of("create index token_a_b on token (a, b)").await;
    pair.green.execute("create index token_a on token (a)").await;
    let query = "select * from token where a = $1 and b = $2";
    let found = judged(&pair, query, 1).await;
    let [Worse::Cost { node, ratio, most }] = found.as_slice() else { panic!("{found:?}") };
    assert!(*ratio > 10.0 && *most == 10.0, "{ratio}");
    assert!(node.ends_with(" on public.token"), "{node}");
    pair.green.execute("create index token_a_b on token (a, b)").await;
    assert_eq!(judged(&pair, query, 1).await, []);
}

#[tokio::test]
async fn hot_queries_are_planned_and_never_run() {
    let pair = pair_of("create sequence numbers").await;
    let before: i64 = pair.blue.ask("select count(*) from token").await;
    for text in [
        "delete from token where id = $1 or true",
        "update token set a = a + 1 returning nextval('numbers')",
        "insert into token select id + 100000, signature, a, b, body from token",
        "with gone as (delete from token returning id) select count(*) from gone",
    ] {
        let plan = planned(&pair.blue, Side::Blue, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(plan.shape().contains(&"ModifyTable on public.token".to_owned()), "{:?}", plan.shape());
    }
    assert_eq!(pair.blue.ask::<i64>("select count(*) from token").await, before);
    assert_eq!(pair.blue.ask::<i64>("select sum(a) from token").await, 990_000);
    assert!(!pair.blue.ask::<bool>("select is_called from numbers").await);
}

#[tokio::test]
async fn hot_queries_are_one_statement_and_told_in_the_servers_words() {
    let pair = pair_of("select 1").await;
    let said = |error: QueryError| format!("{:?}", std::error::Error::source(&error).map(ToString::to_string));
    let two = "select 1; rollback; drop table token";
    let refused = planned(&pair.blue, Side::Blue, two).await.expect_err("two statements");
    assert!(
        format!("{refused:?}").contains("cannot insert multiple commands into a prepared statement"),
        "{refused:?}"
    );
    assert_eq!(pair.blue.ask::<i64>("select count(*) from token").await, 20_000, "{}", said(refused));
    let refused = planned(&pair.blue, Side::Blue, "select * from nowhere").await.expect_err("no such table");
    assert_eq!(refused.to_string(), "plan hot query one on blue");
    assert!(format!("{refused:?}").contains("relation \\\"nowhere\\\" does not exist"), "{refused:?}");
    assert!(refused.hint().contains("correct hot query one in the plan"), "{}", refused.hint());

    let mut client = pair.blue.client().await;
    for text in [two, BY_SIGNATURE, "select * from nowhere", BY_SIGNATURE] {
        assert_eq!(ask(&mut client, Side::Blue, "one", text).await.is_ok(), text == BY_SIGNATURE, "{text}");
    }
}

#[tokio::test]
async fn hot_queries_need_the_rights_of_running_them() {
    let pair = pair_of("select 1").await;
    let reader = format!("reader_{}", pair.blue.database);
    pair.blue.server.create_role(&reader, "").await.expect("a role");
    pair.blue.execute(&format!("grant select on token to {reader}")).await;
    let url = pair.blue.server.url(&reader, &pair.blue.database);
    let mut client = cutover::database::client::connect(&url, "blue").await.expect("it connects");
    ask(&mut client, Side::Blue, "one", BY_SIGNATURE).await.expect("it may read");
    let refused = ask(&mut client, Side::Blue, "one", "delete from token where id = $1").await.expect_err("no right");
    assert!(
        refused.hint().starts_with("`grant select, insert, update, delete on TABLE to LOGIN` on blue"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn hot_queries_wait_for_nobody_long() {
    let pair = pair_of("select 1").await;
    let mut other = pair.blue.client().await;
    let locked = other.transaction().await.expect("a transaction");
    locked.batch_execute("lock table token in access exclusive mode").await.expect("a lock");
    let asked = planned(&pair.blue, Side::Blue, BY_SIGNATURE);
    let asked = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it gives way");
    let refused = asked.expect_err("it is locked");
    assert!(refused.may_pass() && refused.hint() == "see who locks the table on blue, and ask again", "{refused:?}");
    drop(locked);
    planned(&pair.blue, Side::Blue, BY_SIGNATURE).await.expect("nobody is in the way");
    assert!(!planned(&pair.blue, Side::Blue, "select nothing()").await.expect_err("no such function").may_pass());
}

#[tokio::test]
async fn hot_queries_see_every_partition() {
    let pair = Pair::shared().await;
    pair.blue.execute("create table token (id int primary key, at int, body text)").await;
    pair.green
        .execute(
            "create table token (id int, at int, body text) partition by list (at);
             create table token_1 partition of token for values in (1); create table token_2 partition of token for values in (2);
             insert into token select n, 1 + n % 2, repeat('x', 200) from generate_series(1, 20000) n; analyze token",
        )
        .await;
    let plan =
        planned(&pair.green, Side::Green, "select * from token where at = $1 and id = $2").await.expect("a plan");
    let read: Vec<u64> = plan.nodes.iter().filter(|node| node.is_sequential()).map(|node| node.bytes).collect();
    assert!(read.len() == 2 && read.iter().all(|bytes| (2 << 20..4 << 20).contains(bytes)), "{plan:?}");
    let table = TableName { schema: "public".to_owned(), name: "token".to_owned() };
    assert!(plan.nodes.iter().all(|node| node.table.as_ref().is_none_or(|read| *read == table)), "{plan:?}");
    let blue = planned(&pair.blue, Side::Blue, "select * from token where id = $1").await.expect("a plan");
    let limits = Limits { cost_ratio: 1e9, small_table_bytes: 4 << 20 };
    assert_eq!(worse(&blue, &plan, limits, &|table| vec![table.clone()]).len(), 1, "both together are not small");
}

/// Blue has an index on the notes' accounts, green gets none.
async fn stage_of(more: &str) -> Stage {
    let stage = Stage::with_accounts(4000).await;
    let schema = "create table account (id bigint generated by default as identity primary key, email text not null unique, created_at timestamptz not null default now());
create table note (id bigint generated by default as identity primary key, account_id bigint not null references account (id) on delete cascade, body text not null);";
    stage.write_file("migrations/V1__schema.sql", schema);
    stage.write_plan(&format!(
        "hot_queries:\n  small_table: 64kB\n  queries:\n    - {{ name: account-by-mail, sql: select * from account where email = $1 }}\n    \
         - {{ name: notes-of, sql: select * from note where account_id = $1{more}\n"
    ));
    stage
}

fn nodes(note: &Value) -> String {
    note["body"]["queries"][1]["green"]["nodes"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_queries_stop_a_run_until_green_plans_them_as_well() {
    let stage = stage_of(" }\ncopy: { prewarm: true }").await;
    let mut printed = stage.start(&["plan"]);
    for (step, words) in
        [("compare-plans", "gate: plan 2 hot queries on both sides"), ("prewarm-green", "until these are full")]
    {
        let shown =
            printed.until(|event| event["event"] == "step" && event["step"] == step).await.expect("it is shown");
        assert!(shown["summary"].as_str().is_some_and(|summary| summary.contains(words)), "{shown}");
    }
    stage.pair.green.execute("create extension pg_prewarm").await;
    let mut run = stage.start(&["run"]);
    let note = run.until(|event| event["event"] == "note" && event["step"] == "compare-plans").await.expect("a note");
    assert_eq!(nodes(&note), "[\"Seq Scan on public.note\"]", "{note}");
    let (code, said) = run.end().await;
    let why = said["why"].as_str().unwrap_or_default();
    assert_eq!(code, 3, "{said}");
    for words in [
        "hot query notes-of: green reads public.note from end to end (Seq Scan, ",
        "blue by ",
        " on public.note",
        "estimated cost ",
        " on blue, ",
    ] {
        assert!(why.contains(words), "{words} in {why}");
    }
    assert!(!why.contains("account-by-mail"), "{why}");
    assert!(said["next"].as_str().is_some_and(|next| next.contains("--waive compare-plans")), "{said}");

    stage.pair.green.execute("create index note_account_id on note (account_id)").await;
    let mut run = stage.start(&["run"]);
    let done =
        run.until(|event| event["event"] == "step_done" && event["step"] == "compare-plans").await.expect("done");
    assert_eq!(done["receipt"]["queries"].as_array().map(Vec::len), Some(2), "{done}");
    assert_eq!(done["receipt"]["queries"][1]["worse"], serde_json::json!([]), "{done}");
    let warm =
        run.until(|event| event["event"] == "step_done" && event["step"] == "prewarm-green").await.expect("done");
    assert_eq!(warm["receipt"]["ended"], "whole", "{warm}");
    assert_eq!(run.end().await.0, 0);
    let (_, status) = stage.verb(&["status"]).await;
    let figures = &status["figures"];
    assert_eq!(
        (figures["hot_queries"].as_u64(), figures["hot_queries_worse"].as_u64()),
        (Some(2), Some(0)),
        "{status}"
    );
    assert!(figures["prewarmed_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_queries_that_are_worse_can_be_accepted_in_the_plan_or_answered_for() {
    let worse = "    - { name: notes-too, sql: delete from note where account_id = $1 }";
    let stage = stage_of(&format!(", accept: nobody lists notes at night }}\n{worse}")).await;
    let (code, said) = stage.verb(&["run"]).await;
    let why = said["why"].as_str().unwrap_or_default();
    assert_eq!((code, why.contains("notes-too"), why.contains("notes-of")), (3, true, false), "{said}");
    let (code, usage) = stage.verb(&["run", "--waive", "check-servers", "--because", "no"]).await;
    assert_eq!(code, 2, "no other gate: {usage}");
    let mut run = stage.start(&["run", "--waive", "compare-plans", "--because", "an index comes tomorrow"]);
    let done =
        run.until(|event| event["event"] == "step_done" && event["step"] == "compare-plans").await.expect("done");
    assert_eq!(done["receipt"]["waived"], "an index comes tomorrow", "{done}");
    assert_eq!(run.end().await.0, 0);

    let accepted = stage_of(", accept: nobody lists notes at night }").await;
    let mut run = accepted.start(&["run"]);
    let told = run.until(|event| {
        event["event"] == "step_progress"
            && event["detail"].as_str().is_some_and(|detail| {
                detail.starts_with("accepted (nobody lists notes at night): hot query notes-of: green reads")
            })
    });
    told.await.expect("it is told");
    let done =
        run.until(|event| event["event"] == "step_done" && event["step"] == "compare-plans").await.expect("done");
    assert_eq!(done["receipt"]["queries"][1]["accepted"], "nobody lists notes at night", "{done}");
    assert_eq!(run.end().await.0, 0);
}

#[tokio::test]
async fn hot_queries_that_blue_cannot_plan_are_told_by_check() {
    let stage = Stage::with_accounts(10).await;
    stage.write_plan("hot_queries: { queries: [ { name: one, sql: select * from nowhere }, { name: two, sql: select * from note } ] }");
    let findings = cutover::database::preflight::check(&stage.plan(), None, None).await;
    let told: Vec<&str> = findings.iter().filter(|one| one.server == "blue").map(|one| one.what.as_str()).collect();
    assert_eq!(told, ["hot query one cannot be planned: relation \"nowhere\" does not exist"], "{findings:?}");
}
