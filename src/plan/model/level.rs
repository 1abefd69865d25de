//! The resolved section `level`: when the batches wait that bring green level.

use super::Sql;
use std::time::Duration;

/// What keeps batches from harming the side that serves, until the hold begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// A batch waits while a standby of that side is further behind.
    pub replica_lag: Option<Duration>,
    /// A batch waits while that side has more to do.
    pub load: Option<Load>,
    /// Pause between two looks.
    pub every: Duration,
    /// Rows of green that one touched row of blue may lead to.
    pub fan_out: u64,
}

/// How much a side has to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// A query with one row and one number.
    pub query: Sql,
    /// The most it may answer.
    pub most: f64,
}
