//! The mapping from blue's tables to green's: one select per carried table and the way from a touched blue row to green keys.
//!
//! Resolved once, from both catalogs, after green has its final schema; whatever is unmapped or ambiguous is refused before a row
//! moves. The same mapping is used to copy, to keep level, and to account. Pure but for [`ask_values`].

mod judge;
mod types;

pub use judge::judge;

use super::catalog::{Catalog, Column, Table};
use super::sql::{ident, literal, qualified};
use crate::plan::{CarryTable, CleanupRule, Plan, Sql, TableName, TouchedBy};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use thiserror::Error;
use tokio_postgres::GenericClient;

/// A column of a key, with the type in which it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Its type as SQL would write it.
    pub type_sql: String,
}

/// How a touched row of a source table leads to keys of a target table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// The table of the source.
    pub source: TableName,
    /// Its key, as the change list names rows.
    pub source_key: Vec<KeyColumn>,
    /// A query on the source: one `text[]` parameter per column of `source_key`, one row per key of the target, its columns as text in
    /// key order.
    pub keys_sql: String,
    /// Columns of the target table that hold `source_key`, in the same order.
    pub back: Vec<String>,
}

/// One cleanup rule of a mapping and its caps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cleanup {
    /// The rule's name.
    pub rule: String,
    /// Most rows it may leave behind.
    pub cap_rows: u64,
    /// Most rows it may leave behind, in per cent of the table.
    pub cap_percent: f64,
}

/// One carried table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableMapping {
    /// The table of the target.
    pub target: TableName,
    /// Its key.
    pub key: Vec<KeyColumn>,
    /// The columns that are carried, in the order of `select`.
    pub columns: Vec<KeyColumn>,
    /// Columns of the target that the mapping does not give.
    pub own_columns: Vec<String>,
    /// Whether a carried column is an identity that refuses given values without `overriding system value`.
    pub overrides_identity: bool,
    /// A select over the source that gives exactly `columns`, rows left behind by a rule taken out.
    pub select: String,
    /// A query on the source with one row: all its rows, then the rows each of `cleanup` leaves behind (the first rule that matches counts).
    pub count_sql: String,
    /// The cleanup rules in it.
    pub cleanup: Vec<Cleanup>,
    /// Which tables of the source touch which of its keys.
    pub touched_by: Vec<Touch>,
    /// The server's estimate of its rows on the source, for ordering work; 0 when unknown.
    pub estimated_rows: u64,
}

/// All carried tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// In the order of their names.
    pub tables: Vec<TableMapping>,
}

impl Mapping {
    /// The tables of the source whose changes touch anything, each once.
    #[must_use]
    pub fn captured(&self) -> Vec<TableName> {
        let touches = self.tables.iter().flat_map(|table| &table.touched_by);
        touches.map(|touch| touch.source.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The tables of the target that are carried.
    #[must_use]
    pub fn carried(&self) -> Vec<TableName> {
        self.tables.iter().map(|table| table.target.clone()).collect()
    }
}

/// Something that is unmapped or ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MappingProblem {
    /// The table it is about.
    pub table: TableName,
    /// What is wrong.
    pub what: String,
    /// What to write in the plan.
    pub hint: String,
}

impl fmt::Display for MappingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.table, self.what, self.hint)
    }
}

/// Why the plan's `values` could not be asked of green.
#[derive(Debug, Error)]
pub enum ValueError {
    /// The server refused the question.
    #[error("ask green for value {name}")]
    Server {
        /// The value.
        name: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Not one row with one value.
    #[error("ask green for value {name}: {rows} rows, one is wanted, and not null")]
    NotOne {
        /// The value.
        name: String,
        /// How many rows came.
        rows: usize,
    },
}

/// Asks green once for each of the plan's `values`; answers each as an SQL literal with its type, ready to stand for `$name`.
///
/// # Errors
/// When a question is refused or has not exactly one answer.
pub async fn ask_values(
    green: &impl GenericClient,
    values: &BTreeMap<String, Sql>,
) -> Result<BTreeMap<String, String>, ValueError> {
    let mut answers = BTreeMap::new();
    for (name, question) in values {
        let sql = format!(
            "select pg_catalog.format_type(pg_catalog.pg_typeof(v)::oid, null), v::text from ({}) as q(v)",
            question.text
        );
        let failed = |source| ValueError::Server { name: name.clone(), source };
        let rows = green.query(&sql, &[]).await.map_err(failed)?;
        let value: Option<String> = rows.first().and_then(|row| row.get(1));
        match (rows.len(), value) {
            (1, Some(value)) => {
                let kind: String = rows[0].get(0);
                answers.insert(name.clone(), format!("{}::{kind}", literal(&value)));
            }
            (rows, _) => return Err(ValueError::NotOne { name: name.clone(), rows }),
        }
    }
    Ok(answers)
}

/// Resolves the plan's mapping against both catalogs. `values` are SQL literals by name, from [`ask_values`].
///
/// # Errors
/// Everything that is unmapped or ambiguous, at once.
pub fn resolve(
    plan: &Plan,
    blue: &Catalog,
    green: &Catalog,
    values: &BTreeMap<String, String>,
) -> Result<Mapping, Vec<MappingProblem>> {
    let mut resolver = Resolver { plan, blue, green, values, problems: Vec::new() };
    let carried: Vec<&Table> = green.roots().filter(|table| !plan.own.contains(&table.name)).collect();
    let tables = carried.iter().filter_map(|table| resolver.table(table)).collect();
    let mapping = Mapping { tables };
    resolver.nothing_forgotten(&mapping);
    resolver.nothing_imagined();
    if resolver.problems.is_empty() { Ok(mapping) } else { Err(resolver.problems) }
}

struct Resolver<'a> {
    plan: &'a Plan,
    blue: &'a Catalog,
    green: &'a Catalog,
    values: &'a BTreeMap<String, String>,
    problems: Vec<MappingProblem>,
}

impl Resolver<'_> {
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
        let rules = self.rules(&green.name);
        let origin = format!("{} as {}", qualified(&source.schema, &source.name), ident(&source.name));
        let list: Vec<String> =
            columns.iter().zip(&expressions).map(|(column, sql)| format!("{sql} as {}", ident(&column.name))).collect();
        let touch = self.generated_touch(green, entry, &blue, &key);
        Some(TableMapping {
            select: format!("select {} from {origin}{}", list.join(", "), keep(&rules)),
            count_sql: count_sql(&origin, &rules),
            touched_by: touch.into_iter().collect(),
            estimated_rows: blue.estimated_rows,
            ..self.mapping_of(green, entry, key, columns)
        })
    }

    fn written(&mut self, green: &Table, entry: &CarryTable, key: Vec<KeyColumn>, from: &Sql) -> Option<TableMapping> {
        let columns: Vec<KeyColumn> = carried_columns(green, entry).map(key_column).collect();
        let rules = self.rules(&green.name);
        let origin = format!("({}) as m", self.filled(from));
        let list: Vec<String> = columns
            .iter()
            .map(|column| format!("m.{0}::{1} as {0}", ident(&column.name), types::cast_type(&column.type_sql)))
            .collect();
        let touched_by: Vec<Touch> =
            entry.touched_by.iter().filter_map(|(name, by)| self.written_touch(green, &key, name, by)).collect();
        Some(TableMapping {
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
        })
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
            key,
            columns,
            own_columns: entry.own_columns.clone(),
            overrides_identity,
            select: String::new(),
            count_sql: String::new(),
            cleanup: rules.map(cleanup).collect(),
            touched_by: Vec::new(),
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
        let expressions: Vec<String> = key
            .iter()
            .map(|column| match entry.set.get(&column.name) {
                Some(set) => format!("({})::{}", self.filled(set), types::cast_type(&column.type_sql)),
                None => plain(blue, &column.name),
            })
            .collect();
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

    /// The green columns that are plain copies of blue's key, by which green remembers what a row was derived from.
    fn back_columns(&mut self, green: &Table, entry: &CarryTable, blue: &Table) -> Option<Vec<String>> {
        let copied = |name: &String| {
            let by_set =
                entry.set.iter().find(|(_, sql)| sql.text.trim() == name.as_str()).map(|(column, _)| column.clone());
            let same = (green.column(name).is_some() && !entry.set.contains_key(name)).then(|| name.clone());
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

    fn rules(&self, table: &TableName) -> Vec<String> {
        let rules = self.plan.cleanup.iter().filter(|rule| rule.table == *table);
        rules.map(|rule| self.filled(&rule.predicate)).collect()
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

fn key_column(column: &Column) -> KeyColumn {
    KeyColumn { name: column.name.clone(), type_sql: column.type_sql.clone() }
}

fn is_not_null(table: &Table, name: &str) -> bool {
    table.column(name).is_some_and(|column| column.not_null)
}

fn carried_columns<'t>(green: &'t Table, entry: &'t CarryTable) -> impl Iterator<Item = &'t Column> {
    green.columns.iter().filter(|column| !column.is_generated && !entry.own_columns.contains(&column.name))
}

fn plain(blue: &Table, column: &str) -> String {
    format!("{}.{}", ident(&blue.name.name), ident(column))
}

/// Whether SQL text mentions a name as a word of its own.
fn has_word(sql: &str, name: &str) -> bool {
    sql.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word.eq_ignore_ascii_case(name))
}

fn texts(expressions: &[String]) -> String {
    expressions.iter().map(|sql| format!("({sql})::text")).collect::<Vec<_>>().join(", ")
}

/// The touched blue keys as a relation: `unnest($1::text[], …)` with the key's types.
fn touched(key: &[KeyColumn], alias: &str) -> String {
    let arrays: Vec<String> = (1..=key.len()).map(|place| format!("${place}::text[]")).collect();
    let raw: Vec<String> = (1..=key.len()).map(|place| format!("c{place}")).collect();
    let typed: Vec<String> = key
        .iter()
        .zip(&raw)
        .map(|(column, raw)| format!("u.{raw}::{} as {}", column.type_sql, ident(&column.name)))
        .collect();
    format!(
        "(select {} from unnest({}) as u({})) as {}",
        typed.join(", "),
        arrays.join(", "),
        raw.join(", "),
        ident(alias)
    )
}

/// A select over the touched rows of a blue table that are still there.
fn rows_sql(blue: &TableName, key: &[KeyColumn], list: &str) -> String {
    let same: Vec<String> =
        key.iter().map(|column| format!("{}.{1} = touched_key.{1}", ident(&blue.name), ident(&column.name))).collect();
    let keys = touched(key, "touched_key");
    let table = format!("{} as {}", qualified(&blue.schema, &blue.name), ident(&blue.name));
    let exists = format!("exists (select 1 from {keys} where {})", same.join(" and "));
    format!("select {list} from {table} where {exists}")
}

fn keep(rules: &[String]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let kept: Vec<String> = rules.iter().map(|rule| format!("({rule}) is not true")).collect();
    format!(" where {}", kept.join(" and "))
}

fn count_sql(origin: &str, rules: &[String]) -> String {
    let mut counts = vec!["count(*)".to_owned()];
    for (place, rule) in rules.iter().enumerate() {
        let before: Vec<String> = rules[..place].iter().map(|rule| format!("({rule}) is not true and ")).collect();
        counts.push(format!("count(*) filter (where {}({rule}) is true)", before.concat()));
    }
    format!("select {} from {origin}", counts.join(", "))
}
