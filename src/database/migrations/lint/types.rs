//! What a change of a column's type costs, and whether a default is the same for every row.

use super::functions::is_steady;
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

/// The function of an expression that may answer differently for each row.
pub(in crate::database::migrations) fn unsteady(expression: &SyntaxNode) -> Option<String> {
    expression.descendants().filter_map(ast::CallExpr::cast).find_map(|call| {
        let name = plain(call.expr()?.syntax()).replace(' ', "");
        (!is_steady(&name)).then(|| name.trim_start_matches("pg_catalog.").to_owned())
    })
}

/// Types of the server's own, and of extensions whose types are no domains.
const TYPES: &str = "bigint bigserial bit bit_varying boolean box box2d box3d bytea character character_varying cidr circle citext cube date \
    datemultirange daterange double_precision float float4 float8 geography geometry halfvec hstore inet int4multirange int4range int8multirange \
    int8range integer interval json jsonb jsonpath line lquery lseg ltree ltxtquery macaddr macaddr8 money name national_character \
    national_character_varying nchar numeric nummultirange numrange oid oidvector path pg_lsn pg_snapshot point polygon raster real regclass \
    regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure regrole regtype serial serial2 serial4 serial8 \
    smallint smallserial sparsevec text tid time time_with_time_zone time_without_time_zone timestamp_with_time_zone \
    timestamp_without_time_zone timetz tsmultirange tsquery tsrange tstzmultirange tstzrange tsvector txid_snapshot uuid vector xid xid8 xml";

/// Whether a type is one of those, with whatever numbers.
pub(super) fn is_built_in(sql: &str) -> bool {
    let sql = sql.strip_prefix("pg_catalog . ").unwrap_or(sql);
    // The fields of an interval are part of its name.
    let sql = if sql.starts_with("interval ") { "interval" } else { sql };
    let name = parts(sql).0.replace(' ', "_");
    TYPES.split_whitespace().any(|one| one == name)
}

/// Whether a type gives every row a number of its own.
pub(in crate::database::migrations) fn is_serial(sql: &str) -> bool {
    ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"].contains(&sql.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_server_s_own_types() {
        for ty in [
            "int",
            "varchar ( 40 )",
            "numeric ( 10 , 2 )",
            "timestamp ( 3 ) with time zone",
            "pg_catalog . int8",
            "double precision",
            "interval day to second",
            "character varying",
            "uuid",
            "bigserial",
            "time ( 0 ) without time zone",
        ] {
            assert!(is_built_in(ty), "{ty}");
        }
        for ty in ["mood", "public . pos", "\"Int\"", "side . integer"] {
            assert!(!is_built_in(ty), "{ty}");
        }
    }

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
