//! One statement in the form that hurts nobody: the pieces it becomes, or why a person must decide.

use super::super::directive::{BATCH_ROWS, directives};
use super::super::lint::{Effect, Known, Work, has_word, named, plain, written};
use super::super::source::MigrationFile;
use super::super::split::Statement;
use super::{Change, Decision, Manner, Piece};
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode, Stmt};

/// The longest name that a server keeps.
pub(super) const NAME_BYTES: usize = 63;

/// What is told of one statement.
pub(super) struct Told<'a> {
    pub(super) file: &'a MigrationFile,
    pub(super) line: usize,
    pub(super) changes: Vec<Change>,
    pub(super) decisions: Vec<Decision>,
}

impl Told<'_> {
    pub(super) fn change(&mut self, rule: &'static str, what: impl Into<String>) {
        self.changes.push(Change { file: self.file.name.clone(), line: self.line, rule, what: what.into() });
    }

    pub(super) fn decide(&mut self, rule: &'static str, what: impl Into<String>) {
        self.in_steps(rule, what, Vec::new());
    }

    pub(super) fn in_steps(&mut self, rule: &'static str, what: impl Into<String>, steps: Vec<String>) {
        let (file, what) = (self.file.name.clone(), what.into());
        self.decisions.push(Decision { file, line: self.line, rule, what, steps });
    }
}

/// Whether its author has said how it runs, or that it may stay.
pub(super) fn is_marked(file: &MigrationFile, statement: &Statement) -> bool {
    !directives(&file.text, statement).unwrap_or_default().is_empty()
}

/// The pieces that a statement becomes, or nothing when it stays.
pub(super) fn instead(statement: &Stmt, effects: &[Effect], known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    if effects.iter().all(|effect| effect.table.as_deref().is_some_and(|table| known.is_new(table))) {
        return None;
    }
    match statement {
        Stmt::CreateIndex(create) => create_index(create, known, told),
        Stmt::DropIndex(drop) => drop_index(drop, known, told),
        Stmt::AlterTable(alter) => super::alter::alter_table(alter, known, told),
        Stmt::Update(_) | Stmt::Delete(_) => in_batches(statement, effects, known, told),
        _ => {
            left(effects, told);
            None
        }
    }
}

/// What stays although it blocks.
pub(super) fn left(effects: &[Effect], told: &mut Told<'_>) {
    let blocking = |effect: &&Effect| {
        effect.work == Work::Unknown
            || (effect.work.grows()
                && effect.lock.is_some_and(|lock| lock.stops_writers() || effect.work == Work::Rows))
    };
    for effect in effects.iter().filter(blocking) {
        let form = effect.safe.as_deref().map(|safe| format!("; {safe}")).unwrap_or_default();
        told.decide(effect.rule, format!("{}{form}", effect.why));
    }
}

pub(super) fn text(node: &SyntaxNode) -> String {
    node.text().to_string().trim().trim_end_matches(';').trim_end().to_owned()
}

pub(super) fn piece(text: impl Into<String>, manner: Manner) -> Piece {
    Piece { text: format!("{};\n", text.into()), manner }
}

/// `text` with `insert` behind the byte where `token` ends.
fn behind(node: &SyntaxNode, token: &squawk_syntax::SyntaxToken, insert: &str) -> String {
    let at = usize::from(token.text_range().end() - node.text_range().start());
    let text = node.text().to_string();
    format!("{}{insert}{}", &text[..at], &text[at..]).trim().trim_end_matches(';').trim_end().to_owned()
}

pub(super) fn cut(name: String) -> String {
    if name.len() <= NAME_BYTES { name } else { name[..name.floor_char_boundary(NAME_BYTES)].to_owned() }
}

pub(super) fn bare(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or(table)
}

fn create_index(create: &ast::CreateIndex, known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    let table = create.table_relation_name().and_then(|table| named(&table))?;
    if known.is_partitioned(&table) && !known.is_new(&table) {
        return super::partitioned::create_index(create, &table, known, told);
    }
    if create.concurrently_token().is_some() || known.is_new(&table) {
        return None;
    }
    let word = create.index_token()?;
    let mut insert = if word.text() == "INDEX" { " CONCURRENTLY" } else { " concurrently" }.to_owned();
    if create.index().is_none() {
        let Some(name) = default_index_name(create, &table, known) else {
            told.decide(
                "create-index",
                "has no name, and the server's choice of one cannot be foreseen: name it, then rewrite again",
            );
            return None;
        };
        insert.push_str(&format!(" {}", written(&name)));
    }
    if create.unique_token().is_some() {
        told.decide(
            "create-index",
            format!("rows of {table} that are equal make the unique index fail: look for them before"),
        );
    }
    told.change("create-index", "built concurrently, in a file of its own");
    Some(vec![piece(behind(create.syntax(), &word, &insert), Manner::Alone)])
}

/// The name that the server would choose, when its items are plain columns and nobody has it.
pub(super) fn default_index_name(create: &ast::CreateIndex, table: &str, known: &Known) -> Option<String> {
    // Included columns are part of the name.
    let included = create.index_include_clause().and_then(|clause| clause.partition_item_list());
    let items: Vec<String> = [Some(create.partition_item_list()?), included]
        .into_iter()
        .flatten()
        .flat_map(|list| list.partition_items())
        .map(|item| item.expr().map(|expression| plain(expression.syntax())).unwrap_or_default())
        .collect();
    let is_plain = |item: &String| !item.is_empty() && item.chars().all(|c| c.is_alphanumeric() || c == '_');
    let name = format!("{}_{}_idx", bare(table), items.join("_"));
    let schema = table.strip_suffix(bare(table)).unwrap_or_default();
    let is_free = !known.indexes.contains_key(&format!("{schema}{name}")) && name.len() <= NAME_BYTES;
    let is_twice = items.iter().enumerate().any(|(at, item)| items[..at].contains(item));
    (items.iter().all(is_plain) && is_free && !is_twice).then_some(name)
}

fn drop_index(drop: &ast::DropIndex, known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    if drop.concurrently_token().is_some() {
        return None;
    }
    let indexes: Vec<String> = drop.index_refs().map(|index| text(index.syntax())).collect();
    let tables: Vec<Option<&String>> =
        drop.index_refs().map(|index| named(&index).and_then(|name| known.indexes.get(&name))).collect();
    if tables.iter().flatten().all(|table| known.is_new(table)) && tables.iter().all(Option::is_some) {
        return None;
    }
    if has_word(drop.syntax(), "cascade") || tables.iter().flatten().any(|table| known.is_partitioned(table)) {
        told.decide("drop-index", "with `cascade`, or of a partitioned table, it cannot be dropped concurrently: with a short lock_timeout, alone");
        return None;
    }
    told.change("drop-index", "dropped concurrently, in a file of its own");
    let exists = if drop.if_exists().is_some() { "if exists " } else { "" };
    let words = if drop.drop_token().is_some_and(|word| word.text() == "DROP") {
        "DROP INDEX CONCURRENTLY"
    } else {
        "drop index concurrently"
    };
    Some(indexes.iter().map(|index| piece(format!("{words} {exists}{index}"), Manner::Alone)).collect())
}

fn in_batches(statement: &Stmt, effects: &[Effect], known: &Known, told: &mut Told<'_>) -> Option<Vec<Piece>> {
    let effect = effects.iter().find(|effect| effect.work == Work::Rows)?;
    let table = effect.table.as_deref()?;
    if known.is_new(table) {
        return None;
    }
    let key = known.tables.get(table).map(|table| table.primary_key.clone()).unwrap_or_default();
    if key.is_empty() {
        told.decide(
            effect.rule,
            format!("the key of {table} is not known here: write `-- cutover: batch key=… rows={BATCH_ROWS}` above it"),
        );
        return None;
    }
    let sql = text(statement.syntax());
    let batching = super::super::directive::Batching { key: key.clone(), rows: BATCH_ROWS };
    if let Err(why) = super::super::batch::Batch::of(&sql, &batching) {
        told.decide(effect.rule, why);
        return None;
    }
    told.change(effect.rule, format!("runs in batches by {}, in a file of its own", key.join(", ")));
    Some(vec![piece(format!("-- cutover: batch key={} rows={BATCH_ROWS}\n{sql}", key.join(",")), Manner::Alone)])
}
