//! What an invariant came to, for the journal, the summary and a person: names and keys, no other values.

use crate::plan::Invariant;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most rows that differ that are named.
pub(super) const LISTED: usize = 20;
/// Rows that are named in one line for a person.
const TOLD: usize = 3;

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Blue gives it, green does not.
    Missing,
    /// Green gives it, blue does not.
    Extra,
    /// Both give a row of this key, and another one.
    Changed,
}

impl Class {
    fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Changed => "changed",
        }
    }
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// How.
    pub class: Class,
    /// The columns of the plan's `key`, with their values.
    pub key: Map<String, Value>,
    /// The other columns that differ, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Those of them that are numbers and smaller on green, as after a revocation that blue does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub less: Vec<String>,
    /// Those that are numbers and greater on green.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
}

impl Differing {
    fn words(&self) -> String {
        let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let key: Vec<String> = self.key.iter().map(|(column, one)| format!("{column} {}", value(one))).collect();
        let columns: Vec<String> = self.columns.iter().map(|column| self.column(column)).collect();
        let columns = if columns.is_empty() { String::new() } else { format!(" in {}", columns.join(", ")) };
        format!("{} {}{columns}", self.class.word(), key.join(", "))
    }

    /// A column that differs, and which way where it is a number.
    fn column(&self, name: &String) -> String {
        match (self.less.contains(name), self.more.contains(name)) {
            (true, _) => format!("{name} (less on green)"),
            (_, true) => format!("{name} (more on green)"),
            _ => name.clone(),
        }
    }
}

/// What an invariant came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The invariant.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// Blue's value, when one is compared; `***` when it is neither a number nor true or false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<String>,
    /// Green's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<String>,
    /// Rows that green lacks.
    #[serde(default)]
    pub missing: u64,
    /// Rows that green has beside.
    #[serde(default)]
    pub extra: u64,
    /// Rows that are others on green.
    #[serde(default)]
    pub changed: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Differing>,
    /// The plan's word for why it must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Answer {
    fn new(invariant: &Invariant, holds: bool) -> Self {
        let (name, because) = (invariant.name.clone(), invariant.because.clone());
        let (blue, green, rows) = (None, None, Vec::new());
        Self { name, holds, blue, green, missing: 0, extra: 0, changed: 0, rows, because }
    }

    pub(super) fn of_values(invariant: &Invariant, holds: bool, blue: String, green: String) -> Self {
        Self { blue: Some(blue), green: Some(green), ..Self::new(invariant, holds) }
    }

    /// Nothing differs yet.
    pub(super) fn of_rows(invariant: &Invariant) -> Self {
        Self::new(invariant, true)
    }

    /// Counts a row that differs, and names it while there is room.
    pub(super) fn add(&mut self, row: Differing) {
        self.holds = false;
        match row.class {
            Class::Missing => self.missing += 1,
            Class::Extra => self.extra += 1,
            Class::Changed => self.changed += 1,
        }
        if self.rows.len() < LISTED {
            self.rows.push(row);
        }
    }

    /// One line for a person.
    #[must_use]
    pub fn words(&self) -> String {
        let because = self.because.as_ref().map(|because| format!(" ({because})")).unwrap_or_default();
        if let (Some(blue), Some(green)) = (&self.blue, &self.green) {
            return format!("{}{because}: {blue} on blue, {green} on green", self.name);
        }
        let counts = [(self.missing, "missing"), (self.extra, "extra"), (self.changed, "changed")];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        let rows: Vec<String> = self.rows.iter().take(TOLD).map(Differing::words).collect();
        let counts =
            if counts.is_empty() { "no row differs".to_owned() } else { format!("{} on green", counts.join(", ")) };
        let such = if rows.is_empty() { String::new() } else { format!(", such as: {}", rows.join("; ")) };
        format!("{}{because}: {counts}{such}", self.name)
    }
}
