//! `plan`: the runbook of a plan, printed; touches nothing.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::Screen;
use super::session::prepare;
use crate::engine::{Reversal, Step};
use crate::plan::{Explanation, explain};
use crate::steps::Action;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `plan`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// Prints the JSON Schema of plans, for editors, and nothing else.
    #[arg(long)]
    schema: bool,
    /// The plan's file.
    #[arg(required_unless_present = "schema")]
    plan: Option<PathBuf>,
    /// A file of KEY=VALUE lines for the plan's ${…} references; goes before the process environment.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Overrides a budget or copy setting of the plan for this call.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// One JSON event a line, the summary last.
    #[arg(long)]
    json: bool,
}

/// `cutover plan`.
pub(super) fn run(arguments: &Args) -> Ending {
    let screen = Screen::new(arguments.json || arguments.schema);
    if arguments.schema {
        screen.event(&crate::plan::schema());
        return Ending::Done;
    }
    let Some(plan) = arguments.plan.clone() else { return Ending::Usage };
    let (env_file, sets) = (arguments.env_file.clone(), arguments.sets.clone());
    let common = PlanArgs { plan, env_file, sets, json: arguments.json };
    screen.looked("not asked (nothing was touched)", print(&common, screen))
}

fn print(arguments: &PlanArgs, screen: Screen) -> Result<Value, CommandError> {
    let plan = arguments.load(&screen)?;
    let (world, runbook) = prepare(plan)?;
    screen.say(&format!("plan {} ({})\n", world.plan.name, &world.plan.digest[..12]));
    for (place, step) in runbook.steps().iter().enumerate() {
        screen.line(&lines(place + 1, step), &event(place + 1, step));
    }
    screen.say("\nthe mapping\n");
    for explanation in explain(&world.plan) {
        screen.line(&explained(&explanation), &json!({
            "event": "mapping", "table": explanation.table.as_ref().map(ToString::to_string), "words": explanation.words,
        }));
    }
    screen.say(&format!("\nnext:  {}", arguments.command("check")));
    Ok(json!({ "plan": world.plan.name, "digest": world.plan.digest, "steps": runbook.steps().len() }))
}

fn lines(place: usize, step: &Action) -> String {
    let bound = humantime::format_duration(step.limits().deadline);
    let mark = match step.reversal() {
        Reversal::OneWay => "   ONE WAY",
        Reversal::ReadOnly if step.is_gate() => "   gate",
        _ => "",
    };
    let (id, summary, undo) = (step.id(), step.summary(), step.undo_summary());
    format!("{place:>3}. {id}{mark}   (at most {bound})\n     {summary}\n     undo: {undo}")
}

fn explained(explanation: &Explanation) -> String {
    match &explanation.table {
        Some(table) => format!("  {table}\n     {}", explanation.words.join("\n     ")),
        None => format!("  {}", explanation.words.join("\n     ")),
    }
}

fn event(place: usize, step: &Action) -> Value {
    json!({
        "event": "step", "place": place, "step": step.id(), "summary": step.summary(), "undo": step.undo_summary(),
        "reversal": step.reversal(), "one_way": step.reversal() == Reversal::OneWay, "gate": step.is_gate(),
        "deadline_s": step.limits().deadline.as_secs(),
    })
}
