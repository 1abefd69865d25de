//! Which revocations no gateway need deny any more: found dead in the tables of the side that serves, and noted so in control. Asks the
//! tables, never believes a status; writes the note alone.

use super::error::RevocationError;
use super::event::Event;
use super::hydra::is_jwt_form;
use super::ledger::event;
use super::link::Link;
use super::proof::prove_alone;
use super::ways::Ways;
use crate::plan::{Replay, Secret, Side};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// One that a person answers for may live on the side to come, where nobody has proved it: it is none of these.
const ASKED_FOR: &str = "select r.id, r.incarnation, r.seq, r.captured_at, r.live, r.epoch, r.door, r.chain, r.blue_seen, r.green_seen, r.outcome,
  r.arrived, r.retired_at is not null
from cutover.revocation r where r.plan = $1 and r.id = any($2) and r.outcome <> 'refused'
  and not exists (select from cutover.revocation_verdict v where v.event = r.id)";
/// A word that was given since they were read has changed their number of arrival.
const NOTE: &str = "update cutover.revocation r set retired_at = clock_timestamp()
from unnest($1::uuid[], $2::bigint[]) as d (id, arrived) where r.id = d.id and r.arrived = d.arrived returning r.id";

/// Both sides' tables and the queue, as one gateway asks them.
pub struct Retiring {
    blue: Link,
    green: Link,
    control: Link,
    plan: String,
    /// The plan's own statements: what they say is alive never retires.
    replay: Option<Replay>,
}

/// Revocations that may retire once the side that was asked is known to have served all along.
#[derive(Debug, Default)]
pub struct Dead {
    /// With their numbers of arrival.
    found: Vec<(Uuid, i64)>,
    /// Noted before, by another gateway or this one.
    noted: Vec<Uuid>,
}

impl Retiring {
    /// Connections of its own, since clients wait for those that recognise tokens; no call takes longer than `limit`.
    #[must_use]
    pub fn new([blue, green, control]: [&Secret; 3], plan: &str, replay: Option<&Replay>, limit: Duration) -> Self {
        let link = |url: &Secret, what: &str| Link::new(url.clone(), what, limit);
        let (blue, green) = (link(blue, "blue"), link(green, "green"));
        Self { blue, green, control: link(control, "control"), plan: plan.to_owned(), replay: replay.cloned() }
    }

    /// Of these revocations, those whose every token is dead in the tables of `side`.
    ///
    /// # Errors
    /// When control or the side does not answer, or the side has no such tables: then nothing is known to be dead.
    pub async fn dead(&self, side: Side, ids: Vec<Uuid>) -> Result<Dead, RevocationError> {
        let plan = self.plan.clone();
        let read = |client: Arc<Client>| async move { client.query(ASKED_FOR, &[&plan, &ids]).await };
        let rows = self.control.run("read revocations that may retire", read).await?;
        let (mut dead, mut events, mut arrived) = (Dead::default(), Vec::new(), HashMap::new());
        for row in &rows {
            match event(row) {
                Ok(event) if row.get(12) => dead.noted.push(event.id),
                Ok(event) if !rests_on_its_name(&event) => {
                    arrived.insert(event.id, row.get::<_, i64>(11));
                    events.push(event);
                }
                Ok(_) => {}
                // The queue's consumer makes it a dead letter, which blocks every move.
                Err(error) => tracing::debug!(%error, "a revocation cannot be understood and does not retire"),
            }
        }
        if events.is_empty() {
            return Ok(dead);
        }
        let proved = self.proved(side, events).await?;
        dead.found = proved.into_iter().filter_map(|id| Some((id, *arrived.get(&id)?))).collect();
        Ok(dead)
    }

    async fn proved(&self, side: Side, events: Vec<Event>) -> Result<Vec<Uuid>, RevocationError> {
        let link = match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        };
        let act = "ask whether revoked chains are dead";
        let ask = |client: Arc<Client>| async move {
            let ways = Ways::of(&*client, side, self.replay.as_ref()).await?;
            if !ways.shape().is_complete() {
                return Ok(None);
            }
            prove_alone(&*client, &ways, &events).await.map(|proof| Some(proof.proved))
        };
        link.run(act, ask).await?.ok_or(RevocationError::NoTables { side })
    }

    /// Notes them; gives all that need be denied no more.
    ///
    /// # Errors
    /// When control does not answer: then all of them are still to be denied.
    pub async fn note(&self, dead: Dead) -> Result<Vec<Uuid>, RevocationError> {
        let Dead { found, noted: mut retired } = dead;
        if found.is_empty() {
            return Ok(retired);
        }
        let (ids, arrived): (Vec<Uuid>, Vec<i64>) = found.into_iter().unzip();
        let note = |client: Arc<Client>| async move { client.query(NOTE, &[&ids, &arrived]).await };
        let rows = self.control.run("note that revocations have retired", note).await?;
        retired.extend(rows.iter().map(|row| row.get::<_, Uuid>(0)));
        Ok(retired)
    }
}

/// A JWT that no table knew: an engine that keeps no rows of them would accept it, and no table can say that it is dead.
fn rests_on_its_name(event: &Event) -> bool {
    let chain = &event.what.chain;
    !chain.is_known() && chain.signatures.iter().any(|form| is_jwt_form(form))
}
