//! After an undone run under load, blue equals a twin that was told only what its clients wrote, and its catalog is what it was.

use super::flip::NEVER;
use super::triggers::by_triggers;
use super::way_back::LEFT;
use crate::harness::sandbox::Sandbox;
use crate::harness::{Place, eventually};
use crate::level::for_both;
use cutover::plan::{CaptureMethod, Secret};
use cutover::sandbox::servers::Binaries;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio_postgres::Client;

const SOON: Duration = Duration::from_secs(30);
/// The application's role: what clients write is written by it.
const APPLICATION: &str = "hydra";

/// Tells every row that is written, by whom, in the log and nowhere else: no table of ours stands on blue.
const WITNESS: &str = "create function public.twin_tell() returns trigger language plpgsql as $twin$ begin
  perform pg_logical_emit_message(true, 'twin', json_build_object('who', session_user, 'table', tg_table_name, 'old', row_to_json(old), 'new', row_to_json(new))::text);
  return null;
end $twin$";
const TABLES: &str = "select quote_ident(c.relname), coalesce(string_agg(quote_ident(a.attname), ' ' order by a.attnum), '')
  from pg_class c left join pg_index i on i.indrelid = c.oid and i.indisprimary left join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
 where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace group by c.relname order by c.relname";
/// What the log says of the application's tables: our witness's messages, and the rows themselves.
const TOLD: &str = "select data, pg_visible_in_snapshot(xid::text::xid8, $1::text::pg_snapshot) from pg_logical_slot_get_changes('twin', null, null)
 where data like 'message: transactional: 1 prefix: twin,%' or data like 'table public.%'";
/// What `pg_dump` does not show of a server and its catalog.
const BESIDE_THE_DUMP: &str = "select format('slot %s', slot_name) from pg_replication_slots
 union all select format('setting %s %s', name, setting) from pg_file_settings
 union all select format('database %s', datname) from pg_database
 union all select format('prepared %s', gid) from pg_prepared_xacts
 union all select format('origin %s', roname) from pg_replication_origin
 union all select format('dropped column %s of %s', attnum, attrelid::regclass) from pg_attribute where attisdropped
 union all select format('index %s %s %s', indexrelid::regclass, indisvalid, indisclustered) from pg_index
 union all select format('trigger %s of %s %s', tgname, tgrelid::regclass, tgenabled) from pg_trigger
 union all select format('constraint %s of %s %s', conname, conrelid::regclass, convalidated) from pg_constraint";

/// One row that somebody wrote.
#[derive(Deserialize)]
struct Told {
    who: String,
    table: String,
    old: Option<Value>,
    new: Option<Value>,
}

/// A sandbox under load, its blue as it was before the run, and the twin.
struct Witnessed {
    sandbox: Sandbox,
    catalog: BTreeSet<String>,
    twin: Place,
    /// What the twin held at its start.
    snapshot: String,
}

impl Witnessed {
    async fn up(name: &str) -> Self {
        let sandbox = Sandbox::up(name, 3000, 40).await;
        sandbox.until("revoked", 3).await;
        let catalog = catalog(&sandbox).await;
        let blue = blue(&sandbox).await;
        witness(&blue).await;
        let twin = Place::shared("twin").await;
        let snapshot = copy(&sandbox, &blue, &twin).await;
        Self { sandbox, catalog, twin, snapshot }
    }

    /// Judges blue after the run was undone.
    async fn judge(self) {
        let sandbox = &self.sandbox;
        let before = sandbox.seen("acked_writes").await.unwrap_or(0);
        sandbox.until("acked_writes", before + 20).await;
        for word in NEVER {
            assert_eq!(sandbox.seen(word).await, Some(0), "{word}");
        }
        let blue = blue(sandbox).await;
        still(sandbox, &blue).await;
        let twin = self.twin.client().await;
        let written = replay(&blue, &twin, &self.snapshot).await;
        assert!(written >= 40, "clients wrote only {written} rows");
        assert_same_rows(&blue, &twin).await;
        blue.batch_execute("select pg_drop_replication_slot('twin')").await.expect("the test's slot goes");
        blue.batch_execute("drop function public.twin_tell cascade").await.expect("the test's triggers go");
        let after = catalog(sandbox).await;
        let (gone, left): (Vec<_>, Vec<_>) =
            (self.catalog.difference(&after).collect(), after.difference(&self.catalog).collect());
        assert!(gone.is_empty() && left.is_empty(), "gone from blue: {gone:#?}, left on blue: {left:#?}");
        assert_eq!(sandbox.ask("BLUE_URL", LEFT).await, 0, "nothing of ours is left on blue");
        assert_eq!(sandbox.ask("GREEN_URL", LEFT).await, 0, "nor on green");
    }
}

async fn blue(sandbox: &Sandbox) -> Client {
    let url = Secret::new(sandbox.variable("BLUE_URL"));
    cutover::database::client::connect(&url, "blue").await.expect("blue answers")
}

/// Every table of the application's with the columns of its key.
async fn tables(client: &Client) -> BTreeMap<String, String> {
    let rows = client.query(TABLES, &[]).await.expect("the catalog answers");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Triggers on every table, one table at a time under the load, and a slot to read what they tell.
async fn witness(blue: &Client) {
    blue.batch_execute(WITNESS).await.expect("the witness is created");
    for table in tables(blue).await.keys() {
        let trigger = format!(
            "create trigger twin_tells after insert or update or delete on public.{table} for each row execute function public.twin_tell();
             alter table public.{table} enable always trigger twin_tells"
        );
        blue.batch_execute(&trigger).await.expect("the trigger is created");
    }
    blue.execute("select pg_create_logical_replication_slot('twin', 'test_decoding')", &[]).await.expect("a slot");
    // A commit that the slot is too young for may not be visible yet: once it is, no row falls between slot and snapshot.
    let row = blue.query_one("select pg_current_xact_id()::text", &[]).await.expect("a transaction");
    let youngest: String = row.get(0);
    let is_over = "select pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8";
    eventually(SOON, "older transactions have ended", async || {
        blue.query_one(is_over, &[&youngest]).await.expect("it answers").get::<_, bool>(0).then_some(())
    })
    .await;
}

/// Fills the twin from one snapshot of blue, and gives that snapshot.
async fn copy(sandbox: &Sandbox, blue: &Client, twin: &Place) -> String {
    blue.batch_execute("begin isolation level repeatable read").await.expect("begun");
    let row = blue.query_one("select pg_export_snapshot(), pg_current_snapshot()::text", &[]).await;
    let (exported, snapshot): (String, String) = row.map(|row| (row.get(0), row.get(1))).expect("a snapshot");
    let file = sandbox.dir.join("twin.sql");
    let name = file.to_str().expect("text");
    let snapshot_of = format!("--snapshot={exported}");
    let url = Secret::new(sandbox.variable("BLUE_URL"));
    program("pg_dump", &url, &["--no-owner", "--no-privileges", "--no-publications", &snapshot_of, "--file", name])
        .await;
    blue.batch_execute("commit").await.expect("committed");
    let fill = ["--no-psqlrc", "--quiet", "--output", "/dev/null", "--set", "ON_ERROR_STOP=1", "--file", name];
    program("psql", &twin.url(), &fill).await;
    twin.execute("drop function public.twin_tell cascade").await;
    snapshot
}

/// Runs one of PostgreSQL's programs on a database; what it said.
async fn program(name: &str, url: &Secret, arguments: &[&str]) -> String {
    let binaries = Binaries::find(None).expect("PostgreSQL's programs are installed");
    let url = url::Url::parse(url.expose()).expect("a URL");
    let mut command = Command::new(binaries.program(name));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env("PGHOST", url.host_str().expect("a host")).env("PGPORT", url.port().expect("a port").to_string());
    command.env("PGUSER", url.username()).env("PGPASSWORD", url.password().unwrap_or_default());
    command.env("PGDATABASE", url.path().trim_start_matches('/'));
    let output = command.output().await.expect("the program runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Everything of blue but its rows, line by line: schemas, owners, grants, settings, roles, slots.
async fn catalog(sandbox: &Sandbox) -> BTreeSet<String> {
    let url = Secret::new(sandbox.variable("BLUE_URL"));
    let database = program("pg_dump", &url, &["--schema-only", "--create"]).await;
    let server = program("pg_dumpall", &url, &["--globals-only", "--no-role-passwords"]).await;
    let beside = blue(sandbox).await.query(BESIDE_THE_DUMP, &[]).await.expect("the catalog answers");
    let mut section = String::new();
    let mut lines: BTreeSet<String> = beside.iter().map(|row| row.get(0)).collect();
    for line in database.lines().chain(server.lines()) {
        // Each line is told with the object that it belongs to; the keys of `\restrict` are random.
        if line.starts_with("-- Name:") {
            line.clone_into(&mut section);
        }
        if !line.starts_with('\\') && !line.is_empty() {
            lines.insert(format!("{section}: {line}"));
        }
    }
    lines
}

/// Ends the load and what stands before blue, until blue stands still.
async fn still(sandbox: &Sandbox, blue: &Client) {
    for part in ["prober", "dashboard", "authorization", "gateway", "engine-blue"] {
        assert_eq!(sandbox.verb(&["fault", part, "kill"]).await["outcome"], "done", "{part}");
    }
    let sessions = format!("select count(*) from pg_stat_activity where usename = '{APPLICATION}'");
    eventually(SOON, "the application's sessions end", async || {
        (blue.query_one(&sessions, &[]).await.expect("it answers").get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// Applies to the twin what the application's role wrote on blue since the twin's snapshot, in the order of commits; how many rows
/// that were. Nobody else has written a row, and no row was written without a word of it.
async fn replay(blue: &Client, twin: &Client, snapshot: &str) -> usize {
    twin.batch_execute("set session_replication_role = replica; set timezone = 'UTC'").await.expect("set");
    let keys = tables(twin).await;
    let (mut told, mut written, mut applied) = (0, 0, 0);
    for row in blue.query(TOLD, &[&snapshot]).await.expect("the log is read") {
        let (line, is_copied): (&str, bool) = (row.get(0), row.get(1));
        let Some((_, text)) = line.split_once(" content:").filter(|_| line.starts_with("message")) else {
            written += 1;
            continue;
        };
        told += 1;
        let one: Told = serde_json::from_str(text).expect("what the witness told");
        assert_eq!(one.who, APPLICATION, "wrote a row of {}", one.table);
        if !is_copied {
            apply(twin, &keys, &one, text).await;
            applied += 1;
        }
    }
    assert_eq!(told, written, "every row that was written was told");
    applied
}

/// Takes the old row away and puts the new one there. The row goes as it was told, unread, so that nothing is rounded.
async fn apply(twin: &Client, keys: &BTreeMap<String, String>, one: &Told, text: &str) {
    let table = &one.table;
    let row = |which: &str| format!("json_populate_record(null::public.{table}, $1::text::json -> '{which}')");
    if one.old.is_some() {
        let key: Vec<String> = keys[table].split(' ').map(|key| format!("t.{key} = o.{key}")).collect();
        let delete = format!("delete from public.{table} t using {} o where {}", row("old"), key.join(" and "));
        assert_eq!(twin.execute(&delete, &[&text]).await.expect("deleted"), 1, "the twin has the row: {text}");
    }
    if one.new.is_some() {
        let insert = format!("insert into public.{table} select * from {}", row("new"));
        assert_eq!(twin.execute(&insert, &[&text]).await.expect("inserted"), 1, "{text}");
    }
}

async fn assert_same_rows(blue: &Client, twin: &Client) {
    let pin = "set timezone = 'UTC'; set datestyle = 'iso'; set extra_float_digits = 3; set bytea_output = 'hex'";
    for client in [blue, twin] {
        client.batch_execute(pin).await.expect("pinned");
    }
    let found = tables(blue).await;
    assert_eq!(found, tables(twin).await);
    let mut all = 0;
    for table in found.keys() {
        let question = format!("select t::text from public.{table} t order by 1");
        let mut rows = [Vec::new(), Vec::new()];
        for (rows, client) in rows.iter_mut().zip([blue, twin]) {
            let answer = client.query(&question, &[]).await.expect("rows");
            *rows = answer.iter().map(|row| row.get::<_, String>(0)).collect();
        }
        let [blue, twin] = rows;
        let only = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|row| !other.contains(row)).take(3).cloned().collect()
        };
        assert!(
            blue == twin,
            "{table}: only on blue {:#?}, only on the twin {:#?}",
            only(&blue, &twin),
            only(&twin, &blue)
        );
        all += blue.len();
    }
    assert!(all >= 3000, "only {all} rows were compared");
}

for_both!(after_an_undone_run_blue_equals_a_twin_that_saw_only_what_clients_wrote);

async fn after_an_undone_run_blue_equals_a_twin_that_saw_only_what_clients_wrote(method: CaptureMethod) {
    let witnessed = Witnessed::up("twin").await;
    if method == CaptureMethod::Triggers {
        by_triggers(&witnessed.sandbox);
    }
    let (code, run) = witnessed.sandbox.run("run").await;
    assert_eq!((code, run["state"].as_str()), (0, Some("at_flip_point")), "{run}");
    let (code, back) = witnessed.sandbox.run("rollback").await;
    assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (0, Some("done"), Some("blue")), "{back}");
    witnessed.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: scripts/long"]
async fn after_a_run_killed_in_its_copy_and_undone_blue_equals_its_twin() {
    let witnessed = Witnessed::up("twin-killed").await;
    let copies = |event: &Value| event["event"] == "step_started" && event["step"] == "copy-rows";
    assert!(witnessed.sandbox.killed("run", copies, Duration::from_millis(20)).await, "killed while it copies");
    let (code, back) = witnessed.sandbox.run("rollback").await;
    assert_eq!((code, back["outcome"].as_str(), back["live"].as_str()), (0, Some("done"), Some("blue")), "{back}");
    witnessed.judge().await;
}
