//! Small questions to squawk's syntax tree.

use crate::database::sql::ident;
use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxNode, SyntaxToken};

/// A name as it is looked up: `public` is left out, other schemas stay.
pub(in crate::database::migrations) fn key(path: &ast::PathRef) -> Option<String> {
    let name = path.segment()?.text();
    let schema = path.qualifier().and_then(|schema| schema.segment()).map(|schema| schema.text());
    Some(joined(schema, name))
}

fn joined(schema: Option<String>, name: String) -> String {
    match schema {
        Some(schema) if schema != "public" => format!("{schema}.{name}"),
        _ => name,
    }
}

/// The first name that a node refers to.
pub(in crate::database::migrations) fn named(node: &impl AstNode) -> Option<String> {
    node.syntax().descendants().find_map(ast::PathRef::cast).and_then(|path| key(&path))
}

/// The first name that a node defines.
pub(in crate::database::migrations) fn defined(node: &impl AstNode) -> Option<String> {
    let path = node.syntax().descendants().find_map(ast::Path::cast)?;
    let schema = path.qualifier().and_then(|schema| schema.segment()).map(|schema| schema.text());
    Some(joined(schema, path.segment()?.text()))
}

/// Every table or relation that a node names as one.
pub(in crate::database::migrations) fn relations(node: &SyntaxNode) -> Vec<String> {
    let mut found = Vec::new();
    for node in node.descendants() {
        let path = ast::TableNameRef::cast(node.clone())
            .and_then(|it| it.path_ref())
            .or_else(|| ast::RelationNameRef::cast(node.clone()).and_then(|it| it.path_ref()))
            .or_else(|| ast::RelationFromItem::cast(node.clone()).and_then(|it| it.path_ref()));
        if let Some(name) = path.and_then(|path| key(&path))
            && !found.contains(&name)
        {
            found.push(name);
        }
    }
    found
}

/// Whether a key word stands in a node, outside quotes and nested statements.
pub(in crate::database::migrations) fn has_word(node: &SyntaxNode, word: &str) -> bool {
    tokens(node).any(|token| token.text().eq_ignore_ascii_case(word))
}

/// The tokens of a node that are neither space nor comment.
pub(in crate::database::migrations) fn tokens(node: &SyntaxNode) -> impl Iterator<Item = SyntaxToken> {
    node.descendants_with_tokens().filter_map(|element| element.into_token()).filter(|token| {
        !token.text().trim().is_empty() && !token.text().starts_with("--") && !token.text().starts_with("/*")
    })
}

/// The text of a node without comments, its tokens one space apart, in lower case outside quotes.
pub(in crate::database::migrations) fn plain(node: &SyntaxNode) -> String {
    let is_quoted = |text: &str| text.starts_with(['\'', '"', '$']);
    let words = tokens(node).map(|token| {
        let text = token.text().to_owned();
        if is_quoted(&text) { text } else { text.to_lowercase() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The columns that a list of column names holds.
pub(in crate::database::migrations) fn columns(node: &SyntaxNode) -> Vec<String> {
    let names = node.descendants().filter_map(|node| {
        ast::ColumnNameRef::cast(node.clone())
            .map(|it| ast::normalize_name_node(it.syntax()))
            .or_else(|| ast::ColumnName::cast(node.clone()).map(|it| it.text()))
            .or_else(|| ast::NameRef::cast(node).map(|it| it.text()))
    });
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// A name in quotes only where it must have them.
pub(in crate::database::migrations) fn written(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    let is_reserved = [
        "user",
        "order",
        "group",
        "select",
        "table",
        "all",
        "and",
        "any",
        "as",
        "check",
        "column",
        "default",
        "desc",
        "end",
        "for",
        "from",
        "grant",
        "in",
        "limit",
        "not",
        "null",
        "offset",
        "on",
        "or",
        "primary",
        "references",
        "to",
        "union",
        "unique",
        "using",
        "when",
        "where",
        "with",
    ]
    .contains(&name);
    if is_plain && !is_reserved { name.to_owned() } else { ident(name) }
}
