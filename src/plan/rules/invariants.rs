//! What a plan's `invariants`, `repairs` and `freeze` cannot say together.

use super::super::document::Document;
use super::super::model::{CopyMethod, Expect, Invariant, Plan, Repair};
use super::super::place::Place;
use super::super::problem::Problems;
use super::unique;

pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let place = Place::top("invariants");
    unique(problems, &place, "name", "invariants", plan.invariants.iter().map(|one| one.name.as_str()));
    for (index, one) in plan.invariants.iter().enumerate() {
        invariant(one, &place.index(index), problems);
    }
    let place = Place::top("repairs");
    unique(problems, &place, "name", "repairs", plan.repairs.iter().map(|one| one.name.as_str()));
    for (index, one) in plan.repairs.iter().enumerate() {
        repair(plan, one, &place.index(index), problems);
    }
    freeze(plan, document, problems);
}

fn invariant(one: &Invariant, place: &Place, problems: &mut Problems<'_>) {
    match (&one.blue, one.expect) {
        (Some(_), Expect::Empty) => {
            let hint = "green alone is asked whether it gives a row: leave `blue` out, or use `set_equal`";
            problems.key(&place.key("blue"), format!("`{place}` has `blue`, and `expect` is `empty`"), hint);
        }
        (None, expect) if expect != Expect::Empty => {
            let hint = "ask blue the same, or use `expect: empty` where green may give no row";
            problems.key(place, format!("`{place}` has no `blue` to compare with"), hint);
        }
        _ => {}
    }
    let key = place.key("key");
    if one.expect.is_of_rows() && one.key.is_empty() {
        let hint = "add `key: [column]`, the columns by which a row that differs is named; only their values are shown";
        problems.key(place, format!("`{place}` compares rows and has no `key`"), hint);
    }
    if !one.expect.is_of_rows() && !one.key.is_empty() {
        let hint = "one value is compared: leave `key` out, or use `expect: set_equal`";
        problems.key(&key, format!("`{place}` has a `key` and compares no rows"), hint);
    }
    super::columns_once(problems, &key, &one.key);
    if let Expect::Within { percent, .. } = one.expect
        && !(0.0..=100.0).contains(&percent)
    {
        let percent = place.key("expect").key("within").key("percent");
        problems.value(&percent, format!("`{percent}` is no bound"), "from 0 to 100, in per cent of blue's number");
    }
}

fn repair(plan: &Plan, one: &Repair, place: &Place, problems: &mut Problems<'_>) {
    if plan.copy.method == CopyMethod::Carry {
        let hint = "rows that are carried come from the mapping, and the next batch would bring them back: correct `carry` instead";
        problems.key(place, format!("`{}` is a repair, and `copy.method` is `carry`", one.name), hint);
    }
    if !plan.invariants.iter().any(|invariant| invariant.name == one.invariant) {
        let key = place.key("invariant");
        let names = plan.invariants.iter().map(|invariant| invariant.name.as_str());
        let hint = super::super::check::did_you_mean(&one.invariant, names);
        problems.value(&key, format!("`{}` is none of `invariants`", one.invariant), hint);
    }
    let percent = place.key("cap").key("percent");
    if !(0.0..=100.0).contains(&one.cap_percent) {
        problems.value(&percent, format!("`{percent}` is no cap"), "from 0 to 100, in per cent of the table");
    }
}

fn freeze(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let place = Place::top("freeze");
    unique(problems, &place, "name", "frozen jobs", document.freeze.iter().map(|one| one.name.as_str()));
    if !document.freeze.is_empty() && plan.systems.is_empty() && document.systems.is_empty() {
        let hint = "jobs are frozen for the flip, and a plan without `systems` has none: leave `freeze` out";
        problems.key(&place, "there is `freeze` but there are no `systems`", hint);
    }
}
