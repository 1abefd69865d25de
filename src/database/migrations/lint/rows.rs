//! What statements over rows lock and do.

use super::known::Known;
use super::lock::{Effect, Lock, Work};
use super::tree::{columns, has_word, named, plain, relations};
use super::types;
use squawk_syntax::ast::{self, AstNode, Stmt};

use Lock::{AccessExclusive, AccessShare, RowExclusive};

pub(super) fn rows(statement: &Stmt, known: &Known) -> Option<Vec<Effect>> {
    Some(match statement {
        Stmt::Insert(insert) => {
            let table = insert.relation_name_ref().and_then(|table| named(&table)).unwrap_or_default();
            let mut found = vec![Effect::on("insert", table, RowExclusive, Work::None, "everyone goes on")];
            found.extend(insert.insert_source().into_iter().flat_map(|source| read(source.syntax(), known)));
            found
        }
        Stmt::Update(update) => {
            let table = update.relation_name().and_then(|table| named(&table)).unwrap_or_default();
            changed("update-all", &table, statement, known)
        }
        Stmt::Delete(delete) => {
            let table = delete.relation_name().and_then(|table| named(&table)).unwrap_or_default();
            changed("delete-all", &table, statement, known)
        }
        Stmt::Merge(merge) => {
            let table = merge.table_relation_name().and_then(|table| named(&table)).unwrap_or_default();
            vec![
                Effect::on(
                    "update-all",
                    table,
                    RowExclusive,
                    Work::Rows,
                    "rows that it touches stay locked until the end",
                )
                .safe("in batches by key"),
            ]
        }
        Stmt::Copy(copy) => {
            let lock = if has_word(copy.syntax(), "from") { RowExclusive } else { AccessShare };
            relations(copy.syntax())
                .into_iter()
                .take(1)
                .map(|table| Effect::on("copy", table, lock, Work::None, "everyone goes on"))
                .collect()
        }
        Stmt::Lock(lock) => {
            let mode = lock.lock_mode_clause().and_then(|mode| mode.lock_mode()).map(|mode| plain(mode.syntax()));
            let mode = mode.and_then(|mode| Lock::of(&mode)).unwrap_or(AccessExclusive);
            let held = |table| Effect::on("lock-table", table, mode, Work::Held, "is held until the transaction ends");
            relations(lock.syntax()).into_iter().map(held).collect()
        }
        Stmt::Select(_) | Stmt::CompoundSelect(_) | Stmt::ParenSelect(_) | Stmt::Values(_) | Stmt::Table(_) => {
            selected(statement, known)
        }
        _ => return None,
    })
}

/// `access share` on what a query reads.
pub(super) fn read(node: &squawk_syntax::SyntaxNode, known: &Known) -> Vec<Effect> {
    let tables =
        relations(node).into_iter().filter(|table| known.tables.contains_key(table) || known.views.contains_key(table));
    tables.map(|table| Effect::on("read", table, AccessShare, Work::None, "everyone goes on")).collect()
}

/// An update or delete: of one key, or of as many rows as its condition lets through.
fn changed(rule: &'static str, table: &str, statement: &Stmt, known: &Known) -> Vec<Effect> {
    let condition = statement.syntax().children().find_map(ast::WhereClause::cast);
    let condition = condition.or_else(|| statement.syntax().descendants().find_map(ast::WhereClause::cast));
    let key = known.tables.get(table).map(|table| table.primary_key.clone()).unwrap_or_default();
    let is_one = condition
        .as_ref()
        .is_some_and(|condition| !key.is_empty() && key.iter().all(|column| is_equal_to_constant(condition, column)));
    if is_one {
        return vec![Effect::on("one-row", table, RowExclusive, Work::None, "one key's row")];
    }
    let why = match condition {
        Some(_) => "every row that its condition lets through stays locked until the end",
        None => "every row of the table stays locked until the end",
    };
    let key = if key.is_empty() { "KEY".to_owned() } else { key.join(",") };
    vec![
        Effect::on(rule, table, RowExclusive, Work::Rows, why)
            .safe(format!("-- cutover: batch key={key} rows=5000 above it, in a file that runs outside a transaction")),
    ]
}

fn is_equal_to_constant(condition: &ast::WhereClause, column: &str) -> bool {
    if has_word(condition.syntax(), "or") {
        return false;
    }
    condition.syntax().descendants().filter_map(ast::BinExpr::cast).any(|expression| {
        let is_column =
            expression.lhs().is_some_and(|side| columns(side.syntax()).last().is_some_and(|one| one == column));
        let is_constant = matches!(expression.rhs(), Some(ast::Expr::Literal(_)));
        let is_equal = plain(expression.syntax()).contains(" = ");
        is_column && is_constant && is_equal
    })
}

/// Functions that a migration calls and that touch no table.
const CALLED: [&str; 9] =
    ["setval", "nextval", "set_config", "count", "max", "min", "pg_notify", "pg_advisory_xact_lock", "to_regclass"];

fn selected(statement: &Stmt, known: &Known) -> Vec<Effect> {
    let calls = statement.syntax().descendants().filter_map(ast::CallExpr::cast);
    let strange = calls
        .filter_map(|call| call.expr())
        .map(|name| plain(name.syntax()).replace(' ', ""))
        .find(|name| !CALLED.contains(&name.trim_start_matches("pg_catalog.")) && types::is_strange(name));
    if let Some(name) = strange {
        return vec![Effect::unknown(format!("{name}() may do anything; write its statements out"))];
    }
    let tables = relations(statement.syntax());
    let lock = if has_word(statement.syntax(), "for")
        && (has_word(statement.syntax(), "update") || has_word(statement.syntax(), "share"))
    {
        Lock::RowShare
    } else {
        AccessShare
    };
    let found: Vec<Effect> = tables
        .into_iter()
        .filter(|table| known.tables.contains_key(table) || known.views.contains_key(table))
        .map(|table| Effect::on("read", table, lock, Work::None, "everyone goes on"))
        .collect();
    if found.is_empty() { vec![Effect::nothing("read", "no table is locked")] } else { found }
}
