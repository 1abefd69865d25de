//! The demo of an engine whose migrations spoil rows: the plan lets them run over the copied rows and leaves out what would mend them; the run has
//! to stop before the flip by itself, and goes on once the repair is allowed.

use super::demo::{DemoOptions, on_plan};
use super::environment::Layout;
use super::plan_files;
use super::verbs::{VerbError, Verbs, words};
use serde_json::{Value, json};

/// The repair of the plan that mends what the engine's migrations do.
const REPAIR: &str = "states-of-flows";
/// What the run must end with: a gate said no.
const REFUSED: i32 = 3;

/// Gives the sandbox the plan of method `logical`, without its repair after the engine's migrations.
pub(super) fn prepare(options: &DemoOptions) -> Result<(), VerbError> {
    let written = plan_files::write_engine_bug(&Layout::new(&options.dir));
    written.map_err(|error| VerbError::Verb { verb: "demo --engine-bug".to_owned(), what: error.to_string() })
}

/// Runs until it is stopped, and says what was found; then allows the repair. The second value is how the run ended then.
pub(super) async fn run(options: &DemoOptions, verbs: &Verbs<'_>) -> Result<(Value, Vec<String>), VerbError> {
    let refused = verbs.show(on_plan(options, "run")).await?;
    let status = verbs.ask_quietly(on_plan(options, "status")).await?.summary;
    let failed = status["failed_invariants"].clone();
    let found = json!({
        "code": refused.code, "live": status["live"], "why": status["why"], "next": status["next"],
        "failed_invariants": failed, "allowed": REPAIR,
    });
    let mut again = on_plan(options, "run");
    again.extend(words(&["--allow-repair", REPAIR]));
    Ok((found, again))
}

/// What is wrong with how it was stopped; empty when it was stopped as it must be.
pub(super) fn wrong(found: &Value) -> Vec<String> {
    let failed = found["failed_invariants"].as_array().cloned().unwrap_or_default();
    let grants = failed.iter().find(|answer| answer["name"] == "valid-grants");
    let is_named = grants.is_some_and(|answer| answer["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
    let mut wrong = Vec::new();
    if found["code"] != REFUSED || found["live"] != "blue" {
        wrong.push(format!("the engine's faults did not stop the run before the flip: {found}"));
    }
    if !is_named {
        wrong.push("the grants that would have been lost were not named".to_owned());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_not_stopped_or_names_nothing_is_wrong() {
        let named = json!([{ "name": "valid-grants", "holds": false, "rows": [{ "class": "changed" }] }]);
        let found =
            |code: i32, live: &str, failed: &Value| json!({ "code": code, "live": live, "failed_invariants": failed });
        assert_eq!(wrong(&found(3, "blue", &named)), Vec::<String>::new());
        assert_eq!(wrong(&found(0, "blue", &named)).len(), 1, "it went on");
        assert_eq!(wrong(&found(3, "green", &named)).len(), 1, "too late");
        assert_eq!(wrong(&found(3, "blue", &json!([]))).len(), 1, "nobody can tell why");
    }
}
