//! What a plan of method `logical` cannot have: its rows are copied before green has the tables and the values that the mapping speaks of.

use super::super::document::Document;
use super::super::model::{Condition, CopyMethod, MigrationSource, Plan};
use super::super::place::Place;
use super::super::problem::Problems;
use super::super::resolve::parse_table;
use super::super::tokens::{Token, tokens};

pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    if plan.copy.method != CopyMethod::Logical {
        return;
    }
    cleanup(plan, problems);
    touched(plan, document, problems);
    logins(plan, problems);
}

/// Rules are applied to blue's rows as they are copied: before there is a mapping, and before green can be asked for a value.
fn cleanup(plan: &Plan, problems: &mut Problems<'_>) {
    let place = Place::top("cleanup");
    for (index, rule) in plan.cleanup.iter().enumerate() {
        let place = place.index(index);
        if plan.carry.get(&rule.table).is_some_and(|mapping| mapping.from.is_some()) {
            let message = format!("{} is mapped with `from`, and `copy.method` is `logical`", rule.table);
            let hint = "rows are copied one to one, so a rule needs a table that has its rows from one of blue's: leave the rule out, or use \
                        `method: carry`";
            problems.value(&place.key("table"), message, hint);
        }
        match &rule.condition {
            Condition::Where(predicate) if tokens(&predicate.text).iter().any(|at| is_value(&at.token, plan)) => {
                let place = place.key("where");
                let message = format!("`{place}` needs one of `values`, and `copy.method` is `logical`");
                let hint = "green is asked for values after its migrations, which run after the copy";
                problems.value(&place, message, hint);
            }
            Condition::OrphanOf(orphan) if plan.drop.contains(&orphan.table) || plan.own.contains(&orphan.table) => {
                let message = format!("the rule reads {}, which is in `drop` or `own`", orphan.table);
                let hint = "with `method: logical` changes of such a table are not captured: take it off the list";
                problems.value(&place.key("orphan_of").key("table"), message, hint);
            }
            _ => {}
        }
    }
}

fn is_value(token: &Token, plan: &Plan) -> bool {
    matches!(token, Token::Value(name) if plan.values.contains_key(name))
}

/// A mapping that reads what is not captured would never hear of a change there.
fn touched(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    for (name, typed) in &document.carry {
        let place = Place::top("carry").key(name).key("touched_by");
        for table in typed.touched_by.keys() {
            let Some(read) = parse_table(table) else { continue };
            if plan.drop.contains(&read) || plan.own.contains(&read) {
                let hint = "with `method: logical` neither the rows of `drop` nor changes of `own` reach green: take the table off the list";
                problems.key(&place.key(table), format!("the mapping reads {read}, which is in `drop` or `own`"), hint);
            }
        }
    }
}

/// Green is closed to the application while migrations run over its rows.
fn logins(plan: &Plan, problems: &mut Problems<'_>) {
    let green = &plan.databases.green;
    for (index, migration) in plan.migrate.iter().enumerate() {
        let MigrationSource::Command { env, .. } = &migration.source else { continue };
        for (name, value) in env {
            let login = url::Url::parse(value.expose()).ok().filter(|url| url.scheme().starts_with("postgres"));
            if login.is_some_and(|url| url.username() == green.role) {
                let place = Place::top("migrate").index(index).key("command").key("env").key(name);
                let message = format!("`{place}` logs in as {}, and `copy.method` is `logical`", green.role);
                let hint = "green holds copied rows and is closed to the application then: give the URL of `databases.green`; what the command \
                            makes is handed over to the role";
                problems.value(&place, message, hint);
            }
        }
    }
}
