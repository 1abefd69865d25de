//! Green's memory before clients come: filled by `pg_prewarm`, indexes first, and `check` says when the extension is missing.

use crate::harness::{APPLICATION, Pair, Place, folder, fresh_folder};
use cutover::database::prewarm::{self, Ended, PrewarmError};
use cutover::plan::{self, Plan, TableName};
use cutover::sandbox::servers::{Binaries, Server, ServerOptions, Stop};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const ROWS: &str = "
create table token (id bigint primary key, signature text not null unique, body text);
create table parted (id bigint, at int) partition by list (at);
create table parted_1 partition of parted for values in (1);
create table left_out (id bigint primary key, body text);
insert into token select n, md5(n::text), repeat(md5(n::text), 3) from generate_series(1, 20000) n;
insert into parted select n, 1 from generate_series(1, 20000) n;
insert into left_out select n, repeat('x', 100) from generate_series(1, 20000) n;
create extension pg_buffercache;";
/// Relations of this database that are wholly in memory.
const WHOLE: &str = "select coalesce(string_agg(c.relname, ' ' order by c.relname), '') from pg_class c
where c.relname ~ '^(token|parted|left_out)' and c.relkind in ('r', 'i')
  and pg_relation_size(c.oid) / 8192 = (select count(*) from pg_buffercache b where b.relfilenode = pg_relation_filenode(c.oid)
    and b.relforknumber = 0 and b.reldatabase = (select oid from pg_database where datname = current_database()))";

fn tables() -> [TableName; 2] {
    ["token", "parted"].map(|name| TableName { schema: "public".to_owned(), name: name.to_owned() })
}

/// A server that has just been started, so that nothing of these tables is in its memory.
async fn cold(shared_buffers_mb: u32) -> Place {
    let bin = std::env::var_os("CUTOVER_PG_BIN").map(PathBuf::from);
    let binaries = Binaries::find(bin.as_deref()).expect("PostgreSQL's programs are installed");
    let mut options = ServerOptions::new("cold", fresh_folder("cold"));
    options.templates = Some(folder());
    options.fsync = false;
    options.shared_buffers_mb = shared_buffers_mb;
    let server = Server::start(&binaries, &options).await.expect("a server");
    server.create_role(APPLICATION, "").await.expect("a role");
    let green = Place::fresh(Arc::new(server), "hydra").await;
    green.execute(ROWS).await;
    green.execute(prewarm::CREATE).await;
    // Nothing is left for a vacuum to read behind our back.
    green.execute("vacuum analyze").await;
    green.server.stop(Stop::Fast).await.expect("it ends");
    green.server.start_again().await.expect("it starts again");
    green
}

#[tokio::test]
async fn prewarm_fills_memory_with_carried_tables_and_their_indexes() {
    let green = cold(64).await;
    assert_eq!(green.ask::<String>(WHOLE).await, "", "nothing is in memory at first");
    let client = green.client().await;
    let late = prewarm::prewarm(&client, &tables(), Duration::ZERO, &|_, _, _| {}).await.expect("its time is over");
    assert_eq!((late.ended, late.loaded_bytes), (Ended::Late, 0));
    for _ in 0..2 {
        let told = std::sync::Mutex::new(Vec::new());
        let tell = |done: u64, all: u64, name: &str| told.lock().expect("no panic").push((done, all, name.to_owned()));
        let done = prewarm::prewarm(&client, &tables(), MINUTE, &tell).await.expect("it is loaded");
        assert_eq!((done.ended, done.relations, done.loaded_bytes), (Ended::Whole, 4, done.total_bytes));
        assert_eq!(green.ask::<String>(WHOLE).await, "parted_1 token token_pkey token_signature_key");
        let told = told.into_inner().expect("no panic");
        let names: Vec<&str> = told.iter().map(|(.., name)| name.as_str()).collect();
        assert_eq!(names, ["token_pkey", "token_signature_key", "parted_1", "token", ""], "indexes first");
        assert_eq!(told.last().map(|(done, all, _)| (*done, *all)), Some((done.total_bytes, done.total_bytes)));
    }
}

#[tokio::test]
async fn prewarm_ends_when_memory_is_full() {
    let green = cold(1).await;
    let client = green.client().await;
    let done = prewarm::prewarm(&client, &tables(), MINUTE, &|_, _, _| {}).await.expect("it is loaded");
    assert_eq!((done.ended, done.loaded_bytes), (Ended::Full, 1 << 20), "{done:?}");
    assert!(done.total_bytes > 3 << 20 && done.relations < 4, "{done:?}");
}

#[tokio::test]
async fn prewarm_without_its_extension_is_told_by_check() {
    let pair = Pair::shared().await;
    let plan = plan_of(&pair);
    let findings = cutover::database::preflight::check(&plan, None, None).await;
    let finding = findings.iter().find(|finding| finding.what.contains("pg_prewarm")).expect("it is told");
    assert_eq!((finding.server, finding.what.as_str()), ("green", "extension pg_prewarm is missing"));
    assert!(finding.next.contains("`create extension pg_prewarm` in green's database"), "{finding:?}");
    let refused = prewarm::prewarm(&pair.green.client().await, &tables(), MINUTE, &|_, _, _| {}).await;
    assert!(matches!(refused, Err(PrewarmError::Missing)), "{refused:?}");

    pair.green.execute("create schema tools; create extension pg_prewarm schema tools").await;
    let findings = cutover::database::preflight::check(&plan, None, None).await;
    assert!(!findings.iter().any(|finding| finding.what.contains("pg_prewarm")), "{findings:?}");
    pair.green.execute("create table token (id int primary key); insert into token values (1)").await;
    let done = prewarm::prewarm(&pair.green.client().await, &tables(), MINUTE, &|_, _, _| {}).await;
    assert_eq!(done.expect("it is found in its schema").relations, 2);
}

fn plan_of(pair: &Pair) -> Plan {
    let text = format!(
        "version: 1\nname: warm\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: {APPLICATION} }}\n  \
         green: {{ url: \"${{GREEN_URL}}\", role: {APPLICATION} }}\ncopy: {{ prewarm: true }}\n"
    );
    let lookup = |name: &str| {
        let place = match name {
            "CONTROL_URL" => &pair.control,
            "BLUE_URL" => &pair.blue,
            _ => &pair.green,
        };
        Some(place.url().expose().to_owned())
    };
    plan::parse(&text, Path::new("."), &lookup).unwrap_or_else(|problems| panic!("{problems:?}"))
}
