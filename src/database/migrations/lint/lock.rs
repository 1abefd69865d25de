//! Table locks, what they let nobody do, and what a statement does under them.

use serde::Serialize;
use std::fmt;

/// A mode of table lock, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "&'static str")]
pub enum Lock {
    /// What `select` takes.
    AccessShare,
    /// What `select … for update` takes.
    RowShare,
    /// What writers take.
    RowExclusive,
    /// What vacuum and concurrent builds take.
    ShareUpdateExclusive,
    /// What `create index` takes.
    Share,
    /// What a foreign key or a trigger takes.
    ShareRowExclusive,
    /// What a concurrent refresh takes.
    Exclusive,
    /// What most of `alter table` takes.
    AccessExclusive,
}

impl Lock {
    /// Its name in `pg_locks`.
    #[must_use]
    pub fn mode(self) -> &'static str {
        match self {
            Self::AccessShare => "AccessShareLock",
            Self::RowShare => "RowShareLock",
            Self::RowExclusive => "RowExclusiveLock",
            Self::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            Self::Share => "ShareLock",
            Self::ShareRowExclusive => "ShareRowExclusiveLock",
            Self::Exclusive => "ExclusiveLock",
            Self::AccessExclusive => "AccessExclusiveLock",
        }
    }

    /// Its name in SQL.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AccessShare => "access share",
            Self::RowShare => "row share",
            Self::RowExclusive => "row exclusive",
            Self::ShareUpdateExclusive => "share update exclusive",
            Self::Share => "share",
            Self::ShareRowExclusive => "share row exclusive",
            Self::Exclusive => "exclusive",
            Self::AccessExclusive => "access exclusive",
        }
    }

    /// The mode that a word of `lock table` or of `pg_locks` names.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        const ALL: [Lock; 8] = [
            Lock::AccessShare,
            Lock::RowShare,
            Lock::RowExclusive,
            Lock::ShareUpdateExclusive,
            Lock::Share,
            Lock::ShareRowExclusive,
            Lock::Exclusive,
            Lock::AccessExclusive,
        ];
        let word = word.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        ALL.into_iter().find(|lock| lock.word() == word || lock.mode().to_lowercase() == word)
    }

    /// What others cannot do while it is held.
    #[must_use]
    pub fn blocks(self) -> &'static [&'static str] {
        match self {
            Self::AccessShare => &["ddl"],
            Self::RowShare | Self::RowExclusive => &["ddl"],
            Self::ShareUpdateExclusive => &["ddl", "vacuum"],
            Self::Share | Self::ShareRowExclusive | Self::Exclusive => &["writes", "ddl", "vacuum"],
            Self::AccessExclusive => &["reads", "writes", "ddl", "vacuum"],
        }
    }

    /// Whether the application has to wait for it.
    #[must_use]
    pub fn stops_writers(self) -> bool {
        self >= Self::Share
    }
}

impl From<Lock> for &'static str {
    fn from(lock: Lock) -> Self {
        lock.word()
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// What happens while the lock is held, as far as it takes longer the larger the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The catalog alone changes.
    None,
    /// Every row is read.
    Scan,
    /// An index is built.
    Build,
    /// The table is written anew.
    Rewrite,
    /// The table becomes a new, empty file.
    Truncate,
    /// Many rows are changed, and stay locked until the end of the transaction.
    Rows,
    /// As long as whoever wrote the statement holds it.
    Held,
    /// Nobody can tell from the text.
    Unknown,
}

impl Work {
    /// Whether it takes longer the larger the table is.
    #[must_use]
    pub fn grows(self) -> bool {
        matches!(self, Self::Scan | Self::Build | Self::Rewrite | Self::Rows | Self::Unknown | Self::Held)
    }

    /// For a person.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::None => "no work on rows",
            Self::Scan => "reads every row",
            Self::Build => "builds an index",
            Self::Rewrite => "writes the table anew",
            Self::Truncate => "empties the table",
            Self::Rows => "changes many rows",
            Self::Held => "holds it until the transaction ends",
            Self::Unknown => "does what the text does not say",
        }
    }
}

/// What one statement does to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The rule that says so.
    pub rule: &'static str,
    /// The table, or what stands for several; none when no table is locked.
    pub table: Option<String>,
    /// The lock.
    pub lock: Option<Lock>,
    /// The work under it.
    pub work: Work,
    /// Why, in a sentence.
    pub why: String,
    /// The form that hurts nobody.
    pub safe: Option<String>,
}

impl Effect {
    /// A lock on a table.
    pub(super) fn on(
        rule: &'static str,
        table: impl Into<String>,
        lock: Lock,
        work: Work,
        why: impl Into<String>,
    ) -> Self {
        Self { rule, table: Some(table.into()), lock: Some(lock), work, why: why.into(), safe: None }
    }

    /// No lock on any table that stands already.
    pub(super) fn nothing(rule: &'static str, why: impl Into<String>) -> Self {
        Self { rule, table: None, lock: None, work: Work::None, why: why.into(), safe: None }
    }

    /// What nobody can tell from the text.
    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self { rule: "unknown", table: None, lock: None, work: Work::Unknown, why: why.into(), safe: None }
    }

    pub(super) fn safe(mut self, form: impl Into<String>) -> Self {
        self.safe = Some(form.into());
        self
    }
}
