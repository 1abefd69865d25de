//! Keeping level in the document: how touched rows are captured, and the section `level`: when the batches wait that bring green level.

use super::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What keeps batches from harming the side that serves; nothing of it holds once clients are held.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Level {
    /// A batch waits while a standby of the serving side replays its log later than this; without it nobody looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_lag: Option<Length>,
    /// A batch waits while the serving side is under more load than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Pause between two looks while a batch waits; two seconds when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Length>,
    /// Rows of green that one touched row of blue may lead to, by blue's statistics; more is refused before a row moves. 100000 when left
    /// out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan_out: Option<u64>,
}

impl Level {
    pub(super) fn is_empty(&self) -> bool {
        self.replica_lag.is_none() && self.load.is_none() && self.every.is_none() && self.fan_out.is_none()
    }
}

/// How touched rows are captured on a side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptureMethod {
    /// A publication and a logical slot: costs the application nothing; needs `wal_level = logical`, the right to replicate and a free slot.
    #[default]
    Slot,
    /// Triggers that log the keys of touched rows in schema `cutover`: for a server without logical decoding. Every write costs more.
    Triggers,
}

impl CaptureMethod {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
    pub(super) fn is_slot(&self) -> bool {
        *self == Self::Slot
    }
}

/// How much the serving side has to do, by a question of your own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// A query with one row and one number, such as the count of active sessions in `pg_stat_activity`.
    pub query: String,
    /// The most it may answer.
    pub most: f64,
}
