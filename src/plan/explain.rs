//! The mapping of a plan in words: where each of green's tables gets its rows, and what of them goes back. Pure.
//!
//! Says what the plan's text says; what it leaves to the catalogs (tables of one name on both sides) is one line at the end.

use super::model::{CarryTable, Condition, CopyMethod, Plan, Reverse, Sql, TableName};

/// One green table, or a group of tables, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The table; nothing for what is said of all others.
    pub table: Option<TableName>,
    /// Sentences, the first one of the rows' origin.
    pub words: Vec<String>,
}

/// Explains the mapping, table by table in the order of their names.
#[must_use]
pub fn explain(plan: &Plan) -> Vec<Explanation> {
    let mut named: Vec<&TableName> = plan.carry.keys().chain(plan.reverse.keys()).collect();
    named.extend(plan.cleanup.iter().map(|rule| &rule.table));
    named.sort();
    named.dedup();
    let mut all: Vec<Explanation> = named.into_iter().map(|table| of_table(plan, table)).collect();
    let groups = [("green's own, never written by us", &plan.own), ("blue's, carried by nobody", &plan.drop)];
    for (words, tables) in groups.into_iter().filter(|(_, tables)| !tables.is_empty()) {
        let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
        all.push(Explanation { table: None, words: vec![format!("{}: {words}", names.join(", "))] });
    }
    if plan.copy.method == CopyMethod::Logical {
        let words = "before the migrations: every table of blue one to one; of green's own the rows come along once, of those that nobody carries none";
        all.push(Explanation { table: None, words: vec![words.to_owned()] });
    }
    let rest =
        "every other table: from blue's table of the same name, column by column; what has no counterpart is refused";
    all.push(Explanation { table: None, words: vec![rest.to_owned()] });
    all
}

fn of_table(plan: &Plan, table: &TableName) -> Explanation {
    let entry = plan.carry.get(table).cloned().unwrap_or_default();
    let mut words = vec![origin(table, &entry)];
    if !entry.key.is_empty() {
        words.push(format!("key: {}", entry.key.join(", ")));
    }
    words.extend(entry.set.iter().map(|(column, sql)| format!("{column} = {}", one_line(sql))));
    words.extend(entry.touched_by.iter().map(|(source, touch)| {
        format!("touched by {source}: key {}, held by green in {}", one_line(&touch.key), touch.back.join(", "))
    }));
    if !entry.own_columns.is_empty() {
        words.push(format!("green's own columns, kept: {}", entry.own_columns.join(", ")));
    }
    let rules = plan.cleanup.iter().filter(|rule| rule.table == *table);
    words.extend(rules.map(|rule| {
        let (rows, percent) = (rule.cap_rows, rule.cap_percent);
        let which = match &rule.condition {
            Condition::Where(predicate) => one_line(predicate),
            Condition::OrphanOf(orphan) => {
                format!("what points to a row of blue's {} that is not carried", orphan.table)
            }
        };
        let parked = if rule.park { ", kept in green's archive" } else { "" };
        format!("left behind by {}: {which}{parked}, at most {rows} rows and {percent} %: {}", rule.name, rule.because)
    }));
    words.extend(plan.reverse.get(table).into_iter().flat_map(back));
    Explanation { table: Some(table.clone()), words }
}

fn origin(table: &TableName, entry: &CarryTable) -> String {
    match (&entry.from, &entry.table) {
        (Some(from), _) => match &from.file {
            Some(file) => format!("from the select in {}", file.display()),
            None => format!("from: {}", one_line(from)),
        },
        (None, Some(source)) => format!("from blue's {source}, column by column"),
        (None, None) => format!("from blue's {table}, column by column"),
    }
}

fn back(reverse: &Reverse) -> Vec<String> {
    match reverse {
        Reverse::Revocations => {
            vec!["on the way back: only deletes and deactivations, the stricter side wins".to_owned()]
        }
        Reverse::Lose => vec!["on the way back: lost".to_owned()],
        Reverse::Carry(carry) => {
            let first = "on the way back: rows touched since green opened, column by column".to_owned();
            let set = carry.set.iter().map(|(column, sql)| format!("on the way back: {column} = {}", one_line(sql)));
            std::iter::once(first).chain(set).collect()
        }
    }
}

/// The text without its line ends, shortened where it is long.
fn one_line(sql: &Sql) -> String {
    const LONGEST: usize = 100;
    let words: Vec<&str> = sql.text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
