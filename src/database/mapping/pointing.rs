//! Where green must be clean: by which columns of green rows point to the parents of orphan rules. Pure.

use super::rules::{Judged, Rules};
use crate::database::catalog::{Catalog, Table};
use crate::plan::{CarryTable, Plan, TableName};
use std::collections::BTreeMap;

/// Rows of one table of green that must not point to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointing {
    /// The rule that leaves orphans behind.
    pub rule: String,
    /// The table of the rows.
    pub child: TableName,
    /// The table of green to which they point.
    pub parent: TableName,
    /// Columns of the one, and the columns of the other to which they point.
    pub columns: Vec<(String, String)>,
}

/// Of every orphan rule what green can be asked; nothing where its parent is not carried row by row, or is carried without its key.
#[must_use]
pub fn pointing(plan: &Plan, blue: &Catalog, green: &Catalog) -> Vec<Pointing> {
    let (no_values, otherwise) = (BTreeMap::new(), CarryTable::default());
    let rules = Rules { plan, blue, values: &no_values };
    let mut found = Vec::new();
    for child in green.roots() {
        let entry = plan.carry.get(&child.name).unwrap_or(&otherwise);
        let source = entry.table.as_ref().unwrap_or(&child.name);
        let source = blue.table(source).filter(|_| entry.from.is_none());
        let alias = source.map_or("m", |source| source.name.name.as_str());
        for orphan in rules.orphans(Judged { target: &child.name, source, alias }) {
            let on_child =
                |column: &String| if entry.from.is_some() { Some(column.clone()) } else { kept(entry, child, column) };
            let parents = rules.carriers(&orphan.parent).into_iter().filter_map(|name| green.table(&name));
            for parent in parents {
                let above = plan.carry.get(&parent.name).unwrap_or(&otherwise);
                let pairs = orphan.columns.iter().map(|(own, key)| Some((on_child(own)?, kept(above, parent, key)?)));
                if let Some(columns) = pairs.collect() {
                    let (rule, child, parent) = (orphan.rule.clone(), child.name.clone(), parent.name.clone());
                    found.push(Pointing { rule, child, parent, columns });
                }
            }
        }
    }
    found
}

/// The column of green that is a plain copy of blue's `name`.
fn kept(entry: &CarryTable, green: &Table, name: &String) -> Option<String> {
    let by_set = entry.set.iter().find(|(_, sql)| sql.text.trim() == name.as_str()).map(|(column, _)| column.clone());
    let is_given = !entry.set.contains_key(name) && !entry.own_columns.contains(name);
    (green.column(name).is_some() && is_given).then(|| name.clone()).or(by_set)
}
