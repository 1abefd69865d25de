//! One `alter table` in the form that hurts nobody: its actions apart, each with what must come before and after it.

use super::super::directive::BATCH_ROWS;
use super::super::lint::{Known, Table, Work, columns, effects, has_word, is_serial, named, parse, unsteady, written};
use super::statement::{NAME_BYTES, Told, bare, cut, left, piece, text};
use super::steps::Column;
use super::{Manner, Piece, partitioned};
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AlterColumnOption, AlterTableAction, AstNode, Constraint, GeneratedAs};

/// One action of an `alter table`, with what stands before it.
struct Action<'a> {
    /// `alter table … name `.
    head: String,
    text: String,
    /// `if exists `, where it says so.
    exists: &'static str,
    /// As names are written in SQL.
    table_sql: String,
    table: &'a str,
    node: AlterTableAction,
}

impl Action<'_> {
    fn whole(&self) -> String {
        format!("{}{}", self.head, self.text)
    }

    fn alter(&self, rest: &str) -> String {
        format!("alter table {}{} {rest}", self.exists, self.table_sql)
    }
}

pub(super) fn alter_table(alter: &ast::AlterTable, known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    let relation = alter.table_relation_name()?;
    let table = named(&relation)?;
    if known.is_new(&table) {
        return None;
    }
    let all = alter.syntax().text().to_string();
    let offset = alter.syntax().text_range().start();
    let mut end = usize::from(relation.syntax().text_range().end() - offset);
    let head = format!("{} ", &all[..end]);
    let mut known = known.clone();
    let mut found: Vec<Piece> = Vec::new();
    let mut is_changed = false;
    let exists = if alter.if_exists().is_some() { "if exists " } else { "" };
    for node in alter.actions() {
        let range = node.syntax().text_range();
        let between = all[end..usize::from(range.start() - offset)].trim_start_matches(',').trim();
        end = usize::from(range.end() - offset);
        let comment = if between.is_empty() { String::new() } else { format!("{between}\n") };
        let action = Action {
            exists,
            head: head.clone(),
            text: text(node.syntax()),
            table_sql: text(relation.syntax()),
            table: &table,
            node: node.clone(),
        };
        let safe = safe_action(&action, &known, told);
        is_changed |= safe.is_some();
        let mut pieces = safe.unwrap_or_else(|| vec![piece(action.whole(), Manner::Joined)]);
        if let Some(first) = pieces.first_mut() {
            first.text = format!("{comment}{}", first.text);
        }
        found.extend(pieces);
        known.alter(&table, &node);
    }
    is_changed.then_some(found)
}

fn safe_action(action: &Action<'_>, known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    let found = known.tables.get(action.table);
    match &action.node {
        AlterTableAction::AddConstraint(add) => add_constraint(action, &add.constraint()?, known, told),
        AlterTableAction::AddColumn(add) => add_column(action, add, known, told),
        AlterTableAction::AlterColumn(alter) => match alter.option() {
            Some(AlterColumnOption::SetNotNull(_)) => {
                let column = ast::normalize_name_node(alter.column_name_ref()?.syntax());
                if found.is_some_and(|table| table.not_null.contains(&column)) {
                    return None;
                }
                told.change("set-not-null", "proved by a check that is validated first and dropped afterwards");
                Some(not_null(action, &column, Some(action.whole())))
            }
            Some(AlterColumnOption::SetType(to)) => {
                retyped(action, alter, &to, known, told);
                None
            }
            _ => undecided(action, known, told),
        },
        _ => undecided(action, known, told),
    }
}

/// Tells how a column gets another type, where the server would write its table anew.
fn retyped(action: &Action<'_>, alter: &ast::AlterColumn, to: &ast::SetType, known: &Known, told: &mut Told<'_>) {
    let found = parse(&action.whole()).map(|parsed| effects(&parsed, known)).unwrap_or_default();
    let work = found.iter().map(|effect| effect.work).find(|work| work.grows());
    let (Some(column), Some(ty)) = (alter.column_name_ref(), to.ty()) else { return };
    let (column, ty) = (ast::normalize_name_node(column.syntax()), text(ty.syntax()));
    match work {
        None => {}
        Some(Work::Rewrite) => {
            let using = to.using_expr().and_then(|using| using.expr()).map(|using| text(using.syntax()));
            let using = using.unwrap_or_else(|| format!("{}::{ty}", written(&column)));
            let table = known.tables.get(action.table);
            let of = Column { table: action.table, sql: &action.table_sql, name: &column, ty: &ty, key: key_of(table) };
            let is_not_null = table.is_some_and(|table| table.not_null.contains(&column));
            let what = "the table and its indexes would be written anew under the lock; by a new column in its place it is done beside clients. It then \
                        stands last, which `select *` and inserts without columns notice (cutover migrations compat); or do it on a green database";
            told.in_steps("change-type", what, of.retyped(&using, is_not_null));
        }
        Some(_) => left(&found, told),
    }
}

/// What blocks and has no safe form that a text edit could give.
fn undecided(action: &Action<'_>, known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    if let Ok(parsed) = parse(&action.whole()) {
        left(&effects(&parsed, known), told);
    }
    None
}

fn helper(table: &str, column: &str) -> String {
    cut(format!("cutover_not_null_{}_{column}", bare(table)))
}

/// A check that is not valid, its validation, and then `not null` without a look at the rows.
fn not_null(action: &Action<'_>, column: &str, set: Option<String>) -> Vec<Piece> {
    let (check, name) = (written(&helper(action.table, column)), written(column));
    let set = set.unwrap_or_else(|| action.alter(&format!("alter column {name} set not null")));
    vec![
        piece(action.alter(&format!("add constraint {check} check ({name} is not null) not valid")), Manner::Own),
        piece(action.alter(&format!("validate constraint {check}")), Manner::Own),
        piece(format!("{set};\n{}", action.alter(&format!("drop constraint {check}"))), Manner::Own),
    ]
}

fn add_constraint(
    action: &Action<'_>,
    constraint: &Constraint,
    known: &Known,
    told: &mut Told<'_>,
) -> Option<Vec<Piece>> {
    if constraint.is_not_valid() {
        return None;
    }
    let table = known.tables.get(action.table);
    match constraint {
        Constraint::ForeignKeyConstraint(_) if known.is_partitioned(action.table) => {
            told.decide(
                "add-foreign-key",
                "a foreign key of a partitioned table cannot be not valid: add one to each partition first",
            );
            None
        }
        Constraint::ForeignKeyConstraint(foreign) => {
            let own = foreign.from_columns().map(|list| columns(list.syntax())).unwrap_or_default();
            validated(
                action,
                constraint,
                Some(format!("{}_{}_fkey", bare(action.table), own.join("_"))),
                "add-foreign-key",
                told,
            )
        }
        Constraint::CheckConstraint(check) => {
            let used: Vec<String> = columns(check.syntax())
                .into_iter()
                .filter(|one| table.is_some_and(|table| table.columns.contains_key(one)))
                .collect();
            let name = match used.as_slice() {
                [column] => Some(format!("{}_{column}_check", bare(action.table))),
                _ if table.is_some() => Some(format!("{}_check", bare(action.table))),
                _ => None,
            };
            validated(action, constraint, name, "add-check", told)
        }
        Constraint::UniqueConstraint(_) | Constraint::PrimaryKeyConstraint(_) => {
            add_key(action, constraint, known, told)
        }
        _ => undecided(action, known, told),
    }
}

/// `not valid` first, and the look at the rows in a transaction of its own.
fn validated(
    action: &Action<'_>,
    constraint: &Constraint,
    default: Option<String>,
    rule: &'static str,
    told: &mut Told<'_>,
) -> Option<Vec<Piece>> {
    let given = constraint.constraint_name().map(|name| text(name.syntax()));
    let (name, add) = match (given, default) {
        (Some(name), _) => (name, action.whole()),
        (None, Some(name)) if name.len() <= NAME_BYTES => {
            let at = usize::from(constraint.syntax().text_range().start() - action.node.syntax().text_range().start());
            (
                written(&name),
                format!("{}{}constraint {} {}", action.head, &action.text[..at], written(&name), &action.text[at..]),
            )
        }
        _ => {
            told.decide(
                rule,
                "has no name, and the server's choice of one cannot be foreseen: name it, then rewrite again",
            );
            return None;
        }
    };
    told.change(rule, "added as not valid, validated in a transaction of its own");
    Some(vec![
        piece(format!("{add} not valid"), Manner::Own),
        piece(action.alter(&format!("validate constraint {name}")), Manner::Own),
    ])
}

fn add_key(action: &Action<'_>, constraint: &Constraint, known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    if has_word(constraint.syntax(), "using") {
        return None;
    }
    let is_primary = matches!(constraint, Constraint::PrimaryKeyConstraint(_));
    let listed = constraint
        .syntax()
        .descendants()
        .filter(|node| ast::ColumnList::can_cast(node.kind()) || ast::ColumnRefList::can_cast(node.kind()))
        .map(|node| columns(&node))
        .next();
    let own = listed.unwrap_or_else(|| columns(constraint.syntax()));
    let is_partitioned = known.is_partitioned(action.table);
    let is_simple = !["include", "with", "tablespace", "deferrable", "distinct", "without"]
        .iter()
        .any(|word| has_word(constraint.syntax(), word));
    if is_partitioned && is_simple && !own.is_empty() {
        let given = constraint.constraint_name().map(|name| text(name.syntax()));
        return partitioned::add_key((action.table, &action.table_sql), given, &own, is_primary, known, told);
    }
    if !is_simple || own.is_empty() || is_partitioned {
        told.decide(
            "add-key",
            "build its index concurrently first, and add the constraint using it: its options need a person's eye",
        );
        return None;
    }
    let default = if is_primary {
        format!("{}_pkey", bare(action.table))
    } else {
        format!("{}_{}_key", bare(action.table), own.join("_"))
    };
    let name = constraint.constraint_name().map_or_else(|| written(&cut(default)), |name| text(name.syntax()));
    let list = own.iter().map(|column| written(column)).collect::<Vec<_>>().join(", ");
    told.change("add-key", "its index is built concurrently first, and the constraint takes it over");
    told.decide(
        "add-key",
        format!("rows of {} that are equal make the unique index fail: look for them before", action.table),
    );
    let mut pieces =
        vec![piece(format!("create unique index concurrently {name} on {} ({list})", action.table_sql), Manner::Alone)];
    if is_primary {
        let nullable = own
            .iter()
            .filter(|column| known.tables.get(action.table).is_none_or(|table| !table.not_null.contains(*column)));
        pieces.extend(nullable.flat_map(|column| not_null(action, column, None)));
    }
    let word = if is_primary { "primary key" } else { "unique" };
    pieces.push(piece(action.alter(&format!("add constraint {name} {word} using index {name}")), Manner::Own));
    Some(pieces)
}

/// Tells what a person has to do in place of adding the column as it is.
fn in_steps(
    action: &Action<'_>,
    (column, ty): (&str, &str),
    default: Option<&SyntaxNode>,
    others: &[Constraint],
    table: Option<&Table>,
    told: &mut Told<'_>,
) {
    const RULE: &str = "add-column-with-work";
    let of = |ty| Column { table: action.table, sql: &action.table_sql, name: column, ty, key: key_of(table) };
    let generated = others.iter().find_map(|one| match one {
        Constraint::GeneratedConstraint(generated) => generated.generated_as(),
        _ => None,
    });
    let is_steady = default.is_none_or(|default| unsteady(default).is_none());
    match generated {
        Some(GeneratedAs::GeneratedIdentity(_)) => {
            let is_always = others.iter().any(|one| has_word(one.syntax(), "always"));
            told.in_steps(RULE, NUMBERS, of(ty).numbered(Some(if is_always { "always" } else { "by default" })));
        }
        Some(GeneratedAs::GeneratedStored(stored)) => {
            let expression = stored.expr().map(|expression| text(expression.syntax())).unwrap_or_default();
            told.in_steps(RULE, STORED, of(ty).computed(&expression));
        }
        None if is_serial(ty) && others.is_empty() => told.in_steps(RULE, NUMBERS, of(counted(ty)).numbered(None)),
        None if !others.is_empty() && !is_serial(ty) && is_steady => {
            let said: Vec<String> = others.iter().map(|one| text(one.syntax())).collect();
            let default = default.map(|default| default.text().to_string());
            told.in_steps(RULE, CONSTRAINED, of(ty).constrained(default.as_deref(), &said));
        }
        None if key_of(table) == NO_KEY => told.decide(RULE, UNKNOWN_KEY),
        None => told.decide(RULE, MUCH_AT_ONCE),
    }
}

const NUMBERS: &str =
    "every row gets a number, so the table would be written anew under the lock; in steps it is done beside clients";
const STORED: &str = "a stored column is computed for every row while nobody reads or writes, in any form; a plain column that a trigger keeps is \
                      not, but is not generated then: or do it on a green database";
const CONSTRAINED: &str =
    "its constraints would be checked or indexed under the lock; in steps it is done beside clients";
const UNKNOWN_KEY: &str = "the table would be written anew under the lock, and its key is not known here: give --plan or --url, then rewrite again";
const MUCH_AT_ONCE: &str = "the table would be written anew under the lock: add the column alone and its default and constraints in files behind it, \
                            then rewrite again";
/// Stands for a key that is not known.
const NO_KEY: &str = "KEY";

/// The key of a table as a comment to this tool names it.
fn key_of(table: Option<&Table>) -> String {
    let key = table.map(|table| table.primary_key.join(",")).unwrap_or_default();
    if key.is_empty() { NO_KEY.to_owned() } else { key }
}

/// The type of a column that `serial` makes.
fn counted(serial: &str) -> &'static str {
    match serial.to_lowercase().as_str() {
        "bigserial" | "serial8" => "bigint",
        "smallserial" | "serial2" => "smallint",
        _ => "integer",
    }
}

fn add_column(action: &Action<'_>, add: &ast::AddColumn, known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    let table = known.tables.get(action.table);
    const RULE: &str = "add-column-with-work";
    let column = add.column_name()?.text();
    let (mut default, mut is_not_null, mut others) = (None, false, Vec::new());
    for constraint in add.constraints() {
        match &constraint {
            Constraint::DefaultConstraint(it) => default = it.expr().map(|expression| expression.syntax().clone()),
            Constraint::NotNullConstraint(_) => is_not_null = true,
            Constraint::NullConstraint(_) => {}
            other => others.push(other.clone()),
        }
    }
    let is_steady = default.as_ref().is_none_or(|expression| unsteady(expression).is_none());
    let ty = add.ty().map(|ty| text(ty.syntax()))?;
    if is_steady && others.is_empty() && !is_serial(&ty) {
        return undecided(action, known, told);
    }
    let has_key = table.is_some_and(|table| !table.primary_key.is_empty());
    let given = default.clone();
    let Some(default) = default.filter(|_| others.is_empty() && has_key && add.if_not_exists().is_none()) else {
        let is_light =
            is_steady && !is_serial(&ty) && others.iter().all(|one| matches!(one, Constraint::ReferencesConstraint(_)));
        if !is_light {
            in_steps(action, (&column, &ty), given.as_ref(), &others, table, told);
        }
        return None;
    };
    let expression = default.text().to_string();
    let name = written(&column);
    let key = table.map(|table| table.primary_key.join(",")).unwrap_or_default();
    told.change(RULE, "added without its default, then given it, filled in batches, and only then not null");
    let collate = add.collate().map(|collate| format!(" {}", text(collate.syntax()))).unwrap_or_default();
    let mut pieces = vec![
        piece(
            format!(
                "{}add column {name} {ty}{collate};\n{}",
                action.head,
                action.alter(&format!("alter column {name} set default {expression}"))
            ),
            Manner::Own,
        ),
        piece(
            format!(
                "-- cutover: batch key={key} rows={BATCH_ROWS}\nupdate {} set {name} = {expression} where {name} is null",
                action.table_sql
            ),
            Manner::Alone,
        ),
    ];
    if is_not_null {
        pieces.extend(not_null(action, &column, None));
    }
    Some(pieces)
}
