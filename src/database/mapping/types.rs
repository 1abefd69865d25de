//! Which type may feed which, and as what a value leaves blue. Pure; says no where a cast would be silent about a loss, or where its
//! answer would depend on a setting.

/// The type to which a value is cast on blue for a column of `target` on green. A limit on a text's length is left to green, which
/// refuses a text that is too long, where a cast would cut it off without a word.
pub(super) fn cast_type(target: &str) -> String {
    let kind = Type::parse(target);
    match kind.base.as_str() {
        "character varying" | "character varying[]" => kind.base,
        _ => target.to_owned(),
    }
}

/// Whether a column of type `source` on blue may fill one of type `target` on green as it is.
pub(super) fn may_fill(source: &str, target: &str) -> bool {
    if source == target {
        return true;
    }
    if let (Some(source), Some(target)) = (source.strip_suffix("[]"), target.strip_suffix("[]")) {
        return may_fill(source, target);
    }
    let (source, target) = (Type::parse(source), Type::parse(target));
    if source.base == target.base {
        return target.holds(&source);
    }
    let is_text = |name: &str| matches!(name, "text" | "character varying");
    let is_whole = |name: &str| matches!(name, "smallint" | "integer" | "bigint");
    match (source.base.as_str(), target.base.as_str()) {
        (from, to) if is_text(from) && is_text(to) => true,
        (from, to) if is_whole(from) && (is_whole(to) || to == "numeric") => true,
        ("json", "jsonb") | ("jsonb", "json") | ("date", "timestamp without time zone") => true,
        (from, to) => is_text(to) && (is_whole(from) || matches!(from, "uuid" | "json" | "jsonb")),
    }
}

/// A type's name and its length or precision.
struct Type {
    base: String,
    limits: Vec<i64>,
}

impl Type {
    fn parse(name: &str) -> Self {
        let Some((before, rest)) = name.split_once('(') else {
            return Self { base: name.to_owned(), limits: Vec::new() };
        };
        let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
        let limits = inside.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        Self { base: format!("{before}{after}"), limits }
    }

    /// Whether this type holds every value of `other` (same base), or refuses aloud the ones it cannot.
    fn holds(&self, other: &Self) -> bool {
        match self.base.as_str() {
            _ if self.limits.is_empty() => self.base != "character",
            "character varying" => true,
            "numeric" => other.limits.len() == 2 && other.limits[1] <= self.limits[1],
            base if base.starts_with("time") => other.limits.first().is_some_and(|limit| *limit <= self.limits[0]),
            _ => self.limits == other.limits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{cast_type, may_fill};

    #[test]
    fn values_that_keep_their_meaning_pass() {
        for (source, target) in [
            ("text", "text"),
            ("character varying(40)", "text"),
            ("character varying(255)", "character varying(40)"),
            ("integer", "bigint"),
            ("integer", "numeric"),
            ("numeric(10,2)", "numeric(12,4)"),
            ("json", "jsonb"),
            ("timestamp(3) without time zone", "timestamp without time zone"),
            ("integer[]", "bigint[]"),
        ] {
            assert!(may_fill(source, target), "{source} → {target}");
        }
    }

    #[test]
    fn silent_changes_are_refused() {
        for (source, target) in [
            ("timestamp without time zone", "timestamp with time zone"),
            ("numeric", "numeric(10,2)"),
            ("timestamp without time zone", "timestamp(0) without time zone"),
            ("real", "double precision"),
            ("boolean", "text"),
            ("character(10)", "text"),
            ("character(10)", "character(5)"),
            ("text", "jsonb"),
            ("bytea", "text"),
        ] {
            assert!(!may_fill(source, target), "{source} → {target}");
        }
    }

    #[test]
    fn no_cast_cuts_a_text_off() {
        assert_eq!(cast_type("character varying(40)"), "character varying");
        assert_eq!(cast_type("character varying(40)[]"), "character varying[]");
        assert_eq!(cast_type("numeric(10,2)"), "numeric(10,2)");
        assert_eq!(cast_type("uuid"), "uuid");
    }
}
