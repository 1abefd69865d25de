//! What every verb that reads a plan has in common: the plan's file, its environment, overrides, `--json`.

use super::exit::{CommandError, Ending};
use super::screen::Screen;
use crate::plan::{self, Plan, Problem};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A plan and how to read it.
#[derive(Debug, Clone, Args)]
pub(super) struct PlanArgs {
    /// The plan's file.
    pub(super) plan: PathBuf,
    /// A file of KEY=VALUE lines for the plan's ${…} references; goes before the process environment.
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Option<PathBuf>,
    /// Overrides a budget or copy setting of the plan for this call, such as `--set window.hold=3s`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) sets: Vec<String>,
    /// One JSON event a line, the summary last.
    #[arg(long)]
    pub(super) json: bool,
}

impl PlanArgs {
    /// Reads the plan; every problem is told before this returns.
    ///
    /// # Errors
    /// `usage` when the plan, its environment file or an override cannot be taken.
    pub(super) fn load(&self, screen: &Screen) -> Result<Plan, CommandError> {
        let given = self.environment(screen)?;
        let lookup = |name: &str| given.get(name).cloned().or_else(|| std::env::var(name).ok());
        let mut plan = plan::load(&self.plan, &lookup).map_err(|problems| tell(screen, &self.plan, &problems))?;
        let sets = self.sets.iter().map(|set| split_set(set)).collect::<Result<Vec<_>, _>>()?;
        plan.apply_sets(sets).map_err(|error| {
            CommandError::new(Ending::Usage, crate::engine::chain(&error), "correct --set; nothing was touched")
        })?;
        Ok(plan)
    }

    /// The command line of another verb on the same plan, for the `next` line.
    #[must_use]
    pub(super) fn command(&self, verb: &str) -> String {
        let env = self.env_file.as_ref().map(|file| format!(" --env-file {}", file.display())).unwrap_or_default();
        format!("cutover {verb} {}{env}", self.plan.display())
    }

    /// A hint of a step or a hand, with its `PLAN` as the file and options of this call.
    #[must_use]
    pub(super) fn fill(&self, hint: &str) -> String {
        hint.replace(" PLAN", self.command("").strip_prefix("cutover ").unwrap_or_default())
    }

    fn environment(&self, screen: &Screen) -> Result<BTreeMap<String, String>, CommandError> {
        let Some(file) = &self.env_file else { return Ok(BTreeMap::new()) };
        let text = std::fs::read_to_string(file).map_err(|error| {
            let why = format!("read the environment file {}: {error}", file.display());
            CommandError::new(Ending::Usage, why, "name a file that can be read; nothing was touched")
        })?;
        plan::env_file::parse(&text).map_err(|problems| tell(screen, file, &problems))
    }
}

fn split_set(set: &str) -> Result<(&str, &str), CommandError> {
    let wrong =
        || CommandError::new(Ending::Usage, format!("--set {set}: not KEY=VALUE"), "write --set window.hold=3s");
    set.split_once('=').ok_or_else(wrong)
}

fn tell(screen: &Screen, file: &Path, problems: &[Problem]) -> CommandError {
    for problem in problems {
        screen.problem(problem);
    }
    let count = problems.len();
    let why = format!("{} has {count} problem{}", file.display(), if count == 1 { "" } else { "s" });
    CommandError::new(Ending::Usage, why, "correct the file and run the same command again; nothing was touched")
}
