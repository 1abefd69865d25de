//! What a runner reads off a statement's words, or says in its place. Pure; works on tokens, and on text only to keep it as it was.

use super::super::sql::{ident, qualified};
use super::split::{Token, next};

/// Each piece of a text with its token, none for space and comments.
fn pieces(text: &str) -> Vec<(Option<Token>, &str)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some((token, length)) = next(&text[at..]) {
        found.push((token, &text[at..at + length]));
        at += length;
    }
    found
}

fn tokens(text: &str) -> Vec<Token> {
    pieces(text).into_iter().filter_map(|(token, _)| token).collect()
}

fn is_word(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Word(found)) if found == word)
}

fn name(token: Option<&Token>) -> Option<&str> {
    match token? {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        Token::Sign(_) => None,
    }
}

/// A query's words without its values: `?` for each string and number, no comments. A text that was cut off inside a string shows nothing
/// of it.
pub(in crate::database) fn masked(sql: &str) -> String {
    let mut shown = String::new();
    for (token, text) in pieces(sql) {
        match &token {
            None if shown.ends_with(' ') || shown.is_empty() => {}
            None => shown.push(' '),
            Some(Token::Sign('\'')) => shown.push('?'),
            Some(Token::Word(word)) if word.starts_with(|c: char| c.is_ascii_digit()) => shown.push('?'),
            Some(_) => shown.push_str(text),
        }
    }
    shown.trim_end().to_owned()
}

/// What a `reindex` names, quoted, when it is one index or table: `None` for another statement, `Some(None)` for a schema or database.
pub(in crate::database) fn reindexed(statement: &str) -> Option<Option<String>> {
    let tokens = tokens(statement);
    if !is_word(tokens.first(), "reindex") {
        return None;
    }
    let mut at = 1;
    if tokens.get(at) == Some(&Token::Sign('(')) {
        at = tokens.iter().position(|token| *token == Token::Sign(')'))? + 1;
    }
    let is_one = is_word(tokens.get(at), "index") || is_word(tokens.get(at), "table");
    at += 1 + usize::from(is_word(tokens.get(at + 1), "concurrently"));
    let Some(first) = name(tokens.get(at)).filter(|_| is_one) else { return Some(None) };
    let is_qualified = tokens.get(at + 1) == Some(&Token::Sign('.'));
    let rest = if is_qualified { name(tokens.get(at + 2)) } else { None };
    Some(Some(rest.map_or_else(|| ident(first), |name| qualified(first, name))))
}

/// The text of a concurrent index build as it is said on a partitioned table alone: not `concurrently`, and `on only`.
pub(in crate::database) fn on_only(statement: &str) -> String {
    let (mut said, mut count, mut is_said) = (String::new(), 0, false);
    let all = tokens(statement);
    for (token, text) in pieces(statement) {
        count += usize::from(token.is_some());
        match token {
            Some(Token::Word(word)) if word == "concurrently" && count <= 4 => {}
            Some(Token::Word(word)) if word == "on" && !is_said && count > 3 => {
                said.push_str(if is_word(all.get(count), "only") { text } else { "on only" });
                is_said = true;
            }
            _ => said.push_str(text),
        }
    }
    said
}

/// An update or delete of one table, taken apart so that its predicate can be narrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::database) struct WholeTable {
    /// The table, quoted.
    pub(in crate::database) table: String,
    /// By what name its columns are called in the statement, quoted.
    pub(in crate::database) reference: String,
    /// Everything before the predicate.
    pub(in crate::database) head: String,
    /// The predicate; `true` without one.
    pub(in crate::database) predicate: String,
}

/// Takes a plain update or delete apart; nothing when it is none, gives rows back, or goes by a cursor.
pub(in crate::database) fn whole_table(statement: &str) -> Option<WholeTable> {
    let all = tokens(statement);
    let mut at = match all.first() {
        word if is_word(word, "update") => 1,
        word if is_word(word, "delete") && is_word(all.get(1), "from") => 2,
        _ => return None,
    };
    at += usize::from(is_word(all.get(at), "only"));
    let first = name(all.get(at))?;
    let (table, own) = if all.get(at + 1) == Some(&Token::Sign('.')) {
        at += 2;
        (qualified(first, name(all.get(at))?), name(all.get(at))?)
    } else {
        (ident(first), first)
    };
    at += 1 + usize::from(is_word(all.get(at + 1), "as"));
    let is_end = |word: &str| ["set", "where", "using"].contains(&word);
    let alias = match all.get(at) {
        Some(Token::Word(word)) if !is_end(word) => Some(word.as_str()),
        Some(Token::Quoted(alias)) => Some(alias.as_str()),
        _ => None,
    };
    let (mut depth, mut head, mut predicate, mut is_behind) = (0_i32, String::new(), String::new(), false);
    for (token, text) in pieces(statement) {
        match &token {
            Some(Token::Sign('(')) => depth += 1,
            Some(Token::Sign(')')) => depth -= 1,
            Some(Token::Word(word)) if depth == 0 && word == "returning" => return None,
            Some(Token::Word(word)) if depth == 0 && word == "current" && is_behind => return None,
            Some(Token::Word(word)) if depth == 0 && word == "where" && !is_behind => {
                is_behind = true;
                continue;
            }
            _ => {}
        }
        if is_behind { predicate.push_str(text) } else { head.push_str(text) }
    }
    let predicate = if is_behind { predicate } else { "true".to_owned() };
    Some(WholeTable { table, reference: ident(alias.unwrap_or(own)), head, predicate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_an_index_on_a_partitioned_table_alone() {
        assert_eq!(
            on_only("create index concurrently i on t (a) where b = 'on'"),
            "create index  i on only t (a) where b = 'on'"
        );
        assert_eq!(
            on_only("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"on\" ON ONLY t (a)"),
            "CREATE UNIQUE INDEX  IF NOT EXISTS \"on\" ON ONLY t (a)"
        );
    }

    #[test]
    fn knows_what_a_reindex_names() {
        assert_eq!(reindexed("reindex (verbose) index concurrently S.\"I\""), Some(Some("\"s\".\"I\"".to_owned())));
        assert_eq!(reindexed("reindex table t"), Some(Some("\"t\"".to_owned())));
        assert_eq!(reindexed("reindex schema concurrently public"), Some(None));
        assert_eq!(reindexed("drop index i"), None);
    }

    #[test]
    fn takes_a_whole_table_s_update_apart() {
        let of = |sql: &str| whole_table(sql).map(|one| (one.table, one.reference, one.predicate));
        let said = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(of("update t set a = (select 1 where true) where b is null"), said("\"t\"", "\"t\"", " b is null"));
        assert_eq!(of("UPDATE ONLY S.\"T\" AS x SET a = 1"), said("\"s\".\"T\"", "\"x\"", "true"));
        assert_eq!(of("delete from t using u where t.a = u.a"), said("\"t\"", "\"t\"", " t.a = u.a"));
        assert_eq!(of("delete from t d"), said("\"t\"", "\"d\"", "true"));
        for other in [
            "insert into t values (1)",
            "update t set a = 1 returning a",
            "with x as (select) update t set a = 1",
            "delete from t where current of c",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn masks_every_value() {
        let sql = "select *  -- 'secret'\n from t where a = 'se''cret' and b=E'\\'secret' and c = $$secret$$ and d in (12, 1.5e3)";
        assert_eq!(masked(sql), "select * from t where a = ? and b=? and c = ? and d in (?, ?.?)");
        assert_eq!(masked("update t set token = 'cut off in the mid"), "update t set token = ?");
        assert_eq!(masked("select $1, \"Column\", $x$ cut"), "select $?, \"Column\", ?");
    }
}
