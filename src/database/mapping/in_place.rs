//! The mapping of a plan in place: the tables whose rows its cleanup rules name, each onto itself. Pure.

use super::parked::left_behind;
use super::{LeftBehind, Mapping, MappingProblem, resolve};
use crate::database::catalog::Catalog;
use crate::plan::{Plan, TableName};
use std::collections::BTreeMap;

/// What the rules of a plan in place match in its one database: the tables as a mapping, and the rows of each.
///
/// # Errors
/// Every rule that cannot be carried out there, at once.
pub fn left_in_place(plan: &Plan, catalog: &Catalog) -> Result<(Mapping, Vec<LeftBehind>), Vec<MappingProblem>> {
    let is_swept = |name: &TableName| plan.cleanup.iter().any(|rule| rule.table == *name);
    let problems: Vec<MappingProblem> =
        plan.cleanup.iter().filter_map(|rule| unswept(&rule.table, &rule.name, catalog)).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    // Tables without a rule stay as they are; those of rules need a key, and nothing else of a copy.
    let own = catalog.roots().map(|table| table.name.clone()).filter(|name| !is_swept(name)).collect();
    let plan = Plan { own, drop: Vec::new(), carry: BTreeMap::new(), values: BTreeMap::new(), ..plan.clone() };
    let values = BTreeMap::new();
    Ok((resolve(&plan, catalog, catalog, &values)?, left_behind(&plan, catalog, catalog, &values)?))
}

/// Why a rule's table cannot be swept, if it cannot.
fn unswept(table: &TableName, rule: &str, catalog: &Catalog) -> Option<MappingProblem> {
    let problem = |what: String, hint: &str| MappingProblem {
        table: table.clone(),
        what: format!("cleanup rule {rule}: {what}"),
        hint: hint.to_owned(),
    };
    match catalog.table(table) {
        None => Some(problem("there is no such table".to_owned(), "correct table:")),
        Some(found) if found.is_partitioned => Some(problem(
            "its table is partitioned".to_owned(),
            "give each partition a rule of its own, or delete the rows by hand",
        )),
        Some(_) => None,
    }
}
