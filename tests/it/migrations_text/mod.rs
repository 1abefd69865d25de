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
    }
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
