//! Which statements of the running engine break or change their meaning on a new schema: each is prepared on both, never run.
//!
//! What both servers answer is compared: parameters, result columns, and for an insert the columns that it fills. A statement that the old
//! schema does not take cannot be judged, and is told as such.

mod form;
mod gather;

pub use gather::{Asked, from_file, from_statistics, from_text};

use super::lint::parse;
use serde::Serialize;
use squawk_syntax::ast::{self, AstNode, Stmt};
use thiserror::Error;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

/// Most statements looked at; the most called ones come first.
pub const MOST_STATEMENTS: usize = 5_000;
const COLUMNS: &str = "
select a.attname::text, a.attnotnull and a.attidentity = '' and a.attgenerated = '' and not a.atthasdef
  from pg_catalog.pg_attribute a
 where a.attrelid = pg_catalog.to_regclass($1::text) and a.attnum > 0 and not a.attisdropped
 order by a.attnum";

/// What becomes of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is the same on both.
    Same,
    /// The old schema does not take it either, so nobody can tell.
    Unjudged,
    /// It runs, and does or answers something else.
    Changes,
    /// It fails.
    Breaks,
}

/// One statement, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Where it was found.
    pub from: String,
    /// The line there, where there is one.
    pub line: Option<usize>,
    /// The statement.
    pub statement: String,
    /// What becomes of it.
    pub fate: Fate,
    /// Why.
    pub why: Vec<String>,
    /// The statement with its columns written out.
    pub explicit: Option<String>,
    /// How often it was called, where that is known.
    pub calls: Option<i64>,
}

/// Why statements could not be judged.
#[derive(Debug, Error)]
pub enum CompatError {
    /// A file cannot be read.
    #[error("read {path}")]
    Unreadable {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others' statements are not shown to our login.
    #[error("pg_stat_statements hides statements that were called {calls} times from our login")]
    Hidden {
        /// How often they were called.
        calls: i64,
    },
    /// A server refused what has to do with no statement.
    #[error("{act}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// What the server said.
        #[source]
        source: Error,
    },
}

/// Judges statements by two schemas. Nothing is run on either.
///
/// # Errors
/// When a server cannot be asked at all.
pub async fn check(old: &Client, new: &Client, asked: &[Asked]) -> Result<Vec<Judged>, CompatError> {
    let mut found = Vec::new();
    for one in asked.iter().take(MOST_STATEMENTS) {
        found.push(judge(old, new, one).await?);
    }
    Ok(found)
}

/// Whether a gate must say no.
#[must_use]
pub fn is_in_the_way(judged: &Judged) -> bool {
    judged.fate >= Fate::Changes
}

async fn judge(old: &Client, new: &Client, asked: &Asked) -> Result<Judged, CompatError> {
    let mut judged = Judged {
        from: asked.from.clone(),
        line: asked.line,
        statement: asked.sql.clone(),
        fate: Fate::Same,
        why: Vec::new(),
        explicit: None,
        calls: asked.calls,
    };
    let before = match described(old, &asked.sql).await? {
        Ok(before) => before,
        Err(why) => {
            judged.fate = Fate::Unjudged;
            judged.why.push(format!("the old schema does not take it: {why}"));
            return Ok(judged);
        }
    };
    let after = described(new, &asked.sql).await?;
    let columns = match filled(&asked.sql) {
        Some(table) => Some((columns_of(old, &table).await?, columns_of(new, &table).await?)),
        None => None,
    };
    weigh(&before, after, columns, &mut judged);
    Ok(judged)
}

/// The table of an insert.
fn filled(sql: &str) -> Option<String> {
    let Ok(Stmt::Insert(insert)) = parse(sql) else { return None };
    Some(insert.relation_name_ref().map(|table| table.syntax().text().to_string()).unwrap_or_default())
}

/// The columns of an insert's table in order, and whether one must be given.
type Columns = Vec<(String, bool)>;

/// What both servers said, compared; no syntax tree is held while a server is asked.
fn weigh(
    before: &Described,
    after: Result<Described, String>,
    columns: Option<(Columns, Columns)>,
    judged: &mut Judged,
) {
    let sql = judged.statement.clone();
    let parsed = parse(&sql).ok();
    match after {
        Err(why) => judged.because(Fate::Breaks, why),
        Ok(after) => compare(before, &after, parsed.as_ref(), judged),
    }
    if let (Some(Stmt::Insert(insert)), Some((old, new))) = (&parsed, &columns) {
        inserted(old, new, insert, judged);
    }
    if judged.fate >= Fate::Changes {
        let names = match &columns {
            Some((old, _)) => old.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            None => before.columns.iter().map(|(name, _)| name.clone()).collect(),
        };
        judged.explicit = parsed.and_then(|parsed| form::explicit(&sql, &parsed, &names));
    }
}

impl Judged {
    /// The same without values that a client may have sent: only a statement out of a file is its author's own word.
    #[must_use]
    pub fn told(&self) -> Self {
        if self.from != gather::STATISTICS {
            return self.clone();
        }
        let (statement, strings) = gather::masked(&self.statement);
        let bare = |why: &String| strings.iter().fold(why.clone(), |why, string| why.replace(string.as_str(), "…"));
        let explicit = self.explicit.as_deref().map(|form| gather::masked(form).0);
        Self { statement, explicit, why: self.why.iter().map(bare).collect(), ..self.clone() }
    }

    fn because(&mut self, fate: Fate, why: impl Into<String>) {
        self.fate = self.fate.max(fate);
        self.why.push(why.into());
    }
}

/// What a server says of a statement.
struct Described {
    parameters: Vec<String>,
    columns: Vec<(String, String)>,
}

/// The statement as a server sees it, or its refusal; an error when the connection is gone.
async fn described(client: &Client, sql: &str) -> Result<Result<Described, String>, CompatError> {
    match client.prepare(sql).await {
        Ok(statement) => Ok(Ok(Described {
            parameters: statement.params().iter().map(named).collect(),
            columns: statement.columns().iter().map(|one| (one.name().to_owned(), named(one.type_()))).collect(),
        })),
        Err(error) => match error.as_db_error() {
            Some(said) => Ok(Err(said.message().to_owned())),
            None => Err(CompatError::Server { act: "prepare a statement", source: error }),
        },
    }
}

fn named(ty: &Type) -> String {
    if ty.schema() == "pg_catalog" { ty.name().to_owned() } else { format!("{}.{}", ty.schema(), ty.name()) }
}

fn compare(before: &Described, after: &Described, parsed: Option<&Stmt>, judged: &mut Judged) {
    for (at, (old, new)) in before.parameters.iter().zip(&after.parameters).enumerate() {
        if old != new {
            judged.because(Fate::Changes, format!("parameter ${} is {new}, it was {old}", at + 1));
        }
    }
    let has_star = parsed.is_some_and(|parsed| {
        parsed.syntax().descendants().filter_map(ast::Target::cast).any(|target| form::is_star(&target))
    });
    let names = |columns: &[(String, String)]| columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (old, new) = (names(&before.columns), names(&after.columns));
    if old != new {
        let star = if has_star { "`*` gives " } else { "it gives " };
        let gone: Vec<&String> = old.iter().filter(|name| !new.contains(name)).collect();
        let come: Vec<&String> = new.iter().filter(|name| !old.contains(name)).collect();
        let list = |names: &[&String]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let why = match (gone.is_empty(), come.is_empty()) {
            (true, true) => "the same columns in another order".to_owned(),
            (true, false) => format!("more columns: {}", list(&come)),
            (false, true) => format!("fewer columns: {} gone", list(&gone)),
            (false, false) => format!("other columns: {} gone, {} new", list(&gone), list(&come)),
        };
        // A client that maps columns to fields stops at one that it does not know.
        judged.because(Fate::Breaks, format!("{star}{why}"));
    }
    for (name, ty) in &before.columns {
        if let Some((_, other)) = after.columns.iter().find(|(other, _)| other == name)
            && other != ty
        {
            judged.because(Fate::Changes, format!("column {name} is {other}, it was {ty}"));
        }
    }
}

/// An insert without columns fills them by place; one with columns may leave out what the new schema wants.
fn inserted(before: &Columns, after: &Columns, insert: &ast::Insert, judged: &mut Judged) {
    if before.is_empty() || after.is_empty() {
        return;
    }
    let names = |columns: &Columns| columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let listed = insert.column_target_list().map(|list| super::lint::columns(list.syntax()));
    let Some(listed) = listed else {
        let (old, new) = (names(before), names(after));
        if old != new {
            let by_place = new.starts_with(&old);
            let fate = if by_place { Fate::Changes } else { Fate::Breaks };
            judged.because(
                fate,
                format!("it fills columns by place, and they are {}, they were {}", new.join(", "), old.join(", ")),
            );
        }
        return wanted(before, after, &names(before), judged);
    };
    wanted(before, after, &listed, judged);
}

fn wanted(before: &Columns, after: &Columns, given: &[String], judged: &mut Judged) {
    for (name, is_wanted) in after {
        let was_wanted = before.iter().any(|(other, wanted)| other == name && *wanted);
        if *is_wanted && !was_wanted && !given.contains(name) {
            judged.because(Fate::Breaks, format!("column {name} refuses null and has no default, and it is not given"));
        }
    }
}

/// None when the table is not there.
async fn columns_of(client: &Client, table: &str) -> Result<Columns, CompatError> {
    let rows = client
        .query(COLUMNS, &[&table])
        .await
        .map_err(|source| CompatError::Server { act: "read a table's columns", source })?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
