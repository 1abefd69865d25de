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
    fn masks_every_value() {
        let sql = "select *  -- 'secret'\n from t where a = 'se''cret' and b=E'\\'secret' and c = $$secret$$ and d in (12, 1.5e3)";
        assert_eq!(masked(sql), "select * from t where a = ? and b=? and c = ? and d in (?, ?.?)");
        assert_eq!(masked("update t set token = 'cut off in the mid"), "update t set token = ?");
        assert_eq!(masked("select $1, \"Column\", $x$ cut"), "select $?, \"Column\", ?");
    }
}
