//! Going through a table by its key, window by window: where one begins and ends, as SQL. Pure.

use crate::database::mapping::KeyColumn;
use crate::database::sql::{ident, literal};

/// A key in one table, by which windows are cut.
#[derive(Debug, Clone)]
pub(super) struct Keyset {
    key: Vec<KeyColumn>,
}

/// A place in the order of a key: its values as text.
pub(super) type KeyAt = Vec<String>;

impl Keyset {
    pub(super) fn new(key: &[KeyColumn]) -> Self {
        Self { key: key.to_vec() }
    }

    /// The key's columns of `alias`.
    pub(super) fn list(&self, alias: &str) -> String {
        self.each(|column| format!("{alias}.{}", ident(&column.name)))
    }

    /// The same as text.
    pub(super) fn texts(&self, alias: &str) -> String {
        self.each(|column| format!("{alias}.{}::text", ident(&column.name)))
    }

    /// The rows of `alias` after `from`, if it is given, up to and with `to`, if that is.
    pub(super) fn within(&self, alias: &str, from: Option<&KeyAt>, to: Option<&KeyAt>) -> String {
        let compared = |sign: &str, at: &KeyAt| {
            let values =
                self.key.iter().zip(at).map(|(column, value)| format!("{}::{}", literal(value), column.type_sql));
            format!("({}) {sign} ({})", self.list(alias), values.collect::<Vec<_>>().join(", "))
        };
        let parts = [from.map(|at| compared(">", at)), to.map(|at| compared("<=", at))];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "true".to_owned() } else { parts.join(" and ") }
    }

    /// That two relations have one key.
    pub(super) fn same(&self, left: &str, right: &str) -> String {
        let same = self.key.iter().map(|column| format!("{left}.{0} = {right}.{0}", ident(&column.name)));
        same.collect::<Vec<_>>().join(" and ")
    }

    /// A query for the end of a window of so many rows: its key as one array of text; no row when fewer are left.
    pub(super) fn end(&self, table: &str, from: Option<&KeyAt>, rows: u32) -> String {
        format!(
            "select array[{}] from {table} as t where {} order by {} offset {} limit 1",
            self.texts("t"),
            self.within("t", from, None),
            self.list("t"),
            rows.saturating_sub(1)
        )
    }

    fn each(&self, of: impl Fn(&KeyColumn) -> String) -> String {
        self.key.iter().map(of).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_below_and_closed_above() {
        let key = [("a", "integer"), ("b", "text")]
            .map(|(name, kind)| KeyColumn { name: name.into(), type_sql: kind.into() });
        let keys = Keyset::new(&key);
        assert_eq!(keys.within("t", None, None), "true");
        let (from, to) = (vec!["1".to_owned(), "it's".to_owned()], vec!["2".to_owned(), "x".to_owned()]);
        assert_eq!(
            keys.within("t", Some(&from), Some(&to)),
            "(t.\"a\", t.\"b\") > ('1'::integer, 'it''s'::text) and (t.\"a\", t.\"b\") <= ('2'::integer, 'x'::text)"
        );
        assert!(keys.end("s.t", Some(&from), 10).ends_with("order by t.\"a\", t.\"b\" offset 9 limit 1"));
    }
}
