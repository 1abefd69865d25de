//! The second witness of the worker: before a move every revocation is dead on the side that serves too, and what may not have been executed
//! there, or not wholly, is executed.

use super::Levelling;
use super::queue::objection;
use crate::engine::{Context, StepError};
use crate::plan::Side;
use crate::revocations::live::execute;
use crate::revocations::sinks::{self, Sink};
use crate::revocations::{Event, Witness};
use crate::steps::failure::fail;
use crate::steps::world::World;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for the engine's answer to one revocation.
const ENGINE: Duration = Duration::from_secs(2);
/// Revocations that are executed on the side that serves in one turn, and how often each is tried.
const PER_TURN: usize = 500;
const TRIES: u32 = 3;
/// Revocations that the side that serves is asked of at once.
const PER_WITNESS: usize = 2000;

/// The API of the side's engine, where the plan names one: its own words, or Hydra's admin API behind the gateway.
pub(in crate::steps) fn sink(world: &World, side: Side) -> Result<Option<Box<dyn Sink>>, StepError> {
    let http = sinks::client(ENGINE).map_err(|error| fail("set up HTTP", error))?;
    let upstream = world.plan.gateway.as_ref().map(|gateway| match side {
        Side::Blue => &gateway.blue,
        Side::Green => &gateway.green,
    });
    let admin = upstream.map(|upstream| url::Url::parse(&upstream.admin)).transpose();
    let admin = admin.map_err(|error| fail("read the engine's address", error))?;
    let replay = world.plan.revocations.as_ref().map(|revocations| &revocations.replay);
    Ok(sinks::of_engine(http, replay, admin, side, ENGINE))
}

impl Levelling {
    /// Executes what is not finished, and refuses a move while an engine only says so: no batch would ever mend that.
    pub(super) async fn agrees(&mut self, context: &Context) -> Result<(), StepError> {
        self.finish().await?;
        match self.second_witness().await? {
            Some(why) if *context.step() == self.route.id() => {
                Err(StepError::refused(why, "see each, and what to do: cutover revocations witness PLAN"))
            }
            _ => Ok(()),
        }
    }

    /// The first revocation that the engine of the side being left says to have executed, and that lives there.
    pub(super) async fn second_witness(&mut self) -> Result<Option<String>, StepError> {
        let (alive, _) = self.ask_source().await?;
        let Some(queue) = self.queue.as_ref().filter(|_| !alive.is_empty()) else { return Ok(None) };
        let waived = queue.verdicts.waived().await.map_err(|error| fail("list waived revocations", error))?;
        let why = objection(&alive, &waived);
        Ok(why.map(|why| format!("executed, says {}'s engine, and alive there: {why}", self.route.from())))
    }

    /// Executes on the side that serves what its engine has not finished, until a turn tries nothing new and kills nothing.
    pub(super) async fn finish(&mut self) -> Result<(), StepError> {
        loop {
            let (_, due) = self.ask_source().await?;
            if due.is_empty() || !self.execute(&due).await? {
                return Ok(());
            }
        }
    }

    /// False when all of it had been tried before, and nothing died.
    async fn execute(&mut self, due: &[Event]) -> Result<bool, StepError> {
        let from = self.route.from();
        let Some(queue) = &mut self.queue else { return Ok(false) };
        let is_new = due.iter().any(|event| !queue.tried.contains_key(&event.id));
        for event in due {
            *queue.tried.entry(event.id).or_default() += 1;
        }
        let done = execute(&mut self.source, &queue.source_ways, &self.term, queue.sink.as_deref(), due).await;
        let done = done.map_err(|error| fail(format!("execute revocations on {from}"), error))?;
        for (id, status) in &done.dead {
            let noted = queue.verdicts.executed(*id, *status).await;
            noted.map_err(|error| fail("note what was executed", error))?;
        }
        for (id, why) in &done.alive {
            tracing::warn!(%id, %why, "a revocation is not executed on the side that serves");
        }
        Ok(is_new || !done.dead.is_empty())
    }

    /// Of the revocations that were not found dead on the side that serves those that live although its engine says otherwise, and the next
    /// that are to be executed there, those that were tried least first.
    async fn ask_source(&mut self) -> Result<(Vec<(Uuid, String)>, Vec<Event>), StepError> {
        let from = self.route.from();
        let (mut alive, mut due) = (Vec::new(), Vec::new());
        let Some(queue) = &mut self.queue else { return Ok((alive, due)) };
        let tries = |id: &Uuid| queue.tried.get(id).copied().unwrap_or(0);
        for page in queue.known.unwitnessed().chunks(PER_WITNESS) {
            let asked = queue.ledger.events(page).await;
            let asked = asked.map_err(|error| fail("read the queue of revocations", error))?;
            let failed = |error| fail(format!("ask {from} of its revocations"), error);
            let found = Witness::ask(&self.source, &queue.source_ways, &asked).await.map_err(failed)?;
            queue.known.witnessed(&found.dead);
            let is_due = |event: &Event| found.unfinished.contains(&event.id) && tries(&event.id) < TRIES;
            due.extend(asked.into_iter().filter(is_due));
            due.sort_by_key(|event| tries(&event.id));
            due.truncate(PER_TURN);
            // What still lives after it was executed by chain is not the work of a request under way.
            alive.extend(found.alive.into_iter().chain(found.late.into_iter().filter(|(id, _)| tries(id) > 0)));
        }
        Ok((alive, due))
    }
}
