//! The document as typed: the plan's language, key by key. Owns names, shapes and defaults; its doc comments are the help that editors
//! and problems show. Resolves nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod cleanup;
mod compat;
mod diff;
mod doors;
mod freeze;
mod hot_queries;
mod invariants;
mod level;
mod migrations;
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
pub use migrations::*;
pub use prepare::*;
pub use probes::*;
pub use replay::*;
pub use routes::*;
pub use systems::*;
pub use traffic::*;

/// A plan of `cutover`: how one PostgreSQL database, and the systems on top of it, move from blue to green.
///
/// `${NAME}` in a URL, role, path, command or budget stands for a variable of the environment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Version of the plan's language: `1`.
    #[schemars(extend("const" = 1))]
    pub version: u32,
    /// Name of the plan: lower-case letters, digits and dashes. Runs and queued revocations are kept under it.
    pub name: String,
    /// URL of the control database, which keeps the journal, the lease and the queue of revocations: any PostgreSQL that is neither
    /// blue nor green.
    pub control: String,
    /// The database that serves now and the one to come.
    pub databases: Databases,
    /// Budgets: when the flip may happen and how long things may take.
    #[serde(default)]
    pub window: Window,
    /// How green is filled.
    #[serde(default)]
    pub copy: Copy,
    /// What keeps the batches that bring green level from harming blue, until the hold begins.
    #[serde(default, skip_serializing_if = "Level::is_empty")]
    pub level: Level,
    /// Rows that are left behind.
    #[serde(default)]
    pub cleanup: Vec<CleanupRule>,
    /// Questions for rows that would break, or change unseen, on their way to green.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirty: Vec<Dirty>,
    /// What gives green its schema, in this order.
    #[serde(default)]
    pub migrate: Vec<Migration>,
    /// Statements of the engine that serves, in a plan in place: the new schema must not break them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
    /// Tables that are green's own and that the carry never writes, such as the table that tracks migrations. With `copy.method: logical`
    /// those that blue has come along with its schema, rows and all, once.
    #[serde(default)]
    pub own: Vec<String>,
    /// Tables of blue that nobody carries.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Named values, each a query with one row and one column that is asked once of green; `$name` in the mapping stands for it.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Mappings by green table. A table that is not listed gets the row of the blue table of the same name.
    #[serde(default)]
    pub carry: BTreeMap<String, CarryTable>,
    /// What goes back to blue on the way back, by green table.
    #[serde(default)]
    pub reverse: BTreeMap<String, Reverse>,
    /// Queries that clients send all the time: green must not plan them worse than blue does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot_queries: Option<HotQueries>,
    /// Comparing green with blue row by row before the flip point.
    #[serde(default, skip_serializing_if = "Diff::is_empty")]
    pub diff: Diff,
    /// What the mapping may make otherwise than the engine's own migrations, for `cutover rehearse --prove-mapping`.
    #[serde(default, skip_serializing_if = "Proof::is_empty")]
    pub proof: Proof,
    /// What must hold on green before the flip and after it, in every rehearsal too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<Invariant>,
    /// What may put green's rows right when an invariant does not hold, once a person allows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,
    /// Values outside the databases, such as how long tokens live, that are set before the window and set back at the end, whatever it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<Prepare>,
    /// Cleanup jobs and reconcilers that stand still from before the flip until the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Freeze>,
    /// Questions to the engine and to what depends on it, asked before anything is touched, before the flip and during the soak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// The queue and the replay of revocations. Needed as soon as there are `systems`.
    #[serde(default)]
    pub revocations: Option<Revocations>,
    /// Systems that flip together, all or none, from the innermost (the engine, behind a gateway) to the outermost. Without
    /// any, a run stops at the flip point for good.
    #[serde(default)]
    pub systems: Vec<System>,
    /// The built-in gateway: the entrance of the engine.
    #[serde(default)]
    pub gateway: Option<Gateway>,
    /// How green must do after the flip, for the time of `window.soak`, compared with blue before it.
    #[serde(default)]
    pub soak: Soak,
    /// Cuts green off from every client and system, for good. Run by the way back when green does not answer, before blue opens without
    /// it; may be run more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolate_green: Option<Isolate>,
}

/// The database that serves now and the one to come.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Databases {
    /// The database that serves now.
    pub blue: Database,
    /// The database to come. Left out, the plan is in place: one database, migrated while it serves, and two versions of the engine on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<Database>,
}

/// One database.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// URL with our own login, such as `${BLUE_URL}`: a direct connection, not through a pooler.
    pub url: String,
    /// The application's role, as which fences and probes act. Not our own login.
    pub role: String,
    /// How touched rows are captured there: by a logical slot, or by triggers.
    #[serde(default, skip_serializing_if = "CaptureMethod::is_slot")]
    pub capture: CaptureMethod,
    /// Standbys that follow asynchronously and are promoted by nobody until the cutover is final, by their `application_name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpromoted: Vec<String>,
}

/// Budgets: when the flip may happen and how long things may take. Every wait takes its bound from here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Window {
    /// The flip is refused before this time, such as `2026-12-02T02:00:00Z`.
    pub opens: Option<Time>,
    /// The flip is refused after this time, such as `2026-12-02T06:00:00Z`.
    pub closes: Option<Time>,
    /// Longest wait of a client during the flip.
    pub hold: Length,
    /// Longest time between the last write on blue and the first on green. Fits inside `hold`; half of it when left out.
    pub write_gap: Option<Length>,
    /// Bound on bringing green level before the hold begins.
    pub level: Length,
    /// Bound on the copy of one chunk: a table, or 64 MB of a large one.
    pub copy: Length,
    /// Bound on one migration or one index.
    pub migrate: Length,
    /// Bound on the question of one invariant, on either side, and on one repair.
    #[serde(skip_serializing_if = "is_default_invariants")]
    pub invariants: Length,
    /// How long green must have served before `finalize` may remove the way back.
    pub soak: Length,
    /// Write-ahead log that the slot may keep on blue, or size of the log that triggers write there; above it the flip is refused.
    pub wal_keep: Size,
    /// Size at which a run that is filling green drops its own slot, or its triggers and their log, so that blue's disk does not fill:
    /// green must be copied anew then. Above `wal_keep`. Without it nothing is dropped, and the run is parked at `wal_keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_drop: Option<Size>,
    /// Most rows of one table that the way back may find gone on green without an event or a rotation that explains it, and still
    /// remove on blue; above it a person decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unexplained: Option<Unexplained>,
}

/// Most rows of one table that are gone on green for no known reason; the smaller of both holds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unexplained {
    /// In rows, from 0.
    pub rows: u64,
    /// In per cent of the table on blue, at most 100.
    pub percent: f64,
}

/// `window.invariants` when it is left out.
const INVARIANTS: &str = "10m";

fn is_default_invariants(length: &Length) -> bool {
    length.0 == INVARIANTS
}

impl Default for Window {
    fn default() -> Self {
        Self {
            opens: None,
            closes: None,
            hold: Length("2s".to_owned()),
            write_gap: None,
            level: Length("5m".to_owned()),
            copy: Length("6h".to_owned()),
            migrate: Length("1h".to_owned()),
            invariants: Length(INVARIANTS.to_owned()),
            soak: Length("30m".to_owned()),
            wal_keep: Size("10GB".to_owned()),
            wal_drop: None,
            unexplained: None,
        }
    }
}

/// A length of time: a number and a unit, such as `250ms`, `2s`, `30m` or `1h 30m`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Length(pub String);

/// A point in time with its zone, such as `2026-12-02T02:00:00Z`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Time(pub String);

/// A number of bytes with a unit as PostgreSQL counts them (`kB`, `MB`, `GB`, `TB` are powers of 1024), such as `10GB`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Size(pub String);

/// How green is filled.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Copy {
    /// The way green is filled.
    pub method: CopyMethod,
    /// Parallel workers: a number, or `auto` for one per core of this machine (at least 2, at most 8).
    pub workers: Workers,
    /// URL of a physical standby of blue, with our login: rows are read there. Blue itself is read without it.
    pub standby: Option<String>,
    /// What keeps the copy from harming blue.
    pub throttle: Throttle,
    /// Green's settings while it is filled.
    pub load: Load,
    /// Loads green's carried tables and their indexes into its shared buffers before the flip point. Needs the extension `pg_prewarm`
    /// on green.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prewarm: bool,
}

/// Green's settings while it is filled; they are set back afterwards.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Memory for the building of one index (`maintenance_work_mem` of our sessions).
    pub index_memory: Size,
    /// Green's `max_wal_size`, changed by `alter system`; without it the server's stays.
    pub max_wal_size: Option<Size>,
    /// Green's `checkpoint_timeout`, changed by `alter system`; without it the server's stays.
    pub checkpoint_timeout: Option<Length>,
}

impl Default for Load {
    fn default() -> Self {
        Self { index_memory: Size("256MB".to_owned()), max_wal_size: None, checkpoint_timeout: None }
    }
}

/// What keeps the copy from harming blue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Most bytes that are read from blue in a second, by all workers together; without it as fast as it goes.
    pub rate: Option<Size>,
    /// The copy waits while a standby of blue replays its log later than this; without it nobody looks.
    pub replica_lag: Option<Length>,
    /// Oldest snapshot: until it is let go, vacuum on blue keeps every row that it could see. The rest is then read from a new one.
    pub snapshot: Length,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { rate: None, replica_lag: None, snapshot: Length("1h".to_owned()) }
    }
}

/// The way green is filled.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CopyMethod {
    /// Green gets its final schema first; rows are then carried straight into it through the mapping.
    #[default]
    Carry,
    /// Green gets blue's own schema and blue's rows, one to one; then the migrations run over them, all of `migrate`, and the mapping keeps
    /// green level from there on.
    Logical,
}

/// Parallel workers: a number from 1 to 64, or `auto`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Workers {
    /// A number from 1 to 64.
    Count(#[schemars(range(min = 1, max = 64))] u32),
    /// As many as the machine has cores.
    Auto(AutoWord),
}

impl Default for Workers {
    fn default() -> Self {
        Self::Auto(AutoWord::Auto)
    }
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AutoWord {
    /// As many as the machine has cores.
    Auto,
}

/// The mapping of one green table.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CarryTable {
    /// Columns that get an SQL expression over blue's row instead of the column of the same name; `$name` stands for one of `values`.
    pub set: BTreeMap<String, String>,
    /// Blue's table, when its name differs.
    pub table: Option<String>,
    /// Key columns of the green table; its primary key when left out. Needed with `from`.
    pub key: Vec<String>,
    /// A whole select over blue's tables, or a `.sql` file with one, whose columns are green's.
    pub from: Option<String>,
    /// For `from`: every table of blue that the select reads, and which green keys a row of it leads to.
    pub touched_by: BTreeMap<String, TouchedBy>,
    /// Columns of green that the mapping does not give; they keep their value or default.
    pub own_columns: Vec<String>,
}

/// How a row of a blue table leads to keys of a green table.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TouchedBy {
    /// SQL that gives the green key: expressions over the blue table's columns, or a select over the blue table.
    pub key: String,
    /// Indexed columns of the green table that hold the blue table's key: a row that moved or vanished on blue is found by them.
    pub back: Vec<String>,
}

/// What goes back to blue for one table: `carry` (everything), `revocations` (only deletes and deactivations), `lose` (nothing), or
/// `{ carry: { set: …, key: … } }` where columns are not blue's own on green.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Reverse {
    /// One of the words.
    Word(ReverseWord),
    /// Everything, by a mapping of its own.
    Mapped(ReverseMapped),
}

/// What goes back to blue for one table, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReverseWord {
    /// Everything, mapped back.
    Carry,
    /// Only deletes and deactivations.
    Revocations,
    /// Nothing; what green wrote there is lost, and that is said aloud.
    Lose,
}

/// Everything goes back, by a mapping of its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReverseMapped {
    /// The mapping.
    pub carry: ReverseCarry,
}

/// How the rows of one table go back.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReverseCarry {
    /// Columns of blue that get an SQL expression over green's row instead of green's column of the same name.
    pub set: BTreeMap<String, String>,
    /// Key columns of the blue table; those by which it was carried when blue has them, or else its primary key, when left out.
    pub key: Vec<String>,
}

/// The JSON Schema (draft 2020-12) of a plan, from which editors complete keys and show help.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}
