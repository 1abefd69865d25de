//! The way there: every table of green from blue's, generated or written, with whatever is unmapped or ambiguous told at once.

use super::parked::LeftBehind;
use super::rules::{Hanging, Judged, Rules};
use super::text::{count_sql, has_word, keep, plain, rows_sql, texts, touched};
use super::{
    Cleanup, Equality, KeyColumn, Mapping, MappingProblem, TableMapping, Touch, is_not_null, key_column, types,
};
use crate::database::catalog::{Catalog, Column, Table};
use crate::database::sql::{ident, qualified};
use crate::plan::{CarryTable, CleanupRule, CopyMethod, Plan, Sql, TableName, TouchedBy};
use std::collections::BTreeMap;

/// Resolves the plan's mapping against both catalogs. `values` are SQL literals by name, from [`ask_values`](super::ask_values).
///
/// # Errors
/// Everything that is unmapped or ambiguous, at once.
pub fn resolve(
    plan: &Plan,
    blue: &Catalog,
    green: &Catalog,
    values: &BTreeMap<String, String>,
) -> Result<Mapping, Vec<MappingProblem>> {
    let mut resolver = Resolver::new(plan, blue, green, values);
    let mapping = resolver.mapping();
    if resolver.problems.is_empty() { Ok(mapping) } else { Err(resolver.problems) }
}

/// Resolves one table after the other.
pub(super) struct Resolver<'a> {
    plan: &'a Plan,
    blue: &'a Catalog,
    green: &'a Catalog,
    values: &'a BTreeMap<String, String>,
    /// What is unmapped or ambiguous.
    pub(super) problems: Vec<MappingProblem>,
    /// What cleanup rules leave behind, of every table that has any.
    pub(super) left: Vec<LeftBehind>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        blue: &'a Catalog,
        green: &'a Catalog,
        values: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { plan, blue, green, values, problems: Vec::new(), left: Vec::new() }
    }

    pub(super) fn mapping(&mut self) -> Mapping {
        let plan = self.plan;
        // Green has a table that nobody carries only because its schema was blue's.
        let is_left = |table: &&Table| plan.copy.method == CopyMethod::Logical && plan.drop.contains(&table.name);
        let carried = self.green.roots().filter(|table| !plan.own.contains(&table.name) && !is_left(table));
        let carried: Vec<&Table> = carried.collect();
        let tables = carried.iter().filter_map(|table| self.table(table)).collect();
        let mapping = Mapping { tables };
        self.nothing_forgotten(&mapping);
        self.nothing_imagined();
        mapping
    }

    fn problem(&mut self, table: &TableName, what: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(MappingProblem { table: table.clone(), what: what.into(), hint: hint.into() });
    }

    fn filled(&self, sql: &Sql) -> String {
        sql.with_values(|name| self.values.get(name).cloned())
    }

    fn table(&mut self, green: &Table) -> Option<TableMapping> {
        let entry = self.plan.carry.get(&green.name).cloned().unwrap_or_default();
        let key = self.key(green, &entry)?;
        match &entry.from {
            Some(from) => self.written(green, &entry, key, &from.clone()),
            None => self.generated(green, &entry, key),
        }
    }

    fn key(&mut self, green: &Table, entry: &CarryTable) -> Option<Vec<KeyColumn>> {
        let names = if !entry.key.is_empty() {
            entry.key.clone()
        } else if !green.key.is_empty() {
            green.key.clone()
        } else {
            let found = green.unique.iter().find(|columns| columns.iter().all(|name| is_not_null(green, name)));
            found.cloned().unwrap_or_default()
        };
        let unique = green.unique.iter().any(|columns| columns.iter().all(|column| names.contains(column)));
        if names.is_empty() || !unique {
            self.problem(&green.name, "green has no unique key for it", "name the columns of a unique index in key:");
            return None;
        }
        if let Some(name) = names.iter().find(|name| green.column(name).is_some() && !is_not_null(green, name)) {
            self.problem(
                &green.name,
                format!("key column {name} may be null"),
                "name a key whose columns refuse null in key:",
            );
            return None;
        }
        let columns: Option<Vec<_>> = names.iter().map(|name| green.column(name).map(key_column)).collect();
        if columns.is_none() {
            self.problem(&green.name, format!("key {} is not a column", names.join(", ")), "correct key:");
        }
        columns
    }

    fn generated(&mut self, green: &Table, entry: &CarryTable, key: Vec<KeyColumn>) -> Option<TableMapping> {
        let source = entry.table.clone().unwrap_or_else(|| green.name.clone());
        let Some(blue) = self.blue.table(&source) else {
            let hint = "list it under own:, or give its carry entry table: or from:";
            self.problem(&green.name, format!("blue has no table {source}"), hint);
            return None;
        };
        let blue = blue.clone();
        let (columns, expressions) = self.expressions(green, entry, &blue);
        self.nothing_lost(green, entry, &blue);
        let judged = Judged { target: &green.name, source: Some(&blue), alias: &source.name };
        let rules = self.rules(judged);
        let origin = format!("{} as {}", qualified(&source.schema, &source.name), ident(&source.name));
        let list: Vec<String> =
            columns.iter().zip(&expressions).map(|(column, sql)| format!("{sql} as {}", ident(&column.name))).collect();
        let mut touched_by: Vec<Touch> = self.generated_touch(green, entry, &blue, &key).into_iter().collect();
        let keys = texts(&self.key_expressions(entry, &blue, &key));
        touched_by.extend(self.parents(judged, |condition| format!("select {keys} from {origin} where {condition}")));
        let mapping = TableMapping {
            driven_by: (!blue.is_partitioned).then(|| source.clone()),
            select: format!("select {} from {origin}{}", list.join(", "), keep(&rules)),
            count_sql: count_sql(&origin, &rules),
            touched_by,
            estimated_rows: blue.estimated_rows,
            ..self.mapping_of(green, entry, key, columns)
        };
        self.leave_behind(&mapping, &list, &origin, &rules);
        Some(mapping)
    }

    fn written(&mut self, green: &Table, entry: &CarryTable, key: Vec<KeyColumn>, from: &Sql) -> Option<TableMapping> {
        let columns: Vec<KeyColumn> = carried_columns(green, entry).map(key_column).collect();
        let judged = Judged { target: &green.name, source: None, alias: "m" };
        let rules = self.rules(judged);
        let origin = format!("({}) as m", self.filled(from));
        let list: Vec<String> = columns
            .iter()
            .map(|column| format!("m.{0}::{1} as {0}", ident(&column.name), types::cast_type(&column.type_sql)))
            .collect();
        let mut touched_by: Vec<Touch> =
            entry.touched_by.iter().filter_map(|(name, by)| self.written_touch(green, &key, name, by)).collect();
        let keys: Vec<String> = key.iter().map(|column| format!("m.{}::text", ident(&column.name))).collect();
        let keys = keys.join(", ");
        touched_by.extend(
            self.parents(judged, |condition| format!("select distinct {keys} from {origin} where {condition}")),
        );
        let mapping = TableMapping {
            select: format!("select {} from {origin}{}", list.join(", "), keep(&rules)),
            count_sql: count_sql(&origin, &rules),
            estimated_rows: touched_by
                .iter()
                .filter_map(|touch| self.blue.table(&touch.source))
                .map(|table| table.estimated_rows)
                .max()
                .unwrap_or(0),
            touched_by,
            ..self.mapping_of(green, entry, key, columns)
        };
        self.leave_behind(&mapping, &list, &origin, &rules);
        Some(mapping)
    }

    /// Notes what the rules of a table leave behind, by the columns and the relation from which its rows come.
    fn leave_behind(&mut self, mapping: &TableMapping, list: &[String], origin: &str, predicates: &[String]) {
        let rules = self.plan.cleanup.iter().filter(|rule| rule.table == mapping.target);
        let rules: Vec<(&CleanupRule, &String)> = rules.zip(predicates).collect();
        if !rules.is_empty() {
            self.left.push(LeftBehind::of(mapping, (list, origin), &rules));
        }
    }

    fn mapping_of(
        &self,
        green: &Table,
        entry: &CarryTable,
        key: Vec<KeyColumn>,
        columns: Vec<KeyColumn>,
    ) -> TableMapping {
        let overrides_identity = carried_columns(green, entry).any(|column| column.is_identity_always);
        let rules = self.plan.cleanup.iter().filter(|rule| rule.table == green.name);
        TableMapping {
            target: green.name.clone(),
            equality: Equality::Equal,
            key,
            columns,
            own_columns: entry.own_columns.clone(),
            overrides_identity,
            driven_by: None,
            select: String::new(),
            count_sql: String::new(),
            cleanup: rules.map(cleanup).collect(),
            touched_by: Vec::new(),
            spared: Vec::new(),
            estimated_rows: 0,
        }
    }

    /// Each carried column with the expression over blue's row that gives it.
    fn expressions(&mut self, green: &Table, entry: &CarryTable, blue: &Table) -> (Vec<KeyColumn>, Vec<String>) {
        let mut found = (Vec::new(), Vec::new());
        for column in carried_columns(green, entry) {
            let cast = types::cast_type(&column.type_sql);
            let expression = match (entry.set.get(&column.name), blue.column(&column.name)) {
                (Some(set), _) => format!("({})::{cast}", self.filled(set)),
                (None, Some(same)) if same.type_sql == column.type_sql => plain(blue, &column.name),
                (None, Some(same)) if types::may_fill(&same.type_sql, &column.type_sql) => {
                    format!("{}::{cast}", plain(blue, &column.name))
                }
                (None, Some(same)) => {
                    let (name, from, to) = (&column.name, &same.type_sql, &column.type_sql);
                    let what =
                        format!("column {name} is {from} on blue and {to} on green, and its value could change unseen");
                    self.problem(&green.name, what, "write the conversion in set:");
                    continue;
                }
                (None, None) => {
                    let hint = "give it in set:, or list it in own_columns: to leave it to its default";
                    self.problem(&green.name, format!("nothing gives column {}", column.name), hint);
                    continue;
                }
            };
            found.0.push(key_column(column));
            found.1.push(expression);
        }
        found
    }

    fn nothing_lost(&mut self, green: &Table, entry: &CarryTable, blue: &Table) {
        let used = |name: &str| entry.set.values().any(|sql| has_word(&sql.text, name));
        let lost: Vec<&str> = blue.columns.iter().map(|column| column.name.as_str()).collect();
        let lost: Vec<&str> = lost.into_iter().filter(|name| green.column(name).is_none() && !used(name)).collect();
        if !lost.is_empty() {
            let what = format!("green has no column for blue's {}", lost.join(", "));
            self.problem(&green.name, what, "use it in set:, or say with a select in from: what is taken");
        }
    }

    /// Blue's key leads to green's, for a table that is carried row by row.
    fn generated_touch(&mut self, green: &Table, entry: &CarryTable, blue: &Table, key: &[KeyColumn]) -> Option<Touch> {
        if blue.key.is_empty() {
            self.problem(&green.name, format!("blue's {} has no primary key", blue.name), "add one before the window");
            return None;
        }
        let blue_key: Vec<KeyColumn> = blue.key.iter().filter_map(|name| blue.column(name)).map(key_column).collect();
        let back = self.back_columns(green, entry, blue)?;
        let expressions = self.key_expressions(entry, blue, key);
        let from_key_alone = key.iter().all(|column| match entry.set.get(&column.name) {
            Some(set) => !blue.columns.iter().any(|column| has_word(&set.text, &column.name)),
            None => blue.key.contains(&column.name),
        });
        let keys_sql = if from_key_alone {
            format!("select {} from {}", texts(&expressions), touched(&blue_key, &blue.name.name))
        } else {
            rows_sql(&blue.name, &blue_key, &texts(&expressions))
        };
        Some(Touch { source: blue.name.clone(), source_key: blue_key, keys_sql, back })
    }

    /// What gives green's key, over blue's row.
    fn key_expressions(&self, entry: &CarryTable, blue: &Table, key: &[KeyColumn]) -> Vec<String> {
        let expression = |column: &KeyColumn| match entry.set.get(&column.name) {
            Some(set) => format!("({})::{}", self.filled(set), types::cast_type(&column.type_sql)),
            None => plain(blue, &column.name),
        };
        key.iter().map(expression).collect()
    }

    /// Touches by the parents on which the verdict of orphan rules hangs; `keys_sql` makes the query from a condition over the rows judged.
    fn parents(&mut self, judged: Judged<'_>, keys_sql: impl Fn(&str) -> String) -> Vec<Touch> {
        // What is wrong with a rule has been told when its predicate was made.
        let hanging = self.about_rules().hanging(judged).unwrap_or_default();
        let touch = |above: Hanging| Touch {
            keys_sql: keys_sql(&above.condition),
            source: above.source,
            source_key: above.source_key,
            back: Vec::new(),
        };
        hanging.into_iter().map(touch).collect()
    }

    /// The green columns that are plain copies of blue's key, by which green remembers what a row was derived from.
    fn back_columns(&mut self, green: &Table, entry: &CarryTable, blue: &Table) -> Option<Vec<String>> {
        let copied = |name: &String| {
            let by_set =
                entry.set.iter().find(|(_, sql)| sql.text.trim() == name.as_str()).map(|(column, _)| column.clone());
            let is_given = !entry.set.contains_key(name) && !entry.own_columns.contains(name);
            let same = (green.column(name).is_some() && is_given).then(|| name.clone());
            same.or(by_set)
        };
        let back: Option<Vec<String>> = blue.key.iter().map(copied).collect();
        if back.is_none() {
            let what = format!(
                "green does not keep blue's key ({}), so a deleted row could not be found",
                blue.key.join(", ")
            );
            self.problem(
                &green.name,
                what,
                "copy it into a column with set:, or write from: with touched_by: and back:",
            );
        }
        back
    }

    fn written_touch(&mut self, green: &Table, key: &[KeyColumn], name: &TableName, by: &TouchedBy) -> Option<Touch> {
        let Some(blue) = self.blue.table(name).filter(|table| !table.key.is_empty()) else {
            let what = format!("touched_by names {name}, which blue does not have or which has no primary key");
            self.problem(&green.name, what, "correct touched_by:");
            return None;
        };
        let blue_key: Vec<KeyColumn> = blue.key.iter().filter_map(|name| blue.column(name)).map(key_column).collect();
        let wrong_back = by.back.len() != blue_key.len() || by.back.iter().any(|column| green.column(column).is_none());
        if wrong_back {
            let what = format!("back: of {name} must name green columns that hold its key ({})", blue.key.join(", "));
            self.problem(&green.name, what, "one green column for each column of blue's key, in the same order");
            return None;
        }
        Some(Touch {
            source: name.clone(),
            keys_sql: self.touch_sql(name, &blue_key, key, by),
            source_key: blue_key,
            back: by.back.clone(),
        })
    }

    fn touch_sql(&self, blue: &TableName, blue_key: &[KeyColumn], key: &[KeyColumn], by: &TouchedBy) -> String {
        let sql = self.filled(&by.key);
        let is_select = sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("select"));
        if !is_select {
            let columns: Vec<String> = key.iter().map(|column| format!("g.{}::text", ident(&column.name))).collect();
            let names: Vec<String> = key.iter().map(|column| ident(&column.name)).collect();
            let inner = rows_sql(blue, blue_key, &sql);
            let none_null: Vec<String> = names.iter().map(|name| format!("g.{name} is not null")).collect();
            return format!(
                "select distinct {} from ({inner}) as g({}) where {}",
                columns.join(", "),
                names.join(", "),
                none_null.join(" and ")
            );
        }
        let columns: Vec<String> = key.iter().map(|column| format!("s.{}::text", ident(&column.name))).collect();
        let joined: Vec<String> = blue_key.iter().map(|column| format!("s.{0} = k.{0}", ident(&column.name))).collect();
        let keys = touched(blue_key, "k");
        format!("select distinct {} from ({sql}) as s join {keys} on {}", columns.join(", "), joined.join(" and "))
    }

    fn about_rules(&self) -> Rules<'_> {
        Rules { plan: self.plan, blue: self.blue, values: self.values }
    }

    fn rules(&mut self, judged: Judged<'_>) -> Vec<String> {
        let predicates = self.about_rules().predicates(judged);
        predicates.map_err(|problem| self.problems.push(problem)).unwrap_or_default()
    }

    /// Every table of blue is carried, touches something, or is dropped aloud.
    fn nothing_forgotten(&mut self, mapping: &Mapping) {
        let captured = mapping.captured();
        let forgotten: Vec<TableName> = self
            .blue
            .roots()
            .map(|table| table.name.clone())
            .filter(|name| !captured.contains(name) && !self.plan.drop.contains(name) && !self.plan.own.contains(name))
            .filter(|name| !self.problems.iter().any(|problem| problem.table == *name))
            .collect();
        for name in forgotten {
            self.problem(&name, "nothing carries this table of blue", "list it under drop:, or map it under carry:");
        }
    }

    /// Every table the plan names is there.
    fn nothing_imagined(&mut self) {
        let on_green =
            self.plan.own.iter().chain(self.plan.carry.keys()).chain(self.plan.cleanup.iter().map(|rule| &rule.table));
        let missing: Vec<TableName> = on_green.filter(|name| self.green.table(name).is_none()).cloned().collect();
        for name in missing {
            self.problem(&name, "the plan names this table and green does not have it", "correct the plan");
        }
    }
}

fn cleanup(rule: &CleanupRule) -> Cleanup {
    Cleanup { rule: rule.name.clone(), cap_rows: rule.cap_rows, cap_percent: rule.cap_percent }
}

fn carried_columns<'t>(green: &'t Table, entry: &'t CarryTable) -> impl Iterator<Item = &'t Column> {
    green.columns.iter().filter(|column| !column.is_generated && !entry.own_columns.contains(&column.name))
}
