//! Whether statements of the engine that serves live with what a plan in place will make of the schema: held against a copy without rows.
//!
//! The copy is a scratch database beside blue: its schema, then the migrations that blue lacks. Statements are prepared on both and never run.

use super::client::{ConnectError, connect};
use super::migrations::compare::{self, CompareError};
use super::migrations::compat::{Asked, CompatError, Fate, Judged, MOST_STATEMENTS, check, from_statistics, from_text};
use super::pending;
use super::schema::{PgDump, SchemaError};
use super::scratch::{self, Scratch, ScratchError};
use crate::plan::{Compat, Migration, Secret};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::Client;

const OWN_NUMBER: &str = "select oid::int8 from pg_catalog.pg_database where datname = pg_catalog.current_database()";
const SEARCH_PATH: &str = "select pg_catalog.current_setting('search_path')";
const SET_SEARCH_PATH: &str = "select pg_catalog.set_config('search_path', $1, false)";

/// Why statements could not be held against the new schema; blue is as it was.
#[derive(Debug, Error)]
pub enum OldError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Statements could not be had or prepared.
    #[error(transparent)]
    Compat(#[from] CompatError),
    /// Blue keeps no statistics of statements.
    #[error("blue has no extension pg_stat_statements")]
    NoStatistics,
    /// Nothing was found to be judged.
    #[error("neither the plan's files nor blue's statistics hold a statement")]
    NoStatement,
    /// More than can be judged.
    #[error("{found} statements are more than the {MOST_STATEMENTS} that are judged")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// No scratch database.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Blue's schema could not be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A statement of the schema or of a migration failed on the copy.
    #[error("make the new schema on a copy of blue's")]
    Copy(#[from] CompareError),
    /// What blue lacks of the folders is not known.
    #[error(transparent)]
    Pending(#[from] super::migrate::MigrateError),
    /// A server refused something around it.
    #[error("{act}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// What is asked, and of whom.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Blue.
    pub blue: &'a Secret,
    /// Where PostgreSQL's programs are, when a person says so.
    pub programs: Option<&'a Path>,
    /// The plan's migrations; what contracts the schema is left out, since the older engine is gone then.
    pub migrations: &'a [Migration],
    /// Where statements are found.
    pub compat: &'a Compat,
    /// Longest reading of blue's schema.
    pub bound: Duration,
}

/// Judges every statement; the scratch database is dropped again, and one that an earlier call has left is dropped first.
///
/// # Errors
/// When statements cannot be had, the copy cannot be made, or a server refuses.
pub async fn judge(asking: &Asking<'_>, tell: &(dyn Fn(&str) + Sync)) -> Result<Vec<Judged>, OldError> {
    let blue = connect(asking.blue, "blue").await?;
    pending::look(&blue).await.map_err(|source| OldError::Server { act: "set up a session on blue", source })?;
    let asked = gather(&blue, asking.compat).await?;
    tell(&format!("{} statements of the engine that serves", asked.len()));
    let name = scratch_name(&blue).await?;
    let scratch = Scratch::create(asking.blue, &name).await?;
    let judged = on_copy(asking, &blue, &scratch, asked, tell).await;
    let removed = scratch.remove().await;
    let judged = judged?;
    removed?;
    Ok(judged)
}

/// Drops the scratch database beside `blue` that a process has left which died while it judged; somebody else's stays.
///
/// # Errors
/// When the server refuses; it is still there then.
pub async fn clear(blue: &Secret) -> Result<(), OldError> {
    let client = connect(blue, "blue").await?;
    let name = scratch_name(&client).await?;
    match scratch::clear(blue, &name).await {
        // Where none can be made none is left.
        Err(ScratchError::NoUrl) => Ok(()),
        cleared => Ok(cleared?),
    }
}

/// Each database of a server has a scratch database of its own.
async fn scratch_name(blue: &Client) -> Result<String, OldError> {
    let number = blue.query_one(OWN_NUMBER, &[]).await;
    let number: i64 = number.map_err(|source| OldError::Server { act: "ask blue who it is", source })?.get(0);
    Ok(format!("cutover_compat_{number}"))
}

async fn gather(blue: &Client, compat: &Compat) -> Result<Vec<Asked>, OldError> {
    let mut asked: Vec<Asked> = compat.statements.iter().flat_map(|(name, text)| from_text(name, text)).collect();
    if compat.statistics {
        asked.extend(from_statistics(blue).await?.ok_or(OldError::NoStatistics)?);
    }
    match asked.len() {
        0 => Err(OldError::NoStatement),
        found if found > MOST_STATEMENTS => Err(OldError::TooMany { found }),
        _ => Ok(asked),
    }
}

async fn on_copy(
    asking: &Asking<'_>,
    blue: &Client,
    scratch: &Scratch,
    asked: Vec<Asked>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Judged>, OldError> {
    let dump = PgDump::find(asking.programs, blue).await?.schema(asking.blue, asking.bound).await?;
    let mut copy = reach(scratch, blue).await?;
    compare::lay(&copy, &dump).await?;
    let copied = reach(scratch, blue).await?;
    // What the copy alone does not take, for want of an extension, says nothing about the migrations.
    let (mut judged, mut fit) = (Vec::new(), Vec::new());
    for (found, one) in check(blue, &copied, &asked).await?.into_iter().zip(asked) {
        match found.fate {
            Fate::Same => fit.push(one),
            Fate::Unjudged => judged.push(found),
            _ => judged.push(unjudged(found)),
        }
    }
    drop(copied);
    for migration in asking.migrations.iter().filter(|migration| !migration.contract) {
        for file in pending::pending(blue, migration).await? {
            tell(&format!("on the copy: {}", file.name));
            compare::run_file(&mut copy, &file).await?;
        }
    }
    let migrated = reach(scratch, blue).await?;
    judged.extend(check(blue, &migrated, &fit).await?);
    Ok(judged.iter().map(Judged::told).collect())
}

/// A connection that finds names as blue's finds them.
async fn reach(scratch: &Scratch, blue: &Client) -> Result<Client, OldError> {
    let failed = |source| OldError::Server { act: "set up a session on the scratch database", source };
    let client = connect(&scratch.url(), "the scratch database").await?;
    let path: String = blue.query_one(SEARCH_PATH, &[]).await.map_err(failed)?.get(0);
    client.execute(SET_SEARCH_PATH, &[&path]).await.map_err(failed)?;
    Ok(client)
}

fn unjudged(found: Judged) -> Judged {
    let why = vec![format!("a copy of blue's schema does not take it as blue does: {}", found.why.join("; "))];
    Judged { fate: Fate::Unjudged, why, explicit: None, ..found }
}
