//! Differences that are meant, with the reason: of rows that differ in certain columns, or that only one side has. Pure.

use super::found::Class;
use super::merge::Hashed;
use crate::plan::TableName;

/// Rows of one table that may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The green table.
    pub table: TableName,
    /// What may be: rows that differ, in these columns; or rows that only one side has.
    pub what: Meant,
    /// SQL over a row of the green table; all rows without it.
    pub predicate: Option<String>,
    /// Why.
    pub because: String,
}

/// In which way rows may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// In these columns.
    Columns(Vec<String>),
    /// In that only one side has them.
    Rows(Class),
}

impl Declared {
    /// The question whether it means a row, as one column of a select over `q`.
    pub(super) fn question(&self) -> String {
        self.predicate.as_ref().map_or_else(|| "true".to_owned(), |sql| format!("({sql}) is true"))
    }
}

/// The reason for which one key's rows may differ, if each way in which they do is meant: `means` says of each declaration whether it
/// means one of the rows.
pub(super) fn reason<'d>(
    declared: &[&'d Declared],
    class: Class,
    columns: &[String],
    rows: [Option<&Hashed>; 2],
) -> Option<&'d str> {
    let means = |at: usize| rows.iter().flatten().any(|row| row.declared.get(at) == Some(&true));
    let meant: Vec<&'d Declared> =
        declared.iter().enumerate().filter(|(at, _)| means(*at)).map(|(_, one)| *one).collect();
    if class != Class::Changed {
        return meant.iter().find(|one| one.what == Meant::Rows(class)).map(|one| one.because.as_str());
    }
    let of_column = |column: &String| {
        let has = |one: &&&Declared| matches!(&one.what, Meant::Columns(names) if names.contains(column));
        meant.iter().find(has).map(|one| one.because.as_str())
    };
    let reasons: Option<Vec<&str>> = columns.iter().map(of_column).collect();
    reasons?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(what: Meant, because: &str) -> Declared {
        let table = TableName { schema: "public".to_owned(), name: "t".to_owned() };
        Declared { table, what, predicate: None, because: because.to_owned() }
    }

    fn row(flags: &[bool]) -> Hashed {
        let place = String::new();
        Hashed { spot: 0, place, key: Vec::new(), whole: 0, columns: Vec::new(), declared: flags.to_vec() }
    }

    #[test]
    fn every_column_that_differs_must_be_meant() {
        let columns = |names: &[&str]| Meant::Columns(names.iter().map(|name| (*name).to_owned()).collect());
        let all = [
            declared(columns(&["a", "b"]), "one"),
            declared(columns(&["c"]), "two"),
            declared(Meant::Rows(Class::Extra), "three"),
        ];
        let all: Vec<&Declared> = all.iter().collect();
        let of = |class, names: &[&str], flags: &[bool]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            reason(&all, class, &names, [Some(&row(flags)), None])
        };
        assert_eq!(of(Class::Changed, &["a"], &[true, true, true]), Some("one"));
        assert_eq!(of(Class::Changed, &["c", "b"], &[true, true, true]), Some("two"));
        assert_eq!(of(Class::Changed, &["a", "d"], &[true, true, true]), None, "d is not meant");
        assert_eq!(of(Class::Changed, &["a"], &[false, true, true]), None, "of other rows");
        assert_eq!(of(Class::Changed, &[], &[true, true, true]), None, "nothing can be said of it");
        assert_eq!(of(Class::Extra, &[], &[true, true, true]), Some("three"));
        assert_eq!(of(Class::Missing, &[], &[true, true, true]), None);
    }
}
