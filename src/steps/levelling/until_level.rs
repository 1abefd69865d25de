//! Rounds of levelling outside the hold: until nothing is behind, no faster than the serving side can bear, and not for ever.

use super::Levelling;
use crate::database::capture::{Room, room};
use crate::database::level::{BatchReport, unrest};
use crate::engine::{Context, StepError};
use crate::plan::Side;
use crate::steps::failure::fail;
use crate::steps::flip::Route;
use std::time::Duration;
use tokio::time::Instant;

/// A batch that was at most this far behind at its commit counts as level.
const LEVEL_LAG: Duration = Duration::from_millis(500);
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(100);

/// Most rounds right before a hold.
const LAST_ROUNDS: u32 = 5;

/// What came of one turn.
enum Turn {
    Level(BatchReport),
    /// Not level yet, and why; the next turn after this pause.
    Behind(String, Duration),
}

impl Levelling {
    /// Rounds until one is level and every revocation holds on green; bounded. What can be proved before the hold is
    /// proved here, so that no client waits for a no.
    pub(in crate::steps) async fn until_level(
        &mut self,
        bound: Duration,
        context: &Context,
    ) -> Result<BatchReport, StepError> {
        let (begun, mut keys) = (Instant::now(), 0);
        loop {
            let (behind, pause) = match self.turn(&mut keys).await? {
                Turn::Level(report) => {
                    self.agrees(context).await?;
                    return Ok(report);
                }
                Turn::Behind(behind, pause) => (behind, pause),
            };
            context.progress(keys, None, "keys", behind.clone());
            if context.stop().is_requested() {
                return Err(self.stopped(context));
            }
            if begun.elapsed() >= bound {
                let (from, to) = (self.route.from(), self.route.to());
                let why = format!("{to} was not level within {}: {behind}", humantime::format_duration(bound));
                let hint = format!("end long transactions on {from}, or raise window.level, and run it again");
                return Err(StepError::refused(why, hint));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One round, unless the serving side has too much to do already.
    async fn turn(&mut self, keys: &mut u64) -> Result<Turn, StepError> {
        let from = self.route.from();
        let unrest = unrest(&self.source, from, &self.calm).await;
        if let Some(why) = unrest.map_err(|error| fail(format!("see whether {from} is at ease"), error))? {
            return Ok(Turn::Behind(format!("no batch is begun: {why}"), self.calm.every));
        }
        let Some(report) = self.round(self.settle()).await? else {
            return Ok(Turn::Behind(format!("another session holds a lock on {from}'s tables"), PAUSE));
        };
        *keys += report.keys;
        self.worker.draw_near().await;
        let left_before = std::mem::replace(&mut self.left, report.left_in_slot);
        if !is_level(&report, left_before) {
            return Ok(Turn::Behind(behind(&report, from), PAUSE));
        }
        self.within_cap().await?;
        self.refresh(self.settle()).await?;
        let objection = match self.unproved().await? {
            None => self.long_log().await?,
            some => some,
        };
        Ok(objection.map_or(Turn::Level(report), |why| Turn::Behind(why, PAUSE)))
    }

    /// Takes what was written since green was level, and proves what that touched: the last batch, for which clients wait, has only what comes
    /// after. Ends with the round that is hardly shorter than the one before. The list is drawn near for the last time: the batch under the
    /// hold reads from there. Gives the moment before which every revocation that was executed is proved, when there is one.
    pub(in crate::steps) async fn up_to_now(&mut self) -> Result<Option<Instant>, StepError> {
        let mut before = u64::MAX;
        self.refresh(self.settle()).await?;
        self.finish().await?;
        for _ in 0..LAST_ROUNDS {
            let Some(report) = self.round(self.settle()).await? else { break };
            if report.lag_ms > before / 4 * 3 {
                break;
            }
            before = report.lag_ms;
        }
        // All that is listed now is replayed before it is proved; what comes meanwhile is not asked about. What does not hold yet may hold when
        // clients wait and nothing is under way any more; the hold's own proof decides.
        let asked = Instant::now();
        self.refresh(self.settle()).await?;
        self.replay(self.settle()).await?;
        let is_proved = self.unproved().await?.is_none() && self.queue.is_some();
        if let Some(queue) = &self.queue {
            let counted = queue.ledger.count_ahead().await;
            counted.map_err(|error| fail("count what has arrived of the queue of revocations", error))?;
        }
        self.worker.draw_near().await;
        Ok(is_proved.then_some(asked))
    }

    fn stopped(&self, context: &Context) -> StepError {
        let hint = if *context.step() == self.route.id() { self.route.command() } else { "" };
        StepError::parked(format!("asked to stop by {} while levelling", context.stop().by()), hint)
    }

    /// The first known revocation that does not hold on the target, as far as it alone can tell.
    async fn unproved(&mut self) -> Result<Option<String>, StepError> {
        match &mut self.queue {
            Some(queue) => queue.unproved_on(&self.target).await,
            None => Ok(None),
        }
    }

    /// Everything is on green, and blue still keeps more than the plan allows: a writer that has been open for long, from whose first
    /// change on every call of the slot reads, or whose snapshot keeps consumed rows in a trigger log; under the hold too.
    async fn long_log(&self) -> Result<Option<String>, StepError> {
        if self.route == Route::Back {
            return Ok(None);
        }
        let measured = |error| fail("measure what the capture keeps on blue", error);
        let kept = self.capture.kept(&self.source).await.map_err(measured)?;
        let (Room::Passed(why) | Room::GiveUp(why)) = room(&kept, self.wal) else { return Ok(None) };
        let oldest = self.capture.oldest_writer(&self.source).await.map_err(measured)?;
        let cause = oldest.unwrap_or_else(|| "no long writer is seen".to_owned());
        Ok(Some(format!("green is level and {why}; {cause}")))
    }
}

/// Whether a batch was hardly behind at its commit. While clients write there are always some commits that its snapshot did not see yet; they
/// are no reason to wait, but one that stays in the slot is: nothing behind it is consumed, and under the hold it would be in the way.
fn is_level(report: &BatchReport, left_before: u64) -> bool {
    let is_moving = report.left_in_slot == 0 || report.commits >= left_before;
    is_moving && u128::from(report.lag_ms) <= LEVEL_LAG.as_millis()
}

fn behind(report: &BatchReport, from: Side) -> String {
    let seconds = report.lag_ms as f64 / 1000.0;
    let left = match report.left_in_slot {
        0 => String::new(),
        left => format!(", {left} commits not visible yet"),
    };
    format!("{seconds:.1} s behind {from}, {} keys in this batch{left}", report.keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(commits: u64, left_in_slot: u64, lag_ms: u64) -> BatchReport {
        BatchReport { commits, left_in_slot, lag_ms, ..BatchReport::default() }
    }

    #[test]
    fn level_is_what_is_hardly_behind_though_clients_write_on() {
        assert!(is_level(&report(0, 0, 500), u64::MAX));
        assert!(!is_level(&report(0, 0, 501), u64::MAX));
        assert!(!is_level(&report(900, 20, 80), u64::MAX), "whether they stay is not known after one batch");
        assert!(is_level(&report(900, 20, 80), 20), "what was left before has been consumed");
        assert!(!is_level(&report(19, 40, 80), 20), "one of them stays, and all behind it");
    }
}
