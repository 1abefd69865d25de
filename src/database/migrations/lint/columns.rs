//! What columns that come and change lock and do.

use super::alter_table::TAKES_THE_LOCK;
use super::known::{Known, Rule};
use super::lock::{Effect, Lock, Work};
use super::tree::{named, plain};
use super::types::{change, is_built_in, is_serial, unsteady};
use squawk_syntax::ast::{self, AlterColumnOption, AstNode, Constraint, GeneratedAs};

use Lock::{AccessExclusive, ShareRowExclusive, ShareUpdateExclusive};

/// What a column costs for being of a domain, or of a type that nobody knows.
fn of_domain(ty: &str, known: &Known) -> Option<(Work, String, Option<String>)> {
    match domain(ty, known) {
        Some(true) => {
            let why =
                format!("{ty} is a domain with constraints, which are checked for every row by writing the table anew");
            let form = "add the column with the domain's own base type and the same check, not valid, then validate it";
            Some((Work::Rewrite, why, Some(form.to_owned())))
        }
        None => {
            let why = format!(
                "{ty} is not known here: were it a domain with constraints, the table would be written anew; give --url or --plan"
            );
            Some((Work::Unknown, why, None))
        }
        Some(false) => None,
    }
}

/// Whether a type is a domain with constraints; nothing when nobody can tell.
fn domain(ty: &str, known: &Known) -> Option<bool> {
    let name = ty.split(['(', '[']).next().unwrap_or_default().trim().replace(" . ", ".").replace('"', "");
    let name = name.strip_prefix("public.").unwrap_or(&name);
    // An array of a domain is no domain.
    let is_array = ty.contains('[') || ty.ends_with(" array");
    match known.domains.get(name) {
        Some(has_rules) => Some(*has_rules && !is_array),
        None if is_array || known.is_live || is_built_in(ty) => Some(false),
        None => None,
    }
}

/// A name that a rewritten form uses.
fn helper(table: &str, column: &str) -> String {
    format!("cutover_not_null_{}_{column}", super::known::bare(table))
}

pub(super) fn add_column(table: &str, add: &ast::AddColumn, known: &Known) -> Vec<Effect> {
    let column = add.column_name().map(|column| column.text()).unwrap_or_default();
    let ty = add.ty().map(|ty| plain(ty.syntax())).unwrap_or_default();
    let split = format!(
        "alter table {table} add column {column} {ty}; alter table {table} alter column {column} set default …; fill it in batches; set not null by a checked constraint"
    );
    let mut work = Work::None;
    let mut why = TAKES_THE_LOCK.to_owned();
    let mut safe = None;
    if is_serial(&ty) {
        (work, why, safe) =
            (Work::Rewrite, "every row gets a number, so the table is written anew".to_owned(), Some(split.clone()));
    }
    if let Some(costs) = of_domain(&ty, known) {
        (work, why, safe) = costs;
    }
    let mut effects = Vec::new();
    for constraint in add.constraints() {
        match &constraint {
            Constraint::DefaultConstraint(default) => {
                if let Some(function) = default.expr().and_then(|expression| unsteady(expression.syntax())) {
                    why = format!("{function}() may answer differently for each row, so the table is written anew");
                    (work, safe) = (Work::Rewrite, Some(split.clone()));
                }
            }
            Constraint::GeneratedConstraint(generated) => {
                let what = match generated.generated_as() {
                    Some(GeneratedAs::GeneratedIdentity(_)) => "every row gets a number",
                    _ => "every row's value is computed",
                };
                (work, safe) = (Work::Rewrite, Some(split.clone()));
                why = format!("{what}, so the table is written anew");
            }
            Constraint::PrimaryKeyConstraint(_) | Constraint::UniqueConstraint(_) if work != Work::Rewrite => {
                work = Work::Build;
                why = "its index is built while nobody reads or writes".to_owned();
                safe = Some(format!(
                    "add the column alone, then create unique index concurrently on {table} ({column}), then add the constraint using index"
                ));
            }
            Constraint::CheckConstraint(_) if work == Work::None => {
                work = Work::Scan;
                why = "every row is checked while nobody reads or writes".to_owned();
                safe = Some("add the column alone, then the check as not valid, then validate it".to_owned());
            }
            Constraint::ReferencesConstraint(references) => {
                if let Some(parent) =
                    references.table().and_then(|parent| named(&parent)).filter(|parent| parent != table)
                {
                    effects.push(Effect::on(
                        "add-foreign-key",
                        parent,
                        ShareRowExclusive,
                        Work::None,
                        "gains a trigger, for which writers wait",
                    ));
                }
            }
            _ => {}
        }
    }
    let rule = if work == Work::None { "add-column" } else { "add-column-with-work" };
    effects.insert(0, Effect { safe, ..Effect::on(rule, table, AccessExclusive, work, why) });
    effects
}

pub(super) fn alter_column(table: &str, alter: &ast::AlterColumn, known: &Known) -> Vec<Effect> {
    let column = alter.column_name_ref().map(|column| ast::normalize_name_node(column.syntax())).unwrap_or_default();
    let brief = |rule| vec![Effect::on(rule, table, AccessExclusive, Work::None, TAKES_THE_LOCK)];
    match alter.option() {
        Some(AlterColumnOption::SetNotNull(_)) => set_not_null(table, &column, known),
        Some(AlterColumnOption::SetType(to)) => set_type(table, &column, &to, known),
        Some(
            AlterColumnOption::SetStatistics(_)
            | AlterColumnOption::SetOptions(_)
            | AlterColumnOption::SetOptionsList(_)
            | AlterColumnOption::ResetOptions(_),
        ) => {
            vec![Effect::on("storage", table, ShareUpdateExclusive, Work::None, "notes a setting")]
        }
        Some(AlterColumnOption::SetExpression(_)) => {
            vec![Effect::on(
                "rewrite-table",
                table,
                AccessExclusive,
                Work::Rewrite,
                "every row's value is computed anew",
            )]
        }
        Some(AlterColumnOption::SetDefault(_) | AlterColumnOption::DropDefault(_)) => brief("default"),
        Some(AlterColumnOption::DropNotNull(_)) => brief("drop-not-null"),
        _ => brief("alter-column"),
    }
}

fn set_not_null(table: &str, column: &str, known: &Known) -> Vec<Effect> {
    let found = known.tables.get(table);
    let proves = |rule: &Rule| matches!(rule, Rule::Check { not_null: Some(of), is_valid: true } if of == column);
    let is_proved = found.is_some_and(|table| table.not_null.contains(column) || table.rules.values().any(proves));
    if is_proved {
        return vec![Effect::on(
            "set-not-null",
            table,
            AccessExclusive,
            Work::None,
            "a constraint has proved it already; waits for everyone",
        )];
    }
    let check = helper(table, column);
    let form = format!(
        "alter table {table} add constraint {check} check ({column} is not null) not valid; alter table {table} validate constraint {check}; \
         alter table {table} alter column {column} set not null; alter table {table} drop constraint {check}"
    );
    vec![
        Effect::on(
            "set-not-null",
            table,
            AccessExclusive,
            Work::Scan,
            "every row is checked while nobody reads or writes",
        )
        .safe(form),
    ]
}

fn set_type(table: &str, column: &str, to: &ast::SetType, known: &Known) -> Vec<Effect> {
    let after = to.ty().map(|ty| plain(ty.syntax())).unwrap_or_default();
    let before = known.tables.get(table).and_then(|table| table.columns.get(column));
    let casts_itself = to.using_expr().and_then(|using| using.expr()).is_none_or(|expression| {
        let text = plain(expression.syntax());
        text == column || text.split("::").next().is_some_and(|first| first.trim() == column)
    });
    let work = match before {
        Some(before) if casts_itself => change(before, &after),
        _ => Work::Rewrite,
    };
    let is_computed = known.tables.get(table).is_some_and(|table| table.computed.contains(column));
    let work = if work == Work::None && (to.collate().is_some() || is_computed) { Work::Build } else { work };
    let why = match (work, before) {
        (Work::None, _) => TAKES_THE_LOCK.to_owned(),
        (Work::Build, _) => {
            "indexes in which it is sorted or computed are built anew, and checks of it look at every row".to_owned()
        }
        (_, Some(before)) => format!("{before} to {after} writes the table and its indexes anew"),
        (_, None) => format!("the type before {after} is not known here, so the table may be written anew"),
    };
    let mut effect = Effect::on("change-type", table, AccessExclusive, work, why);
    if work != Work::None {
        effect = effect.safe(
            "a new column, kept equal by a trigger, filled in batches, and swapped; or do it on a green database",
        );
    }
    let mut effects = vec![effect];
    let is_key = known.tables.get(table).is_some_and(|found| {
        found.rules.values().any(|rule| matches!(rule, Rule::Key(columns) if columns.iter().any(|one| one == column)))
    });
    let others = known.parents(table, Some(column)).into_iter();
    let children = if is_key { known.children(table).into_iter().map(str::to_owned).collect() } else { Vec::new() };
    for other in others.chain(children) {
        effects.push(Effect::on(
            "change-type",
            other,
            AccessExclusive,
            work,
            "the foreign key between them is made anew",
        ));
    }
    effects
}
