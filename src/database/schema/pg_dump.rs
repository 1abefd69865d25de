//! PostgreSQL's own `pg_dump`: found, judged by its version, and run for a schema without rows, owners and grants.
//!
//! It must be as new as the server that it reads. How it reaches the server stands in its environment, never in its arguments.

use super::SchemaError;
use crate::database::client;
use crate::database::command;
use crate::plan::Secret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::GenericClient;

/// Where Debian and its kin keep the programs of each version.
const VERSIONED: &str = "/usr/lib/postgresql";
/// Longest wait for a program that says its version.
const ASKED: Duration = Duration::from_secs(10);
/// What a person's environment may say besides what we say ourselves.
const STRAY: &[&str] = &[
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGREQUIRESSL",
    "PGREQUIREPEER",
    "PGREQUIREAUTH",
    "PGGSSENCMODE",
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
    "PGCLUSTER",
    "PGDATESTYLE",
    "PGTZ",
    "PGCLIENTENCODING",
];
/// A schema and nothing else, in one encoding. Ours is left out; a lock that is not had soon is told instead of waited for.
const ARGUMENTS: &[&str] = &[
    "--schema-only",
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
    "--exclude-schema=cutover",
    "--encoding=UTF8",
    "--lock-wait-timeout=10s",
    "--no-password",
];

/// A program that can read a server's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgDump {
    program: String,
    /// Its version in its own words.
    pub version: String,
    major: u32,
}

impl PgDump {
    /// The newest program that can read `server`: in `explicit` when a folder is given and nowhere else, otherwise on the path and in
    /// Debian's folders.
    ///
    /// # Errors
    /// `NoProgram` when none is new enough.
    pub async fn find(explicit: Option<&Path>, server: &impl GenericClient) -> Result<Self, SchemaError> {
        let wanted = major_of(server).await?;
        let mut found = Vec::new();
        for program in candidates(explicit) {
            found.extend(Self::ask(program).await);
        }
        // Of two that are equal the later one: a program itself rather than what the path leads to.
        let fits = found.iter().filter(|program| program.major >= wanted).max_by_key(|program| program.major);
        let there = || found.iter().map(|program| format!("{} ({})", program.version, program.program)).collect();
        fits.cloned().ok_or_else(|| SchemaError::NoProgram { wanted, there: there() })
    }

    async fn ask(program: String) -> Option<Self> {
        let run = [program.clone(), "--version".to_owned()];
        let said = command::output(&run, &BTreeMap::new(), STRAY, ASKED).await.ok()?;
        let version = said.split_whitespace().nth(2)?.to_owned();
        Some(Self { major: major(&version)?, program, version })
    }

    /// The schema of the database at `url`, as SQL.
    ///
    /// # Errors
    /// When the program fails, is not done in time, or its output is not text of a size that a schema may have.
    pub async fn schema(&self, url: &Secret, deadline: Duration) -> Result<String, SchemaError> {
        let run: Vec<String> =
            std::iter::once(self.program.clone()).chain(ARGUMENTS.iter().map(|&word| word.to_owned())).collect();
        let variables = client::variables(url, "blue")?;
        command::output(&run, &variables, STRAY, deadline).await.map_err(SchemaError::Dump)
    }
}

async fn major_of(server: &impl GenericClient) -> Result<u32, SchemaError> {
    let version = "select current_setting('server_version_num')::int / 10000";
    let row = server.query_one(version, &[]).await.map_err(SchemaError::server("ask blue for its version"))?;
    Ok(row.get::<_, i32>(0).unsigned_abs())
}

fn candidates(explicit: Option<&Path>) -> Vec<String> {
    let inside = |folder: PathBuf| folder.join("pg_dump").display().to_string();
    if let Some(folder) = explicit {
        return vec![inside(folder.to_owned())];
    }
    let entries = std::fs::read_dir(VERSIONED).into_iter().flatten().flatten();
    let versioned = entries.map(|entry| entry.path().join("bin")).filter(|folder| folder.join("pg_dump").is_file());
    std::iter::once("pg_dump".to_owned()).chain(versioned.map(inside)).collect()
}

/// `15` of `15.18` or `15beta1`.
fn major(version: &str) -> Option<u32> {
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_by_its_first_number() {
        assert_eq!((major("15.18"), major("18beta1"), major("devel")), (Some(15), Some(18), None));
    }

    #[test]
    fn a_folder_that_is_named_is_the_only_one() {
        assert_eq!(candidates(Some(Path::new("/opt/pg/bin"))), ["/opt/pg/bin/pg_dump"]);
        assert_eq!(candidates(None)[0], "pg_dump");
    }
}
