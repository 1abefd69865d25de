//! `cutover migrations lint|rewrite|compare|compat`: migrations judged and written anew before they meet a live database.
//!
//! Nothing here changes a database that was there before: what must be run is run on throw-away ones.

mod compare;
mod compat;
mod lint;
mod place;
mod rewrite;
mod to_come;

use super::exit::{CommandError, Ending};
use super::screen::Screen;
use crate::database::migrations::{Folder, MigrationFile, Problem, SourceError};
use crate::engine::chain;
use clap::Subcommand;
use serde_json::json;
use std::path::Path;

/// Arguments of `migrations`.
#[derive(Debug, clap::Args)]
pub(super) struct MigrationsArgs {
    #[command(subcommand)]
    verb: MigrationsVerb,
}

#[derive(Debug, Subcommand)]
enum MigrationsVerb {
    /// Says of every statement which lock it takes on which table, what it does meanwhile, whom it blocks, and the safe form.
    Lint(lint::LintArgs),
    /// Writes a folder of migrations in the form that hurts nobody, into another folder.
    Rewrite(rewrite::RewriteArgs),
    /// Runs two folders on empty throw-away databases and compares what the databases then hold.
    Compare(compare::CompareArgs),
    /// Says which statements of the running engine break or change their meaning on the new schema.
    Compat(compat::CompatArgs),
}

/// `cutover migrations …`.
pub(super) async fn run(arguments: &MigrationsArgs) -> Ending {
    match &arguments.verb {
        MigrationsVerb::Lint(arguments) => finish(arguments.screen(), lint::run(arguments).await),
        MigrationsVerb::Rewrite(arguments) => finish(arguments.screen(), rewrite::run(arguments).await),
        MigrationsVerb::Compare(arguments) => finish(arguments.screen(), compare::run(arguments).await),
        MigrationsVerb::Compat(arguments) => finish(arguments.screen(), compat::run(arguments).await),
    }
}

fn finish(screen: Screen, done: Result<Ending, CommandError>) -> Ending {
    done.unwrap_or_else(|error| screen.refused("not asked (nothing was touched)", &error))
}

/// A folder, or the one file that `path` names.
fn read(screen: Screen, path: &Path) -> Result<Vec<MigrationFile>, CommandError> {
    let read = if path.is_dir() {
        Folder::read(path).map(|folder| folder.versions.into_iter().map(|version| version.up).collect())
    } else {
        MigrationFile::read(path).map(|file| vec![file])
    };
    let files = read.map_err(|error| refused(screen, error))?;
    match files.is_empty() {
        true => Err(empty(path)),
        false => Ok(files),
    }
}

/// Nothing can be said of a folder without files, least of all that it hurts nobody: its path may be another's.
fn empty(path: &Path) -> CommandError {
    let why = format!("{} holds no migration", path.display());
    CommandError::new(Ending::Usage, why, "name the folder that holds them; nothing was touched")
}

fn folder(screen: Screen, path: &Path) -> Result<Folder, CommandError> {
    let folder = Folder::read(path).map_err(|error| refused(screen, error))?;
    if folder.versions.is_empty() { Err(empty(path)) } else { Ok(folder) }
}

/// Tells every problem with its place.
fn refused(screen: Screen, error: SourceError) -> CommandError {
    match error {
        SourceError::Problems { folder, problems } => {
            problems.iter().for_each(|problem| tell(screen, problem));
            let count = problems.len();
            let why = format!("{} has {count} problem{}", folder.display(), if count == 1 { "" } else { "s" });
            CommandError::new(
                Ending::Usage,
                why,
                "correct the files and run the same command again; nothing was touched",
            )
        }
        error @ SourceError::Unreadable { .. } => CommandError::new(
            Ending::Usage,
            chain(&error),
            "name a folder or file that can be read; nothing was touched",
        ),
    }
}

fn tell(screen: Screen, problem: &Problem) {
    let event = json!({
        "event": "problem",
        "file": problem.path.display().to_string(),
        "line": problem.place.map(|place| place.line),
        "column": problem.place.map(|place| place.column),
        "message": problem.why,
    });
    screen.line(&format!("error: {problem}"), &event);
}
