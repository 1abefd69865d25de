//! The way back: tables of blue from green's, for what the plan's `reverse` brings back; whatever is ambiguous is told at once.
//!
//! A green table that was made of several of blue has no table to go back to; its revocations travel as events.

use super::rules::{Judged, Rules};
use super::text::{count_sql, has_word, plain, rows_sql, texts, touched};
use super::{Equality, KeyColumn, Mapping, MappingProblem, TableMapping, Touch, is_not_null, key_column, types};
use crate::database::catalog::{Catalog, Column, Table};
use crate::database::sql::{ident, qualified};
use crate::plan::{CarryTable, Plan, Reverse, ReverseCarry, Sql, TableName};
use std::collections::BTreeMap;

/// The column by which an engine switches a token off.
const ACTIVE: &str = "active";
/// The column by which tokens of one chain know each other.
const CHAIN: &str = "request_id";
/// Columns of green by which a touched row is known, and blue's columns that keep them. Where they are only a part of green's key, more
/// rows count as touched than were; that is harmless.
type SourceKey = (Vec<KeyColumn>, Vec<String>);

/// Resolves what goes back: a mapping whose targets are tables of blue and whose sources are green's. `values` are SQL literals by
/// name, from [`ask_values`](super::ask_values).
///
/// # Errors
/// Everything that cannot go back as the plan says, at once.
pub fn resolve_back(
    plan: &Plan,
    blue: &Catalog,
    green: &Catalog,
    values: &BTreeMap<String, String>,
) -> Result<Mapping, Vec<MappingProblem>> {
    let mut back = Back { plan, blue, green, values, problems: Vec::new() };
    let mut tables: Vec<TableMapping> =
        plan.reverse.iter().filter_map(|(name, reverse)| back.table(name, reverse)).collect();
    tables.sort_by(|a, b| a.target.cmp(&b.target));
    for pair in tables.windows(2).filter(|pair| pair[0].target == pair[1].target) {
        back.problem(&pair[0].target, "two tables of green go back to it", "let one of them be lost in reverse:");
    }
    if back.problems.is_empty() { Ok(Mapping { tables }) } else { Err(back.problems) }
}

struct Back<'a> {
    plan: &'a Plan,
    blue: &'a Catalog,
    green: &'a Catalog,
    values: &'a BTreeMap<String, String>,
    problems: Vec<MappingProblem>,
}

/// One table of green and the table of blue to which it goes back.
struct Way<'w> {
    green: &'w Table,
    blue: &'w Table,
    /// How it came.
    forward: &'w CarryTable,
    /// How it goes back.
    carry: &'w ReverseCarry,
}

impl Way<'_> {
    /// Whether green's column is what blue's column of the same name was.
    fn is_same(&self, name: &str) -> bool {
        self.forward.set.get(name).is_none_or(|set| set.text.trim() == name)
    }

    /// The column of blue that is a plain copy of green's `name`.
    fn copy_of(&self, name: &str) -> Option<String> {
        let by_set = self.carry.set.iter().find(|(_, sql)| sql.text.trim() == name).map(|(column, _)| column.clone());
        let same = self.blue.column(name).is_some() && !self.carry.set.contains_key(name) && self.is_same(name);
        by_set.or_else(|| same.then(|| name.to_owned()))
    }
}

impl Back<'_> {
    fn problem(&mut self, table: &TableName, what: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(MappingProblem { table: table.clone(), what: what.into(), hint: hint.into() });
    }

    fn filled(&self, sql: &Sql) -> String {
        sql.with_values(|name| self.values.get(name).cloned())
    }

    fn table(&mut self, name: &TableName, reverse: &Reverse) -> Option<TableMapping> {
        let whole = match reverse {
            Reverse::Carry(carry) => Some(carry),
            Reverse::Revocations => None,
            Reverse::Lose => return None,
        };
        let (blue, green) = (self.blue, self.green);
        let Some(green) = green.table(name) else {
            self.problem(name, "reverse: names this table and green does not have it", "correct the plan");
            return None;
        };
        let forward = self.plan.carry.get(name).cloned().unwrap_or_default();
        let counterpart = blue.table(forward.table.as_ref().unwrap_or(name)).filter(|_| forward.from.is_none());
        let Some(blue) = counterpart else {
            if whole.is_some() {
                let hint = "write revocations or lose for it in reverse:";
                self.problem(name, "blue has no table of its own for it, so it cannot be carried back", hint);
            }
            return None;
        };
        let carry = whole.cloned().unwrap_or_default();
        let way = Way { green, blue, forward: &forward, carry: &carry };
        if whole.is_some() { self.whole(&way) } else { self.stricter(&way) }
    }

    /// Everything goes back.
    fn whole(&mut self, way: &Way<'_>) -> Option<TableMapping> {
        self.nothing_imagined(way);
        let key = self.key(way)?;
        let mut given = Vec::new();
        let mut own_columns = Vec::new();
        for column in way.blue.columns.iter().filter(|column| !column.is_generated) {
            let gives = way.carry.set.contains_key(&column.name) || way.green.column(&column.name).is_some();
            if gives {
                given.extend(self.expression(way, column).map(|sql| (column, sql)));
                continue;
            }
            if column.not_null && !column.has_default {
                let what =
                    format!("green gives nothing for column {}, which refuses null and has no default", column.name);
                self.problem(&way.green.name, what, "give it in set: under reverse:");
            }
            own_columns.push(column.name.clone());
        }
        self.mapping(way, Equality::Equal, key, &given, own_columns)
    }

    /// Only deletes and deactivations go back: the key, and whether the row is switched on.
    fn stricter(&mut self, way: &Way<'_>) -> Option<TableMapping> {
        let key = self.key(way)?;
        let is_switch = |table: &Table| table.column(ACTIVE).is_some_and(|column| column.type_sql == "boolean");
        let active = (is_switch(way.blue) && is_switch(way.green)).then(|| ACTIVE.to_owned());
        let chain = way.blue.column(CHAIN).map(|column| column.name.clone());
        let names = key.iter().map(|column| &column.name).chain(&active);
        let columns: Vec<&Column> = names.filter_map(|name| way.blue.column(name)).collect();
        let given: Vec<(&Column, String)> =
            columns.into_iter().filter_map(|column| self.expression(way, column).map(|sql| (column, sql))).collect();
        self.mapping(way, Equality::Stricter { active, chain }, key, &given, Vec::new())
    }

    /// The columns by which rows are asked for: the plan's, or those by which they came when they are unique on blue, or blue's key.
    fn key(&mut self, way: &Way<'_>) -> Option<Vec<KeyColumn>> {
        let came_by = if way.forward.key.is_empty() { &way.green.key } else { &way.forward.key };
        let on_blue: Vec<String> = came_by.iter().filter(|name| way.blue.column(name).is_some()).cloned().collect();
        let came_by_holds = is_unique(way.blue, &on_blue) && on_blue.iter().all(|name| way.copy_of(name).is_some());
        let names = match () {
            () if !way.carry.key.is_empty() => way.carry.key.clone(),
            () if came_by_holds => on_blue,
            () => way.blue.key.clone(),
        };
        if names.is_empty() || !is_unique(way.blue, &names) {
            let what = format!("blue has no unique key ({}) without nulls for its way back", names.join(", "));
            self.problem(&way.green.name, what, "name the columns of a unique index of blue in key: under reverse:");
            return None;
        }
        Some(names.iter().filter_map(|name| way.blue.column(name)).map(key_column).collect())
    }

    /// What gives a column of blue, as SQL over green's row.
    fn expression(&mut self, way: &Way<'_>, column: &Column) -> Option<String> {
        let cast = types::cast_type(&column.type_sql);
        if let Some(set) = way.carry.set.get(&column.name) {
            return Some(format!("({})::{cast}", self.filled(set)));
        }
        let name = &column.name;
        let hint = "write in set: under reverse: how it goes back";
        let Some(same) = way.green.column(name) else {
            self.problem(&way.green.name, format!("green has no column {name} to go back by"), hint);
            return None;
        };
        if !way.is_same(name) {
            let what = format!("column {name} was changed by set: on its way to green");
            self.problem(&way.green.name, what, hint);
            return None;
        }
        if same.type_sql == column.type_sql {
            return Some(plain(way.green, name));
        }
        if types::may_fill(&same.type_sql, &column.type_sql) {
            return Some(format!("{}::{cast}", plain(way.green, name)));
        }
        let (from, to) = (&same.type_sql, &column.type_sql);
        let what = format!("column {name} is {from} on green and {to} on blue, and its value could change unseen");
        self.problem(&way.green.name, what, hint);
        None
    }

    fn mapping(
        &mut self,
        way: &Way<'_>,
        equality: Equality,
        key: Vec<KeyColumn>,
        given: &[(&Column, String)],
        own_columns: Vec<String>,
    ) -> Option<TableMapping> {
        let source = &way.green.name;
        let origin = format!("{} as {}", qualified(&source.schema, &source.name), ident(&source.name));
        let list: Vec<String> = given.iter().map(|(column, sql)| format!("{sql} as {}", ident(&column.name))).collect();
        Some(TableMapping {
            target: way.blue.name.clone(),
            equality,
            touched_by: vec![self.touch(way, &key, given)?],
            key,
            columns: given.iter().map(|(column, _)| key_column(column)).collect(),
            own_columns,
            overrides_identity: given.iter().any(|(column, _)| column.is_identity_always),
            select: format!("select {} from {origin}", list.join(", ")),
            count_sql: count_sql(&origin, &[]),
            cleanup: Vec::new(),
            driven_by: None,
            spared: self.spared(way),
            estimated_rows: way.green.estimated_rows,
        })
    }

    /// What cleanup rules left behind on blue.
    fn spared(&mut self, way: &Way<'_>) -> Vec<String> {
        let rules = Rules { plan: self.plan, blue: self.blue, values: self.values };
        let judged = Judged { target: &way.green.name, source: Some(way.blue), alias: &way.blue.name.name };
        rules.predicates(judged).map_err(|problem| self.problems.push(problem)).unwrap_or_default()
    }

    /// A row of green leads to blue by what its key gives there.
    fn touch(&mut self, way: &Way<'_>, key: &[KeyColumn], given: &[(&Column, String)]) -> Option<Touch> {
        let Some((source_key, back)) = source_key(way) else {
            let what = "blue keeps no column of a unique key of green, so a row deleted on green could not be found";
            self.problem(&way.green.name, what, "copy one into a column of blue with set: under reverse:");
            return None;
        };
        let expressions: Vec<String> = key
            .iter()
            .filter_map(|column| given.iter().find(|(c, _)| c.name == column.name))
            .map(|(_, sql)| sql.clone())
            .collect();
        let is_known = |column: &Column| source_key.iter().any(|known| known.name == column.name);
        let from_key_alone = way
            .green
            .columns
            .iter()
            .filter(|column| {
                expressions.iter().any(|sql| has_word(sql, &column.name) || sql.contains(&ident(&column.name)))
            })
            .all(is_known);
        let keys_sql = if from_key_alone {
            format!("select {} from {}", texts(&expressions), touched(&source_key, &way.green.name.name))
        } else {
            rows_sql(&way.green.name, &source_key, &texts(&expressions))
        };
        Some(Touch { source: way.green.name.clone(), source_key, keys_sql, back })
    }

    /// What the plan names is there.
    fn nothing_imagined(&mut self, way: &Way<'_>) {
        let named = way.carry.set.keys().chain(&way.carry.key);
        let missing: Vec<&String> = named.filter(|name| way.blue.column(name).is_none()).collect();
        for name in missing {
            self.problem(
                &way.green.name,
                format!("reverse: names column {name} and blue does not have it"),
                "correct the plan",
            );
        }
    }
}

/// Whether no two rows of a table share these columns and none of them is ever null.
fn is_unique(table: &Table, names: &[String]) -> bool {
    table.unique.iter().any(|columns| columns.iter().all(|column| names.contains(column)))
        && names.iter().all(|name| is_not_null(table, name))
}

/// Columns of a unique key of green that blue keeps, and blue's columns that keep them: of the primary key if it has any, otherwise of
/// another key, which is then to be green's replica identity.
fn source_key(way: &Way<'_>) -> Option<SourceKey> {
    let usable = |columns: &&Vec<String>| columns.iter().all(|name| is_not_null(way.green, name));
    let primary = (!way.green.key.is_empty()).then_some(&way.green.key);
    let others = way.green.unique.iter().filter(usable);
    primary.into_iter().chain(others).find_map(|columns| {
        let kept = columns.iter().filter_map(|name| Some((key_column(way.green.column(name)?), way.copy_of(name)?)));
        let (columns, back): SourceKey = kept.unzip();
        (!columns.is_empty()).then_some((columns, back))
    })
}
