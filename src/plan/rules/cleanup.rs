//! Rules of `cleanup` and questions of `dirty` that no plan may have.

use super::super::document::Document;
use super::super::model::{CleanupRule, Condition, OrphanOf, Plan, TableName};
use super::super::place::Place;
use super::super::problem::Problems;
use super::super::resolve::parse_table;
use super::super::tokens::{At, Token, tokens};
use super::{columns_once, unique};

/// Words with which a statement begins that writes.
const WRITES: [&str; 8] = ["insert", "update", "delete", "merge", "truncate", "create", "drop", "alter"];

/// Words after the name of a column, which may be one of those.
const COMPARES: [&str; 10] = ["is", "in", "not", "like", "ilike", "between", "and", "or", "similar", "at"];

pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let place = Place::top("cleanup");
    unique(problems, &place, "name", "cleanup rules", plan.cleanup.iter().map(|rule| rule.name.as_str()));
    for (index, rule) in plan.cleanup.iter().enumerate() {
        let place = place.index(index);
        let percent = place.key("cap").key("percent");
        if !(0.0..100.0).contains(&rule.cap_percent) {
            let hint = "from 0 to less than 100; a table that is left whole is listed in `drop`";
            problems.value(&percent, format!("`{percent}` is no cap"), hint);
        }
        if plan.own.contains(&rule.table) {
            let hint = "the carry never writes it, so there is nothing to leave behind";
            problems.value(&place.key("table"), format!("{} is one of green's own tables", rule.table), hint);
        }
        match &rule.condition {
            Condition::OrphanOf(orphan) => orphans(plan, rule, orphan, &place, problems),
            Condition::Where(predicate) => only_reads(&place.key("where"), &predicate.text, problems),
        }
    }
    dirty(plan, document, problems);
}

fn orphans(plan: &Plan, rule: &CleanupRule, orphan: &OrphanOf, place: &Place, problems: &mut Problems<'_>) {
    let place = place.key("orphan_of");
    columns_once(problems, &place.key("columns"), &orphan.columns);
    columns_once(problems, &place.key("references"), &orphan.references);
    let both = !orphan.columns.is_empty() && !orphan.references.is_empty();
    if both && orphan.columns.len() != orphan.references.len() {
        let message = format!("`{place}` has {} columns for {}", orphan.columns.len(), orphan.references.len());
        problems.value(&place.key("columns"), message, "one column for each of `references`, in the same order");
    }
    if plan.carry.get(&rule.table).is_some_and(|mapping| mapping.from.is_some()) && orphan.columns.is_empty() {
        let hint = "name the columns of the select that point to it";
        problems.key(&place, format!("`{place}` has no `columns`, and {} is mapped with `from`", rule.table), hint);
    }
    if let Some(way) = circle(plan, rule) {
        let hint = "a row would be an orphan because it is one: break the circle with a rule that has a `where`";
        problems.value(&place.key("table"), format!("orphan rules lead in a circle: {}", way.join(" → ")), hint);
    }
}

/// Blue's table whose rows a rule judges; none where a select gives them.
fn judged(plan: &Plan, rule: &CleanupRule) -> Option<TableName> {
    match plan.carry.get(&rule.table) {
        Some(mapping) if mapping.from.is_some() => None,
        Some(mapping) => Some(mapping.table.clone().unwrap_or_else(|| rule.table.clone())),
        None => Some(rule.table.clone()),
    }
}

/// The tables by which orphan rules lead from a rule's table back to it.
fn circle(plan: &Plan, rule: &CleanupRule) -> Option<Vec<String>> {
    let start = judged(plan, rule)?;
    let mut ways = vec![vec![start.clone()]];
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        for other in plan.cleanup.iter().filter(|other| judged(plan, other).as_ref() == Some(last)) {
            let Condition::OrphanOf(orphan) = &other.condition else { continue };
            let mut longer = way.clone();
            longer.push(orphan.table.clone());
            if orphan.table == start {
                return Some(longer.iter().map(ToString::to_string).collect());
            }
            if !way.contains(&orphan.table) {
                ways.push(longer);
            }
        }
    }
    None
}

fn dirty(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let place = Place::top("dirty");
    unique(problems, &place, "name", "questions for dirty rows", plan.dirty.iter().map(|dirty| dirty.name.as_str()));
    for (index, dirty) in plan.dirty.iter().enumerate() {
        let place = place.index(index);
        only_reads(&place.key("find"), &dirty.find.text, problems);
        let Some(by) = &dirty.handled_by else { continue };
        let is_known = plan.cleanup.iter().any(|rule| rule.name == *by)
            || plan.migrate.iter().any(|migration| migration.name == *by)
            || plan.repairs.iter().any(|repair| repair.name == *by)
            || document.carry.keys().any(|name| name == by || parse_table(name) == parse_table(by));
        if !is_known {
            let place = place.key("handled_by");
            let hint = "name a rule of `cleanup`, a table of `carry`, an entry of `migrate` or a repair, or write `expect: none`";
            problems.value(&place, format!("`{place}` names `{by}`, which the plan does not have"), hint);
        }
    }
}

fn only_reads(place: &Place, sql: &str, problems: &mut Problems<'_>) {
    if let Some(word) = written(sql) {
        let hint = "it is asked of the database that serves: it may only read";
        problems.value(place, format!("`{place}` writes: it holds {word}"), hint);
    }
}

/// The word by which a statement, or a part of its `with`, writes: one that begins it, with a name or another word of its own after it.
fn written(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    let begins = |index: usize| index == 0 || tokens[index - 1].token == Token::Sign('(');
    let goes_on = |index: usize| match tokens.get(index + 1).map(|at| &at.token) {
        Some(Token::Word(next)) => !COMPARES.contains(&next.as_str()),
        Some(Token::Quoted(_)) => true,
        _ => false,
    };
    let word = |(index, at): (usize, &At)| match &at.token {
        Token::Word(word) if begins(index) && goes_on(index) && WRITES.contains(&word.as_str()) => Some(word.clone()),
        _ => None,
    };
    tokens.iter().enumerate().find_map(word)
}
