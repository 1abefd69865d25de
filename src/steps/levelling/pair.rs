//! Both sides as of one moment, for whoever compares them while the target is closed.

use super::Levelling;
use crate::database::copy::ExportedSnapshot;
use crate::engine::{FailureKind, StepError};
use crate::steps::failure::fail;
use std::time::Duration;

/// Tries while somebody holds a lock on the source, and the pause between them.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

impl Levelling {
    /// A moment of the source that the target equals, until the next round. Level first: the batch that makes it so is short then.
    pub(in crate::steps) async fn pair(&mut self) -> Result<ExportedSnapshot, StepError> {
        let (from, to) = (self.route.from(), self.route.to());
        for _ in 0..TRIES {
            self.replay(self.settle()).await?;
            let moment = self.worker.moment().await;
            let moment = moment.map_err(|error| fail(format!("export a moment of {from}"), error))?;
            if self.batch(Some(&moment), self.settle()).await?.is_some() {
                return Ok(moment);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let why =
            format!("{to} was not brought to one moment of {from}: another session holds a lock on {from}'s tables");
        Err(StepError::new(FailureKind::Failed, why))
    }
}
