//! The verbs as a user runs them.

use super::corpus;
use super::rewriting::Made;
use crate::harness::Place;
use cutover::database::client::connect;
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
    let empty = Made::of(&[("notes.md", "nothing")]);
    assert_eq!(run(&["lint", path(&empty)]).code, Some(2), "nothing is never called safe");
    assert_eq!(
        run(&["lint", path(&made), "--url", "postgres://me:secret@localhost/x"]).code,
        Some(2),
        "a password in the arguments"
    );
}

#[tokio::test]
async fn migrations_lint_takes_sizes_and_the_phase_from_a_plan() {
    let (control, blue, green) =
        (Place::shared("control").await, Place::shared("blue").await, Place::shared("green").await);
    blue.execute(&super::text("setup.sql")).await;
    blue.execute("insert into loose select n, repeat('x', 500) from generate_series(1, 30000) n; analyze loose").await;
    let (control, blue, green) = (control.url(), blue.url(), green.url());
    let variables =
        format!("CONTROL_URL={}\nBLUE_URL={}\nGREEN_URL={}\n", control.expose(), blue.expose(), green.expose());
    let made = Made::of(&[
        ("env", &variables),
        ("one.sql", "create index i on loose (what);\ncreate index j on account (note);\n"),
    ]);
    let (sql, env) = (made.0.join("one.sql").display().to_string(), made.0.join("env").display().to_string());
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/minimal.yaml");
    let said = run(&["lint", &sql, "--plan", plan, "--env-file", &env, "--phase", "live", "--json"]);
    assert_eq!(said.code, Some(3), "{}", said.text);
    let found: Vec<(&Value, &Value, bool)> = said
        .events
        .iter()
        .filter(|event| event["event"] == "statement")
        .map(|event| (&event["table"], &event["severity"], event["size"]["rows"].as_u64() > Some(1000)))
        .collect();
    assert_eq!(
        found,
        [(&"loose".into(), &"blocks".into(), true), (&"account".into(), &"brief".into(), false)],
        "{}",
        said.text
    );
    let said = run(&["lint", &sql, "--plan", plan, "--env-file", &env]);
    assert_eq!(said.code, Some(0), "nobody is on the green of a plan: {}", said.text);
}

#[tokio::test]
async fn migrations_lint_leaves_out_what_each_folder_s_own_record_says_is_applied() {
    let (control, blue, green) =
        (Place::shared("control").await, Place::shared("blue").await, Place::shared("green").await);
    blue.execute(&super::text("setup.sql")).await;
    let (control, blue, green) = (control.url(), blue.url(), green.url());
    let variables =
        format!("CONTROL_URL={}\nBLUE_URL={}\nGREEN_URL={}\n", control.expose(), blue.expose(), green.expose());
    let made = Made::of(&[("env", &variables)]);
    let env = made.0.join("env").display().to_string();
    let plan = made.0.join("plan.yaml").display().to_string();
    let folders = Made::of(&[]);
    for (folder, name) in [
        ("ours", "V01__a.sql"),
        ("ours", "V2__b.sql"),
        ("theirs", "20200101000001_c.up.sql"),
        ("theirs", "20200101000002_d.up.sql"),
    ] {
        std::fs::create_dir_all(folders.0.join(folder)).expect("a folder");
        std::fs::write(
            folders.0.join(folder).join(name),
            format!("create index on account ({});\n", if folder == "ours" { "note" } else { "level" }),
        )
        .expect("a file");
    }
    let migrate = format!(
        "migrate:\n  - refinery: {{ folder: \"{0}/ours\", name: ours }}\n  - engine: {{ folder: \"{0}/theirs\" }}\n",
        path(&folders)
    );
    let minimal = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/minimal.yaml")).expect("a plan");
    let head = minimal.split("migrate:").next().expect("its head");
    std::fs::write(&plan, format!("{head}{migrate}")).expect("a plan");
    let files = || {
        let said = run(&["lint", "--plan", &plan, "--env-file", &env, "--phase", "live", "--all", "--json"]);
        let summary = said.events.last().cloned().unwrap_or_default();
        let mut judged: Vec<String> =
            said.events.iter().filter_map(|event| event["file"].as_str().map(str::to_owned)).collect();
        judged.dedup();
        assert_eq!(summary["files"].as_u64(), Some(judged.len() as u64), "{}", said.text);
        (judged, summary["already_applied"].clone())
    };
    assert_eq!(files().0.len(), 4);
    let noted = "create schema cutover; create table cutover.migration_history_ours (version int8, name text, applied_on text, checksum text);
        insert into cutover.migration_history_ours values (1, 'a', '', '')";
    connect(&green, "green").await.expect("green").batch_execute(noted).await.expect("refinery's history");
    let noted = "create table schema_migration (version varchar(48) not null); insert into schema_migration values ('20200101000001')";
    connect(&blue, "blue").await.expect("blue").batch_execute(noted).await.expect("the engine's table");
    assert_eq!(files(), (vec!["V2__b.sql".to_owned(), "20200101000002_d.up.sql".to_owned()], 2.into()));
    // A folder that is named by itself goes by the table that its own runner keeps.
    let url = format!("{}/theirs", path(&folders));
    let output = Command::new(env!("CARGO_BIN_EXE_cutover"))
        .args(["migrations", "lint", &url, "--url", "${BLUE}", "--json"])
        .env("BLUE", blue.expose())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("\"already_applied\":1"), "{said}");
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
    let refuses = || {
        let output = Command::new(env!("CARGO_BIN_EXE_cutover"))
            .args(["migrations", "compat", &go, "--old", "${OLD_URL}", "--migrations", path(&made), "--json"])
            .env("OLD_URL", place.url().expose())
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    };
    refuses();
    assert_eq!(run(&["compat", &go, "--schema", &old]).code, Some(2), "nothing says what the new schema is");
    // What the old database has already is not run on its copy again.
    place
        .execute("create table refinery_schema_history (version int8); insert into refinery_schema_history values (0)")
        .await;
    std::fs::write(made.0.join("V0__client.sql"), "create table client (id text primary key, name text);")
        .expect("a file");
    refuses();
}
