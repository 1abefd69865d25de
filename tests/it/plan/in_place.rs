//! What a plan in place says: one database, its runbook, and what neither it nor any other plan may have.

use super::{anything, whole};
use cutover::engine::{Reversal, Step as _};
use cutover::plan::{self, Plan};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plans")
}

fn example() -> String {
    std::fs::read_to_string(folder().join("hydra-0x-to-1x.yaml")).expect("the example")
}

fn parse(text: &str) -> Result<Plan, Vec<String>> {
    let problems = |problems: Vec<plan::Problem>| problems.iter().map(|problem| problem.message.clone()).collect();
    plan::parse(text, &folder(), &anything).map_err(problems)
}

#[test]
fn a_plan_s_text_says_whether_it_is_in_place() {
    let says = |name: &str| plan::is_in_place(&folder().join(name));
    assert!(says("hydra-0x-to-1x.yaml"));
    assert!(
        !says("hydra-1x-to-2x.yaml")
            && !says("minimal.yaml")
            && !says("hydra-0x-to-1x/old_engine.sql")
            && !says("none")
    );
}

#[test]
fn a_plan_in_place_migrates_what_serves_and_contracts_after_the_soak() {
    let plan = parse(&example()).expect("a plan");
    assert!(plan.databases.is_in_place);
    assert_eq!(plan.databases.green.url, plan.databases.blue.url);
    let runbook = cutover::steps::compile(&plan).expect("a runbook");
    let steps: Vec<String> = runbook.steps().iter().map(|step| step.id().to_string()).collect();
    let wanted = "check-servers lint-migrations compat claim-sides migrate-expand ready-to-flip flip ready-to-return return soak soaked migrate-contract finalize";
    assert_eq!(steps.join(" "), wanted);
    assert_eq!(cutover::steps::flip_point(&plan).as_str(), "migrate-expand");
    let reversal =
        |id: &str| runbook.steps().iter().find(|step| step.id().as_str() == id).expect("the step").reversal();
    assert!(matches!(reversal("migrate-expand"), Reversal::Monotone), "the schema stays");
    assert!(matches!(reversal("flip"), Reversal::OneWay));
    let other = parse(&example().replace("block: 500ms", "block: 501ms")).expect("a plan");
    assert_ne!(plan.digest, other.digest);
    let compat = plan.compat.as_ref().expect("the older engine's statements");
    assert!(compat.statements[0].1.contains("from hydra_client") && !compat.statistics, "{compat:?}");
    assert!(plan.files.contains_key("hydra-0x-to-1x/old_engine.sql"), "part of the digest");
    assert_eq!(other.migrate[0].live.block, Duration::from_millis(501));
    assert_eq!(plan.migrate[1].live.lock_timeout, Duration::from_millis(300), "the default");
}

#[test]
fn what_a_plan_in_place_cannot_have_is_told() {
    let wrong = |from: &str, to: &str| {
        let text = example();
        assert!(text.contains(from), "{from}");
        parse(&text.replacen(from, to, 1)).expect_err(to)
    };
    let live = |key: &str| format!("`migrate[0].engine.live.{key}");
    assert_eq!(
        wrong("lock_timeout: 300ms", "lock_timeout: 2s"),
        [
            format!("{}` is longer than a second", live("lock_timeout")),
            format!("{}` is shorter than `lock_timeout`", live("block"))
        ]
    );
    assert_eq!(wrong("block: 500ms", "block: 100ms"), [format!("{}` is shorter than `lock_timeout`", live("block"))]);
    assert_eq!(
        wrong("folder: hydra-0x-to-1x/contract", "after_copy: true\n      folder: hydra-0x-to-1x/contract"),
        ["there is no copy in a plan in place"]
    );
    let late = example().replacen("      contract: true\n", "", 1).replacen(
        "      live:",
        "      contract: true\n      live:",
        1,
    );
    assert_eq!(parse(&late).expect_err("expanded last"), ["`migrate[1]` stands behind an entry with `contract: true`"]);
    assert_eq!(
        wrong("folder: hydra-0x-to-1x/contract", "folder: hydra-1x-to-2x/after_copy").len(),
        1,
        "names that no engine has"
    );
    assert_eq!(
        wrong("statements: [hydra-0x-to-1x/old_engine.sql]", "statistics: false"),
        ["`compat` asks for no statement"]
    );
    let unread = wrong("old_engine.sql]", "no_such.sql]");
    assert!(unread[0].contains("no_such.sql"), "{unread:?}");
    assert_eq!(wrong("migrate:\n", "values: { one: select 1 }\nmigrate:\n"), ["`values` in a plan in place"]);
    assert_eq!(
        wrong("migrate:\n", "migrate:\n  - command: { run: [hydra, migrate] }\n"),
        ["a command in a plan in place"]
    );
}

#[test]
fn what_is_for_plans_in_place_is_refused_elsewhere() {
    let engine = "migrate:\n  - engine: { folder: hydra-0x-to-1x/stock, contract: true, live: { tries: 3 } }\n";
    let wrong = parse(&whole().replacen("migrate:\n", engine, 1)).expect_err("green serves nobody");
    let for_in_place = |key: &str| format!("`{key}` is for plans in place, without `databases.green`");
    assert_eq!(wrong, [for_in_place("contract"), for_in_place("live")]);
    let compat = "compat: { statistics: true }\nmigrate:\n";
    let wrong = parse(&whole().replacen("migrate:\n", compat, 1)).expect_err("blue's engine stays on blue");
    assert_eq!(wrong, [for_in_place("compat")]);
    let engine = "migrate:\n  - engine: { folder: hydra-0x-to-1x/stock }\n";
    let plan = parse(&whole().replacen("migrate:\n", engine, 1)).expect("an engine's folder is for every plan");
    assert_eq!(
        plan.files.keys().filter(|name| name.starts_with("hydra-0x-to-1x/stock/")).count(),
        6,
        "part of the digest"
    );
}
