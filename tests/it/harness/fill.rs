//! A copy as tests want it: small chunks, two workers, no throttle.

use cutover::database::copy::{self, Copied, CopyError, CopyOptions, CopyTold, Ended};
use cutover::database::mapping::Mapping;
use cutover::database::term::Term;
use cutover::plan::{Secret, Throttle};
use std::time::Duration;

/// Options for a copy from `blue` to `green` in chunks of one block.
pub(crate) fn copy_options<'a>(blue: &'a Secret, green: &'a Secret, term: Term) -> CopyOptions<'a> {
    CopyOptions {
        blue,
        standby: None,
        green,
        term,
        workers: 2,
        bound: Duration::from_secs(60),
        chunk_blocks: 1,
        throttle: Throttle { rate_bytes: None, replica_lag: None, snapshot: Duration::from_secs(3600) },
        idle: None,
    }
}

/// Copies all of it from one snapshot.
pub(crate) async fn copy_whole(options: &CopyOptions<'_>, mapping: &Mapping) -> Result<Vec<Copied>, CopyError> {
    let tell = |told: CopyTold<'_>| {
        if let CopyTold::Rows(progress) = told {
            assert!(progress.rows <= progress.rows_expected);
        }
    };
    match copy::copy(options, mapping, &tell).await? {
        Ended::Whole(copied) => Ok(copied),
        Ended::Part { why } => panic!("the snapshot was let go: {why}"),
    }
}
