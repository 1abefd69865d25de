//! What statements over rows lock and do.

use super::functions::is_harmless;
use super::known::{Known, bare};
use super::lock::{Effect, Lock, Work};
use super::tree::{has_word, named, plain, relations};
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode, Stmt};

use Lock::{AccessExclusive, AccessShare, RowExclusive};

pub(super) fn rows(statement: &Stmt, known: &Known) -> Option<Vec<Effect>> {
    let mut found = match statement {
        Stmt::Insert(insert) => inserted(insert, known),
        Stmt::Update(update) => updated(update, known),
        Stmt::Delete(delete) => deleted(delete, known),
        Stmt::Merge(merge) => merged(merge),
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
    };
    found.extend(inside(statement.syntax(), known));
    Some(found)
}

/// What stands inside a statement and does more than it says itself: statements over rows in its `with`, and functions that may do anything.
pub(super) fn inside(node: &SyntaxNode, known: &Known) -> Vec<Effect> {
    let mut found: Vec<Effect> = Vec::new();
    for inner in node.descendants().skip(1) {
        if let Some(insert) = ast::Insert::cast(inner.clone()) {
            found.extend(inserted(&insert, known));
        } else if let Some(update) = ast::Update::cast(inner.clone()) {
            found.extend(updated(&update, known));
        } else if let Some(delete) = ast::Delete::cast(inner.clone()) {
            found.extend(deleted(&delete, known));
        } else if let Some(merge) = ast::Merge::cast(inner) {
            found.extend(merged(&merge));
        }
    }
    let calls = node.descendants().filter_map(ast::CallExpr::cast).filter_map(|call| call.expr());
    let strange = calls.map(|name| plain(name.syntax()).replace(' ', "")).find(|name| !is_harmless(name));
    found.extend(strange.map(|name| Effect::unknown(format!("{name}() may do anything; write its statements out"))));
    found
}

fn inserted(insert: &ast::Insert, known: &Known) -> Vec<Effect> {
    let table = insert.relation_name_ref().and_then(|table| named(&table)).unwrap_or_default();
    let is_update = insert
        .on_conflict_clause()
        .and_then(|clause| clause.conflict_action())
        .is_some_and(|action| matches!(action, ast::ConflictAction::ConflictDoUpdateSet(_)));
    let source = insert.insert_source();
    let is_query = source.as_ref().is_some_and(|source| has_word(source.syntax(), "select"));
    let effect = if is_update && is_query {
        let why = "every row that was there already and is updated stays locked until the end";
        Effect::on("update-all", table, RowExclusive, Work::Rows, why)
            .safe("insert with `on conflict do nothing`, and update what was there in batches by key")
    } else {
        Effect::on("insert", table, RowExclusive, Work::None, "everyone goes on")
    };
    let mut found = vec![effect];
    found.extend(source.into_iter().flat_map(|source| read(source.syntax(), known)));
    found
}

fn updated(update: &ast::Update, known: &Known) -> Vec<Effect> {
    let table = update.relation_name().and_then(|table| named(&table)).unwrap_or_default();
    changed("update-all", &table, update.alias(), update.where_clause_or_current_of(), known)
}

fn deleted(delete: &ast::Delete, known: &Known) -> Vec<Effect> {
    let table = delete.relation_name().and_then(|table| named(&table)).unwrap_or_default();
    changed("delete-all", &table, delete.alias(), delete.where_clause_or_current_of(), known)
}

fn merged(merge: &ast::Merge) -> Vec<Effect> {
    let table = merge.table_relation_name().and_then(|table| named(&table)).unwrap_or_default();
    let why = "rows that it touches stay locked until the end";
    vec![Effect::on("update-all", table, RowExclusive, Work::Rows, why).safe("in batches by key")]
}

/// `access share` on what a query reads.
pub(super) fn read(node: &SyntaxNode, known: &Known) -> Vec<Effect> {
    let tables =
        relations(node).into_iter().filter(|table| known.tables.contains_key(table) || known.views.contains_key(table));
    tables.map(|table| Effect::on("read", table, AccessShare, Work::None, "everyone goes on")).collect()
}

/// An update or delete: of one key, or of as many rows as its condition lets through.
fn changed(
    rule: &'static str,
    table: &str,
    alias: Option<ast::OptionalAsAlias>,
    condition: Option<ast::WhereClauseOrCurrentOf>,
    known: &Known,
) -> Vec<Effect> {
    let condition = match condition {
        Some(ast::WhereClauseOrCurrentOf::WhereClause(clause)) => clause.expr(),
        _ => None,
    };
    let key = known.tables.get(table).map(|table| table.primary_key.clone()).unwrap_or_default();
    let alias = alias.and_then(|alias| plain(alias.syntax()).split(' ').next_back().map(ToOwned::to_owned));
    let target = alias.as_deref().unwrap_or_else(|| bare(table));
    if condition.as_ref().is_some_and(|condition| is_one_key(condition, target, &key)) {
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

/// Whether a condition says of each column of a key that it equals one value: then no second row can pass, whatever else it says.
fn is_one_key(condition: &ast::Expr, target: &str, key: &[String]) -> bool {
    let mut said = Vec::new();
    conjuncts(condition, &mut said);
    let says = |column: &String| said.iter().any(|one| is_equal_to_constant(one, target, column));
    !key.is_empty() && key.iter().all(says)
}

/// The conditions all of which must hold.
fn conjuncts(condition: &ast::Expr, found: &mut Vec<ast::BinExpr>) {
    match condition {
        ast::Expr::ParenExpr(inner) => inner.expr().iter().for_each(|inner| conjuncts(inner, found)),
        ast::Expr::BinExpr(both) if matches!(both.op(), Some(ast::BinOp::And(_))) => {
            both.lhs().iter().chain(&both.rhs()).for_each(|side| conjuncts(side, found));
        }
        ast::Expr::BinExpr(one) => found.push(one.clone()),
        _ => {}
    }
}

fn is_equal_to_constant(expression: &ast::BinExpr, target: &str, column: &str) -> bool {
    let side = expression.lhs().map(|side| plain(side.syntax()).replace('"', "")).unwrap_or_default();
    let is_column = side == column || side == format!("{target} . {column}");
    let is_constant = matches!(expression.rhs(), Some(ast::Expr::Literal(_)));
    is_column && is_constant && matches!(expression.op(), Some(ast::BinOp::Eq(_)))
}

fn selected(statement: &Stmt, known: &Known) -> Vec<Effect> {
    let tables = relations(statement.syntax());
    let locks_rows = has_word(statement.syntax(), "for")
        && (has_word(statement.syntax(), "update") || has_word(statement.syntax(), "share"));
    let is_one = match (statement, tables.as_slice()) {
        (Stmt::Select(select), [table]) => {
            let key = known.tables.get(table).map(|table| table.primary_key.clone()).unwrap_or_default();
            let condition = select.where_clause().and_then(|clause| clause.expr());
            condition.is_some_and(|condition| is_one_key(&condition, bare(table), &key))
        }
        _ => false,
    };
    let one = |table: String| match locks_rows {
        true if is_one => Effect::on("one-row", table, Lock::RowShare, Work::None, "one key's row"),
        true => {
            let why = "every row that it answers stays locked until the end";
            Effect::on("lock-rows", table, Lock::RowShare, Work::Rows, why).safe("in batches by key")
        }
        false => Effect::on("read", table, AccessShare, Work::None, "everyone goes on"),
    };
    let is_known = |table: &String| known.tables.contains_key(table) || known.views.contains_key(table);
    let found: Vec<Effect> = tables.into_iter().filter(is_known).map(one).collect();
    if found.is_empty() { vec![Effect::nothing("read", "no table is locked")] } else { found }
}
