//! `cleanup preview`: what each cleanup rule would leave behind, and its cap, before a row moves; touches nothing. `cleanup restore` is in
//! `cleanup/restore.rs`.

mod restore;

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::Screen;
use super::session::prepare;
use crate::engine::Halt;
use crate::report::words::count;
use crate::steps::Looked;
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

/// Arguments of `cleanup`.
#[derive(Debug, clap::Args)]
pub(super) struct CleanupArgs {
    #[command(subcommand)]
    verb: CleanupVerb,
}

#[derive(Debug, Subcommand)]
enum CleanupVerb {
    /// Counts what every rule would leave behind on blue, names some of it, and tells what hangs on it; needs green's final schema, so that the
    /// mapping can be resolved.
    Preview(PlanArgs),
    /// Brings parked rows of one rule back on green, once green serves.
    Restore(restore::RestoreArgs),
}

/// `cutover cleanup …`.
pub(super) async fn run(arguments: &CleanupArgs) -> Ending {
    match &arguments.verb {
        CleanupVerb::Preview(arguments) => preview(arguments).await,
        CleanupVerb::Restore(arguments) => restore::run(arguments).await,
    }
}

/// Refused when a rule goes over its cap, or rows would hang in the air, as the run would be.
async fn preview(arguments: &PlanArgs) -> Ending {
    let screen = Screen::new(arguments.json);
    let rules = match look(arguments, screen).await {
        Ok(rules) => rules,
        Err(error) => return refused(arguments, screen, "not asked (nothing was touched)", &error),
    };
    for rule in &rules {
        screen.line(&words(rule), &event("rule", rule));
    }
    let is_refused = |rule: &&Looked| rule.preview.is_over_cap || !rule.hanging.is_empty();
    let over = names(&rules, |rule| rule.preview.is_over_cap);
    let hanging = names(&rules, |rule| !rule.hanging.is_empty());
    let (ending, next) = if rules.iter().any(|rule| is_refused(&rule)) {
        (Ending::Refused, "correct the rules or their caps in the plan".to_owned())
    } else {
        (Ending::Done, arguments.command("run"))
    };
    screen.say(&format!("next:  {next}"));
    screen.summary(ending, json!({ "rules": rules.len(), "over_cap": over, "hanging": hanging, "next": next }));
    ending
}

fn names(rules: &[Looked], is_meant: impl Fn(&Looked) -> bool) -> Vec<&str> {
    rules.iter().filter(|rule| is_meant(rule)).map(|rule| rule.preview.rule.as_str()).collect()
}

async fn look(arguments: &PlanArgs, screen: Screen) -> Result<Vec<Looked>, CommandError> {
    let (world, _) = prepare(arguments.load(&screen)?)?;
    crate::steps::look_at_cleanup(&world).await.map_err(|error| Halt::from(error).into())
}

/// Nothing was changed by this command.
fn refused(plan: &PlanArgs, screen: Screen, live: &str, error: &CommandError) -> Ending {
    screen.refused(live, &CommandError { next: plan.fill(&error.next), ..error.clone() })
}

fn words(rule: &Looked) -> String {
    let preview = &rule.preview;
    let mark = if preview.is_over_cap { "over its cap" } else { "within its cap" };
    let (act, kept) = match (rule.swept, rule.parked) {
        (false, true) => ("leaves behind", "kept in green's archive"),
        (false, false) => ("leaves behind", "on blue alone"),
        (true, true) => ("takes out", "kept in the archive until the run is finalized"),
        (true, false) => ("takes out", "for good"),
    };
    let mut words = format!(
        "{}: {act} {} of {} rows of {}, {kept}, {mark} ({} rows, {} %)",
        preview.rule,
        count(preview.rows),
        count(preview.source_rows),
        preview.table,
        count(preview.cap_rows),
        preview.cap_percent
    );
    if !rule.samples.is_empty() {
        words.push_str(&format!("\n  such as: {}", rule.samples.join("; ")));
    }
    for cascade in &rule.cascades {
        let (rows, way) = (count(cascade.rows), cascade.through.join(" → "));
        words.push_str(&format!("\n  on blue {rows} rows of {} hang on them, by {way}", cascade.table));
    }
    for hanging in &rule.hanging {
        words.push_str(&format!("\n  refused: {hanging}"));
    }
    words
}

fn event(name: &str, said: &impl Serialize) -> Value {
    let mut event = json!({ "event": name });
    if let (Some(fields), Ok(Value::Object(said))) = (event.as_object_mut(), serde_json::to_value(said)) {
        fields.extend(said);
    }
    event
}
