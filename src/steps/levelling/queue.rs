//! The queue of revocations as the worker has it: what is replayed, proved and drained on the side that it levels.

use super::sink;
use crate::database::term;
use crate::engine::{Context, StepError, chain};
use crate::plan::Side;
use crate::revocations::proof::{Drained, Proof, drained, prove, prove_on_target};
use crate::revocations::replay::replay_each;
use crate::revocations::sinks::Sink;
use crate::revocations::unasked::{DeadChain, Unasked};
use crate::revocations::{Event, Known, Ledger, Verdicts, Ways, arrived};
use crate::steps::again::Again;
use crate::steps::failure::fail;
use crate::steps::flip::{self, Route};
use crate::steps::resolve_mapping::Form;
use crate::steps::statements::{engine_ways, sound_ways, ways};
use crate::steps::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// An event whose outcome nobody wrote counts as executed after this time, or the gateway's own bound on a request if that is longer.
pub(super) const SETTLE: Duration = Duration::from_secs(10);
/// Longest wait for control's word on a verdict.
const PATIENCE: Duration = Duration::from_secs(5);
/// Revocations that are replayed in one transaction, and that are proved with one set of questions.
pub(super) const PER_REPLAY: usize = 2000;
pub(super) const PER_PROOF: usize = 5000;
/// Longest wait for messages of an outside queue that are on their way; the server itself ends the hold.
pub(in crate::steps) const ARRIVAL: Duration = Duration::from_secs(5);

/// The queue of revocations, and what the worker knows of it.
pub(super) struct Queue {
    pub(super) ledger: Ledger,
    gateways: Vec<String>,
    /// Age at which no request that made an event can still be in flight.
    pub(super) settle: Duration,
    pub(super) source_ways: Ways,
    target_ways: Ways,
    /// Every revocation that counts, as last asked.
    pub(super) known: Known,
    pub(super) verdicts: Verdicts,
    /// Tells the engine that serves what it may not have executed.
    pub(super) sink: Option<Box<dyn Sink>>,
    /// How often that was tried, of each that still lives.
    pub(super) tried: BTreeMap<Uuid, u32>,
    /// Chains that died without anybody's word; none when the first batch derives everything anew, and so touches what died long ago.
    pub(super) unasked: Option<Unasked>,
}

impl Queue {
    /// Connects to the queue of the side being left; none when the plan has none.
    pub(super) async fn open(
        world: &World,
        context: &Context,
        (route, form): (Route, Form),
        source: &Client,
        target: &Client,
    ) -> Result<Option<Self>, StepError> {
        let (from, to) = (route.from(), route.to());
        let Some(ledger) = world.ledger(from) else { return Ok(None) };
        let gateways = world.plan.systems.iter().flat_map(|system| system.adapter.gateways());
        let gone = flip::counted_out(&context.notes());
        let (source_ways, target_ways) = match (route, form) {
            (Route::Out, Form::Final) => (sound_ways(world, source, from).await?, sound_ways(world, target, to).await?),
            // What is wrong now was right before the flip, or is a dead letter: nothing keeps anybody from beginning to go back.
            (Route::Back, _) => (ways(world, source, from).await?, ways(world, target, to).await?),
            // The plan's statements are for green's last schema: a later worker applies all of them, and proves all again.
            (Route::Out, _) => (ways(world, source, from).await?, engine_ways(target).await?),
        };
        Ok(Some(Self {
            ledger,
            gateways: gateways.map(|gateway| gateway.name.clone()).filter(|name| !gone.contains(name)).collect(),
            settle: settle_time(world),
            source_ways,
            target_ways,
            known: Known::default(),
            verdicts: Verdicts::new(&world.plan.control, &world.plan.name, PATIENCE),
            sink: sink(world, from)?,
            tried: BTreeMap::new(),
            unasked: Some(Unasked::new(&world.plan.control, &world.plan.name, PATIENCE)),
        }))
    }

    async fn events(&self, ids: &[Uuid]) -> Result<Vec<Event>, StepError> {
        self.ledger.events(ids).await.map_err(|error| fail("read the queue of revocations", error))
    }

    /// Asks which revocations count.
    pub(super) async fn refresh(&mut self, settle: Duration) -> Result<(), StepError> {
        let refreshed = self.known.refresh(&self.ledger, settle).await;
        refreshed.map_err(|error| fail("read the queue of revocations", error))
    }

    /// What kills again, in a batch's own transaction, what counts as last asked.
    pub(super) fn again(&self) -> Again<'_> {
        Again::new(&self.source_ways, &self.target_ways, &self.ledger, &self.known)
    }

    /// Replays what is pending, page by page, each in one transaction of the worker. What a committed batch has applied is dead on the target
    /// already: that is only noted.
    pub(super) async fn replay(
        &self,
        target: &mut Client,
        term: &term::Term,
        settle: Duration,
    ) -> Result<(), StepError> {
        let read = |error| fail("read the queue of revocations", error);
        for page in self.ledger.pending_ids(settle).await.map_err(read)?.chunks(PER_REPLAY) {
            let (applied, pending): (Vec<Uuid>, Vec<Uuid>) = page.iter().partition(|id| self.known.is_applied(**id));
            let pending = self.ledger.events(&pending).await.map_err(read)?;
            replay_on(target, term, &self.ledger, &self.target_ways, &pending, applied).await?;
        }
        Ok(())
    }

    /// Waits for what is on its way; a queue that proves its emptiness is not waited for.
    pub(super) async fn arrived(&self, epoch: i64) -> Result<(), StepError> {
        let arrived = arrived(&self.ledger, epoch, &self.gateways, ARRIVAL).await;
        arrived.map_err(|error| fail("empty the queue of revocations", error))
    }

    /// The first known revocation that does not hold on the target, as far as it alone can tell. A proof that is taken here stands until a
    /// batch touches the chain.
    pub(super) async fn unproved_on(&mut self, target: &Client) -> Result<Option<String>, StepError> {
        let mut proof = Proof::default();
        for page in self.known.unproved().chunks(PER_PROOF) {
            let found = prove_on_target(target, &self.target_ways, &self.events(page).await?).await;
            let found = found.map_err(|error| fail("prove revocations", error))?;
            let proved = self.known.proof_taken(&found.proved);
            self.ledger.proved(&proved).await.map_err(|error| fail("note what is proved", error))?;
            proof.open.extend(found.open);
        }
        self.held_against(&proof).await
    }

    /// The first known revocation that does not hold on the target, as both sides tell; under the hold.
    pub(super) async fn unproved_between(&self, source: &Client, target: &Client) -> Result<Option<String>, StepError> {
        let mut proof = Proof::default();
        for page in self.known.unproved().chunks(PER_PROOF) {
            let events = self.events(page).await?;
            let found = prove(target, &self.target_ways, source, &self.source_ways, &events).await;
            proof.add(found.map_err(|error| fail("prove revocations", error))?);
        }
        self.ledger.proved(&proof.proved).await.map_err(|error| fail("note what is proved", error))?;
        self.held_against(&proof).await
    }

    /// Why something may still be on its way through a gateway, when it may.
    pub(super) async fn undrained(&self, epoch: i64) -> Result<Option<String>, StepError> {
        match drained(&self.ledger, epoch, &self.gateways).await {
            Ok(Drained::Yes) => Ok(None),
            Ok(Drained::No(reasons)) => {
                Ok(Some(format!("the queue of revocations is not drained: {}", reasons.join("; "))))
            }
            Err(error) => Err(fail("see whether the queue of revocations is drained", error)),
        }
    }

    /// Notes what died without anybody's word. It is carried all the same: no batch fails for want of the note.
    pub(super) async fn died(&self, side: Side, chains: &[DeadChain]) {
        let Some(unasked) = self.unasked.as_ref().filter(|_| !chains.is_empty()) else { return };
        if let Err(error) = unasked.note(side, chains).await {
            tracing::warn!(error = %chain(&error), chains = chains.len(), "chains that nobody revoked through a door are not noted");
        }
    }

    /// The first revocation that does not hold and that nobody answers for.
    async fn held_against(&self, proof: &Proof) -> Result<Option<String>, StepError> {
        if proof.open.is_empty() {
            return Ok(None);
        }
        let waived = self.verdicts.waived().await.map_err(|error| fail("list waived revocations", error))?;
        Ok(objection(&proof.open, &waived))
    }
}

/// Kills on a side what events say, in one transaction under our term, and notes in the queue how it went; and what a batch has `applied`.
pub(super) async fn replay_on(
    target: &mut Client,
    term: &term::Term,
    ledger: &Ledger,
    ways: &Ways,
    events: &[Event],
    applied: Vec<Uuid>,
) -> Result<(), StepError> {
    if events.is_empty() && applied.is_empty() {
        return Ok(());
    }
    let failed = |error| fail("replay revocations", error);
    let transaction = target.transaction().await.map_err(failed)?;
    term::hold(&transaction, term).await.map_err(|error| fail("replay revocations", error))?;
    let settings = "set local session_replication_role = replica; set local synchronous_commit = on";
    transaction.batch_execute(settings).await.map_err(failed)?;
    let results = replay_each(&transaction, ways, events).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    let noted = |error| fail("note what was replayed", error);
    let done = results.iter().filter(|(_, result)| result.is_ok()).map(|(id, _)| *id);
    ledger.replayed(&done.chain(applied).collect::<Vec<_>>()).await.map_err(noted)?;
    for (id, result) in results {
        if let Err(error) = result {
            ledger.failed(id, &error.to_string()).await.map_err(noted)?;
        }
    }
    Ok(())
}

/// The first of those that nobody answers for.
pub(super) fn objection(open: &[(Uuid, String)], waived: &BTreeSet<Uuid>) -> Option<String> {
    let open: Vec<&(Uuid, String)> = open.iter().filter(|(id, _)| !waived.contains(id)).collect();
    let (id, why) = open.first()?;
    Some(format!("{} revocations do not hold; {id}: {why}", open.len()))
}

/// Age at which no request that made an event can still be in flight.
pub(in crate::steps) fn settle_time(world: &World) -> Duration {
    world.plan.gateway.as_ref().map_or(SETTLE, |gateway| gateway.request_timeout.max(SETTLE))
}
