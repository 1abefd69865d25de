//! The engine's own migrations: a folder of its files, applied by us, and its table of versions, read and kept true.
//!
//! What is missing is the difference of two sets, not what is later than the last: engines add files between others. The engine's table
//! knows no checksums, so each file's is pinned in a table of ours, when we apply it or first find it applied.

use super::migrate::{Applied, Apply, MigrateError, Source, worker};
use super::migrate_worker::{File, Worker};
use super::migrations::{Folder, Kind, MigrationFile};
use super::sql::{literal, qualified};
use crate::plan::TableName;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const PINS: &str = "create table if not exists cutover.migration_pin (
  source text not null,
  version text not null,
  checksum text not null,
  by_us boolean not null,
  at timestamptz not null default now(),
  primary key (source, version))";
const READ_PINS: &str = "select version, checksum, by_us from cutover.migration_pin where source = $1";
const IS_THERE: &str = "select pg_catalog.to_regclass($1::text) is not null";
/// Digits of a version under which engines noted files before they had more.
const LEGACY: usize = 14;
/// Versions that a message names.
const NAMED: usize = 5;

/// What is known of a folder and a database before anything is applied.
struct Known {
    /// Version and checksum of each file, in order.
    files: Vec<(String, String)>,
    /// Versions in the engine's table.
    applied: BTreeSet<String>,
    /// Checksums that we pinned, and whether it was we who applied the file.
    pins: BTreeMap<String, (String, bool)>,
}

/// Applies what the engine's table of versions lacks of its folder, in order of version. Versions of the folders `beside` it may stand in
/// the table as well.
///
/// A file runs in one transaction with its line in the engine's table, unless its name says `.autocommit` or its text asks for it:
/// then its statements run one by one, and a repetition goes on where it stopped.
///
/// # Errors
/// When a file or its name is not understood, the table knows versions that the folder lacks, an applied file was edited, another process
/// took over, or the server refuses. Repeating it is safe.
pub async fn engine_folder(
    apply: &Apply<'_>,
    source: Source<'_>,
    tracking: &TableName,
    beside: &[&Path],
) -> Result<Applied, MigrateError> {
    let mut elsewhere = BTreeSet::new();
    for folder in beside {
        elsewhere.extend(Folder::read_as(folder, Kind::Engine)?.files().map(|file| file.version.clone()));
    }
    let folder = Folder::read_as(source.folder, Kind::Engine)?;
    let mut files = Vec::new();
    let mut known = Vec::new();
    for file in folder.files() {
        files.push(File::new(source.name, file));
        known.push((file.version.clone(), file.sha256.clone()));
    }
    let mut worker = worker(apply, files).await?;
    let table = qualified(&tracking.schema, &tracking.name);
    prepare(&mut worker, &table, &tracking.name).await?;
    let known = read(&worker, source.name, &table, known).await?;
    known.judge(tracking, &elsewhere)?;
    pin_found(&mut worker, source.name, &known).await?;
    for at in known.missing() {
        let (version, checksum) = &known.files[at];
        if known.applied.last().is_some_and(|last| version < last) {
            (worker.tell)(&format!("{version} is older than what was applied last: out of order, as engines have it"));
        }
        let pin = pin(source.name, version, checksum, true);
        worker.apply(at, &format!("insert into {table} (version) values ({}); {pin}", literal(version))).await?;
    }
    Ok(worker.applied)
}

/// Which of an engine's files, in order, a table with these versions lacks.
pub(super) fn missing(files: &[MigrationFile], applied: BTreeSet<String>) -> Vec<usize> {
    let files = files.iter().map(|file| (file.version.clone(), file.sha256.clone())).collect();
    Known { files, applied, pins: BTreeMap::new() }.missing()
}

/// The engine's table as the engine would have made it, and ours.
async fn prepare(worker: &mut Worker<'_>, table: &str, name: &str) -> Result<(), MigrateError> {
    worker.own(&[PINS]).await?;
    let there = worker.client.query_one(IS_THERE, &[&table]).await;
    if there.map_err(MigrateError::server("look for the engine's table of versions"))?.get(0) {
        return Ok(());
    }
    let index = super::sql::ident(&format!("{name}_version_idx"));
    let create = format!(
        "create table {table} (version varchar(48) not null, version_self int not null default 0);
         create unique index {index} on {table} (version)"
    );
    worker.transaction(name, "the engine's table of versions", &create, "").await
}

async fn read(
    worker: &Worker<'_>,
    source: &str,
    table: &str,
    files: Vec<(String, String)>,
) -> Result<Known, MigrateError> {
    let failed = || MigrateError::server("read the engine's table of versions");
    let query = format!("select version::text from {table}");
    let applied = worker.client.query(&query, &[]).await.map_err(failed())?.iter().map(|row| row.get(0)).collect();
    let pins = worker.client.query(READ_PINS, &[&source]).await.map_err(failed())?;
    let pins = pins.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    Ok(Known { files, applied, pins })
}

/// Files that were applied before we came: what they are now is what they have to stay.
async fn pin_found(worker: &mut Worker<'_>, source: &str, known: &Known) -> Result<(), MigrateError> {
    let found =
        known.files.iter().filter(|(version, _)| known.is_applied(version) && !known.pins.contains_key(version));
    let pins: Vec<String> = found.map(|(version, checksum)| pin(source, version, checksum, false)).collect();
    worker.own(&[&pins.join(";\n")]).await
}

fn pin(source: &str, version: &str, checksum: &str, by_us: bool) -> String {
    let (source, version, checksum) = (literal(source), literal(version), literal(checksum));
    format!(
        "insert into cutover.migration_pin (source, version, checksum, by_us) values ({source}, {version}, {checksum}, {by_us})"
    )
}

impl Known {
    /// Whether the engine's table has the version, or the shorter one under which only this file can have been noted.
    fn is_applied(&self, version: &str) -> bool {
        self.applied.contains(version)
            || (version.len() > LEGACY
                && self.applied.contains(&version[..LEGACY])
                && self.of_legacy(&version[..LEGACY]).count() == 1)
    }

    fn of_legacy<'a>(&'a self, legacy: &'a str) -> impl Iterator<Item = &'a String> {
        self.files.iter().map(|(version, _)| version).filter(move |version| version.starts_with(legacy))
    }

    fn missing(&self) -> Vec<usize> {
        (0..self.files.len()).filter(|at| !self.is_applied(&self.files[*at].0)).collect()
    }

    /// Refuses a folder that is not the one that was applied.
    fn judge(&self, tracking: &TableName, elsewhere: &BTreeSet<String>) -> Result<(), MigrateError> {
        // A folder may begin where an earlier one ended: what is older than its first file is not its matter.
        let first = self.files.iter().map(|(version, _)| version).chain(elsewhere).min();
        // Unless it may be the shorter version of one of its files: applying that again could only do harm.
        let is_older =
            |version: &String| first.is_none_or(|first| version < first) && self.of_legacy(version).next().is_none();
        let is_known = |version: &&String| {
            is_older(version)
                || elsewhere.contains(*version)
                || self.files.iter().any(|(known, _)| known == *version)
                || (version.len() == LEGACY && self.of_legacy(version).count() == 1)
        };
        let unknown: Vec<&String> = self.applied.iter().filter(|version| !is_known(version)).collect();
        if !unknown.is_empty() {
            let what = format!("{tracking} has {} that the folder lacks: is it an older engine's?", named(&unknown));
            return Err(MigrateError::History { what });
        }
        let pinned = |version: &String| self.pins.get(version);
        let edited = self.files.iter().filter(|(version, checksum)| {
            self.is_applied(version) && pinned(version).is_some_and(|(pinned, _)| pinned != checksum)
        });
        let edited: Vec<&String> = edited.map(|(version, _)| version).collect();
        if !edited.is_empty() {
            let what =
                format!("{} was edited since it was applied; restore its text and add a new file", named(&edited));
            return Err(MigrateError::History { what });
        }
        let gone = self.files.iter().map(|(version, _)| version);
        let gone: Vec<&String> = gone
            .filter(|version| !self.is_applied(version) && pinned(version).is_some_and(|(_, by_us)| *by_us))
            .collect();
        if !gone.is_empty() {
            let what = format!(
                "{} was applied by us, and {tracking} no longer says so; write it there again, or delete its line from cutover.migration_pin",
                named(&gone)
            );
            return Err(MigrateError::History { what });
        }
        Ok(())
    }
}

fn named(versions: &[&String]) -> String {
    let first: Vec<&str> = versions.iter().take(NAMED).map(|version| version.as_str()).collect();
    let more = versions.len().saturating_sub(NAMED);
    if more == 0 { first.join(", ") } else { format!("{} and {more} more", first.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(files: &[&str], applied: &[&str]) -> Known {
        let files = files.iter().map(|version| ((*version).to_owned(), "sum".to_owned())).collect();
        let applied = applied.iter().map(|version| (*version).to_owned()).collect();
        Known { files, applied, pins: BTreeMap::new() }
    }

    fn tracking() -> TableName {
        TableName { schema: "public".to_owned(), name: "schema_migration".to_owned() }
    }

    #[test]
    fn what_is_missing_is_a_difference_of_sets() {
        let one = known(&["01", "02", "03"], &["01", "03"]);
        assert_eq!(one.missing(), [1]);
        one.judge(&tracking(), &BTreeSet::new()).expect("it fits");
        let why = known(&["01"], &["01", "09"])
            .judge(&tracking(), &BTreeSet::new())
            .expect_err("a version of another folder")
            .to_string();
        assert!(why.contains("has 09 that the folder lacks"), "{why}");
        known(&["05"], &["01", "05"]).judge(&tracking(), &BTreeSet::new()).expect("it begins behind 01");
    }

    #[test]
    fn a_shorter_version_counts_only_for_the_one_file_that_it_can_mean() {
        let one = known(&["20190101000001000000", "20200101000001000000"], &["20190101000001"]);
        assert_eq!(one.missing(), [1]);
        one.judge(&tracking(), &BTreeSet::new()).expect("it fits");
        let two = known(&["20190101000001000000", "20190101000001000001"], &["20190101000001"]);
        assert_eq!(two.missing(), [0, 1]);
        two.judge(&tracking(), &BTreeSet::new()).expect_err("which of them?");
    }

    #[test]
    fn an_edited_file_and_a_forgotten_one_are_refused() {
        let mut one = known(&["01", "02"], &["01"]);
        one.pins.insert("01".to_owned(), ("other".to_owned(), false));
        let why = one.judge(&tracking(), &BTreeSet::new()).expect_err("edited").to_string();
        assert!(why.contains("01 was edited"), "{why}");
        one.pins = BTreeMap::from([("02".to_owned(), ("sum".to_owned(), true))]);
        let why = one.judge(&tracking(), &BTreeSet::new()).expect_err("forgotten").to_string();
        assert!(why.contains("02 was applied by us"), "{why}");
        one.pins = BTreeMap::from([("02".to_owned(), ("other".to_owned(), false))]);
        one.judge(&tracking(), &BTreeSet::new()).expect("an engine took it back; what it is now is applied");
    }
}
