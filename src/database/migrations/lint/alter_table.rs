//! What the actions of `alter table` lock and do. The levels are the server's own (PostgreSQL 15); the tests hold them against a server.

use super::columns::{add_column, alter_column};
use super::constraints::{add_constraint, attach_partition, detach_partition, drop_constraint, validate_constraint};
use super::known::Known;
use super::lock::{Effect, Lock, Work};
use super::tree::{named, plain};
use squawk_syntax::ast::{self, AlterTableAction, AstNode};

use Lock::{AccessExclusive, AccessShare, ShareRowExclusive, ShareUpdateExclusive};

/// Storage parameters that need no more than `share update exclusive`.
const LIGHT: [&str; 8] = [
    "fillfactor",
    "autovacuum",
    "toast",
    "parallel_workers",
    "vacuum",
    "log_autovacuum",
    "n_distinct",
    "effective_io_concurrency",
];
/// Why a lock on everything matters although nothing is done under it.
pub(super) const TAKES_THE_LOCK: &str = "changes the catalog alone, but waits for everyone and lets everyone wait";

/// The effects of one statement.
pub(super) fn effects(alter: &ast::AlterTable, known: &Known) -> Vec<Effect> {
    let Some(table) = alter.table_relation_name().and_then(|table| named(&table)) else {
        return vec![Effect::unknown("moves every table of a tablespace")];
    };
    let mut effects = Vec::new();
    for action in alter.actions() {
        effects.extend(self::action(&table, &action, known));
    }
    let only = alter.table_relation_name().is_some_and(|name| name.only_token().is_some());
    if !only {
        recurse(&table, &mut effects, known);
    } else if known.is_partitioned(&table) {
        let own = effects.iter_mut().filter(|one| one.table.as_deref() == Some(&table) && one.work.grows());
        own.filter(|one| one.work != Work::Unknown).for_each(|one| (one.work, one.safe) = (Work::None, None));
    }
    effects
}

/// What is done to a table with partitions or children is done to them as well.
fn recurse(table: &str, effects: &mut Vec<Effect>, known: &Known) {
    const ITS_OWN: [&str; 6] =
        ["rename", "owner-or-schema", "attach-partition", "detach-partition", "replica-identity", "row-security"];
    let own: Vec<Effect> = effects
        .iter()
        .filter(|one| one.table.as_deref() == Some(table) && !ITS_OWN.contains(&one.rule))
        .cloned()
        .collect();
    for child in known.below(table) {
        effects.extend(own.iter().cloned().map(|effect| Effect { table: Some(child.clone()), ..effect }));
    }
}

fn action(table: &str, action: &AlterTableAction, known: &Known) -> Vec<Effect> {
    let brief = |rule| vec![Effect::on(rule, table, AccessExclusive, Work::None, TAKES_THE_LOCK)];
    match action {
        AlterTableAction::AddColumn(add) => add_column(table, add, known),
        AlterTableAction::AddConstraint(add) => {
            add.constraint().map(|one| add_constraint(table, &one, known)).unwrap_or_default()
        }
        AlterTableAction::AlterColumn(alter) => alter_column(table, alter, known),
        AlterTableAction::DropColumn(drop) => {
            let column =
                drop.column_name_ref().map(|column| ast::normalize_name_node(column.syntax())).unwrap_or_default();
            let mut found = brief("drop-column");
            let parents = known.parents(table, Some(&column));
            found.extend(parents.into_iter().map(|parent| dropped_key(parent, "its foreign key goes with the column")));
            found
        }
        AlterTableAction::DropConstraint(drop) => drop_constraint(table, drop, known),
        AlterTableAction::ValidateConstraint(validate) => validate_constraint(table, validate, known),
        AlterTableAction::AttachPartition(attach) => attach_partition(table, attach, known),
        AlterTableAction::DetachPartition(detach) => detach_partition(table, detach, known),
        AlterTableAction::InheritTable(inherit) => {
            let parent = inherit.table_name_ref().and_then(|parent| named(&parent)).unwrap_or_default();
            let mut found = brief("inherit");
            found.push(Effect::on("inherit", parent, ShareUpdateExclusive, Work::None, "gains a child"));
            found
        }
        AlterTableAction::NoInheritTable(inherit) => {
            let parent = inherit.table_name_ref().and_then(|parent| named(&parent)).unwrap_or_default();
            let mut found = brief("inherit");
            found.push(Effect::on("inherit", parent, AccessShare, Work::None, "loses a child"));
            found
        }
        _ => whole(table, action),
    }
}

/// Actions on the table as a whole.
fn whole(table: &str, action: &AlterTableAction) -> Vec<Effect> {
    let light = |rule, why: &str| vec![Effect::on(rule, table, ShareUpdateExclusive, Work::None, why)];
    let brief = |rule| vec![Effect::on(rule, table, AccessExclusive, Work::None, TAKES_THE_LOCK)];
    match action {
        AlterTableAction::EnableTrigger(_)
        | AlterTableAction::DisableTrigger(_)
        | AlterTableAction::EnableAlwaysTrigger(_)
        | AlterTableAction::EnableReplicaTrigger(_) => {
            vec![Effect::on("trigger", table, ShareRowExclusive, Work::None, "waits for writers and lets them wait")]
        }
        AlterTableAction::ClusterOn(_) | AlterTableAction::SetWithoutCluster(_) => light("storage", "notes an index"),
        AlterTableAction::SetOptions(_) | AlterTableAction::ResetOptions(_) => {
            let text = plain(action.syntax());
            if text.contains("user_catalog_table") || !LIGHT.iter().any(|word| text.contains(word)) {
                brief("storage")
            } else {
                light("storage", "notes a setting")
            }
        }
        AlterTableAction::SetLogged(_)
        | AlterTableAction::SetUnlogged(_)
        | AlterTableAction::SetAccessMethod(_)
        | AlterTableAction::SetTablespace(_) => {
            let why = "the whole table is written anew while nobody reads it";
            vec![
                Effect::on("rewrite-table", table, AccessExclusive, Work::Rewrite, why)
                    .safe("do it on a green database, or in a maintenance window"),
            ]
        }
        AlterTableAction::RenameColumn(_)
        | AlterTableAction::TableRenameTo(_)
        | AlterTableAction::RenameConstraint(_) => brief("rename"),
        AlterTableAction::OwnerTo(_) | AlterTableAction::SetSchema(_) => brief("owner-or-schema"),
        AlterTableAction::ReplicaIdentity(_) => brief("replica-identity"),
        AlterTableAction::EnableRls(_)
        | AlterTableAction::DisableRls(_)
        | AlterTableAction::ForceRls(_)
        | AlterTableAction::NoForceRls(_) => brief("row-security"),
        AlterTableAction::EnableRule(_)
        | AlterTableAction::DisableRule(_)
        | AlterTableAction::EnableAlwaysRule(_)
        | AlterTableAction::EnableReplicaRule(_) => brief("rule"),
        AlterTableAction::AlterConstraint(_) => brief("alter-constraint"),
        AlterTableAction::MergePartitions(_) | AlterTableAction::SplitPartition(_) => {
            vec![Effect::on(
                "rewrite-table",
                table,
                AccessExclusive,
                Work::Rewrite,
                "rows move between partitions under the lock",
            )]
        }
        _ => brief("alter-table"),
    }
}

pub(super) fn dropped_key(parent: String, why: &str) -> Effect {
    Effect::on("drop-foreign-key", parent, AccessExclusive, Work::None, format!("{why}: the other table is locked too"))
}
