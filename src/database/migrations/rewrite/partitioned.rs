//! An index on a partitioned table in the form that hurts nobody: on the parent alone, which has no rows, concurrently on each partition,
//! and each attached. The parent's index is valid when the last one is.

use super::super::lint::{Known, defined, written};
use super::statement::{Told, bare, cut, default_index_name, piece, text};
use super::{Manner, Piece};
use squawk_syntax::ast::{self, AstNode};

/// The statement in three: up to the word `index`, between that and its table, and behind the table.
struct Index {
    create: String,
    exists: &'static str,
    rest: String,
}

impl Index {
    fn of(create: &ast::CreateIndex) -> Option<Self> {
        let node = create.syntax();
        let (all, start) = (node.text().to_string(), node.text_range().start());
        let word = usize::from(create.index_token()?.text_range().end() - start);
        let table = usize::from(create.table_relation_name()?.syntax().text_range().end() - start);
        let exists = if create.if_not_exists().is_some() { "if not exists " } else { "" };
        let rest = all[table..].trim_end().trim_end_matches(';').trim_end().to_owned();
        Some(Self { create: all[..word].to_owned(), exists, rest })
    }

    fn on(&self, concurrently: &str, name: &str, only: &str, table: &str) -> String {
        let Self { create, exists, rest } = self;
        format!("{create}{concurrently} {exists}{name} on {only}{table}{rest}")
    }
}

/// A partition, and what the part of the index that lies on it is called.
struct Part {
    table: String,
    index: String,
    is_leaf: bool,
}

impl Part {
    fn index_sql(&self) -> String {
        quoted(&format!("{}{}", schema(&self.table), self.index))
    }
}

/// The pieces, or why a person must write them. An index that is for the parent only is what it has to be.
pub(super) fn create_index(
    create: &ast::CreateIndex,
    table: &str,
    known: &Known,
    told: &mut Told<'_>,
) -> Option<Vec<Piece>> {
    const RULE: &str = "create-index";
    let parent = create.table_relation_name()?;
    if parent.only_token().is_some() {
        return None;
    }
    let index = Index::of(create)?;
    let given = create.index().and_then(|name| defined(&name));
    let name = given.or_else(|| default_index_name(create, table, known));
    let parts = parts(table, known, |partition| default_index_name(create, partition, known));
    let (Some(name), Some(parts)) = (name, parts) else {
        let steps = vec![
            index.on("", "NAME", "only ", table),
            format!(
                "-- for each partition, in a file of its own\n{}",
                index.on(" concurrently", "NAME_PARTITION", "", "PARTITION")
            ),
            "-- for each partition\nalter index NAME attach partition NAME_PARTITION".to_owned(),
            is_valid("NAME"),
        ];
        let what =
            format!("{table} has partitions, and the server's choice of names for their indexes cannot be foreseen");
        told.in_steps(RULE, what, steps);
        return None;
    };
    let root = quoted(&format!("{}{name}", schema(table)));
    told.change(RULE, "on the parent alone, then concurrently on each partition in a file of its own, then attached");
    told.in_steps(RULE, complete(&root, table, &parts), vec![is_valid(&root)]);
    let parent_sql = text(parent.table_name_ref()?.syntax());
    let mut pieces = vec![piece(index.on("", &written(&name), "only ", &parent_sql), Manner::Own)];
    for part in &parts {
        let (word, only, manner) =
            if part.is_leaf { (" concurrently", "", Manner::Alone) } else { ("", "only ", Manner::Own) };
        pieces.push(piece(index.on(word, &written(&part.index), only, &quoted(&part.table)), manner));
    }
    pieces.push(piece(attached(&root, &parts, known), Manner::Own));
    Some(pieces)
}

/// A unique or primary key in the same way; columns of a primary key have to refuse null already.
pub(super) fn add_key(
    (table, table_sql): (&str, &str),
    name: Option<String>,
    columns: &[String],
    is_primary: bool,
    known: &Known,
    told: &mut Told<'_>,
) -> Option<Vec<Piece>> {
    const RULE: &str = "add-key";
    let suffix = if is_primary { "pkey".to_owned() } else { format!("{}_key", columns.join("_")) };
    let named = |table: &str| {
        let name = format!("{}_{suffix}", bare(table));
        (cut(name.clone()) == name && !known.indexes.contains_key(&format!("{}{name}", schema(table)))).then_some(name)
    };
    let list = columns.iter().map(|column| written(column)).collect::<Vec<_>>().join(", ");
    let word = if is_primary { "primary key" } else { "unique" };
    let is_null = |column: &String| known.tables.get(table).is_none_or(|table| !table.not_null.contains(column));
    if is_primary && columns.iter().any(is_null) {
        told.decide(RULE, format!("({list}) may be null: set them not null in a file before, which is rewritten too"));
        return None;
    }
    let (Some(name), Some(parts)) =
        (name.or_else(|| named(table).map(|name| written(&name))), parts(table, known, named))
    else {
        told.decide(RULE, "has partitions, and the server's choice of names for their keys cannot be foreseen: name it, then rewrite again");
        return None;
    };
    let root = format!("{}{name}", quoted_schema(table));
    told.change(RULE, "each partition's index is built concurrently and becomes its key, then the parent gets its own and they are attached");
    told.decide(RULE, format!("rows of {table} that are equal make the unique indexes fail: look for them before"));
    told.in_steps(RULE, complete(&root, table, &parts), vec![is_valid(&root)]);
    let mut pieces = Vec::new();
    for part in parts.iter().filter(|part| part.is_leaf) {
        let (index, on) = (written(&part.index), quoted(&part.table));
        pieces.push(piece(format!("create unique index concurrently {index} on {on} ({list})"), Manner::Alone));
        pieces.push(piece(format!("alter table {on} add constraint {index} {word} using index {index}"), Manner::Own));
    }
    let own = |table: &str, name: &str| format!("alter table only {table} add constraint {name} {word} ({list})");
    let above = parts.iter().filter(|part| !part.is_leaf);
    let mut keys: Vec<String> = vec![own(table_sql, &name)];
    keys.extend(above.map(|part| own(&quoted(&part.table), &written(&part.index))));
    pieces.extend(keys.into_iter().map(|key| piece(key, Manner::Own)));
    pieces.push(piece(attached(&root, &parts, known), Manner::Own));
    Some(pieces)
}

/// Each partition with the name of its part; nothing when that is not sure for one of them.
fn parts(table: &str, known: &Known, named: impl Fn(&str) -> Option<String>) -> Option<Vec<Part>> {
    let below = known.partitions(table);
    // Which part of a name with several dots is its schema cannot be told any more.
    if below.is_empty() || below.iter().any(|partition| partition.matches('.').count() > 1) {
        return None;
    }
    let part = |partition: String| {
        let index = named(&partition)?;
        let is_leaf = !known.is_partitioned(&partition);
        Some(Part { table: partition, index, is_leaf })
    };
    below.into_iter().map(part).collect()
}

fn attached(root: &str, parts: &[Part], known: &Known) -> String {
    let one = |part: &Part| {
        let above = known.tables.get(&part.table).and_then(|one| one.parent.as_deref()).unwrap_or_default();
        let whole = parts.iter().find(|other| other.table == above).map_or_else(|| root.to_owned(), Part::index_sql);
        format!("alter index {whole} attach partition {}", part.index_sql())
    };
    parts.iter().map(one).collect::<Vec<_>>().join(";\n")
}

fn complete(root: &str, table: &str, parts: &[Part]) -> String {
    let names = parts.iter().map(|part| part.table.as_str()).collect::<Vec<_>>().join(", ");
    format!(
        "{root} is not valid before every partition of {table} has its part: see that those which no file makes are among them ({names}), or \
         name the database with --url"
    )
}

fn is_valid(index: &str) -> String {
    format!("select indisvalid from pg_index where indexrelid = '{index}'::regclass")
}

/// The schema of a name with its dot, or nothing for `public`.
fn schema(name: &str) -> &str {
    name.strip_suffix(bare(name)).unwrap_or_default()
}

fn quoted_schema(name: &str) -> String {
    let schema = schema(name);
    if schema.is_empty() { String::new() } else { format!("{}.", written(schema.trim_end_matches('.'))) }
}

fn quoted(name: &str) -> String {
    name.split('.').map(written).collect::<Vec<_>>().join(".")
}
