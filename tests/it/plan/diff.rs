//! What a plan says about comparing: whether, how much is listed, and what may differ from the engine's migrations for which reason.

use super::{anything, whole};
use cutover::plan::{self, DeclaredRows, Plan};
use std::path::Path;

fn parse(more: &str) -> Result<Plan, Vec<String>> {
    let told = |problems: Vec<plan::Problem>| problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
    plan::parse(&format!("{}{more}", whole()), Path::new("."), &anything).map_err(told)
}

#[test]
fn what_is_left_out_has_its_default_and_does_not_change_the_digest() {
    let plan = parse("").expect("a plan");
    assert_eq!((plan.diff.step, plan.diff.listed, plan.proof.len()), (true, 100, 0));
    let other = parse("diff: { step: false, list: 7 }\n").expect("a plan");
    assert_eq!((other.diff.step, other.diff.listed), (false, 7));
    assert_ne!(plan.digest, other.digest);
    assert_eq!(plan.digest, parse("diff: {}\nproof: {}\n").expect("a plan").digest);
}

#[test]
fn a_declared_difference_has_columns_or_rows_and_a_reason() {
    let text = "proof:
  differences:
    - { table: flow, columns: [state], where: state = 128, because: the engine is wrong }
    - { table: flow, rows: mapped, because: the engine drops them }
";
    let plan = parse(text).expect("a plan");
    let (one, two) = (&plan.proof[0], &plan.proof[1]);
    assert_eq!((one.table.name.as_str(), one.columns.as_slice(), one.rows), ("flow", &["state".to_owned()][..], None));
    assert_eq!(one.predicate.as_ref().map(|sql| sql.text.as_str()), Some("state = 128"));
    assert_eq!((two.rows, two.predicate.as_ref()), (Some(DeclaredRows::Mapped), None));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    for (text, told) in [
        ("diff: { list: 0 }", "diff.list: `diff.list` is not from 1 to 10000"),
        ("diff: { lists: 1 }", "diff.lists: `diff` has no key `lists`"),
        (
            "proof: { differences: [ { table: flow, because: x } ] }",
            "proof.differences[0]: `proof.differences[0]` must have either `columns` or `rows`",
        ),
        (
            "proof: { differences: [ { table: flow, columns: [a], rows: mapped, because: x } ] }",
            "proof.differences[0]: `proof.differences[0]` must have either `columns` or `rows`",
        ),
        (
            "proof: { differences: [ { table: flow, columns: [a], because: \" \" } ] }",
            "proof.differences[0].because: `proof.differences[0].because` is empty",
        ),
        (
            "proof: { differences: [ { table: flow, columns: [a], where: \"a = 1; drop table flow\", because: x } ] }",
            "proof.differences[0].where: `proof.differences[0].where` holds more than one statement",
        ),
        (
            "proof: { differences: [ { table: flow, columns: [a] } ] }",
            "proof.differences[0].because: `proof.differences[0].because` is missing",
        ),
    ] {
        let problems = parse(&format!("{text}\n")).expect_err(text);
        assert_eq!(problems, [told], "{text}");
    }
}
