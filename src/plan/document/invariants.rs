//! The document's sections `invariants` and `repairs`: what must hold on green before it serves, and what may put a row right that does not.

use super::Cap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One question with one answer on each side, and how the answers must compare.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invariant {
    /// Name of the invariant, unique in the plan.
    pub name: String,
    /// The question as blue is asked it: a select, or a `.sql` file with one. Left out where `expect` is `empty`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<String>,
    /// The question as green is asked it: a select, or a `.sql` file with one.
    pub green: String,
    /// How green's answer must compare with blue's: `equal`, `at_least` or `{ within: { rows: …, percent: … } }` of one value;
    /// `set_equal` of rows; `empty` where green may give no row at all.
    pub expect: Expect,
    /// For `set_equal` and `empty`: the columns by which a row is named where it differs. Only their values are shown; the others are
    /// compared and named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Why it must hold, for the people who read that it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// How two answers must compare.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Expect {
    /// One of the words.
    Word(ExpectWord),
    /// As far apart as this at most.
    Within(ExpectWithin),
}

/// How two answers must compare, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectWord {
    /// One value, the same on both sides.
    Equal,
    /// One number; green's is not smaller than blue's.
    AtLeast,
    /// Rows; each as often on green as on blue.
    SetEqual,
    /// Rows; green gives none.
    Empty,
}

/// One number, not further apart than this.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectWithin {
    /// The bound.
    pub within: Within,
}

/// How far green's number may be from blue's; the smaller of both holds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// In rows, from 0.
    pub rows: u64,
    /// In per cent of blue's number, at most 100.
    pub percent: f64,
}

/// A statement that puts rows of green right when an invariant does not hold. It runs only when it is allowed by name:
/// `cutover run PLAN --allow-repair NAME`. Only with `copy.method: logical`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// Name of the repair, unique in the plan.
    pub name: String,
    /// The invariant that calls for it when it does not hold, and that must hold after it.
    pub invariant: String,
    /// One update, insert or delete on a table of green, or a `.sql` file with one.
    pub sql: String,
    /// Most rows that it may change; above it nothing is changed.
    pub cap: Cap,
    /// Why the rows are wrong and this puts them right.
    pub because: String,
}
