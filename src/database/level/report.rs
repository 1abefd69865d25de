//! What batches did.

use crate::database::pgoutput::Lsn;
use crate::plan::TableName;
use std::collections::BTreeSet;

/// What one batch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchReport {
    /// Commits consumed.
    pub commits: u64,
    /// Commits that stay in the slot, because they were not visible yet or stand behind one that was not.
    pub left_in_slot: u64,
    /// Keys of the target touched, those touched twice counted twice.
    pub keys: u64,
    /// Rows of the target deleted, those replaced included.
    pub rows_deleted: u64,
    /// Rows of the target inserted, those replaced included.
    pub rows_inserted: u64,
    /// Rows changed again by [`Reapply`](super::Reapply).
    pub rows_reapplied: u64,
    /// Rows of the target switched off because the source has switched them off.
    pub rows_deactivated: u64,
    /// Rows of the target removed because they are gone on the source for a known reason.
    pub rows_removed: u64,
    /// Rows of the target that fell with a row on which they hung.
    pub rows_fallen: u64,
    /// Rows found gone on the source for no known reason, for the first time; they stand on the target.
    pub rows_unexplained: u64,
    /// Tables of the target of which keys were touched. A revocation proved before on any of them is proved no longer.
    pub touched: BTreeSet<TableName>,
    /// Milliseconds from the snapshot to the target's commit: how far it was behind the source at that commit.
    pub lag_ms: u64,
    /// Bytes of log from the consumed position to its end, after the batch.
    pub lag_bytes: u64,
    /// The consumed position.
    pub lsn: Lsn,
}

/// What a number of batches did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levelled {
    /// Batches run.
    pub batches: u64,
    /// All of them together; lag, position and what is left are those of the last.
    pub total: BatchReport,
}

impl Levelled {
    pub(super) fn add(&mut self, report: BatchReport) {
        let before = std::mem::take(&mut self.total);
        self.batches += 1;
        self.total = BatchReport {
            commits: before.commits + report.commits,
            keys: before.keys + report.keys,
            rows_deleted: before.rows_deleted + report.rows_deleted,
            rows_inserted: before.rows_inserted + report.rows_inserted,
            rows_reapplied: before.rows_reapplied + report.rows_reapplied,
            rows_deactivated: before.rows_deactivated + report.rows_deactivated,
            rows_removed: before.rows_removed + report.rows_removed,
            rows_fallen: before.rows_fallen + report.rows_fallen,
            rows_unexplained: before.rows_unexplained + report.rows_unexplained,
            touched: &before.touched | &report.touched,
            ..report
        };
    }
}
