//! What a plan in place cannot have, and what no other plan can: it has one database, which serves while it is migrated.

use super::super::document::{self, Document};
use super::super::model::{MigrationSource, Plan};
use super::super::place::Place;
use super::super::problem::Problems;
use std::time::Duration;

/// A lock that is waited for longer stops clients for longer.
const LONGEST_LOCK: Duration = Duration::from_secs(1);

pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    if plan.databases.is_in_place {
        nothing_to_fill(document, problems);
        sources(plan, problems);
    } else {
        only_in_place(document, problems);
    }
    for (index, migration) in plan.migrate.iter().enumerate() {
        let place = Place::top("migrate").index(index).key(key(&migration.source)).key("live");
        let live = &migration.live;
        if live.lock_timeout > LONGEST_LOCK {
            let place = place.key("lock_timeout");
            let hint = "every client that comes behind a waiting lock waits as long: give less, and more `tries`";
            problems.value(&place, format!("`{place}` is longer than a second"), hint);
        }
        if live.block < live.lock_timeout {
            let place = place.key("block");
            let hint = "while it waits for its lock others wait already: give `block` at least `lock_timeout`";
            problems.value(&place, format!("`{place}` is shorter than `lock_timeout`"), hint);
        }
    }
}

fn key(source: &MigrationSource) -> &'static str {
    match source {
        MigrationSource::Command { .. } => "command",
        MigrationSource::Refinery { .. } => "refinery",
        MigrationSource::Engine { .. } => "engine",
    }
}

/// Nothing is copied, so nothing is mapped or carried back; a revocation is made where both engines look.
fn nothing_to_fill(document: &Document, problems: &mut Problems<'_>) {
    let given = [
        ("own", !document.own.is_empty()),
        ("drop", !document.drop.is_empty()),
        ("values", !document.values.is_empty()),
        ("carry", !document.carry.is_empty()),
        ("reverse", !document.reverse.is_empty()),
        ("hot_queries", document.hot_queries.is_some()),
        ("revocations", document.revocations.is_some()),
        ("isolate_green", document.isolate_green.is_some()),
        ("diff", !document.diff.is_empty()),
        ("proof", !document.proof.is_empty()),
        ("dirty", !document.dirty.is_empty()),
        ("invariants", !document.invariants.is_empty()),
        ("repairs", !document.repairs.is_empty()),
        ("prepare", !document.prepare.is_empty()),
        ("freeze", !document.freeze.is_empty()),
        ("probes", !document.probes.is_empty()),
    ];
    for (key, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
        let hint = "a plan without `databases.green` is in place: no row is copied and there is no second database; leave it out";
        problems.key(&Place::top(key), format!("`{key}` in a plan in place"), hint);
    }
    if document.migrate.is_empty() && document.cleanup.is_empty() {
        let hint = "name the folder: `migrate: [ { engine: { folder: … } } ]`; or did you forget `databases.green`?";
        problems.value(&Place::top("databases"), "a plan in place without `migrate` and `cleanup` does nothing", hint);
    }
}

/// A command takes its locks by itself, for as long as it likes; and each folder has a history of its own.
fn sources(plan: &Plan, problems: &mut Problems<'_>) {
    let mut histories = std::collections::BTreeMap::new();
    for (index, migration) in plan.migrate.iter().enumerate() {
        let place = Place::top("migrate").index(index);
        match &migration.source {
            MigrationSource::Command { .. } => {
                let hint =
                    "its locks would stop clients for as long as it likes: give its files as `engine: { folder: … }`";
                problems.key(&place.key("command"), "a command in a plan in place", hint);
            }
            MigrationSource::Refinery { history, .. } => {
                let name = history.as_ref().map_or_else(|| "refinery_schema_history".to_owned(), ToString::to_string);
                if let Some(first) = histories.insert(name.clone(), index) {
                    let hint = "refinery takes a version that another folder applied for a lost file: give each a `history` of its own";
                    let place = place.key("refinery");
                    problems.key(&place, format!("`migrate[{first}]` keeps its history in {name} too"), hint);
                }
            }
            MigrationSource::Engine { .. } => {}
        }
        if migration.after_copy {
            let place = place.key(key(&migration.source)).key("after_copy");
            problems.value(&place, "there is no copy in a plan in place", "leave it out, or write `contract: true`");
        }
    }
    let is_late = |index: usize| plan.migrate[..index].iter().any(|earlier| earlier.contract);
    for (index, migration) in plan.migrate.iter().enumerate() {
        if !migration.contract && is_late(index) {
            let place = Place::top("migrate").index(index);
            let hint = "what expands the schema runs before the flip and what contracts it after: list it first";
            problems.key(&place, format!("`{place}` stands behind an entry with `contract: true`"), hint);
        }
    }
}

fn only_in_place(document: &Document, problems: &mut Problems<'_>) {
    if document.compat.is_some() {
        let hint = "blue's engine never meets green's schema: `hot_queries` compares how both sides plan; leave it out";
        problems.key(&Place::top("compat"), "`compat` is for plans in place, without `databases.green`", hint);
    }
    for (index, typed) in document.migrate.iter().enumerate() {
        let place = Place::top("migrate").index(index);
        let (place, live, contract, history) = match typed {
            document::Migration::Command(_) => continue,
            document::Migration::Refinery(one) => {
                (place.key("refinery"), one.live.is_some(), one.contract, one.history.is_some())
            }
            document::Migration::Engine(one) => (place.key("engine"), one.live.is_some(), one.contract, false),
        };
        for (key, _) in
            [("live", live), ("contract", contract), ("history", history)].into_iter().filter(|(_, is_given)| *is_given)
        {
            let hint = "green serves nobody while it is migrated, and keeps the history in our schema: leave it out";
            problems.key(&place.key(key), format!("`{key}` is for plans in place, without `databases.green`"), hint);
        }
    }
}
