//! The one worker that writes a closed side: level batches and the replay of revocations, in turn.
//!
//! Towards green used by `level-backlog` outside the hold and by `flip` under it; towards blue by `return`. Only here do the two hands
//! meet.

mod alone;
mod pair;
mod queue;
mod second_witness;
mod until_level;

pub(super) use alone::{replay_alone, unproved};
pub(super) use queue::{ARRIVAL, settle_time};
pub(super) use second_witness::sink;

use super::failure::fail;
use super::flip::{self, Route};
use super::laps::Laps;
use super::log_guard;
use super::park_rows::archives;
use super::resolve_mapping::{Form, resolve_back};
use super::world::World;
use crate::database::capture::{Capture, CaptureStanding, Opened, WalLimits};
use crate::database::copy::ExportedSnapshot;
use crate::database::level::{BatchReport, LevelSetup, Limits, Worker, begin_progress};
use crate::database::mapping::Mapping;
use crate::database::{account, invariants, sequences, term};
use crate::engine::{Context, FailureKind, StepError, chain};
use crate::plan::{Level, Side, TableName, Unexplained};
use crate::traffic::register;
use queue::{Queue, SETTLE};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;

/// Rows that green's sequences are kept ahead of blue's.
pub(super) const SEQUENCE_MARGIN: u32 = 1000;
/// Tries of the last batch while somebody else reads the slot, and the pause between them; the server itself ends the hold.
const LAST_TRIES: u32 = 20;
const LAST_PAUSE: Duration = Duration::from_millis(25);
/// Bounds of a batch.
const LIMITS: Limits =
    Limits { lock: Duration::from_millis(200), statement: Duration::from_secs(600), page_keys: 20_000 };

/// Level batches and replay on one worker, towards the side that is gone to.
pub(super) struct Levelling {
    route: Route,
    capture: Capture,
    worker: Worker,
    source: Client,
    target: Client,
    queue: Option<Queue>,
    term: term::Term,
    renamed: BTreeMap<TableName, TableName>,
    /// Commits that the batch before had to leave in the slot; all there are before the first.
    left: u64,
    /// What keeps batches from harming the side that serves.
    calm: Level,
    wal: WalLimits,
    /// Bounds what the way back deletes without an explanation.
    cap: Unexplained,
    /// Keeps green's last moment before it opens, when something is to be asked of it.
    kept: Option<Client>,
}

impl Levelling {
    /// Connects, and checks that the slot and the target's position belong together.
    pub(super) async fn open(world: &World, context: &Context, route: Route) -> Result<Self, StepError> {
        Self::open_by(world, context, route, Form::Final).await
    }

    /// The same, while green may have blue's own schema still.
    pub(super) async fn open_by(world: &World, context: &Context, route: Route, form: Form) -> Result<Self, StepError> {
        let (from, to) = (route.from(), route.to());
        let capture = world.capture(context.run(), from);
        let mapping = match route {
            Route::Out if form == Form::Final => with_archives(form.mapping(context)?, context)?,
            Route::Out => form.mapping(context)?,
            Route::Back => back(world, context, capture).await?,
        };
        let (source, target) = (world.url(from).clone(), world.url(to).clone());
        let setup = LevelSetup { source, target, capture, mapping, term: context.term(), limits: LIMITS };
        let mut worker = Worker::open(setup).await.map_err(|error| fail(format!("begin to level {to}"), error))?;
        let derives_all = route == Route::Out && context.facts().receipt(&Route::Back.id()).is_some();
        if derives_all {
            // What clients wrote on green before they came back is not in blue's log: every row is derived anew, once.
            worker.touch_everything();
        }
        let (source, target) = (world.side(from).await?, world.side(to).await?);
        require_closed(&target, to).await?;
        let mut queue = Queue::open(world, context, (route, form), &source, &target).await?;
        if let Some(queue) = queue.as_mut().filter(|_| derives_all) {
            queue.unasked = None;
        }
        let cap = world.plan.window.unexplained;
        let renamed = world.renamed(route);
        let term = context.term();
        let kept = match *context.step() == flip::ID && !world.plan.invariants.is_empty() {
            true => {
                Some(invariants::session(world.url(to), to).await.map_err(|error| fail("connect to green", error))?)
            }
            false => None,
        };
        let (calm, wal) = (world.plan.level.clone(), log_guard::limits(&world.plan.window));
        Ok(Self { route, capture, worker, source, target, queue, term, renamed, left: u64::MAX, calm, wal, cap, kept })
    }

    fn settle(&self) -> Duration {
        self.queue.as_ref().map_or(SETTLE, |queue| queue.settle)
    }

    /// One batch and one replay. None when a lock kept the batch away this time.
    async fn round(&mut self, settle: Duration) -> Result<Option<BatchReport>, StepError> {
        self.refresh(settle).await?;
        let report = self.batch(None).await?;
        self.replay(settle).await?;
        Ok(report)
    }

    /// Asks which revocations count.
    async fn refresh(&mut self, settle: Duration) -> Result<(), StepError> {
        match &mut self.queue {
            Some(queue) => queue.refresh(settle).await,
            None => Ok(()),
        }
    }

    /// One batch, for an exported moment or for now, with the revocations that were known to count. None when a lock kept it away this time.
    async fn batch(&mut self, moment: Option<&ExportedSnapshot>) -> Result<Option<BatchReport>, StepError> {
        let report = match &mut self.queue {
            Some(queue) => {
                let again = queue.again();
                let report = self.worker.batch_at(moment, &again).await;
                let (seen, unasked) = again.seen();
                match &report {
                    Ok(_) => {
                        queue.known.batch_committed(&seen);
                        queue.died(self.route.from(), &unasked).await;
                    }
                    Err(_) => queue.known.batch_failed(&seen),
                }
                report
            }
            None => self.worker.batch_at(moment, &()).await,
        };
        match report {
            Ok(report) => Ok(Some(report)),
            Err(error) if error.is_passing() => Ok(None),
            Err(error) => Err(fail(format!("level {}", self.route.to()), error)),
        }
    }

    /// Replays what is pending, on the worker's own connection.
    async fn replay(&mut self, settle: Duration) -> Result<(), StepError> {
        match &self.queue {
            Some(queue) => queue.replay(self.worker.target(), &self.term, settle).await,
            None => Ok(()),
        }
    }

    /// The last batch, under the hold and the fence of the side being left: everything on the target, every revocation proved there,
    /// sequences ahead.
    pub(super) async fn last(&mut self, epoch: i64, laps: &mut Laps) -> Result<(), StepError> {
        if let Some(queue) = &self.queue {
            // Before the batch, so that it applies what arrives.
            queue.arrived(epoch).await?;
        }
        laps.ended("queue");
        let report = self.last_round().await?;
        let left = report.map_or(u64::MAX, |report| report.left_in_slot);
        if left != 0 {
            let why = format!("the last batch left {left} commits although {} is fenced", self.route.from());
            return Err(StepError::new(FailureKind::Failed, why));
        }
        if self.route == Route::Back {
            self.within_cap().await?;
            let applied = self.worker.apply_unexplained().await;
            applied.map_err(|error| fail("carry back the deletes that no event explains", error))?;
        }
        laps.ended("level");
        self.prove(epoch).await?;
        laps.ended("prove");
        let (source, renamed) = (&self.source, &self.renamed);
        let carried = sequences::carry(source, &mut self.target, &self.term, SEQUENCE_MARGIN, renamed).await;
        carried.map_err(|error| fail("carry the sequences", error))?;
        self.keep().await;
        laps.ended("sequences");
        Ok(())
    }

    /// Green as it is now, for questions that are asked once it serves: nothing is written there any more until it opens. No client waits
    /// longer for want of it.
    async fn keep(&mut self) {
        let Some(kept) = &self.kept else { return };
        if let Err(error) = invariants::keep(kept, self.route.to()).await {
            tracing::warn!(error = %chain(&error), "green's last moment is not kept; what held then will not be known");
            self.kept = None;
        }
    }

    /// The connection that keeps it.
    pub(super) fn kept(&mut self) -> Option<Client> {
        self.kept.take()
    }

    /// Somebody who looks at the slot holds it for a moment; a hold is not given up for that.
    async fn last_round(&mut self) -> Result<Option<BatchReport>, StepError> {
        for _ in 0..LAST_TRIES {
            if let Some(report) = self.round(Duration::ZERO).await? {
                return Ok(Some(report));
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
        Ok(None)
    }

    /// Deletes on green that no revocation and no rotation explains may be the very disaster one is fleeing: carried back up to a cap.
    async fn within_cap(&mut self) -> Result<(), StepError> {
        if self.route == Route::Out {
            return Ok(());
        }
        let found = self.worker.unexplained().await;
        let found = found.map_err(|error| fail("count the deletes that no event explains", error))?;
        let mut over = Vec::new();
        for one in found {
            let rows = account::estimate(&self.target, &one.table).await;
            let rows = rows.map_err(|error| fail(format!("estimate the rows of {}", one.table), error))?;
            if !self.cap.allows(one.count, rows) {
                over.push(format!(
                    "{} of about {rows} rows of {} (such as {})",
                    one.count,
                    one.table,
                    one.samples.join(", ")
                ));
            }
        }
        if over.is_empty() {
            return Ok(());
        }
        let why = format!(
            "rows went from green that no revocation explains, more than window.unexplained: {}",
            over.join("; ")
        );
        let hint = "green serves on; find out who deleted them: blue still has them, and would lose them too";
        Err(StepError::stuck(why, hint))
    }

    async fn prove(&mut self, epoch: i64) -> Result<(), StepError> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let refused = |why| Err(StepError::new(FailureKind::Failed, why));
        // The batch has read the queue after every gateway's barrier had arrived; what came since would be counted as not replayed below.
        if let Some(why) = queue.unproved_between(&self.source, &self.target).await? {
            return refused(format!("not proved on {}: {why}", self.route.to()));
        }
        if let Some(why) = self.second_witness().await? {
            return refused(why);
        }
        match &self.queue {
            Some(queue) => queue.undrained(epoch).await?.map_or(Ok(()), refused),
            None => Ok(()),
        }
    }
}

/// What cleanup rules leave behind is kept level in green's archive too.
fn with_archives(mut mapping: Mapping, context: &Context) -> Result<Mapping, StepError> {
    mapping.tables.extend(archives(context)?.tables);
    Ok(mapping)
}

/// Only a side that takes no client's writes is levelled. One that was left for dead comes back with its register open.
async fn require_closed(target: &Client, to: Side) -> Result<(), StepError> {
    let register = register::read(target).await.map_err(|error| fail(format!("read {to}'s register"), error))?;
    if register.is_none_or(|register| register.state != register::State::Open) {
        return Ok(());
    }
    let why = format!("{to}'s register is open: it takes the writes of clients, and nothing else may write it");
    Err(StepError::refused(why, "see which side serves, and why: cutover status PLAN"))
}

/// The mapping of the way back; and blue notes where bringing it level begins: where green's log stood when green opened.
async fn back(world: &World, context: &Context, capture: Capture) -> Result<Mapping, StepError> {
    let (mut blue, green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
    let mapping = resolve_back(world).await?;
    if let Some(opened) = context.facts().receipt(&Route::Out.id()).and_then(opened) {
        let skipped = capture.skip_to(&green, &opened).await;
        skipped.map_err(|error| fail("pass over what was written on green before it opened", error))?;
    }
    let CaptureStanding::Present(captured) =
        capture.verify(&green).await.map_err(|error| fail("look at the capture on green", error))?
    else {
        let hint = "green serves on; without its capture nothing can be carried back";
        return Err(StepError::refused("the capture on green cannot deliver any more", hint));
    };
    let begun = begin_progress(&mut blue, &context.term(), &captured).await;
    begun.map_err(|error| fail("note on blue where bringing it level begins", error))?;
    Ok(mapping)
}

/// When green opened, from the receipt of the flip.
fn opened(flipped: &serde_json::Value) -> Option<Opened> {
    let snapshot = flipped["opened_snapshot"].as_str().unwrap_or_default().to_owned();
    Some(Opened { lsn: flipped["opened_lsn"].as_i64()?.cast_unsigned(), snapshot })
}
