//! The one worker that writes green while it is closed: level batches and the replay of revocations, in turn.
//!
//! Used by `level-backlog` outside the hold and by `flip` under it. Only here do the two hands meet.

use super::failure::fail;
use super::flip;
use super::resolve_mapping::mapping;
use super::world::World;
use crate::database::capture::Capture;
use crate::database::level::{Answer, BatchReport, Explained, Gone, LevelSetup, Limits, Reapply, Worker};
use crate::database::{sequences, term};
use crate::engine::{Context, FailureKind, StepError};
use crate::plan::{Adapter, Side, TableName};
use crate::revocations::proof::{Drained, drained, prove, prove_on_green};
use crate::revocations::replay::{reapply_for, replay_each};
use crate::revocations::{Event, Ledger, Shape, rotation};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

/// A batch that was at most this far behind at its commit counts as level.
const LEVEL_LAG: Duration = Duration::from_millis(500);
/// An event whose outcome nobody wrote counts as executed after this time, or the gateway's own bound on a request if that is longer.
const SETTLE: Duration = Duration::from_secs(10);
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(100);
/// Rows that green's sequences are kept ahead of blue's.
pub(super) const SEQUENCE_MARGIN: u32 = 1000;
/// Bounds of a batch.
const LIMITS: Limits =
    Limits { lock: Duration::from_millis(200), statement: Duration::from_secs(600), page_keys: 20_000 };

/// Level batches and replay on one worker.
pub(super) struct Levelling {
    worker: Worker,
    blue: Client,
    green: Client,
    queue: Option<Queue>,
    term: term::Term,
    renamed: BTreeMap<TableName, TableName>,
}

struct Queue {
    ledger: Ledger,
    gateways: Vec<String>,
    /// Age at which no request that made an event can still be in flight.
    settle: Duration,
    blue_shape: Shape,
    green_shape: Shape,
}

/// Kills again, in a batch's own transaction, what it may have brought back.
struct Again<'a> {
    shape: &'a Shape,
    source_shape: &'a Shape,
    events: Vec<Event>,
}

impl Reapply for Again<'_> {
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>) -> Answer<'a, u64> {
        Box::pin(reapply_for(target, self.shape, &self.events))
    }

    fn explain<'a>(&'a self, source: &'a Transaction<'a>, gone: Gone<'a>) -> Answer<'a, Explained> {
        Box::pin(async move {
            if rotation::holds_used_marks(&gone.table.name) {
                return Ok(Explained::All);
            }
            rotation::known_chains(source, self.source_shape, gone.chains).await.map(Explained::Chains)
        })
    }
}

impl Levelling {
    /// Connects, and checks that the slot and green's position belong together.
    pub(super) async fn open(world: &World, context: &Context) -> Result<Self, StepError> {
        let setup = LevelSetup {
            source: world.url(Side::Blue).clone(),
            target: world.url(Side::Green).clone(),
            capture: Capture { run: context.run(), side: Side::Blue },
            mapping: mapping(context)?,
            term: context.term(),
            limits: LIMITS,
        };
        let worker = Worker::open(setup).await.map_err(|error| fail("begin to level green", error))?;
        let (blue, green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let queue = Queue::open(world, &blue, &green).await?;
        Ok(Self { worker, blue, green, queue, term: context.term(), renamed: world.renamed() })
    }

    /// Rounds until one leaves nothing behind and every revocation holds on green; bounded. What can be proved before the hold is
    /// proved here, so that no client waits for a no.
    pub(super) async fn until_level(&mut self, bound: Duration, context: &Context) -> Result<BatchReport, StepError> {
        let (begun, mut keys) = (Instant::now(), 0);
        loop {
            let mut behind = "another session holds a lock on blue's tables".to_owned();
            if let Some(report) = self.round(self.settle()).await? {
                keys += report.keys;
                behind = format!("{} commits left, {} ms behind", report.left_in_slot, report.lag_ms);
                if report.left_in_slot == 0 && u128::from(report.lag_ms) <= LEVEL_LAG.as_millis() {
                    let Some(objection) = self.objection().await? else { return Ok(report) };
                    behind = objection;
                }
            }
            context.progress(keys, None, "keys", behind.clone());
            if context.stop().is_requested() {
                return Err(stopped(context));
            }
            if begun.elapsed() >= bound {
                let why = format!("green was not level within {}: {behind}", humantime::format_duration(bound));
                return Err(StepError::refused(
                    why,
                    "end long transactions on blue, or raise window.level, and run it again",
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The first revocation that does not hold on green, as far as green alone can tell.
    async fn objection(&self) -> Result<Option<String>, StepError> {
        let Some(queue) = &self.queue else { return Ok(None) };
        let events = queue.effective(queue.settle).await?;
        let proof = prove_on_green(&self.green, &queue.green_shape, &events).await;
        let proof = proof.map_err(|error| fail("prove revocations on green", error))?;
        Ok(proof.open.first().map(|(id, why)| format!("{} revocations do not hold; {id}: {why}", proof.open.len())))
    }

    fn settle(&self) -> Duration {
        self.queue.as_ref().map_or(SETTLE, |queue| queue.settle)
    }

    /// One batch and one replay. None when a lock kept the batch away this time.
    async fn round(&mut self, settle: Duration) -> Result<Option<BatchReport>, StepError> {
        let report = match &self.queue {
            Some(queue) => {
                let again = Again {
                    shape: &queue.green_shape,
                    source_shape: &queue.blue_shape,
                    events: queue.effective(settle).await?,
                };
                self.worker.batch(&again).await
            }
            None => self.worker.batch(&()).await,
        };
        let report = match report {
            Ok(report) => Some(report),
            Err(error) if error.is_passing() => None,
            Err(error) => return Err(fail("level green", error)),
        };
        self.replay(settle).await?;
        Ok(report)
    }

    /// Replays what is pending, in one transaction of the worker.
    async fn replay(&mut self, settle: Duration) -> Result<(), StepError> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let failed = |error| fail("replay revocations on green", error);
        let pending =
            queue.ledger.pending(settle).await.map_err(|error| fail("read the queue of revocations", error))?;
        if pending.is_empty() {
            return Ok(());
        }
        let mut transaction = self.worker.target().transaction().await.map_err(failed)?;
        term::hold(&transaction, &self.term).await.map_err(|error| fail("replay revocations on green", error))?;
        let settings = "set local session_replication_role = replica; set local synchronous_commit = on";
        transaction.batch_execute(settings).await.map_err(failed)?;
        let results = replay_each(&mut transaction, &queue.green_shape, &pending).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        queue.note(results).await
    }

    /// The last batch, under the hold and blue's fence: everything on green, every revocation proved there, sequences ahead.
    pub(super) async fn last(&mut self, epoch: i64) -> Result<(), StepError> {
        let report = self.round(Duration::ZERO).await?;
        let left = report.map_or(u64::MAX, |report| report.left_in_slot);
        if left != 0 {
            let why = format!("the last batch left {left} commits although blue is fenced");
            return Err(StepError::new(FailureKind::Failed, why));
        }
        self.prove(epoch).await?;
        let carried = sequences::carry(&self.blue, &mut self.green, &self.term, SEQUENCE_MARGIN, &self.renamed).await;
        carried.map_err(|error| fail("carry the sequences", error))?;
        Ok(())
    }

    async fn prove(&self, epoch: i64) -> Result<(), StepError> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let events = queue.effective(Duration::ZERO).await?;
        let proof = prove(&self.green, &queue.green_shape, &self.blue, &queue.blue_shape, &events).await;
        let proof = proof.map_err(|error| fail("prove revocations on green", error))?;
        queue.ledger.proved(&proof.proved).await.map_err(|error| fail("note what is proved", error))?;
        if let Some((id, why)) = proof.open.first() {
            let why = format!("{} revocations are not proved on green; {id}: {why}", proof.open.len());
            return Err(StepError::new(FailureKind::Failed, why));
        }
        match drained(&queue.ledger, epoch, &queue.gateways).await {
            Ok(Drained::Yes) => Ok(()),
            Ok(Drained::No(reasons)) => {
                let why = format!("the queue of revocations is not drained: {}", reasons.join("; "));
                Err(StepError::new(FailureKind::Failed, why))
            }
            Err(error) => Err(fail("see whether the queue of revocations is drained", error)),
        }
    }
}

impl Queue {
    async fn open(world: &World, blue: &Client, green: &Client) -> Result<Option<Self>, StepError> {
        let Some(ledger) = world.ledger() else { return Ok(None) };
        let shape = |error| fail("look at the engine's tables", error);
        let gateways = world.plan.systems.iter().filter(|system| matches!(system.adapter, Adapter::Gateway { .. }));
        Ok(Some(Self {
            ledger,
            gateways: gateways.map(|system| system.name.clone()).collect(),
            settle: world.plan.gateway.as_ref().map_or(SETTLE, |gateway| gateway.request_timeout.max(SETTLE)),
            blue_shape: Shape::detect(blue).await.map_err(shape)?,
            green_shape: Shape::detect(green).await.map_err(shape)?,
        }))
    }

    async fn effective(&self, settle: Duration) -> Result<Vec<Event>, StepError> {
        self.ledger.effective(settle).await.map_err(|error| fail("read the queue of revocations", error))
    }

    async fn note(&self, results: Vec<(Uuid, Result<u64, tokio_postgres::Error>)>) -> Result<(), StepError> {
        let done: Vec<Uuid> = results.iter().filter(|(_, result)| result.is_ok()).map(|(id, _)| *id).collect();
        let noted = |error| fail("note what was replayed", error);
        self.ledger.replayed(&done).await.map_err(noted)?;
        for (id, result) in results {
            if let Err(error) = result {
                self.ledger.failed(id, &error.to_string()).await.map_err(noted)?;
            }
        }
        Ok(())
    }
}

fn stopped(context: &Context) -> StepError {
    let hint = if *context.step() == flip::ID { "cutover flip PLAN" } else { "" };
    StepError::parked(format!("asked to stop by {} while levelling", context.stop().by()), hint)
}
