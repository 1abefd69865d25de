//! What each statement locks and does. What is not listed is unknown, and unknown is never called safe.

use super::known::Known;
use super::lock::{Effect, Lock, Work};
use super::tables::one_light;
use super::tree::{has_word, named, relations};
use super::{alter_table, indexes, rows, tables};
use squawk_syntax::ast::{self, AstNode, Stmt};

use Lock::{AccessExclusive, Share, ShareUpdateExclusive};

/// Why a lock on everything matters although nothing is done under it.
pub(super) const BRIEFLY: &str = "changes the catalog alone, but waits for everyone and lets everyone wait";

/// The effects of a statement, given what is known before it.
#[must_use]
pub fn effects(statement: &Stmt, known: &Known) -> Vec<Effect> {
    let mut found = match statement {
        Stmt::AlterTable(alter) => alter_table::effects(alter, known),
        Stmt::Do(_) => vec![Effect::unknown("a block of code may do anything; write its statements out")],
        Stmt::Execute(_) => vec![Effect::unknown("runs what was prepared elsewhere; write the statement out")],
        Stmt::Call(_) => vec![Effect::unknown("a procedure may do anything; write its statements out")],
        _ => indexes::indexes(statement, known)
            .or_else(|| tables::tables(statement, known))
            .or_else(|| tables::views(statement, known))
            .or_else(|| rows::rows(statement, known))
            .or_else(|| types(statement, known))
            .or_else(|| others(statement, known))
            .unwrap_or_else(|| vec![Effect::unknown("this kind of statement is not understood here")]),
    };
    found.dedup();
    found
}

/// Types, domains and extensions.
fn types(statement: &Stmt, known: &Known) -> Option<Vec<Effect>> {
    Some(match statement {
        Stmt::AlterDomain(alter) => {
            let domain = alter.domain_ref().and_then(|domain| named(&domain)).unwrap_or_default();
            alter_domain(alter, &domain, known)
        }
        Stmt::AlterType(alter) if has_word(alter.syntax(), "cascade") => {
            vec![Effect::unknown("tables that are made of this type change with it, each as if it were altered itself")]
        }
        Stmt::AlterType(_) => vec![Effect::nothing("type", "no table is locked")],
        Stmt::AlterExtension(alter)
            if matches!(alter.action(), Some(ast::AlterExtensionAction::AlterExtensionUpdate(_))) =>
        {
            vec![Effect::unknown("the extension's own script runs, and may alter its tables")]
        }
        _ => return None,
    })
}

fn others(statement: &Stmt, known: &Known) -> Option<Vec<Effect>> {
    Some(match statement {
        Stmt::Vacuum(vacuum) => {
            let full = has_word(vacuum.syntax(), "full");
            let (lock, work, why) = match full {
                true => (AccessExclusive, Work::Rewrite, "the table is written anew while nobody reads it"),
                false => (ShareUpdateExclusive, Work::Scan, "everyone goes on"),
            };
            every(relations(vacuum.syntax())).map(|table| Effect::on("vacuum", table, lock, work, why)).collect()
        }
        Stmt::Analyze(analyze) => every(relations(analyze.syntax()))
            .map(|table| Effect::on("analyze", table, ShareUpdateExclusive, Work::Scan, "everyone goes on"))
            .collect(),
        Stmt::Cluster(cluster) => {
            let table = cluster.table_name_ref().and_then(|table| named(&table)).into_iter().collect();
            every(table)
                .map(|table| {
                    Effect::on(
                        "rewrite-table",
                        table,
                        AccessExclusive,
                        Work::Rewrite,
                        "the table is written anew while nobody reads it",
                    )
                })
                .collect()
        }
        Stmt::DropStatistics(drop) => {
            let tables =
                drop.syntax().descendants().filter_map(ast::PathRef::cast).filter_map(|name| super::tree::key(&name));
            tables
                .filter_map(|name| known.statistics.get(&name).cloned())
                .flat_map(|table| one_light("statistics", Some(table)))
                .collect()
        }
        Stmt::DropSchema(_)
        | Stmt::DropType(_)
        | Stmt::DropDomain(_)
        | Stmt::DropFunction(_)
        | Stmt::DropExtension(_)
        | Stmt::DropProcedure(_)
        | Stmt::DropRoutine(_)
        | Stmt::DropAggregate(_)
        | Stmt::DropServer(_)
        | Stmt::DropForeignDataWrapper(_) => {
            if has_word(statement.syntax(), "cascade") {
                let why = "everything that depends on it goes too, each under this lock";
                vec![
                    Effect::on("drop-cascade", "every table that depends on it", AccessExclusive, Work::Unknown, why)
                        .safe("drop what depends on it by name first, and leave `cascade` out"),
                ]
            } else {
                vec![Effect::nothing("drop-object", "no table is locked")]
            }
        }
        Stmt::DropOwned(_) | Stmt::Reassign(_) => vec![Effect::on(
            "drop-cascade",
            "every table of the role",
            AccessExclusive,
            Work::Unknown,
            "each of them is locked",
        )],
        Stmt::SecurityLabel(_) => vec![Effect::nothing("comment", "no table is locked")],
        other if is_quiet(other) => vec![Effect::nothing("no-table", "no table is locked")],
        _ => return None,
    })
}

fn every(tables: Vec<String>) -> impl Iterator<Item = String> {
    let tables = if tables.is_empty() { vec!["every table".to_owned()] } else { tables };
    tables.into_iter()
}

fn alter_domain(alter: &ast::AlterDomain, domain: &str, known: &Known) -> Vec<Effect> {
    let users: Vec<String> = known
        .tables
        .iter()
        .filter(|(_, table)| table.columns.values().any(|ty| ty.trim_start_matches("public . ") == domain))
        .map(|(name, _)| name.clone())
        .collect();
    let checks = match alter.action() {
        Some(ast::AlterDomainAction::AddConstraint(add)) => add.constraint().is_none_or(|one| !one.is_not_valid()),
        Some(ast::AlterDomainAction::SetNotNull(_) | ast::AlterDomainAction::ValidateConstraint(_)) => true,
        _ => false,
    };
    if !checks {
        return vec![Effect::nothing("domain", "no table is locked")];
    }
    let users = if users.is_empty() { vec![format!("every table with a column of {domain}")] } else { users };
    let form = "alter domain … add constraint … not valid, then validate it in a quiet hour: its check of the rows stops writers in any form";
    users
        .into_iter()
        .map(|table| {
            Effect::on("domain", table, Share, Work::Scan, "its rows are checked while nobody writes").safe(form)
        })
        .collect()
}

/// Statements that lock no table.
fn is_quiet(statement: &Stmt) -> bool {
    matches!(
        statement,
        Stmt::AlterAggregate(_)
            | Stmt::AlterCollation(_)
            | Stmt::AlterDefaultPrivileges(_)
            | Stmt::AlterExtension(_)
            | Stmt::AlterFunction(_)
            | Stmt::AlterGroup(_)
            | Stmt::AlterLanguage(_)
            | Stmt::AlterProcedure(_)
            | Stmt::AlterRole(_)
            | Stmt::AlterRoutine(_)
            | Stmt::AlterSchema(_)
            | Stmt::AlterServer(_)
            | Stmt::AlterStatistics(_)
            | Stmt::AlterUser(_)
            | Stmt::AlterDatabase(_)
            | Stmt::CreateAggregate(_)
            | Stmt::CreateCast(_)
            | Stmt::CreateCollation(_)
            | Stmt::CreateDomain(_)
            | Stmt::CreateEventTrigger(_)
            | Stmt::CreateExtension(_)
            | Stmt::CreateForeignDataWrapper(_)
            | Stmt::CreateForeignTable(_)
            | Stmt::CreateFunction(_)
            | Stmt::CreateGroup(_)
            | Stmt::CreateLanguage(_)
            | Stmt::CreateOperator(_)
            | Stmt::CreateProcedure(_)
            | Stmt::CreateRole(_)
            | Stmt::CreateSchema(_)
            | Stmt::CreateSequence(_)
            | Stmt::CreateServer(_)
            | Stmt::CreateTextSearchConfiguration(_)
            | Stmt::CreateTextSearchDictionary(_)
            | Stmt::CreateType(_)
            | Stmt::CreateUser(_)
            | Stmt::CreateUserMapping(_)
            | Stmt::Deallocate(_)
            | Stmt::Discard(_)
            | Stmt::DropCollation(_)
            | Stmt::DropEventTrigger(_)
            | Stmt::DropPublication(_)
            | Stmt::DropRole(_)
            | Stmt::DropUser(_)
            | Stmt::EmptyStmt(_)
            | Stmt::Grant(_)
            | Stmt::Listen(_)
            | Stmt::Notify(_)
            | Stmt::Prepare(_)
            | Stmt::Reset(_)
            | Stmt::ResetRole(_)
            | Stmt::Revoke(_)
            | Stmt::Set(_)
            | Stmt::SetConstraints(_)
            | Stmt::SetRole(_)
            | Stmt::Show(_)
            | Stmt::Unlisten(_)
    )
}
