//! The resolved plan: what the rest of the house reads. Every reference is filled in, every duration parsed.

use super::document::CaptureMethod;
pub use super::document::DeclaredRows;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod cleanup;
mod compat;
mod diff;
mod doors;
mod freeze;
mod hot_queries;
mod invariants;
mod level;
mod prepare;
mod probes;
mod replay;
mod routes;
mod systems;
mod traffic;

pub use cleanup::*;
pub use compat::*;
pub use diff::*;
pub use doors::*;
pub use freeze::*;
pub use hot_queries::*;
pub use invariants::*;
pub use level::*;
pub use prepare::*;
pub use probes::*;
pub use replay::*;
pub use routes::*;
pub use systems::*;
pub use traffic::*;

/// One of the two sides of a cutover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Serving when the run starts.
    Blue,
    /// To come.
    Green,
}

impl Side {
    /// The side that is not this one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// `blue` or `green`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blue" => Ok(Self::Blue),
            "green" => Ok(Self::Green),
            other => Err(format!("{other:?} is no side")),
        }
    }
}

/// A value that is never printed, logged or journalled.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A table by schema and name; a plan that says only a name means `public`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// SQL that the plan's author wrote, with where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// The statement or expression, without semicolon or comment at its end, so that it can stand inside another statement.
    pub text: String,
    /// The file it was read from, when it was not written in the plan itself.
    pub file: Option<PathBuf>,
}

impl Sql {
    /// The text with every `$name` replaced by what `literal` gives for it; names it does not know stay. Strings, quoted names and
    /// comments are left alone.
    #[must_use]
    pub fn with_values(&self, literal: impl Fn(&str) -> Option<String>) -> String {
        let mut filled = String::with_capacity(self.text.len());
        let mut copied = 0;
        for at in super::tokens::tokens(&self.text) {
            if let super::tokens::Token::Value(name) = &at.token
                && let Some(value) = literal(name)
            {
                filled.push_str(&self.text[copied..at.start]);
                filled.push_str(&value);
                copied = at.end;
            }
        }
        filled + &self.text[copied..]
    }
}

/// A whole plan, resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the plan; runs and queued revocations are kept under it.
    pub name: String,
    /// Digest of what the plan means (references left as names, named files by their bytes), in hex.
    pub digest: String,
    /// The text as typed, for the journal's header; holds references, not their values.
    pub text: String,
    /// Text of every file that the plan names, by its name there: for the journal's header, and part of the digest.
    pub files: BTreeMap<String, String>,
    /// Folder of the plan file; relative paths start here.
    pub folder: PathBuf,
    /// URL of the control database.
    pub control: Secret,
    /// The serving database and the one to come.
    pub databases: Databases,
    /// Budgets.
    pub window: Window,
    /// How green is filled.
    pub copy: Copy,
    /// What keeps batches from harming the side that serves.
    pub level: Level,
    /// Rows that are not carried.
    pub cleanup: Vec<CleanupRule>,
    /// Questions for rows that would break, or change unseen.
    pub dirty: Vec<Dirty>,
    /// What gives green its schema.
    pub migrate: Vec<Migration>,
    /// Statements that must live with the new schema, in place.
    pub compat: Option<Compat>,
    /// Tables that are green's own and are never written by the carry.
    pub own: Vec<TableName>,
    /// Tables of blue that nobody carries.
    pub drop: Vec<TableName>,
    /// Named values asked once of green: name to query with one row and one column.
    pub values: BTreeMap<String, Sql>,
    /// Mappings that are not the obvious one, by green table.
    pub carry: BTreeMap<TableName, CarryTable>,
    /// What goes back to blue on the way back, by green table.
    pub reverse: BTreeMap<TableName, Reverse>,
    /// Queries that green must not plan worse than blue, when the plan names any.
    pub hot_queries: Option<HotQueries>,
    /// Comparing green with blue row by row.
    pub diff: Diff,
    /// What the mapping may make otherwise than the engine's own migrations.
    pub proof: Vec<DeclaredDifference>,
    /// What must hold on green.
    pub invariants: Vec<Invariant>,
    /// What may put green's rows right.
    pub repairs: Vec<Repair>,
    /// Jobs that stand still while the traffic moves.
    pub freeze: Vec<Freeze>,
    /// Values outside that are set before the window.
    pub prepare: Vec<Prepare>,
    /// Questions to the engine and to what depends on it.
    pub probes: Vec<Probe>,
    /// The queue and replay of revocations, when the plan has them.
    pub revocations: Option<Revocations>,
    /// Systems that flip together, from the innermost (the engine) to the outermost.
    pub systems: Vec<System>,
    /// The built-in gateway.
    pub gateway: Option<Gateway>,
    /// How green must do after the flip.
    pub soak: Soak,
    /// Cuts a green that does not answer off.
    pub isolate_green: Option<Isolate>,
}

/// Both databases.
#[derive(Debug, Clone)]
pub struct Databases {
    /// Serving now.
    pub blue: Database,
    /// To come; blue once more when the plan is in place.
    pub green: Database,
    /// Whether there is one database only, on which two versions of the engine serve.
    pub is_in_place: bool,
}

impl Databases {
    /// The database of one side.
    #[must_use]
    pub fn of(&self, side: Side) -> &Database {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

/// One database.
#[derive(Debug, Clone)]
pub struct Database {
    /// URL with our own login; direct, not through a pooler.
    pub url: Secret,
    /// The application's role: fences and probes act as it does.
    pub role: String,
    /// How touched rows are captured there.
    pub capture: CaptureMethod,
    /// Standbys that nobody promotes until the cutover is final, by their `application_name`.
    pub unpromoted: Vec<String>,
}

/// Budgets of a run; every wait takes its bound from here.
#[derive(Debug, Clone)]
pub struct Window {
    /// The flip is refused before this time.
    pub opens: Option<jiff::Timestamp>,
    /// The flip is refused after this time.
    pub closes: Option<jiff::Timestamp>,
    /// Longest wait of a client during the flip.
    pub hold: Duration,
    /// Longest time between the last write on blue and the first on green; fits inside `hold`.
    pub write_gap: Duration,
    /// Bound on bringing green level before the hold begins.
    pub level: Duration,
    /// Bound on the copy of one chunk: a table, or 64 MB of a large one.
    pub copy: Duration,
    /// Bound on one migration or one index.
    pub migrate: Duration,
    /// Bound on the question of one invariant, and on one repair.
    pub invariants: Duration,
    /// How long green must have served before a run may be finalized.
    pub soak: Duration,
    /// Bytes that the capture may keep on blue; above it the flip is refused.
    pub wal_keep_bytes: u64,
    /// Bytes at which a run that is filling green gives its capture up.
    pub wal_drop_bytes: Option<u64>,
    /// Most rows of one table that the way back removes on blue without an explanation.
    pub unexplained: Unexplained,
}

/// Most rows of one table that are gone on green for no known reason; the smaller of both holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Unexplained {
    /// In rows.
    pub rows: u64,
    /// In per cent of the table on blue.
    pub percent: f64,
}

impl Unexplained {
    /// Whether `gone` rows of a table that has `rows` on blue are within the cap.
    #[must_use]
    pub fn allows(&self, gone: u64, rows: u64) -> bool {
        gone <= self.rows && gone as f64 * 100.0 <= self.percent * rows as f64
    }
}

/// How green is filled.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The way.
    pub method: CopyMethod,
    /// Parallel workers.
    pub workers: usize,
    /// A standby of blue from which rows are read.
    pub standby: Option<Secret>,
    /// What keeps the copy from harming blue.
    pub throttle: Throttle,
    /// Green's settings while it is filled.
    pub load: LoadSettings,
    /// Whether green's shared buffers are filled before the flip point.
    pub prewarm: bool,
}

/// Green's settings while it is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSettings {
    /// Memory for the building of one index.
    pub index_memory_bytes: u64,
    /// `max_wal_size`; none leaves the server's.
    pub max_wal_size_bytes: Option<u64>,
    /// `checkpoint_timeout`; none leaves the server's.
    pub checkpoint_timeout: Option<Duration>,
}

/// What keeps the copy from harming blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Most bytes in a second, by all workers together.
    pub rate_bytes: Option<u64>,
    /// The copy waits while a standby of blue is further behind.
    pub replica_lag: Option<Duration>,
    /// Oldest snapshot.
    pub snapshot: Duration,
}

/// The way green is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyMethod {
    /// Final schema first, then rows straight into it through the mapping.
    Carry,
    /// Blue's schema and blue's rows first, then the migrations over them.
    Logical,
}

/// One source of schema changes on green.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Name, unique in the plan; default from the command or folder.
    pub name: String,
    /// Before rows come (the default) or after the carried rows stand.
    pub after_copy: bool,
    /// How it goes about clients, in a plan in place.
    pub live: Live,
    /// Whether it waits for `finalize`, in a plan in place.
    pub contract: bool,
    /// The source itself.
    pub source: MigrationSource,
}

/// How migrations go about a database that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Longest wait for one lock, and for everyone who comes behind it.
    pub lock_timeout: Duration,
    /// How often a statement is tried.
    pub tries: u32,
    /// How long a statement is tried.
    pub bound: Duration,
    /// How long clients may wait for what a file holds before it is cut off.
    pub block: Duration,
}

impl Default for Live {
    fn default() -> Self {
        let bound = Duration::from_mins(15);
        Self { lock_timeout: Duration::from_millis(300), tries: 200, bound, block: Duration::from_millis(500) }
    }
}

/// Where migrations come from.
#[derive(Debug, Clone)]
pub enum MigrationSource {
    /// A command of the engine; no shell.
    Command {
        /// Program and arguments.
        run: Vec<String>,
        /// Environment added for it; values are secret.
        env: BTreeMap<String, Secret>,
    },
    /// A folder of refinery files (`V1__name.sql`).
    Refinery {
        /// The folder.
        folder: PathBuf,
        /// The table that keeps what was applied, when it is not ours.
        history: Option<TableName>,
    },
    /// A folder of the engine's own files.
    Engine {
        /// The folder.
        folder: PathBuf,
        /// The engine's table of versions.
        versions: TableName,
    },
}

impl MigrationSource {
    /// The folder with its files; none of a command.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Refinery { folder, .. } | Self::Engine { folder, .. } => Some(folder),
            Self::Command { .. } => None,
        }
    }
}

/// A mapping that is not the obvious one.
#[derive(Debug, Clone, Default)]
pub struct CarryTable {
    /// Columns with an expression in place of the column of the same name; `$name` stands for a value of `values`.
    pub set: BTreeMap<String, Sql>,
    /// Blue's table when its name differs.
    pub table: Option<TableName>,
    /// Key columns of the green table; the primary key when left out.
    pub key: Vec<String>,
    /// A full select over blue's tables whose columns are green's; wrapped by key.
    pub from: Option<Sql>,
    /// For `from`: which tables of blue touch which keys.
    pub touched_by: BTreeMap<TableName, TouchedBy>,
    /// Columns of green that the mapping does not give and that keep their value or default.
    pub own_columns: Vec<String>,
}

/// How a row of a blue table leads to keys of a green table.
#[derive(Debug, Clone)]
pub struct TouchedBy {
    /// Select over the blue table that gives the green key for blue keys; the tool restricts it to the touched keys. Written as an
    /// expression list over the blue table's columns when it holds no `select`.
    pub key: Sql,
    /// Indexed columns of the green table that hold the blue table's key.
    pub back: Vec<String>,
}

/// What goes back for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverse {
    /// Mapped back whole.
    Carry(ReverseCarry),
    /// Only deletes and deactivations.
    Revocations,
    /// Lost, and said aloud.
    Lose,
}

/// How rows go back whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReverseCarry {
    /// Columns of blue with an expression over green's row in place of green's column of the same name.
    pub set: BTreeMap<String, Sql>,
    /// Key columns of the blue table; empty when left out.
    pub key: Vec<String>,
}
