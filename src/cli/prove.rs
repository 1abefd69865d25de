//! `prove`, for `rehearse --prove-mapping`: the plan's mapping against the engine's own migrations on a copy of blue, row by row.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::Screen;
use super::session::prepare;
use crate::database::diff::Found;
use crate::engine::Halt;
use crate::steps::{diff, proof, prove_mapping};
use serde_json::json;

/// `cutover prove`; refused when something differs that the plan does not declare.
pub(super) async fn run(arguments: &PlanArgs) -> Ending {
    let screen = Screen::new(arguments.json);
    let found = match prove(arguments, screen).await {
        Ok(found) => found,
        Err(error) => {
            let error = CommandError { next: arguments.fill(&error.next), ..error };
            return screen.refused("not asked", &error);
        }
    };
    let mapping = proof(&found);
    let words = format!("the mapping and the migrations differ undeclared: {}", diff::words(&found));
    let (ending, why, next) = match found.differences() {
        0 => (Ending::Done, None, "cutover run PLAN"),
        _ => (
            Ending::Refused,
            Some(words),
            "correct the mapping, or declare the difference with its reason under proof:",
        ),
    };
    screen.say(&format!(
        "{} rows compared, {} differ as declared, {} undeclared",
        mapping["rows"], mapping["declared"], mapping["undeclared"]
    ));
    screen.say(why.as_deref().unwrap_or_default());
    screen.summary(ending, json!({ "mapping": mapping, "why": why, "next": arguments.fill(next) }));
    ending
}

async fn prove(arguments: &PlanArgs, screen: Screen) -> Result<Found, CommandError> {
    let (world, _) = prepare(arguments.load(&screen)?)?;
    let tell = |line: &str| screen.line(line, &json!({ "event": "progress", "what": line }));
    prove_mapping(&world, &tell).await.map_err(|error| Halt::from(error).into())
}
