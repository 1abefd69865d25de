//! Migrations judged, rewritten, compared and held against old statements: on the corpus, on servers, and through the verbs.

mod compat;
mod measured;
mod old_statements;
mod rewriting;
mod verbs;

use crate::harness::Place;
use cutover::database::migrations::lint::{
    Finding, Known, Linter, Phase, Severity, Work, effects, is_in_the_way, parse,
};
use cutover::database::migrations::split::split;
use cutover::database::migrations::{Folder, MigrationFile};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/migrations_text/corpus").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(corpus(name)).expect("a file of the corpus")
}

fn history() -> Folder {
    Folder::read(&corpus("history")).expect("the corpus is a folder of migrations")
}

/// What is known once the corpus' tables stand.
fn known() -> Known {
    let mut known = Known::default();
    split(&text("setup.sql")).iter().for_each(|one| known.learn(&parse(&one.text).expect("the setup parses")));
    known.next_file();
    known
}

/// A file that is not on the disk.
fn file(sql: &str) -> MigrationFile {
    let path = crate::harness::fresh_folder("lint").with_extension("sql");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, sql).expect("a file");
    let read = MigrationFile::read(&path).expect("a migration");
    std::fs::remove_file(&path).expect("the file goes");
    read
}

fn lint(known: Known, phase: Phase, sql: &str) -> Vec<Finding> {
    Linter::new(known, phase).file(&file(sql)).expect("it is understood")
}

#[tokio::test]
async fn migrations_lint_agrees_with_a_server_on_every_statement() {
    let place = Place::shared("measured").await;
    let statements = text("statements.sql");
    assert!(split(&statements).len() >= 120, "the corpus has shrunk");
    let differences = measured::differences(&place.client().await, &text("setup.sql"), &statements).await;
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test]
async fn migrations_lint_agrees_with_a_server_on_statements_that_stand_alone() {
    let place = Place::shared("alone").await;
    let differences = measured::waiting(&place, &known(), &text("setup.sql"), &text("alone.sql")).await;
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn migrations_lint_of_the_corpus() {
    let mut told = String::new();
    for name in ["statements.sql", "alone.sql"] {
        for statement in split(&text(name)) {
            told.push_str(&format!("{}\n", statement.summary()));
            for effect in effects(&parse(&statement.text).expect("it parses"), &known()) {
                let lock = effect.lock.map_or("no lock", |lock| lock.word());
                let table = effect.table.as_deref().map(|table| format!(" on {table}")).unwrap_or_default();
                told.push_str(&format!("    {}: {lock}{table}, {}\n", effect.rule, effect.work.words()));
            }
        }
    }
    insta::assert_snapshot!("corpus", told);
}

#[test]
fn migrations_only_blocks_and_execute_are_unknown_and_unknown_is_never_safe() {
    for name in ["statements.sql", "alone.sql"] {
        for statement in split(&text(name)) {
            let parsed = parse(&statement.text).expect("it parses");
            let is_unknown = effects(&parsed, &known()).iter().any(|effect| effect.work == Work::Unknown);
            assert_eq!(is_unknown, statement.begins(&["do"]) || statement.begins(&["execute"]), "{}", statement.text);
        }
    }
    for sql in
        ["do $$ begin end $$;", "execute later;", "call rest();", "select do_things();", "drop schema side cascade;"]
    {
        let found = lint(known(), Phase::Live, sql);
        assert!(
            found.iter().any(|one| one.severity == Severity::Unknown && is_in_the_way(one, Phase::Live)),
            "{sql}: {found:#?}"
        );
        let empty = lint(known(), Phase::Empty, sql);
        assert!(empty.iter().any(|one| one.severity == Severity::Unknown), "{sql} is unknown on an empty database too");
    }
}

#[test]
fn migrations_lint_of_an_engine_s_history() {
    let mut linter = Linter::new(Known::default(), Phase::Live);
    let mut told = String::new();
    for file in history().files() {
        for one in linter.file(file).expect("it is understood").iter().filter(|one| one.severity > Severity::Harmless) {
            let table = one.table.as_deref().unwrap_or("-");
            told.push_str(&format!(
                "{}:{} {} {} on {table}: {}\n",
                one.file,
                one.line,
                one.severity.word(),
                one.rule,
                one.why
            ));
        }
    }
    insta::assert_snapshot!("history", told);
}

#[test]
fn migrations_severity_depends_on_phase_size_and_what_shares_the_transaction() {
    let severity = |known: Known, phase, sql: &str| lint(known, phase, sql).first().map(|one| one.severity);
    let index = "create index i on account (note);";
    assert_eq!(severity(known(), Phase::Live, index), Some(Severity::Blocks));
    assert_eq!(severity(known(), Phase::Empty, index), Some(Severity::Harmless));
    let sized = |bytes| {
        let mut known = known();
        let table = known.tables.get_mut("account").expect("a table");
        table.size = Some(cutover::database::migrations::lint::Size { bytes, rows: 100 });
        known
    };
    assert_eq!(severity(sized(1_000_000), Phase::Live, index), Some(Severity::Brief));
    assert_eq!(severity(sized(10_000_000_000), Phase::Live, index), Some(Severity::Blocks));
    let alone = "alter table account add column c int;";
    assert_eq!(severity(known(), Phase::Live, alone), Some(Severity::Brief));
    let held = lint(known(), Phase::Live, &format!("{alone}\nupdate grant_made set active = false;"));
    assert_eq!((held[0].severity, held[0].rule), (Severity::Blocks, "held-by-transaction"));
    let apart = lint(
        known(),
        Phase::Live,
        &format!("-- cutover: no-transaction\n{alone}\nupdate grant_made set active = false;"),
    );
    assert_eq!(apart[0].severity, Severity::Brief, "outside a transaction nothing is held");
    let own = "create table fresh (id int); create index on fresh (id); update fresh set id = 1;";
    assert!(lint(known(), Phase::Live, own).iter().all(|one| one.severity == Severity::Harmless));
}

#[test]
fn migrations_ignore_needs_a_reason_and_names_its_rule() {
    let sql = "-- cutover: ignore update-all because the table has ten rows\nupdate account set level = 1;";
    let found = lint(known(), Phase::Live, sql);
    assert_eq!(found[0].ignored.as_deref(), Some("the table has ten rows"));
    assert!(!is_in_the_way(&found[0], Phase::Live));
    let other = "-- cutover: ignore create-index because it is small\nupdate account set level = 1;";
    assert!(
        is_in_the_way(&lint(known(), Phase::Live, other)[0], Phase::Live),
        "another rule's comment accepts nothing"
    );
}

#[test]
fn migrations_what_hides_in_a_statement_is_judged_too() {
    let named = "create function do_things() returns int language sql as $$ select 1 $$;";
    for (sql, expected) in [
        ("update account set note = 'x' where not (id = 5);", Severity::Blocks),
        ("update account set note = (select what from loose where loose.id = 5);", Severity::Blocks),
        ("update account set note = 'x' from loose where loose.id = 5;", Severity::Blocks),
        ("delete from account where (id = 5) is not true;", Severity::Blocks),
        ("delete from account where exists (select from loose where id = 5);", Severity::Blocks),
        ("update account set note = 'x' where id = 5 and level > 1;", Severity::Harmless),
        ("update account as a set note = 'x' where (a.id = 5);", Severity::Harmless),
        ("with gone as (delete from loose returning id) select count(*) from gone;", Severity::Blocks),
        ("insert into loose with gone as (delete from base returning *) select * from gone;", Severity::Blocks),
        ("create table fresh as with gone as (delete from base returning *) select * from gone;", Severity::Blocks),
        ("copy (delete from base returning id) to '/tmp/gone';", Severity::Blocks),
        (
            "insert into account (id, name) select id, what from loose on conflict (id) do update set note = 'x';",
            Severity::Blocks,
        ),
        (
            "insert into account (id, name) values (1, 'a') on conflict (id) do update set note = 'x';",
            Severity::Harmless,
        ),
        ("select id from account where level > 1 for update;", Severity::Blocks),
        ("insert into loose select do_things(), 'x';", Severity::Unknown),
        ("insert into loose values (do_things(), 'x');", Severity::Unknown),
        ("create table fresh as select do_things();", Severity::Unknown),
        ("select * from do_things();", Severity::Unknown),
        ("insert into loose select nextval('ticket'), string_agg(lower(note), ',') from account;", Severity::Harmless),
        ("alter extension citext update;", Severity::Unknown),
        ("alter type pair add attribute c int cascade;", Severity::Unknown),
        ("explain analyze delete from account;", Severity::Unknown),
        ("alter table account add column word never_seen;", Severity::Unknown),
        ("alter table account add column word short_text;", Severity::Blocks),
        ("alter table account add column word mood;", Severity::Brief),
        ("alter table token add constraint token_pk primary key using index token_by_grant;", Severity::Blocks),
        ("alter table grant_made add constraint grant_pk primary key using index grant_by_account;", Severity::Brief),
        ("alter table word alter column part type varchar(20);", Severity::Blocks),
        ("alter table word alter column plain type varchar(20);", Severity::Brief),
        ("create table log_3 partition of log for values from ('2026-03-01') to ('2026-04-01');", Severity::Blocks),
    ] {
        let mut known = known();
        for made in [
            named,
            "create unique index token_by_grant on token (grant_id);",
            "create unique index grant_by_account on grant_made (account_id);",
        ] {
            known.learn(&parse(made).expect("it parses"));
        }
        let found = lint(known, Phase::Live, sql);
        assert_eq!(found.iter().map(|one| one.severity).max(), Some(expected), "{sql}: {found:#?}");
    }
}

#[test]
fn migrations_a_lock_that_is_held_is_told_on_one_line_too_and_accepted_by_its_own_name() {
    let sql = "alter table account add column c int; update grant_made set active = false;";
    assert_eq!(lint(known(), Phase::Live, sql)[0].rule, "held-by-transaction");
    let accepted = |rule: &str| {
        let sql = format!("-- cutover: ignore {rule} because a moment is enough\n{sql}");
        !is_in_the_way(&lint(known(), Phase::Live, &sql)[0], Phase::Live)
    };
    assert!(accepted("held-by-transaction"));
    assert!(!accepted("add-column"), "who accepted a moment has not accepted that it is held");
}

#[tokio::test]
async fn migrations_lint_knows_a_live_database() {
    let place = Place::shared("live").await;
    place.execute(&text("setup.sql")).await;
    place.execute("analyze").await;
    let read = cutover::database::migrations::live::read(&place.client().await).await.expect("the database is read");
    let written = known();
    for (name, table) in &written.tables {
        let found = read.tables.get(name).unwrap_or_else(|| panic!("{name} is read"));
        assert_eq!(found.primary_key, table.primary_key, "{name}");
        assert_eq!(found.parent, table.parent, "{name}");
        assert!(
            table.rules.iter().all(|(rule, is)| found.rules.get(rule) == Some(is)),
            "{name}: {:?} {:?}",
            table.rules,
            found.rules
        );
        assert!(table.not_null.is_subset(&found.not_null), "{name}");
        assert_eq!(found.computed, table.computed, "{name}");
        assert_eq!(found.default_partition, table.default_partition, "{name}");
    }
    assert_eq!(read.index_columns.get("account_name"), Some(&vec!["name".to_owned()]));
    assert_eq!(read.index_columns.get("word_low"), None, "it holds no column");
    assert_eq!(
        (known().index_columns.get("account_name"), known().index_columns.get("word_low")),
        (Some(&vec!["name".to_owned()]), None)
    );
    assert_eq!(read.domains.get("short_word"), Some(&true));
    assert_eq!(read.domains.get("any_word"), Some(&false));
    assert_eq!(read.domains.get("mood"), Some(&false), "a type that is no domain is known as one");
    let parts = ["event_1", "event_2"].iter().filter_map(|name| read.tables[*name].size).map(|size| size.bytes);
    assert_eq!(
        read.tables["event"].size.map(|size| size.bytes),
        Some(parts.sum()),
        "a table is as large as its partitions"
    );
    assert!(read.tables["account"].size.is_some_and(|size| size.rows == 200 && size.bytes > 0));
    let found = lint(
        read,
        Phase::Live,
        "create table fresh (id int); create index on fresh (id); create index on account (note);",
    );
    assert_eq!(
        found.iter().map(|one| one.severity).collect::<Vec<_>>(),
        [Severity::Harmless, Severity::Harmless, Severity::Brief]
    );
}

#[test]
fn migrations_lint_of_two_hundred_files_is_fast() {
    let files: Vec<MigrationFile> = history().files().cloned().collect();
    let files: Vec<&MigrationFile> = files.iter().cycle().take(200).collect();
    let once = || {
        let begun = on_cpu();
        let mut linter = Linter::new(Known::default(), Phase::Live);
        files.iter().for_each(|file| drop(linter.file(file).expect("it is understood")));
        on_cpu().saturating_sub(begun)
    };
    let best = (0..5).map(|_| once()).min().unwrap_or_default();
    assert!(best < Duration::from_secs(1), "{best:?} in a build without optimization");
}

/// How long this thread has been at work: other tests beside it do not count.
fn on_cpu() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    Duration::from_nanos(said.split_whitespace().next().and_then(|first| first.parse().ok()).expect("nanoseconds"))
}
