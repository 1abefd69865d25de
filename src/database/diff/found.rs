//! What a diff has found: counts by class, and a bounded list of rows by their keys. Never a value.

use crate::database::cleanup::shown;
use crate::plan::TableName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What explains a row that was killed on green because of a revocation, beside the names of cleanup rules.
const REVOKED: &str = "revoked";

/// In which way a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Blue's row should be on green and is not.
    Missing,
    /// Green has a row that nothing of blue gives.
    Extra,
    /// Some columns differ.
    Changed,
    /// Green has a key more than once; counted among the extra ones.
    Duplicate,
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// The green table.
    pub table: TableName,
    /// Its key, column by column.
    pub key: Vec<String>,
    /// In which way.
    pub class: Class,
    /// Columns that differ, of a changed row.
    pub columns: Vec<String>,
}

/// What was found, in one part, in one table or in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Rows of green that were compared.
    pub rows: u64,
    /// Rows that are not on green.
    pub missing: u64,
    /// Rows that only green has.
    pub extra: u64,
    /// Rows that differ in some columns.
    pub changed: u64,
    /// Rows that a cleanup rule left behind, by rule.
    pub expected: BTreeMap<String, u64>,
    /// Rows that differ and may, by the reason that was declared.
    #[serde(default)]
    pub declared: BTreeMap<String, u64>,
    /// Whether rows that differ have been asked for their reason.
    #[serde(default)]
    pub is_settled: bool,
    /// Some of the rows that differ.
    pub listed: Vec<Difference>,
}

impl Found {
    /// Rows that differ and should not.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.missing + self.extra + self.changed
    }

    /// Rows that cleanup rules left behind.
    #[must_use]
    pub fn expected_rows(&self) -> u64 {
        self.expected.values().sum()
    }

    /// Notes a row that differs; it is listed while there is room.
    pub(super) fn add(&mut self, difference: Difference, most: usize) {
        match difference.class {
            Class::Missing => self.missing += 1,
            Class::Extra | Class::Duplicate => self.extra += 1,
            Class::Changed => self.changed += 1,
        }
        if self.listed.len() < most {
            self.listed.push(difference);
        }
    }

    /// Takes rows out that differ because something was revoked: they are expected.
    pub(super) fn settle(&mut self, revoked: &BTreeSet<Difference>) {
        self.is_settled = true;
        let (explained, listed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.listed).into_iter().partition(|one| revoked.contains(one));
        self.listed = listed;
        for one in explained {
            match one.class {
                Class::Missing => self.missing -= 1,
                Class::Extra | Class::Duplicate => self.extra -= 1,
                Class::Changed => self.changed -= 1,
            }
            *self.expected.entry(REVOKED.to_owned()).or_default() += 1;
        }
    }

    /// Takes from listed keys what is secret, once nobody has to look rows up by them; `names` are the columns of a table's key.
    pub(super) fn mask<'m>(&mut self, names: impl Fn(&TableName) -> Vec<&'m str>) {
        for one in &mut self.listed {
            let names = names(&one.table);
            for (place, value) in one.key.iter_mut().enumerate() {
                // A column that nobody knows is not shown.
                *value = shown(names.get(place).copied().unwrap_or("secret"), value);
            }
        }
    }

    /// Takes another part's findings over.
    pub(super) fn merge(&mut self, other: Self, most: usize) {
        self.rows += other.rows;
        self.missing += other.missing;
        self.extra += other.extra;
        self.changed += other.changed;
        for (rule, rows) in other.expected {
            *self.expected.entry(rule).or_default() += rows;
        }
        for (because, rows) in other.declared {
            *self.declared.entry(because).or_default() += rows;
        }
        self.listed.extend(other.listed);
        self.listed.sort();
        self.listed.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_that_is_secret_only_its_beginning_is_shown() {
        let table = |name: &str| TableName { schema: "public".to_owned(), name: name.to_owned() };
        let one = |name: &str, key: [&str; 2]| Difference {
            table: table(name),
            key: key.map(str::to_owned).to_vec(),
            class: Class::Missing,
            columns: Vec::new(),
        };
        let rows = [one("token", ["V5XOYSQNe8fr0JN4gjCX", "7"]), one("gone", ["what nobody knows", "7"])];
        let mut found = Found { listed: rows.to_vec(), ..Found::default() };
        found.mask(|name| if name.name == "token" { vec!["signature", "nid"] } else { Vec::new() });
        assert_eq!(found.listed, [one("token", ["V5XOYS…", "7"]), one("gone", ["what n…", "***"])]);
    }
}
