//! In place: what was revoked is dead in the one database before the other version of the engine serves it.
//!
//! Nothing is replayed there, since both versions read the same rows; so it is the rows that are asked, not the queue's marks: of all that
//! was ever revoked before the hold, when nobody waits, and under it of what has changed since, so that clients wait no longer for a long queue.

use super::{Flip, counted_out};
use crate::engine::{Context, FailureKind, StepError};
use crate::plan::Side;
use crate::revocations::{Known, Ledger, Ways, Witness, arrived, on_their_way};
use crate::steps::failure::fail;
use crate::steps::levelling::{ARRIVAL, settle_time};
use crate::steps::statements::ways;
use crate::steps::witnessed::waived;
use crate::steps::world::World;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// Revocations that the database is asked of at once.
const PER_QUESTION: usize = 2000;

/// The revocations of a plan in place, as far as they were asked for.
pub(super) struct Revoked {
    ledger: Ledger,
    client: Client,
    side: Side,
    ways: Ways,
    /// Those that must have said that they have queued everything.
    gateways: Vec<String>,
    /// What was heard of when control was asked last, and of which the database need not be asked again.
    known: Known,
    waived: BTreeSet<Uuid>,
}

impl Flip {
    /// Asks for all that was accepted until now; none when no gateway takes revocations in.
    pub(super) async fn revoked(&self, world: &World, context: &Context) -> Result<Option<Revoked>, StepError> {
        let side = self.route.from();
        let Some(ledger) = world.ledger(side) else { return Ok(None) };
        let client = world.side(side).await?;
        let ways = ways(world, &client, side).await?;
        let gone = counted_out(&context.notes());
        let gateways = world.plan.systems.iter().flat_map(|system| system.adapter.gateways());
        let gateways = gateways.map(|gateway| gateway.name.clone()).filter(|name| !gone.contains(name)).collect();
        let (known, waived) = (Known::default(), waived(world).await?);
        let mut revoked = Revoked { ledger, client, side, ways, gateways, known, waived };
        if let Some(why) = revoked.alive(settle_time(world)).await? {
            return Err(StepError::refused(why, "see each: cutover revocations list PLAN"));
        }
        let counted = revoked.ledger.count_ahead().await;
        counted.map_err(|error| fail("count what has arrived of the queue of revocations", error))?;
        Ok(Some(revoked))
    }
}

impl Revoked {
    /// Under the hold: everything that was accepted has arrived, and all of it is dead.
    ///
    /// # Errors
    /// What is missing, or alive; the side being left serves on then.
    pub(super) async fn all_dead(&mut self, epoch: i64) -> Result<(), StepError> {
        let emptied = |error| fail("empty the queue of revocations", error);
        arrived(&self.ledger, epoch, &self.gateways, ARRIVAL).await.map_err(emptied)?;
        let missing = on_their_way(&self.ledger, epoch, &self.gateways).await.map_err(emptied)?;
        let why = match missing.is_empty() {
            true => self.alive(Duration::ZERO).await?,
            false => Some(format!("revocations may still be on their way: {}", missing.join("; "))),
        };
        why.map_or(Ok(()), |why| Err(StepError::new(FailureKind::Failed, why)))
    }

    /// The first that an engine says to have executed and that lives, unless somebody answers for it. Control is asked for what has changed
    /// since it was asked last, and the database for that and for what was not found dead for good before.
    async fn alive(&mut self, settle: Duration) -> Result<Option<String>, StepError> {
        let read = |error| fail("read the queue of revocations", error);
        self.known.refresh(&self.ledger, settle).await.map_err(read)?;
        let asked = self.known.unwitnessed();
        if asked.is_empty() {
            return Ok(None);
        }
        if !self.ways.shape().is_complete() {
            return Ok(Some(format!(
                "{} was revoked, and {} has no tables that could be asked",
                asked.len(),
                self.side
            )));
        }
        let mut alive = Vec::new();
        for page in asked.chunks(PER_QUESTION) {
            let events = self.ledger.events(page).await.map_err(read)?;
            let found = Witness::ask(&self.client, &self.ways, &events).await;
            let found = found.map_err(|error| fail(format!("ask {} of its revocations", self.side), error))?;
            alive.extend(found.stopping(true).into_iter().filter(|(id, _)| !self.waived.contains(id)));
            self.known.witnessed(&found.lasting());
        }
        let Some((id, why)) = alive.first() else { return Ok(None) };
        Ok(Some(format!(
            "{} revocations live on although the engine says to have executed them; {id}: {why}",
            alive.len()
        )))
    }
}
