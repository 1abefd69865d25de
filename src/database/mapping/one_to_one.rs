//! The mapping while green has blue's own schema: every table one to one, the plan's cleanup rules applied to blue's rows.

use super::{Mapping, MappingProblem, resolve};
use crate::database::catalog::Catalog;
use crate::plan::{CleanupRule, Plan, TableName};
use std::collections::BTreeMap;

/// Resolves the mapping of a copy that changes nothing. Tables of `own` and `drop` are left out: the ones came with the schema, the others
/// stay behind.
///
/// # Errors
/// Everything that cannot be copied or followed so, at once.
pub fn resolve_one_to_one(plan: &Plan, blue: &Catalog, green: &Catalog) -> Result<Mapping, Vec<MappingProblem>> {
    let plan = plan_one_to_one(plan, blue);
    let (mapping, mut problems) = match resolve(&plan, blue, green, &BTreeMap::new()) {
        Ok(mapping) => (mapping, Vec::new()),
        Err(problems) => (Mapping::default(), problems),
    };
    let left = |name: &TableName| plan.own.contains(name);
    problems.extend(
        green.roots().filter(|table| table.is_partitioned && !left(&table.name)).map(|table| partitioned(&table.name)),
    );
    if problems.is_empty() { Ok(mapping) } else { Err(problems) }
}

/// The plan as it holds while green has blue's own schema.
pub(super) fn plan_one_to_one(plan: &Plan, blue: &Catalog) -> Plan {
    let left_out = |name: &&TableName| blue.table(name).is_some();
    Plan {
        own: plan.own.iter().chain(&plan.drop).filter(left_out).cloned().collect(),
        carry: BTreeMap::new(),
        values: BTreeMap::new(),
        cleanup: plan.cleanup.iter().map(|rule| on_blue(plan, rule)).collect(),
        ..plan.clone()
    }
}

/// A key of a partitioned table cannot adopt an index that was built after the rows; told before they are copied in vain.
fn partitioned(name: &TableName) -> MappingProblem {
    MappingProblem {
        table: name.clone(),
        what: "it is partitioned, and its keys cannot be built after its rows".to_owned(),
        hint: "list it under drop: and bring its rows yourself, or have green's migrations make it unpartitioned with method: carry".to_owned(),
    }
}

/// The rule under the name that its table has on blue.
fn on_blue(plan: &Plan, rule: &CleanupRule) -> CleanupRule {
    let source = plan.carry.get(&rule.table).and_then(|mapping| mapping.table.clone());
    CleanupRule { table: source.unwrap_or_else(|| rule.table.clone()), ..rule.clone() }
}
