//! What statements about indexes lock and do.

use super::effects::BRIEFLY;
use super::known::Known;
use super::lock::{Effect, Lock, Work};
use super::tree::{has_word, named};
use squawk_syntax::ast::{self, AstNode, ReindexTarget, Stmt};

use Lock::{AccessExclusive, AccessShare, Share, ShareUpdateExclusive};

pub(super) fn indexes(statement: &Stmt, known: &Known) -> Option<Vec<Effect>> {
    Some(match statement {
        Stmt::CreateIndex(create) => create_index(create, known),
        Stmt::DropIndex(drop) => {
            let concurrently = drop.concurrently_token().is_some();
            drop.index_refs()
                .filter_map(|index| named(&index))
                .flat_map(|index| drop_index(&index, concurrently, known))
                .collect()
        }
        Stmt::AlterIndex(alter) => {
            let index = alter.index_ref().and_then(|index| named(&index)).unwrap_or_default();
            alter_index(alter, &index, known)
        }
        Stmt::Reindex(reindex) => reindexed(reindex, known),
        _ => return None,
    })
}

fn create_index(create: &ast::CreateIndex, known: &Known) -> Vec<Effect> {
    let table = create.table_relation_name().and_then(|table| named(&table)).unwrap_or_default();
    let only = create.table_relation_name().is_some_and(|table| table.only_token().is_some());
    if create.concurrently_token().is_some() {
        let why = "waits for older transactions, and everyone goes on";
        return vec![Effect::on("create-index-concurrently", table, ShareUpdateExclusive, Work::Build, why)];
    }
    let text = create.syntax().text().to_string();
    let at =
        create.index_token().map(|token| usize::from(token.text_range().end() - create.syntax().text_range().start()));
    let form = at.map_or_else(|| text.clone(), |at| format!("{} concurrently{}", &text[..at], &text[at..]));
    if only && known.is_partitioned(&table) {
        let why = "has no rows of its own: the catalog alone changes, but waits for writers and lets them wait";
        return vec![Effect::on("create-index", table, Share, Work::None, why)];
    }
    let below = if only { Vec::new() } else { known.partitions(&table) };
    let form = if below.is_empty() {
        form
    } else {
        "create it on the parent only, build it concurrently on each partition, and attach each".to_owned()
    };
    let one = |table: String| {
        Effect::on("create-index", table, Share, Work::Build, "nobody writes while it is built")
            .safe(form.trim_end_matches(';'))
    };
    std::iter::once(table).chain(below).map(one).collect()
}

fn drop_index(index: &str, concurrently: bool, known: &Known) -> Vec<Effect> {
    let table = known.indexes.get(index).cloned().unwrap_or_else(|| format!("the table of {index}"));
    if concurrently {
        let why = "waits for older transactions, and everyone goes on";
        return vec![Effect::on("drop-index-concurrently", table, ShareUpdateExclusive, Work::None, why)];
    }
    let below = known.partitions(&table);
    let form = match below.is_empty() {
        true => format!("drop index concurrently {index}"),
        false => "an index of a partitioned table cannot be dropped concurrently: with a short lock_timeout, alone"
            .to_owned(),
    };
    let one = |table| Effect::on("drop-index", table, AccessExclusive, Work::None, BRIEFLY).safe(form.clone());
    std::iter::once(table).chain(below).map(one).collect()
}

fn alter_index(alter: &ast::AlterIndex, index: &str, known: &Known) -> Vec<Effect> {
    let on = |lock, why| vec![Effect::on("alter-index", index, lock, Work::None, why)];
    match alter.action() {
        Some(ast::AlterIndexAction::SetTablespace(_)) => {
            vec![Effect::on(
                "alter-index",
                index,
                AccessExclusive,
                Work::Rewrite,
                "the index is written anew while nobody uses its table",
            )]
        }
        Some(ast::AlterIndexAction::AttachIndexPartition(_)) => {
            let mut found = on(ShareUpdateExclusive, "everyone goes on");
            let parts =
                alter.syntax().descendants().filter_map(ast::PathRef::cast).filter_map(|name| super::tree::key(&name));
            let part = parts.filter(|part| part != index).last();
            let why = "the partition's own index: whoever uses the partition waits for a moment";
            found.extend(part.map(|part| Effect::on("alter-index", part, AccessExclusive, Work::None, why)));
            let child = known.indexes.get(index).cloned();
            found.extend(
                child.map(|table| Effect::on("alter-index", table, AccessShare, Work::None, "everyone goes on")),
            );
            found
        }
        _ => on(ShareUpdateExclusive, "everyone goes on"),
    }
}

fn reindexed(reindex: &ast::Reindex, known: &Known) -> Vec<Effect> {
    let concurrently = has_word(reindex.syntax(), "concurrently");
    let (lock, work, why, safe) = match concurrently {
        true => (ShareUpdateExclusive, Work::Build, "waits for older transactions, and everyone goes on", None),
        false => (
            Share,
            Work::Build,
            "nobody writes, and nobody uses the index, while it is built",
            Some("reindex … concurrently".to_owned()),
        ),
    };
    let table = match reindex.reindex_target() {
        Some(ReindexTarget::ReindexTargetIndex(target)) => {
            let index = named(&target).unwrap_or_default();
            known.indexes.get(&index).cloned().unwrap_or_else(|| format!("the table of {index}"))
        }
        Some(ReindexTarget::ReindexTargetTable(target)) => named(&target).unwrap_or_default(),
        _ => "every table".to_owned(),
    };
    vec![Effect { safe, ..Effect::on("reindex", table, lock, work, why) }]
}
