//! Statements of an engine, from a server's statistics or out of files: SQL, text, and the strings of Go.

use super::super::split::split;
use super::CompatError;
use std::collections::BTreeSet;
use std::path::Path;
use tokio_postgres::Client;

/// One statement that clients send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where it was found.
    pub from: String,
    /// The line, in a file.
    pub line: Option<usize>,
    /// The statement, its parameters as `$1`.
    pub sql: String,
    /// How often it was called, in statistics.
    pub calls: Option<i64>,
}

const IS_THERE: &str = "select n.nspname::text from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'";
/// What a login reads in place of others' statements.
const HIDDEN: &str = "<insufficient privilege>";
/// Where such statements are from.
pub(super) const STATISTICS: &str = "pg_stat_statements";
const VERBS: [&str; 6] = ["select", "insert", "update", "delete", "with", "merge"];

/// What clients of this database asked, the most called first; nothing when the extension is not there.
///
/// # Errors
/// When the server refuses.
pub async fn from_statistics(client: &Client) -> Result<Option<Vec<Asked>>, CompatError> {
    let server = |source| CompatError::Server { act: "read pg_stat_statements", source };
    let Some(row) = client.query_opt(IS_THERE, &[]).await.map_err(server)? else { return Ok(None) };
    let view = crate::database::sql::qualified(row.get(0), "pg_stat_statements");
    let query = format!(
        "select s.query, sum(s.calls)::bigint from {view} s join pg_catalog.pg_database d on d.oid = s.dbid
          where d.datname = pg_catalog.current_database() and s.query not like '%cutover.%' group by 1 order by 2 desc limit {}",
        super::MOST_STATEMENTS
    );
    let rows = client.query(&query, &[]).await.map_err(server)?;
    let hidden = rows.iter().filter(|row| row.get::<_, &str>(0) == HIDDEN).map(|row| row.get::<_, i64>(1)).sum();
    if hidden > 0 {
        return Err(CompatError::Hidden { calls: hidden });
    }
    let asked = rows.iter().map(|row| Asked {
        from: STATISTICS.to_owned(),
        line: None,
        sql: row.get(0),
        calls: Some(row.get(1)),
    });
    Ok(Some(asked.filter(|one| is_query(&one.sql)).collect()))
}

/// The statements of a file: the strings of `.go` that begin like one, everything else cut at semicolons.
///
/// # Errors
/// When it cannot be read as text.
pub fn from_file(path: &Path) -> Result<Vec<Asked>, CompatError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CompatError::Unreadable { path: path.to_owned(), source })?;
    Ok(from_text(&path.display().to_string(), &text))
}

/// The statements of a file that was read already.
#[must_use]
pub fn from_text(name: &str, text: &str) -> Vec<Asked> {
    let found = if name.ends_with(".go") { go_strings(text) } else { vec![(1, text.to_owned())] };
    let mut asked = Vec::new();
    let mut seen = BTreeSet::new();
    for (line, text) in found {
        for statement in split(&text) {
            let sql = numbered(&statement.text);
            if is_query(&sql) && seen.insert(sql.clone()) {
                let from = name.to_owned();
                asked.push(Asked { from, line: Some(line + statement.line - 1), sql, calls: None });
            }
        }
    }
    asked
}

/// A statement without its strings and comments, and the strings: statistics may keep one as a client sent it.
pub(super) fn masked(sql: &str) -> (String, Vec<String>) {
    use super::super::split::{Token, next};
    let (mut out, mut at, mut strings) = (String::new(), 0, Vec::new());
    while let Some((token, length)) = next(&sql[at..]) {
        let piece = &sql[at..at + length];
        if token == Some(Token::Sign('\'')) {
            strings.push(piece.trim_matches(|c| c == '\'').to_owned());
            out.push_str("'…'");
        } else if token.is_none() && piece.starts_with(['-', '/']) {
            // Comments of clients carry what they like.
            out.push(' ');
        } else {
            out.push_str(piece);
        }
        at += length;
    }
    strings.retain(|string| !string.is_empty());
    (out, strings)
}

fn is_query(sql: &str) -> bool {
    split(sql).first().is_some_and(|statement| VERBS.iter().any(|verb| statement.begins(&[verb])))
}

/// Strings of Go with their lines: raw ones and quoted ones; neighbours joined by `+` are one.
fn go_strings(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut at, mut line, mut joins) = (0, 1, false);
    while let Some(letter) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, string) = match letter {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), None),
            '`' => {
                let end = rest[1..].find('`').unwrap_or(rest.len() - 1);
                ((end + 2).min(rest.len()), Some(rest[1..=end].to_owned()))
            }
            '"' => quoted(rest),
            '\'' => (
                rest[1..]
                    .char_indices()
                    .find(|(at, c)| *c == '\'' && !rest[1..=*at].ends_with('\\'))
                    .map_or(1, |(end, _)| end + 2),
                None,
            ),
            other => (other.len_utf8(), None),
        };
        match (string, found.last_mut()) {
            (Some(string), Some((_, before))) if joins => before.push_str(&string),
            (Some(string), _) => found.push((line, string)),
            (None, _) if letter.is_whitespace() || letter == '+' => {}
            (None, _) => joins = false,
        }
        joins = match letter {
            '+' => true,
            '`' | '"' => false,
            letter if letter.is_whitespace() => joins,
            _ => false,
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

fn quoted(rest: &str) -> (usize, Option<String>) {
    let mut string = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some((_, 'n')) => string.push('\n'),
                Some((_, 't')) => string.push('\t'),
                Some((_, other)) => string.push(other),
                None => break,
            },
            '"' => return (at + 1, Some(string)),
            '\n' => break,
            other => string.push(other),
        }
    }
    (1, None)
}

/// Parameters written `?` or `:name` as `$1`, outside quotes; a statement that has `$1` already stays.
fn numbered(sql: &str) -> String {
    use super::super::split::{Token, next};
    let mut out = String::new();
    let (mut at, mut names): (usize, Vec<String>) = (0, Vec::new());
    let has_own = sql.contains("$1");
    while let Some((token, length)) = next(&sql[at..]) {
        let piece = &sql[at..at + length];
        let after = sql[at + length..].chars().next();
        let before = out.chars().last();
        match token {
            Some(Token::Sign('?')) if !has_own && !matches!(after, Some('|' | '&' | '?')) && before != Some('?') => {
                names.push(String::new());
                out.push_str(&format!("${}", names.len()));
            }
            Some(Token::Sign(':'))
                if !has_own && before != Some(':') && after.is_some_and(|c| c.is_ascii_alphabetic()) =>
            {
                let name: String =
                    sql[at + length..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let number = names.iter().position(|one| *one == name).unwrap_or_else(|| {
                    names.push(name.clone());
                    names.len() - 1
                });
                out.push_str(&format!("${}", number + 1));
                at += name.len();
            }
            _ => out.push_str(piece),
        }
        at += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_statements_of_go() {
        let text = "package x\n// \"select 1\"\nvar c = '\"'\nconst q = `\nSELECT * FROM t\nWHERE a = ?`\nfunc f() { db.Query(\"UPDATE t SET a = 1 \" +\n\t\"WHERE b = \\\"x\\\"\", 1); log(\"selected\") }";
        let strings = go_strings(text);
        assert_eq!(strings[0], (4, "\nSELECT * FROM t\nWHERE a = ?".to_owned()));
        assert_eq!(strings[1], (7, "UPDATE t SET a = 1 WHERE b = \"x\"".to_owned()));
        assert_eq!(strings.len(), 3);
        assert!(!is_query("selected") && is_query("-- why\nWITH a AS (SELECT 1) SELECT * FROM a"));
    }

    #[test]
    fn takes_strings_out() {
        let (sql, strings) = masked("select a from t where b = 'se''cret' and c = $1 and d = ''");
        assert_eq!(sql, "select a from t where b = '…' and c = $1 and d = '…'");
        assert_eq!(strings, ["se''cret"]);
    }

    #[test]
    fn numbers_parameters() {
        assert_eq!(numbered("select '?' from t where a = ? and b = ?"), "select '?' from t where a = $1 and b = $2");
        assert_eq!(
            numbered("insert into t values (:id, :name, :id, a::text)"),
            "insert into t values ($1, $2, $1, a::text)"
        );
        assert_eq!(numbered("select $1, b ? 'x'"), "select $1, b ? 'x'");
    }
}
