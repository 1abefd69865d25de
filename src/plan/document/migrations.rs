//! The document's section `migrations`: what changes a schema, and how it goes about a database that serves.

use super::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One source of schema changes on green, or on the one database of a plan in place: `command`, `refinery` or `engine`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Migration {
    /// A command of the engine.
    Command(CommandMigration),
    /// A folder of refinery files.
    Refinery(RefineryMigration),
    /// A folder of the engine's own files.
    Engine(EngineMigration),
}

/// A command of the engine that migrates green.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandMigration {
    /// Name, unique in the plan; the program's name when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Program and arguments, one a list item; no shell. Secrets belong into `env`, since arguments can be seen by everyone on the machine.
    pub run: Vec<String>,
    /// Environment added for the command.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Run it after the carried rows stand, instead of before rows come. With `copy.method: logical` every entry runs then.
    #[serde(default)]
    pub after_copy: bool,
}

/// A folder of refinery files (`V1__name.sql`) that migrate green.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefineryMigration {
    /// Name, unique in the plan; the folder's name when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// The folder, relative to the plan.
    pub folder: String,
    /// Run it after the carried rows stand, instead of before rows come.
    #[serde(default)]
    pub after_copy: bool,
    /// In a plan in place: the table that keeps what was applied, since ours are removed in the end; `refinery_schema_history` when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// In a plan in place: how it goes about clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// In a plan in place: it takes away what the engine of before needs, so it waits for `finalize` and there is no way back from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contract: bool,
}

/// A folder of the engine's own files, `<digits>_<name>[.dialect][.autocommit].{up,down}.sql`, applied by us: what the engine's table of
/// versions lacks of it, with that table kept true.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineMigration {
    /// Name, unique in the plan; the folder's name when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// The folder, relative to the plan.
    pub folder: String,
    /// The engine's table of versions.
    #[serde(default = "default_versions")]
    pub versions: String,
    /// Run it after the carried rows stand, instead of before rows come.
    #[serde(default)]
    pub after_copy: bool,
    /// In a plan in place: how it goes about clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// In a plan in place: it takes away what the engine of before needs, so it waits for `finalize` and there is no way back from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contract: bool,
}

fn default_versions() -> String {
    "schema_migration".to_owned()
}

/// How migrations go about a database that serves.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Live {
    /// Longest wait for one lock, at most `1s`: whoever comes behind waits as long.
    pub lock_timeout: Length,
    /// How often a statement, or a file that is one transaction, is tried.
    #[schemars(range(min = 1, max = 100_000))]
    pub tries: u32,
    /// How long it is tried.
    pub bound: Length,
    /// How long clients may wait for what it holds; then it is cut off, and given up the third time.
    pub block: Length,
}

impl Default for Live {
    fn default() -> Self {
        let length = |text: &str| Length(text.to_owned());
        Self { lock_timeout: length("300ms"), tries: 200, bound: length("15m"), block: length("500ms") }
    }
}
