//! From a file to a plan, or to every problem it has. Owns the order of the passes: tree, language, values, rules.

use super::check::check;
use super::digest::digest;
use super::document::{self, Document};
use super::model::{Plan, Secret};
use super::place::Place;
use super::problem::{Problem, Problems};
use super::resolve::{Lookup, Resolver, why};
use super::{rules, tree};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest plan; a plan is text written by people.
const MAX_PLAN_BYTES: u64 = 1 << 20;

/// Reads a plan and the files it names.
///
/// # Errors
/// Every problem of the plan, in the order of its text.
pub fn load(path: &Path, lookup: Lookup<'_>) -> Result<Plan, Vec<Problem>> {
    let name = path.display().to_string();
    let unreadable = |reason: String| {
        vec![Problem::of_file(format!("cannot read the plan {name}: {reason}"), "name an existing plan file")]
    };
    let about = std::fs::metadata(path).map_err(|error| unreadable(why(&error)))?;
    if !about.is_file() || about.len() > MAX_PLAN_BYTES {
        return Err(unreadable(format!("it is not a file of at most {MAX_PLAN_BYTES} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(why(&error)))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse_named(text, &name, folder, lookup),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(unreadable(format!("line {line} is not UTF-8 text")))
        }
    }
}

/// Whether a plan names one database alone, by its text: for who prepares servers for it before its variables have values. False for
/// what is no plan.
#[must_use]
pub fn is_in_place(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let Ok(root) = tree::read(&text) else { return false };
    let mut problems = Problems::new(&text, "");
    let checked = check(&root, &document::schema(), &mut problems);
    let is_in_place = |document: Document| document.databases.green.is_none();
    problems.is_empty() && serde_path_to_error::deserialize(checked).is_ok_and(is_in_place)
}

/// Reads a plan from its text; files it names are looked for in `folder`.
///
/// # Errors
/// Every problem of the plan, in the order of its text.
pub fn parse(text: &str, folder: &Path, lookup: Lookup<'_>) -> Result<Plan, Vec<Problem>> {
    parse_named(text, "plan.yaml", folder, lookup)
}

fn parse_named(text: &str, name: &str, folder: &Path, lookup: Lookup<'_>) -> Result<Plan, Vec<Problem>> {
    let mut problems = Problems::new(text, name);
    let root = match tree::read(text) {
        Ok(root) => root,
        Err(error) => {
            problems.at(error.span, &Place::default(), error.message, error.hint.unwrap_or_default());
            return Err(problems.finish());
        }
    };
    problems.look_in(&root);
    let checked = check(&root, &document::schema(), &mut problems);
    let document: Document = match serde_path_to_error::deserialize(checked) {
        Ok(document) => document,
        Err(error) => {
            // The schema and the types say the same, so this is reached only when the plan as a whole is no map.
            if problems.is_empty() {
                problems.at(0..0, &Place::default(), format!("{}: {}", error.path(), error.inner()), "");
            }
            return Err(problems.finish());
        }
    };
    let plan = resolve(&document, text, folder, lookup, &mut problems);
    let found = problems.finish();
    if found.is_empty() { Ok(plan) } else { Err(found) }
}

fn resolve<'a>(
    document: &'a Document,
    text: &str,
    folder: &'a Path,
    lookup: Lookup<'a>,
    problems: &mut Problems<'a>,
) -> Plan {
    let value_names = document.values.keys().map(String::as_str).collect();
    let mut resolver = Resolver { problems, lookup, folder, files: BTreeMap::new(), value_names };
    let r = &mut resolver;
    let mut plan = Plan {
        name: r.name(&Place::top("name"), &document.name),
        digest: String::new(),
        text: text.to_owned(),
        files: BTreeMap::new(),
        folder: folder.to_owned(),
        control: r.database_url(&Place::top("control"), &document.control).unwrap_or_else(|| Secret::new("")),
        databases: r.databases(&document.databases),
        window: r.window(&document.window),
        copy: r.copy(&document.copy),
        level: r.level(&document.level),
        cleanup: r.cleanup(&document.cleanup),
        dirty: r.dirty(&document.dirty),
        migrate: r.migrations(&document.migrate),
        compat: document.compat.as_ref().map(|compat| r.compat(compat)),
        own: r.tables("own", &document.own),
        drop: r.tables("drop", &document.drop),
        values: r.values(&document.values),
        carry: r.carry(&document.carry),
        reverse: r.reverse(&document.reverse),
        probes: r.probes(&document.probes, document.gateway.as_ref()),
        hot_queries: document.hot_queries.as_ref().map(|hot| r.hot_queries(hot)),
        diff: r.diff(&document.diff),
        proof: r.proof(&document.proof),
        invariants: r.invariants(&document.invariants),
        repairs: r.repairs(&document.repairs),
        freeze: r.freeze(&document.freeze),
        revocations: document.revocations.as_ref().map(|typed| r.revocations(typed, &document.name)),
        prepare: r.prepare(&document.prepare),
        systems: r.systems(&document.systems),
        gateway: document.gateway.as_ref().map(|gateway| r.gateway(gateway)),
        soak: r.soak(&document.soak),
        isolate_green: document.isolate_green.as_ref().map(|isolate| r.isolate(isolate)),
    };
    plan.digest = digest(document, &resolver.files);
    plan.files = resolver.files;
    rules::check(&plan, document, resolver.problems);
    plan
}
