//! Rows that cleanup rules leave behind, as mappings of their own: each table's into its archive on green. Pure.
//!
//! An archive is derived, touched and keyed as its table is, so that keeping level moves a row from one to the other in one transaction when
//! its verdict changes, and the archive is exact for every batch's snapshot.

use super::resolve::Resolver;
use super::{KeyColumn, Mapping, MappingProblem, TableMapping, resolve_one_to_one_plan};
use crate::database::catalog::Catalog;
use crate::database::sql::{ident, literal};
use crate::plan::{CleanupRule, Plan, TableName};
use std::collections::BTreeMap;

/// The column of an archive that names the rule; the first one that matches, as the account has it.
pub const RULE: &str = "cutover_rule";
/// Longest name of a table.
const LONGEST_NAME: usize = 63;

/// The rows of one table that its rules leave behind.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftBehind {
    /// The table of green that they would be in.
    pub table: TableName,
    /// Their mapping: the table's columns and [`RULE`], into its archive.
    pub rows: TableMapping,
    /// For rules over rows of one table of blue: that table, and each rule's rows there as a select of all its columns.
    pub on_source: Option<(TableName, Vec<String>)>,
    /// The rules whose rows are kept in the archive.
    pub parked: Vec<String>,
    /// Each rule with what it says of a row, as SQL over the rows under the name of blue's table.
    pub predicates: Vec<(String, String)>,
}

/// What every table's rules leave behind. `values` are SQL literals by name.
///
/// # Errors
/// Everything that is unmapped or ambiguous, at once.
pub fn left_behind(
    plan: &Plan,
    blue: &Catalog,
    green: &Catalog,
    values: &BTreeMap<String, String>,
) -> Result<Vec<LeftBehind>, Vec<MappingProblem>> {
    let mut resolver = Resolver::new(plan, blue, green, values);
    resolver.mapping();
    if resolver.problems.is_empty() { Ok(resolver.left) } else { Err(resolver.problems) }
}

/// The same while green has blue's own schema.
///
/// # Errors
/// Everything that cannot be copied or followed so, at once.
pub fn left_behind_one_to_one(
    plan: &Plan,
    blue: &Catalog,
    green: &Catalog,
) -> Result<Vec<LeftBehind>, Vec<MappingProblem>> {
    left_behind(&resolve_one_to_one_plan(plan, blue), blue, green, &BTreeMap::new())
}

/// The archives of rules that keep their rows, as a mapping.
///
/// # Errors
/// A table whose archive would have too long a name.
pub fn parked(left: &[LeftBehind]) -> Result<Mapping, Vec<MappingProblem>> {
    let with_archive = || left.iter().filter(|left| !left.parked.is_empty());
    let too_long = with_archive().filter(|left| left.rows.target.name.len() > LONGEST_NAME);
    let problems: Vec<MappingProblem> = too_long.map(|left| unnamed(&left.table)).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let archive = |left: &LeftBehind| {
        let names: Vec<String> = left.parked.iter().map(|name| literal(name)).collect();
        let select =
            format!("select * from ({}) as l where l.{} in ({})", left.rows.select, ident(RULE), names.join(", "));
        TableMapping { select, ..left.rows.clone() }
    };
    Ok(Mapping { tables: with_archive().map(archive).collect() })
}

fn unnamed(table: &TableName) -> MappingProblem {
    MappingProblem {
        table: table.clone(),
        what: "its name is too long for an archive of the rows that cleanup rules leave behind".to_owned(),
        hint: "write park: false in these rules".to_owned(),
    }
}

/// Where the rows of a table are kept that are left behind: in our own schema, which the application never sees.
#[must_use]
pub fn archive_of(table: &TableName) -> TableName {
    let name = match table.schema.as_str() {
        "public" => format!("parked_{}", table.name),
        schema => format!("parked_{schema}.{}", table.name),
    };
    TableName { schema: "cutover".to_owned(), name }
}

impl LeftBehind {
    /// From a table's mapping, what it selects, from where, and its rules with their predicates.
    pub(super) fn of(
        mapping: &TableMapping,
        (list, origin): (&[String], &str),
        rules: &[(&CleanupRule, &String)],
    ) -> Self {
        let matches = |place: usize| {
            let before: Vec<String> =
                rules[..place].iter().map(|(_, sql)| format!("({sql}) is not true and ")).collect();
            format!("{}({}) is true", before.concat(), rules[place].1)
        };
        let cases: Vec<String> = rules
            .iter()
            .map(|(rule, sql)| format!("when ({sql}) is true then {}::text", literal(&rule.name)))
            .collect();
        let any: Vec<String> = rules.iter().map(|(_, sql)| format!("({sql}) is true")).collect();
        let select = format!(
            "select {}, case {} end as {} from {origin} where {}",
            list.join(", "),
            cases.join(" "),
            ident(RULE),
            any.join(" or ")
        );
        let rule = KeyColumn { name: RULE.to_owned(), type_sql: "text".to_owned() };
        let on_source = mapping.driven_by.clone().map(|source| {
            let rows =
                |place: usize| format!("select {}.* from {origin} where {}", ident(&source.name), matches(place));
            (source.clone(), (0..rules.len()).map(rows).collect())
        });
        Self {
            table: mapping.target.clone(),
            on_source,
            parked: rules.iter().filter(|(rule, _)| rule.park).map(|(rule, _)| rule.name.clone()).collect(),
            predicates: rules.iter().map(|(rule, sql)| (rule.name.clone(), (*sql).clone())).collect(),
            rows: TableMapping {
                target: archive_of(&mapping.target),
                columns: mapping.columns.iter().cloned().chain([rule]).collect(),
                own_columns: Vec::new(),
                overrides_identity: false,
                driven_by: None,
                select,
                ..mapping.clone()
            },
        }
    }
}
