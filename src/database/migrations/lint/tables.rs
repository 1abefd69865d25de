//! What statements about tables, views and what belongs to them lock and do, `alter table` apart.

use super::constraints::{narrowed, widened};
use super::effects::BRIEFLY;
use super::known::Known;
use super::lock::{Effect, Lock, Work};
use super::rows::{inside, read};
use super::tree::{defined, has_word, named, plain, relations};
use squawk_syntax::ast::{self, AstNode, CommentObject, Stmt};

use Lock::{AccessExclusive, AccessShare, Exclusive, ShareRowExclusive, ShareUpdateExclusive};

pub(super) fn tables(statement: &Stmt, known: &Known) -> Option<Vec<Effect>> {
    Some(match statement {
        Stmt::CreateTable(create) => create_table(create, known),
        Stmt::CreateTableAs(_) | Stmt::SelectInto(_) | Stmt::CreateMaterializedView(_) => {
            let mut found = vec![Effect::nothing("create-table-as", "the new table is nobody's yet")];
            found.extend(read(statement.syntax(), known));
            found.extend(inside(statement.syntax(), known));
            found
        }
        Stmt::DropTable(drop) => drop
            .table_name_refs()
            .filter_map(|table| named(&table))
            .flat_map(|table| drop_table(&table, drop, known))
            .collect(),
        Stmt::Truncate(truncate) => truncated(truncate, known),
        Stmt::CreateTrigger(create) => {
            let table = create.on_relation().and_then(|table| named(&table)).unwrap_or_default();
            vec![Effect::on("trigger", table, ShareRowExclusive, Work::None, "waits for writers and lets them wait")]
        }
        Stmt::DropTrigger(drop) => {
            let table = drop.on_relation().and_then(|table| named(&table)).unwrap_or_default();
            vec![
                Effect::on("drop-trigger", table, AccessExclusive, Work::None, BRIEFLY)
                    .safe("disable the trigger first; drop it in a quiet hour"),
            ]
        }
        Stmt::AlterTrigger(alter) => {
            one("trigger", alter.on_relation().and_then(|table| named(&table)), AccessExclusive)
        }
        Stmt::CreateRule(create) => one("rule", create.rule_on().and_then(|table| named(&table)), AccessExclusive),
        Stmt::AlterRule(alter) => one("rule", relations(alter.syntax()).into_iter().next(), AccessExclusive),
        Stmt::DropRule(drop) => one("rule", drop.on_relation().and_then(|table| named(&table)), AccessExclusive),
        Stmt::CreatePolicy(create) => one("policy", create.on_table().and_then(|table| named(&table)), AccessExclusive),
        Stmt::AlterPolicy(alter) => one("policy", alter.on_table().and_then(|table| named(&table)), AccessExclusive),
        Stmt::DropPolicy(drop) => one("policy", drop.on_table().and_then(|table| named(&table)), AccessExclusive),
        Stmt::AlterSequence(alter) => {
            let lock = if plain(alter.syntax()).contains("rename")
                || plain(alter.syntax()).contains("owner to")
                || plain(alter.syntax()).contains("set schema")
            {
                AccessExclusive
            } else {
                ShareRowExclusive
            };
            one("sequence", alter.sequence_ref().and_then(|sequence| named(&sequence)), lock)
        }
        Stmt::DropSequence(drop) => drop
            .sequence_refs()
            .filter_map(|name| named(&name))
            .map(|name| Effect::on("sequence", name, AccessExclusive, Work::None, BRIEFLY))
            .collect(),
        Stmt::CreateStatistics(create) => one_light("statistics", create.from_table().and_then(|from| named(&from))),
        Stmt::CommentOn(comment) => comment_on(comment),
        Stmt::CreatePublication(_) | Stmt::AlterPublication(_) => publication(statement),
        _ => return None,
    })
}

/// What statements about views lock.
pub(super) fn views(statement: &Stmt, known: &Known) -> Option<Vec<Effect>> {
    Some(match statement {
        Stmt::CreateView(create) => {
            let view = create.view().and_then(|view| defined(&view)).unwrap_or_default();
            if create.or_replace().is_some() && known.views.contains_key(&view) {
                one("view", Some(view), AccessExclusive)
            } else {
                vec![Effect::nothing("view", "the new view is nobody's yet")]
            }
        }
        Stmt::AlterView(alter) => one("view", alter.view_ref().and_then(|view| named(&view)), AccessExclusive),
        Stmt::DropView(drop) => drop
            .view_refs()
            .filter_map(|view| named(&view))
            .map(|view| Effect::on("view", view, AccessExclusive, Work::None, BRIEFLY))
            .collect(),
        Stmt::AlterMaterializedView(alter) => {
            one("materialized-view", alter.view_ref().and_then(|view| named(&view)), AccessExclusive)
        }
        Stmt::DropMaterializedView(drop) => drop
            .view_refs()
            .filter_map(|view| named(&view))
            .map(|view| Effect::on("materialized-view", view, AccessExclusive, Work::None, BRIEFLY))
            .collect(),
        Stmt::Refresh(refresh) => refreshed(refresh),
        _ => return None,
    })
}

fn one(rule: &'static str, table: Option<String>, lock: Lock) -> Vec<Effect> {
    vec![Effect::on(rule, table.unwrap_or_default(), lock, Work::None, BRIEFLY)]
}

pub(super) fn one_light(rule: &'static str, table: Option<String>) -> Vec<Effect> {
    vec![Effect::on(rule, table.unwrap_or_default(), ShareUpdateExclusive, Work::None, "everyone goes on")]
}

fn create_table(create: &ast::CreateTable, known: &Known) -> Vec<Effect> {
    let own = create.table_name().and_then(|name| defined(&name)).unwrap_or_default();
    let mut found = vec![Effect::nothing("create-table", "the new table is nobody's yet")];
    if let Some(parent) = create.partition_of().and_then(|of| named(&of)) {
        let is_rest = matches!(create.partition_type(), Some(ast::PartitionType::PartitionDefault(_)));
        found.extend(narrowed("create-partition", &parent, known).filter(|_| !is_rest));
        let effect = Effect::on("create-partition", parent, AccessExclusive, Work::None, BRIEFLY);
        found.push(effect.safe("create the table alone, then attach it"));
    }
    if let Some(inherits) = create.inherits() {
        let parents = relations(inherits.syntax()).into_iter();
        found.extend(
            parents.map(|parent| {
                Effect::on("create-partition", parent, ShareUpdateExclusive, Work::None, "gains a child")
            }),
        );
    }
    let references = create.syntax().descendants().filter_map(|node| {
        let foreign = ast::ForeignKeyConstraint::cast(node.clone()).and_then(|it| it.table_name_ref());
        foreign
            .or_else(|| ast::ReferencesConstraint::cast(node).and_then(|it| it.table()))
            .and_then(|table| named(&table))
    });
    for parent in references.filter(|parent| *parent != own) {
        found.push(Effect::on(
            "add-foreign-key",
            parent,
            ShareRowExclusive,
            Work::None,
            "gains a trigger, for which writers wait",
        ));
    }
    found
}

fn drop_table(table: &str, drop: &ast::DropTable, known: &Known) -> Vec<Effect> {
    let mut found = vec![Effect::on("drop-table", table, AccessExclusive, Work::None, BRIEFLY)];
    let locked = |other: String, why: &str| Effect::on("drop-foreign-key", other, AccessExclusive, Work::None, why);
    found.extend(
        known
            .parents(table, None)
            .into_iter()
            .map(|parent| locked(parent, "a foreign key to it is dropped: the other table is locked too")),
    );
    found.extend(
        known
            .tables
            .get(table)
            .and_then(|one| one.parent.clone())
            .map(|parent| locked(parent, "loses a partition or child")),
    );
    let parent = known.tables.get(table).and_then(|one| one.parent.as_deref());
    found.extend(parent.and_then(|parent| widened("drop-table", parent, table, known)));
    found.extend(
        known
            .below(table)
            .into_iter()
            .map(|child| Effect::on("drop-table", child, AccessExclusive, Work::None, BRIEFLY)),
    );
    if has_word(drop.syntax(), "cascade") {
        found.extend(
            known
                .children(table)
                .into_iter()
                .map(|child| locked(child.to_owned(), "its foreign key goes with the table")),
        );
        found.extend(known.readers(table).map(|view| locked(view.to_owned(), "goes with the table")));
    }
    found
}

fn truncated(truncate: &ast::Truncate, known: &Known) -> Vec<Effect> {
    let mut tables = relations(truncate.syntax());
    if has_word(truncate.syntax(), "cascade") {
        let mut at = 0;
        while at < tables.len() {
            let more: Vec<String> = known
                .children(&tables[at])
                .into_iter()
                .map(str::to_owned)
                .filter(|one| !tables.contains(one))
                .collect();
            tables.extend(more);
            at += 1;
        }
    }
    let below: Vec<String> = tables.iter().flat_map(|table| known.below(table)).collect();
    tables.extend(below);
    tables
        .into_iter()
        .map(|table| {
            Effect::on("truncate", table, AccessExclusive, Work::Truncate, "waits for everyone, and the rows are gone")
        })
        .collect()
}

fn refreshed(refresh: &ast::Refresh) -> Vec<Effect> {
    let view = refresh.view_ref().and_then(|view| named(&view)).unwrap_or_default();
    if refresh.concurrently_token().is_some() {
        return vec![Effect::on("refresh", view, Exclusive, Work::Rows, "readers go on, writers there are none")];
    }
    let why = "nobody reads it while it is written anew";
    vec![
        Effect::on("refresh", view.clone(), AccessExclusive, Work::Rewrite, why)
            .safe(format!("refresh materialized view concurrently {view}")),
    ]
}

fn comment_on(comment: &ast::CommentOn) -> Vec<Effect> {
    let nothing = || vec![Effect::nothing("comment", "no table is locked")];
    match comment.comment_object() {
        Some(CommentObject::ObjectTable(it)) => one_light("comment", named(&it)),
        Some(CommentObject::ObjectView(it)) => one_light("comment", named(&it)),
        Some(CommentObject::ObjectMaterializedView(it)) => one_light("comment", named(&it)),
        Some(CommentObject::ObjectColumn(it)) => {
            let path = it.syntax().descendants().find_map(ast::PathRef::cast);
            one_light("comment", path.and_then(|path| path.qualifier()).and_then(|table| super::tree::key(&table)))
        }
        Some(
            CommentObject::ObjectConstraint(_)
            | CommentObject::ObjectTrigger(_)
            | CommentObject::ObjectPolicy(_)
            | CommentObject::ObjectRule(_),
        ) => {
            let table = relations(comment.syntax()).pop();
            vec![Effect::on("comment", table.unwrap_or_default(), AccessShare, Work::None, "everyone goes on")]
        }
        _ => nothing(),
    }
}

fn publication(statement: &Stmt) -> Vec<Effect> {
    let tables = relations(statement.syntax());
    if tables.is_empty() {
        return vec![Effect::nothing("publication", "no table is locked")];
    }
    tables.into_iter().flat_map(|table| one_light("publication", Some(table))).collect()
}
