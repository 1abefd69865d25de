//! Both sides as of one moment, for whoever compares them while the target is closed.

use super::Levelling;
use crate::database::changes::Key;
use crate::database::copy::ExportedSnapshot;
use crate::engine::{FailureKind, StepError};
use crate::plan::TableName;
use crate::steps::failure::fail;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Tries while somebody holds a lock on the source, and the pause between them.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

impl Levelling {
    /// Of these keys of the target, those whose rows the batch for that moment, made again, would change: the others differ from what the
    /// mapping gives because somebody has revoked something.
    pub(in crate::steps) async fn apart(
        &mut self,
        moment: &ExportedSnapshot,
        keys: &BTreeMap<TableName, Vec<Key>>,
    ) -> Result<BTreeMap<TableName, BTreeSet<Key>>, StepError> {
        let to = self.route.to();
        let apart = match &self.queue {
            Some(queue) => self.worker.apart(moment, keys, &queue.again()).await,
            None => self.worker.apart(moment, keys, &()).await,
        };
        apart.map_err(|error| fail(format!("ask what a batch would change on {to}"), error))
    }

    /// A moment of the source that the target equals, until the next round. Level first: the batch that makes it so is short then.
    ///
    /// The batch knows of the revocations from before the moment alone: a source that executes one after it, while a long batch is under
    /// way, is no stricter at the moment, and the target must not be either. The next round replays it.
    pub(in crate::steps) async fn pair(&mut self) -> Result<ExportedSnapshot, StepError> {
        let (from, to) = (self.route.from(), self.route.to());
        for _ in 0..TRIES {
            let settle = self.settle();
            self.replay(settle).await?;
            self.refresh(settle).await?;
            // What blue's engine has not finished would be dead on green alone.
            self.finish().await?;
            let moment = self.worker.moment().await;
            let moment = moment.map_err(|error| fail(format!("export a moment of {from}"), error))?;
            if self.batch(Some(&moment)).await?.is_some() {
                return Ok(moment);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let why =
            format!("{to} was not brought to one moment of {from}: another session holds a lock on {from}'s tables");
        Err(StepError::new(FailureKind::Failed, why))
    }
}
