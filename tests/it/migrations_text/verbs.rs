//! The verbs as a user runs them.

use super::corpus;
use super::rewriting::Made;
use crate::harness::Place;
use serde_json::Value;
use std::process::Command;

struct Said {
    code: Option<i32>,
    events: Vec<Value>,
    text: String,
}

fn run(words: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_cutover"))
        .arg("migrations")
        .args(words)
        .env_remove("CUTOVER_LOG")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Said { code: output.status.code(), events, text: text + &String::from_utf8_lossy(&output.stderr) }
}

fn path(made: &Made) -> &str {
    made.0.to_str().expect("a path")
}

#[test]
fn migrations_lint_refuses_what_would_block_and_says_where() {
    let made = Made::of(&[
        ("V1__t.sql", "create table t (id int primary key, a text);"),
        ("V2__i.sql", "-- why\ncreate index t_a on t (a);\nalter table t add column b int;\n"),
    ]);
    let said = run(&["lint", path(&made), "--json"]);
    assert_eq!(said.code, Some(3), "{}", said.text);
    let index = said.events.iter().find(|event| event["rule"] == "create-index").expect("an event");
    assert_eq!(
        (&index["file"], &index["line"], &index["lock"], &index["table"]),
        (&"V2__i.sql".into(), &2.into(), &"share".into(), &"t".into())
    );
    assert_eq!(
        (&index["severity"], &index["safe"]),
        (&"blocks".into(), &"create index concurrently t_a on t (a)".into())
    );
    let summary = said.events.last().expect("a summary");
    assert_eq!(
        (&summary["event"], &summary["outcome"], &summary["in_the_way"]),
        (&"summary".into(), &"refused".into(), &1.into())
    );
    let shown = run(&["lint", path(&made)]);
    assert!(
        shown.text.contains("V2__i.sql:2:1") && shown.text.contains("create index t_a on t (a);"),
        "{}",
        shown.text
    );
    assert_eq!(run(&["lint", path(&made), "--phase", "empty"]).code, Some(0));
}

#[test]
fn migrations_lint_names_the_place_of_what_is_no_sql() {
    let made = Made::of(&[
        ("V1__a.sql", "select 1;\ncreate tabel t (id int);\n"),
        ("V2__b.sql", "alter table t add column;\n"),
    ]);
    let said = run(&["lint", path(&made), "--json"]);
    assert_eq!(said.code, Some(2), "{}", said.text);
    let places: Vec<(&Value, bool)> = said
        .events
        .iter()
        .filter(|event| event["event"] == "problem")
        .map(|one| (&one["line"], one["column"].is_number()))
        .collect();
    assert_eq!(places, [(&2.into(), true), (&1.into(), true)], "{}", said.text);
    assert_eq!(run(&["lint"]).code, Some(2));
    assert_eq!(
        run(&["lint", path(&made), "--url", "postgres://me:secret@localhost/x"]).code,
        Some(2),
        "a password in the arguments"
    );
}

#[tokio::test]
async fn migrations_rewrite_and_compare_end_with_identical() {
    let out = crate::harness::fresh_folder("out");
    let (stock, to) = (corpus("history").display().to_string(), out.display().to_string());
    let said = run(&["rewrite", &stock, "--out", &to, "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert!(
        said.events.iter().any(|event| event["event"] == "decision")
            && said.events.iter().any(|event| event["event"] == "change")
    );
    assert_eq!(run(&["rewrite", &stock, "--out", &to]).code, Some(2), "nothing is written over");
    let said = run(&["compare", &stock, &to, "--json"]);
    assert_eq!(
        (said.code, &said.events.last().expect("a summary")["identical"]),
        (Some(0), &true.into()),
        "{}",
        said.text
    );
    let other = Made::of(&[("V1__t.sql", "create table t (a int, b int);")]);
    let turned = Made::of(&[("V1__t.sql", "create table t (b int, a int);")]);
    let said = run(&["compare", path(&other), path(&turned), "--json"]);
    assert_eq!(
        (said.code, said.events.iter().filter(|event| event["event"] == "difference").count()),
        (Some(3), 2),
        "{}",
        said.text
    );
    assert_eq!(run(&["compare", path(&other), path(&turned), "--any-column-order"]).code, Some(0));
    std::fs::remove_dir_all(&out).expect("the folder goes");
}

#[tokio::test]
async fn migrations_compat_refuses_what_breaks() {
    let place = Place::shared("compat").await;
    let made = Made::of(&[("V1__nid.sql", "alter table client add column nid uuid;")]);
    let files = Made::of(&[
        (
            "store.go",
            "package x\nconst all = `SELECT * FROM client WHERE id = ?`\nconst one = \"SELECT id FROM client\"\n",
        ),
        ("old.sql", "create table client (id text primary key, name text);"),
    ]);
    let (go, old) = (files.0.join("store.go").display().to_string(), files.0.join("old.sql").display().to_string());
    let said = run(&["compat", &go, "--schema", &old, "--migrations", path(&made), "--json"]);
    assert_eq!(said.code, Some(3), "{}", said.text);
    let broken = said.events.iter().find(|event| event["fate"] == "breaks").expect("one breaks");
    assert_eq!(
        (&broken["line"], &broken["explicit"]),
        (&2.into(), &"SELECT id, name FROM client WHERE id = $1".into()),
        "{}",
        said.text
    );
    assert_eq!(said.events.last().expect("a summary")["same"], 1);
    place.execute("create table client (id text primary key, name text);").await;
    // A plan's URL would hold the password; here the variable does.
    let output = Command::new(env!("CARGO_BIN_EXE_cutover"))
        .args(["migrations", "compat", &go, "--old", "${OLD_URL}", "--migrations", path(&made), "--json"])
        .env("OLD_URL", place.url().expose())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(run(&["compat", &go, "--schema", &old]).code, Some(2), "nothing says what the new schema is");
}
