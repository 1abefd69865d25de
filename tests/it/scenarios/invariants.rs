//! Invariants on whole runs: what migrations spoil stops a run before the flip point and is named; a repair mends it only when it is allowed, within
//! its cap; clients that write meanwhile raise no false alarm.

use crate::harness::stage::Stage;
use crate::steps_logical::MIGRATION;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A migration with a fault of the kind that engines have: it empties some rows.
const FAULT: &str = "update note set body = '' where id % 7 = 0;";

const INVARIANTS: &str = "
invariants:
  - name: notes
    blue: select id, account_id, body from note
    green: select id, account_id, body from note
    expect: set_equal
    key: [id]
    because: a note is what its owner wrote
  - { name: accounts, blue: select count(*) from account, green: select count(*) from account, expect: equal }
  - { name: empty-notes, green: \"select id from note where body = ''\", expect: empty, key: [id] }
";

fn plan(rows: u64, statement: &str) -> String {
    format!(
        "copy: {{ method: logical, workers: 2 }}\nown: [label]\ncarry: {{ note: {{ set: {{ length: length(body) }} }} }}\n{INVARIANTS}repairs:
  - {{ name: bodies, invariant: notes, sql: \"{statement}\", cap: {{ rows: {rows}, percent: 50 }}, because: the migration empties every seventh }}\n"
    )
}

/// What the migration took, told again from the row's number: the stage writes every note so.
const MEND: &str = "update note set body = repeat('text ', 10) || id where body = ''";

async fn stage(rows: u64, statement: &str, fault: &str) -> Stage {
    let stage = Stage::with_accounts(100).await;
    stage.write_file("migrations/V1__schema.sql", &format!("{MIGRATION}; {fault}"));
    stage.write_plan(&plan(rows, statement));
    stage
}

fn names(summary: &Value) -> Vec<&str> {
    let failed = summary["failed_invariants"].as_array().map(Vec::as_slice).unwrap_or_default();
    failed.iter().filter_map(|answer| answer["name"].as_str()).collect()
}

const EMPTY: &str = "select count(*) from note where body = ''";

#[tokio::test(flavor = "multi_thread")]
async fn what_migrations_spoil_stops_the_run_and_is_mended_only_when_that_is_allowed() {
    let stage = stage(50, MEND, FAULT).await;
    let (code, said) = stage.verb(&["run"]).await;
    assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (3, Some("refused"), Some("blue")), "{said}");
    assert_eq!(names(&said), ["notes", "empty-notes"], "{said}");
    let notes = &said["failed_invariants"][0];
    assert_eq!(
        (notes["changed"].as_u64(), notes["missing"].as_u64(), notes["extra"].as_u64()),
        (Some(42), Some(0), Some(0))
    );
    assert_eq!(notes["rows"][0]["columns"][0], "body", "{notes}");
    assert!(notes["rows"][0]["key"]["id"].as_str().is_some_and(|id| id.parse::<u64>().is_ok_and(|id| id % 7 == 0)));
    let (why, next) = (said["why"].as_str().expect("why"), said["next"].as_str().expect("next"));
    assert!(why.contains("a note is what its owner wrote") && why.contains("42 changed on green"), "{why}");
    assert!(
        next.contains("--allow-repair bodies") && next.contains("would change 42 of 300 rows of public.note"),
        "{next}"
    );
    assert!(!said.to_string().contains("text text"), "no value but the key's is told");
    assert_eq!(stage.pair.green.ask::<i64>(EMPTY).await, 42, "a preview changes nothing");
    let (_, status) = stage.verb(&["status"]).await;
    assert_eq!(names(&status), ["notes", "empty-notes"], "{status}");

    let (code, usage) = stage.verb(&["run", "--allow-repair", "other"]).await;
    assert_eq!(code, 2, "{usage}");
    assert!(usage["why"].as_str().is_some_and(|why| why.contains("it has bodies")), "{usage}");

    // Clients write on: what they touch comes by the mapping, and the rest is mended.
    stage.writes().await;
    let (code, said) = stage.verb(&["run", "--allow-repair", "bodies"]).await;
    assert_eq!((code, said["state"].as_str()), (0, Some("at_flip_point")), "{said}");
    assert_eq!((names(&said), stage.pair.green.ask::<i64>(EMPTY).await), (vec![], 0));
    let (_, journal) = stage.verb(&["journal", "show"]).await;
    assert!(journal.is_object());
    let (code, again) = stage.verb(&["run"]).await;
    assert_eq!(code, 0, "run again, it needs no allowance any more: {again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_above_its_cap_or_that_mends_nothing_changes_nothing() {
    let stage = stage(41, MEND, FAULT).await;
    let (code, said) = stage.verb(&["run", "--allow-repair", "bodies"]).await;
    let why = said["why"].as_str().expect("why");
    assert!(
        code == 3 && why.contains("repair bodies changes 42 of 300 rows of public.note, and its cap is 41 rows"),
        "{said}"
    );
    assert_eq!((names(&said), stage.pair.green.ask::<i64>(EMPTY).await), (vec!["notes"], 42), "{said}");
    let (code, back) = stage.verb(&["rollback"]).await;
    assert_eq!((code, stage.left_on_blue().await), (0, 0), "{back}");

    stage.write_plan(&plan(50, "update note set body = 'lost' where body = ''"));
    let (code, said) = stage.verb(&["run", "--allow-repair", "bodies"]).await;
    let why = said["why"].as_str().expect("why");
    assert!(code == 3 && why.contains("repair bodies would not make its invariant hold"), "{said}");
    assert_eq!(stage.pair.green.ask::<i64>(EMPTY).await, 42, "taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_write_meanwhile_raise_no_false_alarm() {
    let stage = Arc::new(stage(50, MEND, "").await);
    let (stop, writing) = (Arc::new(AtomicBool::new(false)), stage.clone());
    let stopped = stop.clone();
    let writer = tokio::spawn(async move {
        let client = writing.pair.blue.application().await;
        let mut number = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            let write = format!(
                "insert into note (account_id, body) select max(id), 'written {number}' from account; update note set body = body || '.' where id % 40 = {};
                 delete from note where id = (select min(id) from note)",
                number % 40
            );
            client.batch_execute(&write).await.expect("a client writes");
            number += 1;
        }
        number
    });
    let mut last = Value::Null;
    for _ in 0..3 {
        let (code, said) = stage.verb(&["run"]).await;
        assert_eq!(code, 0, "{said}");
        last = said;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.expect("the client");
    assert!(written > 100 && names(&last).is_empty(), "{written} writes: {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_of_a_careless_engine_stops_before_the_flip_names_the_grants_and_goes_on_once_the_repair_is_allowed() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cutover"));
    let demo = command.args(["demo", "--engine-bug", "--rows", "2000", "--rate", "30", "--json"]).kill_on_drop(true);
    let output = demo.output().await.expect("the binary runs");
    let said = crate::harness::sandbox::summary(&output);
    assert_eq!(
        (output.status.code(), said["outcome"].as_str(), said["live"].as_str()),
        (Some(0), Some("done"), Some("green")),
        "{said}"
    );
    let found = &said["engine_bug"];
    assert_eq!((found["code"].as_i64(), found["live"].as_str()), (Some(3), Some("blue")), "{found}");
    assert_eq!(names(found), ["valid-grants", "states", "refused-logins"], "{found}");
    let why = found["why"].as_str().expect("why");
    assert!(
        why.contains("changed consent_challenge") && why.contains("takes every answered login for a refused one"),
        "{why}"
    );
    assert!(found["next"].as_str().is_some_and(|next| next.contains("--allow-repair states-of-flows")), "{found}");
    for word in ["failed", "lost_writes", "revoked_accepted", "ended_accepted", "two_writer_ms"] {
        assert_eq!(said["prober"][word], 0, "{word} in {said}");
    }
}
