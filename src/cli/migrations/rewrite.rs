//! `migrations rewrite`: the safe form of a folder, in another folder, with a table of what changed and what a person must decide.

use super::folder;
use super::place::{self, PlanOption};
use crate::cli::exit::{CommandError, Ending};
use crate::cli::screen::Screen;
use crate::database::migrations::lint::Known;
use crate::database::migrations::live;
use crate::database::migrations::rewrite::{RewriteError, Rewritten, rewrite, write};
use crate::engine::chain;
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `migrations rewrite`.
#[derive(Debug, clap::Args)]
pub(super) struct RewriteArgs {
    /// The folder of migrations; it stays as it is.
    path: PathBuf,
    /// Where the safe form is written: a folder that is empty or does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Files up to this version are applied somewhere already, and are copied as they are.
    #[arg(long, value_name = "VERSION")]
    after: Option<String>,
    #[command(flatten)]
    plan: PlanOption,
    /// A live database that knows the keys of tables which no file makes: a URL without a password, or '${NAME}'.
    #[arg(long, value_name = "URL", conflicts_with = "plan")]
    url: Option<String>,
    /// One JSON event a line, the summary last.
    #[arg(long)]
    json: bool,
}

impl RewriteArgs {
    pub(super) fn screen(&self) -> Screen {
        Screen::new(self.json)
    }
}

/// `cutover migrations rewrite`.
pub(super) async fn run(arguments: &RewriteArgs) -> Result<Ending, CommandError> {
    let screen = arguments.screen();
    let from = folder(screen, &arguments.path)?;
    if let Some(after) = &arguments.after
        && !from.files().any(|file| file.version == *after)
    {
        let why = format!("no file has the version {after}");
        return Err(CommandError::new(Ending::Usage, why, "name a version of the folder; nothing was written"));
    }
    let plan = arguments.plan.load(screen)?;
    let given = arguments.url.as_deref().map(place::url).transpose()?;
    let known = match given.or_else(|| plan.map(|plan| plan.databases.blue.url.clone())) {
        Some(url) => {
            let client = place::look(&url, "blue").await?;
            let failed = |error| CommandError::failed("read what blue holds", &error, "nothing was written");
            // What is in the database was made by earlier files; a file may make it again on an empty one.
            Known { is_live: false, ..live::read(&client).await.map_err(failed)? }
        }
        None => Known::default(),
    };
    let written = rewrite(&from, known, arguments.after.as_deref()).map_err(refused)?;
    write(&written, &arguments.out).map_err(refused)?;
    show(screen, &written);
    let next = format!("cutover migrations compare {} {}", arguments.path.display(), arguments.out.display());
    screen.say(&format!(
        "{} files written to {}: {} statements changed, {} for a person to decide\nnext:  {next}",
        written.files.len(),
        arguments.out.display(),
        written.changes.len(),
        written.decisions.len()
    ));
    let summary = json!({ "files": written.files.len(), "changes": written.changes.len(), "decisions": written.decisions.len(), "out": arguments.out, "next": next });
    screen.summary(Ending::Done, summary);
    Ok(Ending::Done)
}

fn refused(error: RewriteError) -> CommandError {
    let ending = if matches!(error, RewriteError::Unwritable { .. }) { Ending::Failed } else { Ending::Usage };
    let next = match error {
        RewriteError::InUse { .. } => "name a folder that is empty or does not exist",
        RewriteError::Numbers { .. } => "give the files numbers with room between them, or rewrite this file by hand",
        _ => "correct what is named and run the same command again",
    };
    CommandError::new(ending, chain(&error), next)
}

fn show(screen: Screen, written: &Rewritten) {
    for one in &written.changes {
        let event =
            json!({ "event": "change", "file": one.file, "line": one.line, "rule": one.rule, "what": one.what });
        screen.line(&format!("changed  {}:{}  {}: {}", one.file, one.line, one.rule, one.what), &event);
    }
    for one in &written.decisions {
        let event = json!({ "event": "decision", "file": one.file, "line": one.line, "rule": one.rule, "what": one.what, "steps": one.steps });
        let numbered = one
            .steps
            .iter()
            .enumerate()
            .map(|(at, step)| format!("\n  step {}\n    {}", at + 1, step.replace('\n', "\n    ")));
        let steps: String = numbered.collect();
        screen.line(&format!("decide   {}:{}  {}: {}{steps}", one.file, one.line, one.rule, one.what), &event);
    }
}
