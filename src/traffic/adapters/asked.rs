//! One order as it is carried out by a hand: what, of whom, from where.

use crate::traffic::protocol::Order;
use std::path::Path;

/// What is asked of a system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// `prepare`, `hold`, `drain`, `switch`, `verify`, `release` or `undo`.
    pub(super) verb: &'static str,
    /// The system's name in the plan.
    pub(super) system: &'a str,
    /// The order itself.
    pub(super) order: &'a Order,
    /// The plan's folder.
    pub(super) folder: &'a Path,
}
