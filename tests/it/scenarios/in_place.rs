//! A plan in place, verb by verb: the database that serves is migrated under its clients, the engine's versions change places behind a real
//! gateway and back, and what only the older one needs goes last; killed inside a build and after each word of the flip.

use crate::gateway::world::Engine;
use crate::harness::eventually;
use crate::harness::stage::Stage;
use crate::harness::underway::Underway;
use crate::revocations::tables;
use cutover::plan::Side;
use cutover::sandbox::servers::free_port;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const PATIENCE: Duration = Duration::from_secs(60);
const EXPAND: &str = "alter table note add column kind text not null default 'plain';\ncreate index concurrently note_by_kind on note (kind);";
const CONTRACT: &str = "alter table note drop column body;";

/// The stage, two versions of the engine, and a gateway in front of them.
struct InPlace {
    stage: Stage,
    public: String,
    http: reqwest::Client,
    engines: [Engine; 2],
    _gateway: Underway,
}

impl InPlace {
    async fn up() -> Self {
        Self::up_on(Stage::with_accounts(500).await, "").await
    }

    /// On a stage of the test's own, with more text at the plan's end.
    async fn up_on(stage: Stage, more: &str) -> Self {
        stage.write_file("expand/20200101000001_kind.autocommit.up.sql", EXPAND);
        stage.write_file("contract/20200201000001_body.up.sql", CONTRACT);
        let control = stage.pair.control.url();
        let engines = [Engine::start(Side::Blue, control.clone()).await, Engine::start(Side::Green, control).await];
        let [public, admin, own] = [(); 3].map(|()| format!("http://127.0.0.1:{}", free_port().expect("a port")));
        let upstream = |engine: &Engine| format!("{{ public: \"{0}\", admin: \"{0}/\" }}", engine.url);
        let plan = format!(
            "version: 1\nname: stage\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: hydra }}\nwindow: {{ hold: 10s, soak: 1s }}\n\
             migrate:\n  - engine: {{ folder: expand, live: {{ lock_timeout: 200ms, bound: 60s }} }}\n  - engine: {{ folder: contract, contract: true }}\n\
             systems:\n  - name: engine\n    gateway: {{ control: \"{own}\" }}\n    answers: {{ blue: \"1.11.10\", green: \"2.2.0\" }}\n\
             gateway:\n  listen: {{ public: \"{public}\", admin: \"{admin}\", control: \"{own}\" }}\n  blue: {}\n  green: {}\n  doors: hydra\n  state: gateway.json\n",
            upstream(&engines[0]),
            upstream(&engines[1]),
        );
        stage.write_file("plan.yaml", &(plan + more));
        let mut gateway = stage.start(&["gateway"]);
        gateway.until(|event| event["event"] == "listening").await.expect("the gateway listens");
        let http = cutover::traffic::http_client().expect("a client");
        let world = Self { stage, public, http, engines, _gateway: gateway };
        world.is_served_by("blue").await;
        world
    }

    /// Waits until clients are answered by this side's engine.
    async fn is_served_by(&self, side: &str) {
        let answers = || async {
            let answer = self.http.get(format!("{}/", self.public)).send().await.ok()?.text().await.ok()?;
            (answer == side).then_some(())
        };
        eventually(PATIENCE, "the gateway serves the side", answers).await;
    }

    async fn done(&self, words: &[&str], live: &str) -> Value {
        let (code, said) = self.stage.verb(words).await;
        assert_eq!((code, said["live"].as_str()), (0, Some(live)), "{words:?}: {said}");
        self.is_served_by(live).await;
        said
    }

    async fn has(&self, what: &str) -> bool {
        self.stage.pair.blue.ask(&format!("select {what}")).await
    }
}

const HAS_KIND: &str =
    "exists (select from pg_attribute where attrelid = 'note'::regclass and attname = 'kind' and not attisdropped)";
const HAS_BODY: &str =
    "exists (select from pg_attribute where attrelid = 'note'::regclass and attname = 'body' and not attisdropped)";
const IS_VALID: &str =
    "coalesce((select indisvalid from pg_index where indexrelid = to_regclass('note_by_kind')), false)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_there_and_back_and_to_the_end_with_one_database() {
    let world = InPlace::up().await;
    world.done(&["check"], "blue").await;
    // A snapshot is in the way of the build alone; the run is killed inside it, by a real -9.
    let other = world.stage.pair.blue.application().await;
    other.batch_execute("begin isolation level repeatable read; select count(*) from account").await.expect("held");
    let mut run = world.stage.start(&["run"]);
    let waits = |event: &Value| event.to_string().contains("in the way: backend");
    run.until(waits).await.expect("the build waits for the snapshot");
    assert!(run.kill().await, "it was at work");
    let building = "select count(*) from pg_stat_progress_create_index where datname = current_database()";
    let gone = || async { (world.stage.pair.blue.ask::<i64>(building).await == 0).then_some(()) };
    eventually(PATIENCE, "the server has noticed", gone).await;
    other.batch_execute("commit").await.expect("let go");
    assert!(!world.has(IS_VALID).await, "it was killed inside the build, or this shows nothing");
    let said = world.done(&["run"], "blue").await;
    assert!(world.has(HAS_KIND).await && world.has(IS_VALID).await, "{said}");
    let invalid: i64 = world.stage.pair.blue.ask("select count(*) from pg_index where not indisvalid").await;
    assert_eq!(invalid, 0);

    // The newer version serves, the older one again, and the newer one; the schema stays.
    world.done(&["flip"], "green").await;
    world.done(&["rollback", "--yes"], "blue").await;
    assert!(world.has(HAS_KIND).await, "the schema stays");
    world.done(&["flip"], "green").await;
    assert!(world.has(HAS_BODY).await, "what the older version needs is there while there is a way back");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.done(&["finalize", "--yes", "--waive", "soak", "--because", "a test has no clients"], "green").await;
    assert!(!world.has(HAS_BODY).await, "contracted");
    assert_eq!(world.stage.left_on_blue().await, 0, "nothing of ours is left");
    let versions: String =
        world.stage.pair.blue.ask("select string_agg(version, ' ' order by version) from schema_migration").await;
    assert_eq!(versions, "20200101000001 20200201000001", "the engine's own table is true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_killed_after_any_word_of_the_flip_one_side_serves_and_it_comes_through() {
    let world = InPlace::up().await;
    world.done(&["run"], "blue").await;
    for phase in ["propose", "decided", "opening", "released"] {
        for (verb, step, to) in [("flip", "flip", "green"), ("rollback --yes", "return", "blue")] {
            let words: Vec<&str> = verb.split(' ').collect();
            let mut underway = world.stage.start(&words);
            let says =
                |event: &Value| event["event"] == "note" && event["step"] == step && event["body"]["phase"] == phase;
            assert!(underway.until(says).await.is_some(), "{verb} says {phase}");
            underway.kill().await;
            let (code, said) = world.stage.verb(&words).await;
            // A hold that ended before the decision stays where it was, and says so; then once more.
            let said = if said["live"] == to { said } else { world.stage.verb(&words).await.1 };
            assert_eq!(said["live"], to, "{code} {verb} after {phase}: {said}");
            world.is_served_by(to).await;
        }
    }
    // Undone before the flip, nothing of ours is left; the schema stays.
    world.done(&["rollback", "--yes"], "blue").await;
    assert_eq!(world.stage.left_on_blue().await, 0);
    assert!(world.has(HAS_KIND).await, "the schema stays");
    world.done(&["run"], "blue").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_there_is_no_way_back_from_a_contracted_schema() {
    let world = InPlace::up().await;
    world.done(&["run"], "blue").await;
    world.done(&["flip"], "green").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let finalize = ["finalize", "--yes", "--waive", "soak", "--because", "a test has no clients"];
    let mut underway = world.stage.start(&finalize);
    let contracts = |event: &Value| event["event"] == "step_done" && event["step"] == "migrate-contract";
    underway.until(contracts).await.expect("it contracts");
    underway.kill().await;
    let (code, said) = world.stage.verb(&["rollback", "--yes"]).await;
    assert_eq!((code, said["live"].as_str()), (3, Some("green")), "{said}");
    assert!(said["why"].as_str().is_some_and(|why| why.contains("contracted")), "{said}");
    world.done(&finalize, "green").await;
    assert_eq!(world.stage.left_on_blue().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_the_demo_goes_there_and_back_under_load_and_the_prober_has_nothing_against_it() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.args(["demo", "--in-place", "--rollback", "--rows", "2000", "--rate", "15", "--json"]);
    let output = command.output().await.expect("the binary runs");
    let last = crate::harness::sandbox::summary(&output);
    assert_eq!(
        (output.status.code(), last["outcome"].as_str(), last["live"].as_str()),
        (Some(0), Some("done"), Some("blue")),
        "{last}"
    );
    for way in ["forward", "rollback"] {
        assert!(last[way]["prober"]["acked_writes"].as_u64().is_some_and(|writes| writes > 0), "{last}");
        assert_eq!(last[way]["prober"]["given_up"], 0, "one database gives nothing up: {last}");
        assert!(last[way]["flip"]["hold_ms_max"].as_f64().is_some(), "the switch was seen: {last}");
    }
}

/// As an engine brings it: writers wait until the index is built, and the table is read under an exclusive lock.
const STOCK: &str = "alter table note add column kind text not null default 'plain';\ncreate index note_by_kind on note (kind);\nalter table note add constraint note_kind_known check (kind <> '');";

impl InPlace {
    /// A table that is large enough for its work to be felt, and an engine's own files for it.
    async fn stock() -> Self {
        let world = Self::up().await;
        world.stage.pair.blue.execute(GROW).await;
        std::fs::remove_file(world.stage.path("expand/20200101000001_kind.autocommit.up.sql")).expect("removed");
        world.stage.write_file("expand/20200101000001_kind.up.sql", STOCK);
        world
    }
}

const GROW: &str = "insert into note (account_id, body) select 1 + n % 500, repeat('text ', 200) || n from generate_series(1, 50000) n; analyze note";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_a_stock_folder_is_refused_before_anything_is_touched_and_a_person_may_answer_for_it() {
    let world = InPlace::stock().await;
    let mut run = world.stage.start(&["run"]);
    let noted = |event: &Value| event["event"] == "note" && event["step"] == "lint-migrations";
    let note = run.until(noted).await.expect("the statements are kept");
    assert_eq!(note["body"]["statements"][0]["file"], "20200101000001_kind.up.sql", "{note}");
    let (code, said) = run.end().await;
    let why = said["why"].as_str().unwrap_or_default();
    assert_eq!(code, 3, "{said}");
    for word in [
        "step lint-migrations",
        "20200101000001_kind.up.sql:2",
        "share on note",
        "create index concurrently note_by_kind",
    ] {
        assert!(why.contains(word), "{word}: {why}");
    }
    assert!(said["next"].as_str().is_some_and(|next| next.contains("migrations lint --plan")), "{said}");
    assert_eq!(world.stage.left_on_blue().await, 0, "nothing of ours is there");
    assert!(!world.has(HAS_KIND).await, "untouched");

    // Whose word it is stands in the journal; then it goes on, and what is still to come is judged no more.
    let waived = ["run", "--waive", "lint-migrations", "--because", "nobody is awake"];
    let mut run = world.stage.start(&waived);
    let applied = |event: &Value| event["event"] == "step_done" && event["step"] == "migrate-expand";
    let receipt = run.until(applied).await.expect("it is applied")["receipt"].clone();
    assert_eq!(run.end().await.0, 0, "{receipt}");
    let file = &receipt["files"][0];
    assert_eq!(file["locks"]["public.note"], "AccessExclusive", "{receipt}");
    assert_eq!(file["foretold"]["locks"]["note"], "access exclusive", "{receipt}");
    assert_eq!(file["otherwise"].as_array().map(Vec::len), Some(0), "lint said as much: {receipt}");
    assert!(world.has(HAS_KIND).await);
    world.done(&["rollback", "--yes"], "blue").await;
    // What was applied is not judged again.
    let (code, said) = world.stage.verb(&["run"]).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_a_revocation_that_only_the_engine_believes_in_stops_the_flip() {
    let world = InPlace::up().await;
    let (pair, blue) = (&world.stage.pair, &world.engines[0]);
    tables::create_on_blue(pair).await;
    pair.blue.execute(&tables::grant("r1", "t1", "app", "ann")).await;
    pair.blue.execute("grant select on all tables in schema public to hydra").await;
    world.done(&["run"], "blue").await;

    // A gateway that is registered and silent: what was accepted a moment ago may not be denied there.
    let silent =
        "insert into cutover.producer (incarnation, plan, gateway) values (gen_random_uuid(), 'stage', 'elsewhere')";
    pair.control.execute(silent).await;
    let (code, said) = world.stage.verb(&["flip"]).await;
    let why = said["why"].as_str().unwrap_or_default();
    assert!(
        (code, said["live"].as_str()) == (3, Some("blue")) && why.contains("gateway elsewhere has not said"),
        "{said}"
    );
    pair.control.execute("update cutover.producer set ended_at = now() where gateway = 'elsewhere'").await;

    // Accepted when the flip has looked and before it holds: the engine says yes and does nothing.
    let permit = Arc::new(Semaphore::new(0));
    *blue.revoking.lock().expect("no panic") = Some(Arc::clone(&permit));
    let (http, url) = (world.http.clone(), format!("{}/oauth2/revoke", world.public));
    let revoking = tokio::spawn(async move { http.post(url).form(&[("token", "x.t1-refresh")]).send().await });
    eventually(PATIENCE, "the engine is told", async || (blue.count("POST /oauth2/revoke") == 1).then_some(())).await;
    let mut flip = world.stage.start(&["flip"]);
    let proposed = |event: &Value| event["event"] == "note" && event["body"]["phase"] == "propose";
    flip.until(proposed).await.expect("it has looked, and begins");
    permit.add_permits(1);
    let (code, said) = flip.end().await;
    let why = said["why"].as_str().unwrap_or_default();
    assert!(
        (code, said["live"].as_str()) == (7, Some("blue")) && why.contains("1 revocations live on although"),
        "{said}"
    );
    assert_eq!(revoking.await.expect("no panic").expect("an answer").status(), 200);
    world.is_served_by("blue").await;

    // Before anybody is held it is seen as well, and once it is dead the flip goes through.
    let (code, said) = world.stage.verb(&["flip"]).await;
    assert_eq!((code, said["live"].as_str()), (3, Some("blue")), "{said}");
    pair.blue.execute("delete from hydra_oauth2_access; update hydra_oauth2_refresh set active = false").await;
    world.done(&["flip"], "green").await;
}

/// What an engine sends that has been written for one schema.
const OLD_ENGINE: &str = "select id, body from note where account_id = ?;
select * from note where id = ?;
insert into note values (?, ?, ?);
select nowhere from note;";
const SCRATCH: &str = "(select count(*) from pg_database where datname like 'cutover%')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_an_engine_that_does_not_live_with_the_new_schema_is_found_before_anything_is_touched() {
    let stage = Stage::with_accounts(500).await;
    stage.write_file("old_engine.sql", OLD_ENGINE);
    let world = InPlace::up_on(stage, "compat: { statements: [old_engine.sql] }\n").await;
    // A process that died left its copy; it is ours by its mark.
    let number: i64 =
        world.stage.pair.blue.ask("select oid::int8 from pg_database where datname = current_database()").await;
    let made = world.stage.killed("run", |event| event.to_string().contains("on the copy: 20200101000001_kind")).await;
    made.expect("the copy is made");
    let left: i64 = world.stage.pair.blue.ask(&format!("select {SCRATCH}")).await;
    assert_eq!(left, 1, "cutover_compat_{number} was left, or this shows nothing");
    world.done(&["rollback", "--yes"], "blue").await;
    let left: i64 = world.stage.pair.blue.ask(&format!("select {SCRATCH}")).await;
    assert_eq!(left, 0, "it is gone with the run");

    let made = world.stage.killed("run", |event| event.to_string().contains("on the copy: 20200101000001_kind")).await;
    made.expect("the copy is made once more");
    let (code, said) = world.stage.verb(&["run"]).await;
    let why = said["why"].as_str().unwrap_or_default();
    assert_eq!(code, 3, "{said}");
    for word in [
        "step compat: ",
        "old_engine.sql:2 breaks: select * from note where id = $1",
        "write: select id, account_id, body from note where id = $1",
        "old_engine.sql:3 changes: insert into note values ($1, $2, $3)",
        "write: insert into note (id, account_id, body) values ($1, $2, $3)",
    ] {
        assert!(why.contains(word), "{word}: {why}");
    }
    assert!(!why.contains("nowhere") && !why.contains("old_engine.sql:1"), "{why}");
    let left: i64 = world.stage.pair.blue.ask(&format!("select {SCRATCH}")).await;
    assert_eq!((left, world.stage.left_on_blue().await), (0, 0), "nothing of ours is there");
    assert!(!world.has(HAS_KIND).await, "untouched");

    let (code, said) = world.stage.verb(&["run", "--waive", "compat", "--because", "that engine is gone"]).await;
    assert_eq!((code, world.has(HAS_KIND).await), (0, true), "{said}");
}

/// Accounts that go, and their notes with them; what only the newer version adds to `note` is there when they come back.
const SWEPT: &str = "cleanup:
  - { name: old-accounts, table: account, where: id <= 20, cap: { rows: 100, percent: 50 }, because: a test }
  - { name: lost-notes, table: note, orphan_of: { table: account }, cap: { rows: 300, percent: 50 }, because: a test }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_swept_rows_come_back_while_the_newer_version_serves() {
    let world = InPlace::up_on(Stage::with_accounts(200).await, SWEPT).await;
    let count = async |table: &str| world.stage.pair.blue.ask::<i64>(&format!("select count(*) from {table}")).await;
    let part =
        world.stage.killed("run", |event| event["event"] == "step_started" && event["step"] == "sweep-rows").await;
    part.expect("it sweeps");
    world.done(&["run"], "blue").await;
    assert_eq!((count("account").await, count("note").await), (180, 540));
    assert_eq!((count("cutover.parked_account").await, count("cutover.parked_note").await), (20, 60));
    let restore = async |rule: &str| world.stage.verb(&["cleanup", "restore", "--rule", rule, "--yes"]).await;
    let (code, early) = restore("old-accounts").await;
    assert_eq!((code, count("account").await), (3, 180), "before the flip `rollback` brings them back: {early}");

    world.done(&["flip"], "green").await;
    // A parent comes before its children.
    let (_, orphans) = restore("lost-notes").await;
    assert_eq!((orphans["restored"]["rows"].as_u64(), count("note").await), (Some(0), 540), "{orphans}");
    for (rule, rows) in [("old-accounts", 20), ("lost-notes", 60)] {
        let (code, restored) = restore(rule).await;
        assert_eq!((code, restored["restored"]["rows"].as_u64()), (0, Some(rows)), "{restored}");
    }
    assert_eq!((count("account").await, count("note").await), (200, 600));
    assert_eq!(count("note where kind = 'plain'").await, 600, "with what the newer schema gives every row");
    let (_, again) = restore("lost-notes").await;
    assert_eq!(again["restored"]["rows"].as_u64(), Some(0), "{again}");
    world.done(&["rollback", "--yes"], "blue").await;
    assert_eq!((count("account").await, count("note").await), (200, 600), "once is enough");
}
