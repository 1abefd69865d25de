//! What lint says of each file of a folder before it is applied, and where the server then did otherwise.

use super::migrate::Measured;
use super::migrations::lint::{Linter, Lock, Phase, Work};
use super::migrations::live;
use super::pending::{PendingError, pending_in};
use crate::plan::{Migration, TableName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

/// What a file is said to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Foretold {
    /// The strongest lock on each table.
    pub locks: BTreeMap<String, Lock>,
    /// Tables that are written anew.
    pub rewritten: BTreeSet<String>,
}

/// Judges the files that the database lacks by refinery's `history` or the engine's, under their names without `.sql`, as a receipt has them;
/// reads only.
///
/// # Errors
/// When something cannot be read or is no SQL that is understood.
pub async fn foretell(
    client: &Client,
    migration: &Migration,
    history: &TableName,
) -> Result<BTreeMap<String, Foretold>, PendingError> {
    let failed = |source| PendingError::Server { act: "read what the database holds", source };
    let mut linter = Linter::new(live::read(client).await.map_err(failed)?, Phase::Live);
    let mut files = BTreeMap::new();
    for file in pending_in(client, migration, history).await? {
        let mut foretold = Foretold::default();
        for finding in linter.file(&file).map_err(|problem| PendingError::Broken(vec![problem]))? {
            let Some(table) = finding.table else { continue };
            if matches!(finding.work, Work::Rewrite | Work::Truncate) {
                foretold.rewritten.insert(table.clone());
            }
            if let Some(lock) = finding.lock {
                let known = foretold.locks.entry(table).or_insert(lock);
                *known = lock.max(*known);
            }
        }
        let name = file.name.strip_suffix(".sql").unwrap_or(&file.name).to_owned();
        files.insert(name, foretold);
    }
    Ok(files)
}

/// Where a file did otherwise, as far as clients feel it: locks that stop writers, and tables written anew.
#[must_use]
pub fn otherwise(foretold: &Foretold, measured: &Measured) -> Vec<String> {
    let mut told = Vec::new();
    for (table, mode) in &measured.locks {
        let name = plain(table);
        let took = Lock::of(&format!("{mode}Lock"));
        let said = foretold.locks.get(&name).copied();
        if took != said && [took, said].into_iter().flatten().any(Lock::stops_writers) {
            let word = |lock: Option<Lock>| lock.map_or("no lock", Lock::word);
            told.push(format!("{name}: {} was taken, lint said {}", word(took), word(said)));
        }
    }
    let rewritten: BTreeSet<String> = measured.rewritten.iter().map(|table| plain(table)).collect();
    told.extend(rewritten.difference(&foretold.rewritten).map(|name| format!("{name}: written anew, lint said no")));
    let stayed = foretold
        .rewritten
        .difference(&rewritten)
        .filter(|name| measured.locks.keys().any(|table| plain(table) == **name));
    told.extend(stayed.map(|name| format!("{name}: not written anew, lint said so")));
    told
}

/// A table as lint names it.
fn plain(table: &str) -> String {
    let bare = table.replace('"', "");
    bare.strip_prefix("public.").map_or(bare.clone(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(lock: &str, rewritten: &[&str]) -> Measured {
        Measured {
            file: "one".to_owned(),
            ms: 1,
            locks: BTreeMap::from([
                ("public.note".to_owned(), lock.to_owned()),
                ("public.schema_migration".to_owned(), "RowExclusive".to_owned()),
            ]),
            rewritten: rewritten.iter().map(|name| (*name).to_owned()).collect(),
            wal_bytes: 0,
            temp_bytes: 0,
        }
    }

    fn foretold(lock: Lock, rewritten: &[&str]) -> Foretold {
        let rewritten = rewritten.iter().map(|name| (*name).to_owned()).collect();
        Foretold { locks: BTreeMap::from([("note".to_owned(), lock)]), rewritten }
    }

    #[test]
    fn what_is_as_it_was_foretold_is_not_told() {
        assert!(otherwise(&foretold(Lock::Share, &[]), &measured("Share", &[])).is_empty());
        assert!(
            otherwise(&foretold(Lock::AccessExclusive, &["note"]), &measured("AccessExclusive", &["public.note"]))
                .is_empty()
        );
        assert!(
            otherwise(&foretold(Lock::RowShare, &[]), &measured("RowExclusive", &[])).is_empty(),
            "nobody feels it"
        );
    }

    #[test]
    fn what_was_otherwise_is_told_both_ways() {
        let told = otherwise(&foretold(Lock::Share, &[]), &measured("AccessExclusive", &["public.note"]));
        assert_eq!(told, ["note: access exclusive was taken, lint said share", "note: written anew, lint said no"]);
        let told = otherwise(&foretold(Lock::AccessExclusive, &["note"]), &measured("Share", &[]));
        assert_eq!(told, ["note: share was taken, lint said access exclusive", "note: not written anew, lint said so"]);
        assert_eq!(
            otherwise(&Foretold::default(), &measured("Share", &[])),
            ["note: share was taken, lint said no lock"]
        );
    }
}
