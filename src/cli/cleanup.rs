//! `cleanup preview`: what each cleanup rule would leave behind, and its cap, before a row moves; touches nothing.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::Screen;
use super::session::prepare;
use crate::database::cleanup::Preview;
use crate::engine::Halt;
use crate::report::words::count;
use clap::Subcommand;
use serde_json::{Value, json};

/// Arguments of `cleanup`.
#[derive(Debug, clap::Args)]
pub(super) struct CleanupArgs {
    #[command(subcommand)]
    verb: CleanupVerb,
}

#[derive(Debug, Subcommand)]
enum CleanupVerb {
    /// Counts what every rule would leave behind on blue; needs green's final schema, so that the mapping can be resolved.
    Preview(PlanArgs),
}

/// `cutover cleanup preview`; refused when a rule goes over its cap, as the copy would be.
pub(super) async fn run(arguments: &CleanupArgs) -> Ending {
    let CleanupVerb::Preview(arguments) = &arguments.verb;
    let screen = Screen::new(arguments.json);
    let previews = match look(arguments, screen).await {
        Ok(previews) => previews,
        Err(error) => {
            let error = CommandError { next: arguments.fill(&error.next), ..error };
            screen.error("not asked (nothing was touched)", &error);
            screen.summary(error.ending, json!({ "why": error.why, "next": error.next }));
            return error.ending;
        }
    };
    for preview in &previews {
        screen.line(&line(preview), &event(preview));
    }
    let over: Vec<&str> = previews.iter().filter(|one| one.is_over_cap).map(|one| one.rule.as_str()).collect();
    let (ending, next) = if over.is_empty() {
        (Ending::Done, arguments.command("run"))
    } else {
        (Ending::Refused, "correct the rule or its cap in the plan".to_owned())
    };
    screen.say(&format!("next:  {next}"));
    screen.summary(ending, json!({ "rules": previews.len(), "over_cap": over, "next": next }));
    ending
}

async fn look(arguments: &PlanArgs, screen: Screen) -> Result<Vec<Preview>, CommandError> {
    let (world, _) = prepare(arguments.load(&screen)?)?;
    crate::steps::preview_cleanup(&world).await.map_err(|error| Halt::from(error).into())
}

fn line(preview: &Preview) -> String {
    let mark = if preview.is_over_cap { "over its cap" } else { "within its cap" };
    format!(
        "{}: leaves {} of {} rows of {} behind, {mark} ({} rows, {} %)",
        preview.rule,
        count(preview.rows),
        count(preview.source_rows),
        preview.table,
        count(preview.cap_rows),
        preview.cap_percent
    )
}

fn event(preview: &Preview) -> Value {
    let mut event = json!({ "event": "rule" });
    if let (Some(fields), Ok(Value::Object(said))) = (event.as_object_mut(), serde_json::to_value(preview)) {
        fields.extend(said);
    }
    event
}
