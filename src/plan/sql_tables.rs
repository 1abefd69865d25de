//! Which tables a select reads, as far as its text tells. Owns a reading of `from` and `join`; the catalog knows the rest (views, functions).

use super::model::TableName;
use super::tokens::{At, Token, tokens};
use std::collections::BTreeSet;

/// Tables that a select names after `from` and `join`. Names of its own `with` and functions are left out.
pub(super) fn tables_read(sql: &str) -> BTreeSet<TableName> {
    let tokens = tokens(sql);
    let own = own_names(&tokens);
    let mut found = BTreeSet::new();
    let mut parens: Vec<bool> = Vec::new();
    for (index, at) in tokens.iter().enumerate() {
        match &at.token {
            Token::Sign('(') => parens.push(index > 0 && takes_from(&tokens[index - 1].token)),
            Token::Sign(')') => drop(parens.pop()),
            Token::Word(word)
                if word == "from" && parens.last() != Some(&true) && !is_distinct_from(&tokens, index) =>
            {
                listed_tables(&tokens[index + 1..], &own, &mut found);
            }
            Token::Word(word) if word == "join" => {
                let item = Item::read(&tokens[index + 1..]);
                found.extend(item.table.filter(|table| table.schema != "public" || !own.contains(&table.name)));
            }
            _ => {}
        }
    }
    found
}

/// Functions whose arguments are written with `from`.
fn takes_from(token: &Token) -> bool {
    matches!(token, Token::Word(word) if ["extract", "substring", "trim", "overlay"].contains(&word.as_str()))
}

/// `is [not] distinct from` compares, it reads no table.
fn is_distinct_from(tokens: &[At], from: usize) -> bool {
    let word = |back: usize| match from.checked_sub(back).map(|index| &tokens[index].token) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    word(1) == "distinct" && matches!(word(2), "is" | "not")
}

/// Names that a `with` gives to its own selects.
fn own_names(tokens: &[At]) -> BTreeSet<String> {
    let mut own = BTreeSet::new();
    for (index, at) in tokens.iter().enumerate() {
        let mut after = tokens[index + 1..]
            .iter()
            .map(|at| &at.token)
            .filter(|token| !matches!(token, Token::Word(word) if ["not", "materialized"].contains(&word.as_str())));
        let is_as = matches!(&at.token, Token::Word(word) if word == "as");
        if !is_as || after.next() != Some(&Token::Sign('(')) || index == 0 {
            continue;
        }
        let before = match &tokens[index - 1].token {
            Token::Sign(')') => opening(tokens, index - 1).checked_sub(1).map(|index| &tokens[index].token),
            token => Some(token),
        };
        own.extend(before.and_then(name_of));
    }
    own
}

/// The opening parenthesis of a closing one.
fn opening(tokens: &[At], closing: usize) -> usize {
    let mut depth = 0_usize;
    for index in (0..=closing).rev() {
        match tokens[index].token {
            Token::Sign(')') => depth += 1,
            Token::Sign('(') if depth == 1 => return index,
            Token::Sign('(') => depth -= 1,
            _ => {}
        }
    }
    0
}

fn name_of(token: &Token) -> Option<String> {
    match token {
        Token::Word(name) | Token::Quoted(name) => Some(name.clone()),
        _ => None,
    }
}

/// Tables of a comma-separated list after `from`.
fn listed_tables(mut rest: &[At], own: &BTreeSet<String>, found: &mut BTreeSet<TableName>) {
    loop {
        let item = Item::read(rest);
        found.extend(item.table.filter(|table| table.schema != "public" || !own.contains(&table.name)));
        rest = &rest[item.length..];
        match rest.first().map(|at| &at.token) {
            Some(Token::Sign(',')) => rest = &rest[1..],
            _ => return,
        }
    }
}

/// One item of a `from` list: a table, a function or a select in parentheses, with its alias.
struct Item {
    table: Option<TableName>,
    length: usize,
}

/// Key words that can follow an item and are no alias.
const AFTER_ITEM: [&str; 21] = [
    "where",
    "join",
    "inner",
    "left",
    "right",
    "full",
    "cross",
    "natural",
    "on",
    "using",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "fetch",
    "union",
    "intersect",
    "except",
    "window",
    "for",
];

impl Item {
    fn read(tokens: &[At]) -> Self {
        let token = |at: usize| tokens.get(at).map(|at| &at.token);
        let mut at = 0;
        while matches!(token(at), Some(Token::Word(word)) if word == "only" || word == "lateral") {
            at += 1;
        }
        let mut names = Vec::new();
        while let Some(name) = token(at).and_then(name_of) {
            names.push(name);
            at += 1;
            if token(at) != Some(&Token::Sign('.')) {
                break;
            }
            at += 1;
        }
        let is_call = token(at) == Some(&Token::Sign('('));
        at = skip_parens(tokens, at);
        if matches!(token(at), Some(Token::Word(word)) if word == "as") {
            at += 1;
        }
        let is_alias = token(at).and_then(name_of).is_some_and(|name| !AFTER_ITEM.contains(&name.as_str()));
        at = skip_parens(tokens, at + usize::from(is_alias));
        let table = match names.as_slice() {
            _ if is_call => None,
            [name] => Some(TableName { schema: "public".to_owned(), name: name.clone() }),
            [schema, name] => Some(TableName { schema: schema.clone(), name: name.clone() }),
            _ => None,
        };
        Self { table, length: at.min(tokens.len()) }
    }
}

/// Past a group in parentheses, when one begins here.
fn skip_parens(tokens: &[At], start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, at) in tokens.iter().enumerate().skip(start) {
        match at.token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') if depth > 0 => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if index == start { start } else { index + 1 };
        }
    }
    tokens.len().max(start)
}
