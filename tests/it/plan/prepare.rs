//! What a plan says about values outside that are prepared: absolute, with a place for the value, and a window that opens late enough.

use super::{SENTINEL, anything, whole};
use cutover::plan::{self, Plan, PrepareBy};
use serde_json::json;
use std::path::Path;

fn parse(entry: &str) -> Result<Plan, Vec<String>> {
    let told = |problems: Vec<plan::Problem>| problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
    plan::parse(&format!("{}prepare:\n  - {{ name: lives, {entry} }}\n", whole()), Path::new("."), &anything)
        .map_err(told)
}

const HTTP: &str = "value: 4h0m0s, tokens: opaque, http: { read: { url: \"${ADMIN}/lives?who=me\", pointer: /refresh }, set: { method: PUT, url: \"${ADMIN}/lives\", body: { refresh: $value, all: [$value, other] } }, bearer: \"${ADMIN_DSN}\" }";
const COMMAND: &str =
    "value: 3600, tokens: none, command: { read: [get, it], set: [set, it, $value], env: { TOKEN: \"${ADMIN_DSN}\" } }";

#[test]
fn prepared_values_are_set_over_http_or_by_commands_and_show_no_secret() {
    let plan = parse(&format!("takes_effect_after: 1h, {HTTP}")).expect("a plan");
    let one = &plan.prepare[0];
    assert_eq!((one.takes_effect_after.as_secs(), one.within.as_secs(), one.lengthens_jwt), (3600, 30, false));
    let PrepareBy::Http { body, set, .. } = &one.by else { panic!("HTTP") };
    assert_eq!(plan::with_value(body, &json!(null)), json!({ "refresh": null, "all": [null, "other"] }));
    assert_eq!((set.method, one.value.as_str()), ("PUT", Some("4h0m0s")));
    assert!(!format!("{plan:?}").contains(SENTINEL), "no secret is shown");
    let plan = parse(COMMAND).expect("a plan");
    assert_eq!((&plan.prepare[0].value, plan.prepare[0].takes_effect_after.as_secs()), (&json!(3600), 0));

    let steps = |plan: &Plan| -> Vec<String> {
        let runbook = cutover::steps::compile(plan).expect("a runbook");
        runbook.steps().iter().map(|step| cutover::engine::Step::id(step).to_string()).collect()
    };
    let jwt = parse(&HTTP.replace("opaque", "jwt")).expect("a plan");
    let (usual, asked) = (steps(&plan), steps(&jwt));
    let at = |steps: &[String], id: &str| steps.iter().position(|step| step == id);
    let order = ["set-outside-lives", "copy-rows", "ready-to-flip", "soaked", "give-back-lives", "finalize"];
    let places: Vec<usize> =
        order.iter().map(|id| at(&usual, id).unwrap_or_else(|| panic!("{id}: {usual:?}"))).collect();
    assert!(places.is_sorted(), "{usual:?}");
    assert_eq!(at(&usual, "lengthen-jwt"), None);
    assert!(at(&asked, "lengthen-jwt") < at(&asked, "claim-sides"), "asked before anything is touched: {asked:?}");
}

#[test]
fn prepared_values_that_cannot_be_given_back_are_refused() {
    let cases = [
        (COMMAND.replace("3600", "+1h"), "prepare[0].value `prepare[0].value` is not an absolute value"),
        (COMMAND.replace("3600", "\"200%\""), "prepare[0].value `prepare[0].value` is not an absolute value"),
        (
            COMMAND.replace("it, $value", "it"),
            "prepare[0].command.set `prepare[0].command.set` does not say where the value goes",
        ),
        (
            HTTP.replace("$value", "4h"),
            "prepare[0].http.set.body `prepare[0].http.set.body` does not say where the value goes",
        ),
        (HTTP.replace("${ADMIN_DSN}", "word"), "prepare[0].http.bearer `prepare[0].http.bearer` holds a token"),
        (
            HTTP.replace("/refresh }", "refresh }"),
            "prepare[0].http.read.pointer `prepare[0].http.read.pointer` is not a JSON pointer",
        ),
        (
            HTTP.replace("${ADMIN}/lives?", "http://me:pw@a/lives?"),
            "prepare[0].http.read.url `prepare[0].http.read.url` holds credentials",
        ),
        (COMMAND.replace("tokens: none, ", ""), "prepare[0].tokens `prepare[0].tokens` is missing"),
        (
            HTTP.replace("all: [$value, other]", "refresh: $value"),
            "prepare[0].http.set.body.refresh `prepare[0].http.set.body.refresh` is given twice",
        ),
        ("value: 1, tokens: none".to_owned(), "prepare[0] `prepare[0]` must have exactly one of `command` and `http`"),
    ];
    for (entry, problem) in cases {
        assert_eq!(parse(&entry).expect_err(&entry), [problem], "{entry}");
    }
    let late = format!("{}prepare:\n  - {{ name: lives, takes_effect_after: 1h, {COMMAND} }}\n", without_window());
    let told = plan::parse(&late, Path::new("."), &anything).expect_err("no window");
    assert_eq!(told.iter().map(|p| p.path.to_string()).collect::<Vec<_>>(), ["prepare[0].takes_effect_after"]);
}

/// The whole plan, whose window has no opening.
fn without_window() -> String {
    let kept = whole().lines().filter(|line| !line.trim_start().starts_with("opens:"));
    kept.map(|line| format!("{line}\n")).collect()
}
