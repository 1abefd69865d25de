//! What a change of a column's type costs, and whether a default is the same for every row.

use super::lock::Work;
use super::tree::plain;
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

/// A type as `pg_catalog` calls it, and its numbers in parentheses.
fn parts(sql: &str) -> (String, Vec<i64>) {
    let sql = sql.to_lowercase();
    let (name, rest) = sql.split_once('(').unwrap_or((&sql, ""));
    let (numbers, tail) = rest.split_once(')').unwrap_or((rest, ""));
    let numbers = numbers.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    let name = format!("{name} {tail}").split_whitespace().collect::<Vec<_>>().join(" ");
    let name = name.trim_start_matches("pg_catalog . ").trim_start_matches("pg_catalog.");
    let known = match name {
        "int" | "int4" | "serial" => "integer",
        "int8" | "bigserial" => "bigint",
        "int2" | "smallserial" => "smallint",
        "varchar" => "character varying",
        "char" | "bpchar" => "character",
        "decimal" => "numeric",
        "bool" => "boolean",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "varbit" => "bit varying",
        other => other,
    };
    (known.to_owned(), numbers)
}

/// What it takes to turn a column of type `before` into `after`.
pub(super) fn change(before: &str, after: &str) -> Work {
    let ((old, was), (new, is)) = (parts(before), parts(after));
    let is_wider = match (was.first(), is.first()) {
        (_, None) => true,
        (Some(was), Some(is)) => is >= was,
        (None, Some(_)) => false,
    };
    let is_free = match (old.as_str(), new.as_str()) {
        ("character varying" | "text", "text") => true,
        ("character varying" | "text", "character varying") | ("bit varying", "bit varying") => is_wider,
        ("numeric", "numeric") => is_wider && (is.is_empty() || was.get(1).unwrap_or(&0) == is.get(1).unwrap_or(&0)),
        ("cidr", "inet") => true,
        (old, new) if old == new && !["character", "bit"].contains(&new) => {
            was == is || (is.is_empty() && new != "interval")
        }
        (old, new) => old == new && was == is,
    };
    if is_free { Work::None } else { Work::Rewrite }
}

/// Functions whose answer is one and the same for all rows of a statement.
const STEADY: [&str; 42] = [
    "now",
    "transaction_timestamp",
    "statement_timestamp",
    "current_setting",
    "current_user",
    "current_database",
    "lower",
    "upper",
    "initcap",
    "md5",
    "sha256",
    "length",
    "char_length",
    "octet_length",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "concat",
    "replace",
    "repeat",
    "left",
    "right",
    "substr",
    "substring",
    "trim",
    "ltrim",
    "rtrim",
    "to_timestamp",
    "to_char",
    "to_date",
    "date_trunc",
    "timezone",
    "make_interval",
    "abs",
    "floor",
    "ceil",
    "round",
    "encode",
    "decode",
    "jsonb_build_object",
    "jsonb_build_array",
];

/// The function of an expression that may answer differently for each row.
pub(in crate::database::migrations) fn unsteady(expression: &SyntaxNode) -> Option<String> {
    expression.descendants().filter_map(ast::CallExpr::cast).find_map(|call| {
        let name = plain(call.expr()?.syntax()).replace(' ', "");
        let bare = name.trim_start_matches("pg_catalog.").to_owned();
        (!STEADY.contains(&bare.as_str())).then_some(bare)
    })
}

/// Whether a function is none of those that are known to compute and do nothing else.
pub(super) fn is_strange(name: &str) -> bool {
    !STEADY.contains(&name.trim_start_matches("pg_catalog."))
}

/// Whether a type gives every row a number of its own.
pub(in crate::database::migrations) fn is_serial(sql: &str) -> bool {
    ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"].contains(&sql.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_a_change_of_type_costs() {
        for (before, after) in [
            ("varchar(10)", "varchar(20)"),
            ("varchar ( 10 )", "text"),
            ("character varying(10)", "varchar"),
            ("numeric(10, 2)", "numeric(12,2)"),
            ("int", "integer"),
            ("timestamptz", "timestamp with time zone"),
            ("varchar(40)", "character varying (40)"),
        ] {
            assert_eq!(change(before, after), Work::None, "{before} to {after}");
        }
        for (before, after) in [
            ("int", "bigint"),
            ("varchar(20)", "varchar(10)"),
            ("text", "varchar(10)"),
            ("char(4)", "text"),
            ("timestamp", "timestamptz"),
            ("numeric(10,2)", "numeric(10,4)"),
            ("text", "jsonb"),
        ] {
            assert_eq!(change(before, after), Work::Rewrite, "{before} to {after}");
        }
    }
}
