//! What control knows of revocations: what is still to be replayed and proved, what is dead, whether all of it is drained.
//!
//! What the worker that writes a closed side and the flip rely on is answered only after the queue was emptied into control; what is only
//! shown is read as it stands. A revocation was made on the side that was live then, and must be replayed and proved on the other before that opens. Called by the
//! one worker that writes the closed side, by the flip and by `status`. Never touches blue or green.

use super::arrivals::Whole;
use super::collector::Collector;
use super::error::RevocationError;
use super::event::{Captured, Chain, Door, Event, Outcome, Seen};
use super::link::Link;
use super::queue::{PostgresQueue, Queue, Stillness, Terms};
use crate::plan::{Secret, Side};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Failures after which an event is dead.
const MOST_ATTEMPTS: i32 = 5;
/// Events read or marked in one call.
const PAGE: usize = 2000;

const COLUMNS: &str = "select id, incarnation, seq, captured_at, live, epoch, door, chain, blue_seen, green_seen, outcome from cutover.revocation";
const ALIVE: &str = "plan = $1 and outcome <> 'refused' and dead_at is null";
/// A captured event whose request may still be under way is left alone: it may yet turn out refused.
const SETTLED: &str = "(outcome = 'executed' or captured_at <= clock_timestamp() - make_interval(secs => $2))";
const OLDEST_FIRST: &str = "order by captured_at, incarnation, seq";
const REPLAYED: &str =
    "update cutover.revocation set replayed_at = clock_timestamp() where id = any($1) and replayed_at is null";
const PROVED: &str =
    "update cutover.revocation set proved_at = clock_timestamp() where id = any($1) and proved_at is null";
const FAILED: &str = "update cutover.revocation set attempts = attempts + 1, last_error = $2,
  dead_at = case when attempts + 1 >= $3 then clock_timestamp() end where id = $1";
const DEAD: &str = "select id, last_error from (
  select id, last_error, captured_at from cutover.revocation where plan = $1 and dead_at is not null
    and id not in (select event from cutover.revocation_verdict)
  union all select id, 'a message of ' || queue || ': ' || why, found_at from cutover.dead_message
  where plan = $1 and waived_at is null) dead
order by captured_at";
const COUNTS: &str = "select count(*) filter (where live = $2 and outcome <> 'refused'),
  count(*) filter (where live = $2 and outcome <> 'refused' and replayed_at is not null),
  count(*) filter (where live = $2 and outcome <> 'refused' and proved_at is not null),
  count(*) filter (where dead_at is not null) + (
    select count(*) from cutover.dead_message where plan = $1 and waived_at is null),
  count(*) filter (where outcome = 'refused')
from cutover.revocation where plan = $1 and id not in (select event from cutover.revocation_verdict)";
/// Each part has an index of its own, so that what is done need not be read.
const UNFINISHED: &str = "with mine as (select id, replayed_at, proved_at, dead_at from cutover.revocation
  where plan = $1 and live = $2 and outcome <> 'refused' and (replayed_at is null or proved_at is null))
select (select count(*) from mine where replayed_at is null and id not in (select event from cutover.revocation_verdict)),
  (select count(*) from mine where proved_at is null and id not in (select event from cutover.revocation_verdict)),
  (select count(*) from cutover.revocation where plan = $1 and dead_at is not null
     and id not in (select event from cutover.revocation_verdict))
  + (select count(*) from cutover.dead_message where plan = $1 and waived_at is null)";
const QUEUE_EXISTS: &str = "select to_regclass('cutover.message') is not null";

/// How many revocations stand where, of those made while the side being left was live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Captured, and not refused by the engine.
    pub captured: i64,
    /// Of these, replayed on the other side.
    pub replayed: i64,
    /// Of these, proved dead there.
    pub proved: i64,
    /// Cannot be replayed; they block every move.
    pub dead: i64,
    /// Refused by the engine; never replayed.
    pub refused: i64,
}

/// What keeps a move from being made, of the revocations made while the side being left was live and that nobody answers for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Not replayed on the other side.
    pub not_replayed: i64,
    /// Not proved dead there.
    pub not_proved: i64,
    /// Cannot be replayed or read, whichever side was live.
    pub dead: i64,
}

/// What has changed among the events that count.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Of those that may have changed the ones that count, in no order.
    pub(super) counting: Vec<Uuid>,
    /// And those that do not, or not yet.
    pub(super) not_counting: Vec<Uuid>,
    /// Of which more is to be heard: nobody has said what became of them, or they are dead and may be put back.
    pub(super) unsettled: Vec<Uuid>,
    /// How far they have arrived.
    pub(super) up_to: i64,
}

/// The queue of one plan, as its consumer sees it.
pub struct Ledger {
    pub(super) link: Link,
    pub(super) plan: String,
    from: Side,
    pub(super) collector: Collector,
    pub(super) whole: Whole,
}

impl Changes {
    fn take(&mut self, row: &Row) {
        let (id, arrived): (Uuid, i64) = (row.get(0), row.get(1));
        self.up_to = self.up_to.max(arrived);
        if row.get(2) { &mut self.counting } else { &mut self.not_counting }.push(id);
        if row.get(3) {
            self.unsettled.push(id);
        }
    }
}

impl Ledger {
    /// The queue of `plan` in `control`, as seen when `from` is left: what was made while it was live is to be replayed on the other
    /// side. No call on it takes longer than `limit`.
    #[must_use]
    pub fn new(control: &Secret, plan: &str, from: Side, limit: Duration) -> Self {
        let queue = Arc::new(PostgresQueue::new(control, plan, Terms::standard(limit)));
        Self::over(queue, control, plan, from, limit)
    }

    /// The same over any queue.
    #[must_use]
    pub fn over(queue: Arc<dyn Queue>, control: &Secret, plan: &str, from: Side, limit: Duration) -> Self {
        let collector = Collector::new(queue, control, plan, limit);
        let link = Link::new(control.clone(), "control", limit);
        Self { link, plan: plan.to_owned(), from, collector, whole: Whole::default() }
    }

    /// Takes all that was published into control. Gives what the queue can prove about its emptiness afterwards.
    ///
    /// # Errors
    /// When control or the queue does not answer, or another consumer holds messages for too long.
    pub async fn collect(&self) -> Result<Stillness, RevocationError> {
        self.collector.empty(self.link.limit()).await
    }

    /// Under a hold (`settle` is zero) nothing may be missing. Before, what an outside queue still holds is replayed later.
    async fn collect_for(&self, settle: Duration) -> Result<(), RevocationError> {
        if settle.is_zero() {
            return self.collect().await.map(drop);
        }
        match self.collector.glance().await {
            Err(error) if self.collector.queue().is_outside() => {
                tracing::warn!(%error, "what waits in the queue is taken later");
                Ok(())
            }
            other => other,
        }
    }

    /// Whether the queue's tables exist in control.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn exists(&self) -> Result<bool, RevocationError> {
        let row = self
            .link
            .run("look for the queue", |client| async move { client.query_one(QUEUE_EXISTS, &[]).await })
            .await?;
        Ok(row.get(0))
    }

    /// Events to replay on the other side now, oldest first. An event whose outcome is unknown counts once it is older than `settle`; under the
    /// hold, when nothing is in flight, that is zero. Their ids alone, since they may be many: see [`Self::events`].
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn pending_ids(&self, settle: Duration) -> Result<Vec<Uuid>, RevocationError> {
        self.collect_for(settle).await?;
        self.ids(&format!("and live = '{}' and replayed_at is null {OLDEST_FIRST}", self.from.as_str()), settle).await
    }

    /// All events, whichever side was live, replayed or not: what a level batch re-applies, and what must hold when a side opens. Their ids,
    /// oldest first.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn effective_ids(&self, settle: Duration) -> Result<Vec<Uuid>, RevocationError> {
        self.collect_for(settle).await?;
        self.ids(OLDEST_FIRST, settle).await
    }

    /// What has changed since everything up to the arrival `since` was asked for, of which `unsettled` were not settled: under the hold nobody
    /// waits for a long queue to be read again. Whatever else was executed then stays so, or is dead now, and control has an index of those.
    ///
    /// # Errors
    /// When control does not answer.
    pub(super) async fn changes(
        &self,
        since: i64,
        unsettled: Vec<Uuid>,
        settle: Duration,
    ) -> Result<Changes, RevocationError> {
        self.collect_for(settle).await?;
        let query = format!(
            "select id, arrived, {ALIVE} and {SETTLED}, outcome = 'captured' or dead_at is not null from cutover.revocation
             where plan = $1 and (arrived > $3 or outcome = 'captured' or dead_at is not null or id = any($4))"
        );
        let (plan, settle) = (self.plan.clone(), settle.as_secs_f64());
        // Row by row: a long queue's rows would take ten times what the ids do.
        let ask = |client: Arc<Client>| async move {
            let parameters: [&(dyn ToSql + Sync); 4] = [&plan, &settle, &since, &unsettled];
            let mut rows = std::pin::pin!(client.query_raw(&query, parameters).await?);
            let mut changes = Changes { up_to: since, ..Changes::default() };
            while let Some(row) = rows.try_next().await? {
                changes.take(&row);
            }
            Ok(changes)
        };
        self.link.run("read what has changed in the queue of revocations", ask).await
    }

    /// The events of these ids, in their order, for one who takes many a page at a time. An event that cannot be read becomes dead and is not
    /// among them.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn events(&self, ids: &[Uuid]) -> Result<Vec<Event>, RevocationError> {
        let mut read = BTreeMap::new();
        for page in ids.chunks(PAGE) {
            let rows = self.rows(format!("{COLUMNS} where plan = $1 and id = any($2)"), page.to_vec()).await?;
            for row in &rows {
                match event(row) {
                    Ok(event) => drop(read.insert(event.id, event)),
                    Err(error) => {
                        tracing::error!(%error, "a queued revocation cannot be understood");
                        self.fail(row.get(0), error.to_string(), 0).await?;
                    }
                }
            }
        }
        Ok(ids.iter().filter_map(|id| read.remove(id)).collect())
    }

    /// [`Self::pending_ids`], with all that they say.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn pending(&self, settle: Duration) -> Result<Vec<Event>, RevocationError> {
        self.events(&self.pending_ids(settle).await?).await
    }

    /// [`Self::effective_ids`], with all that they say.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn effective(&self, settle: Duration) -> Result<Vec<Event>, RevocationError> {
        self.events(&self.effective_ids(settle).await?).await
    }

    /// Ids of events that count; `rest` says which of them, and in which order.
    async fn ids(&self, rest: &str, settle: Duration) -> Result<Vec<Uuid>, RevocationError> {
        let query = format!("select id from cutover.revocation where {ALIVE} and {SETTLED} {rest}");
        let (plan, settle) = (self.plan.clone(), settle.as_secs_f64());
        // Row by row: a long queue's rows would take ten times what the ids do.
        let ask = |client: Arc<Client>| async move {
            let parameters: [&(dyn ToSql + Sync); 2] = [&plan, &settle];
            let mut rows = std::pin::pin!(client.query_raw(&query, parameters).await?);
            let mut ids = Vec::new();
            while let Some(row) = rows.try_next().await? {
                ids.push(row.get(0));
            }
            Ok(ids)
        };
        self.link.run("read the queue of revocations", ask).await
    }

    /// Asks for rows of the plan, which is `$1`; the parameter is `$2`.
    async fn rows(&self, query: String, parameter: impl ToSql + Sync + Send) -> Result<Vec<Row>, RevocationError> {
        let plan = self.plan.clone();
        let ask = |client: Arc<Client>| async move { client.query(&query, &[&plan, &parameter]).await };
        self.link.run("read the queue of revocations", ask).await
    }

    /// Notes that events were replayed, after the commit there.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn replayed(&self, ids: &[Uuid]) -> Result<(), RevocationError> {
        self.mark(REPLAYED, ids).await
    }

    /// Notes that events were proved on the other side.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn proved(&self, ids: &[Uuid]) -> Result<(), RevocationError> {
        self.mark(PROVED, ids).await
    }

    /// Notes that an event could not be replayed; after five failures it is dead.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn failed(&self, id: Uuid, why: &str) -> Result<(), RevocationError> {
        self.fail(id, why.to_owned(), MOST_ATTEMPTS).await
    }

    /// The dead letters, with what was wrong: revocations that cannot be replayed, and messages that cannot be understood.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn dead(&self) -> Result<Vec<(Uuid, String)>, RevocationError> {
        let plan = self.plan.clone();
        let rows =
            self.link.run("list dead revocations", |client| async move { client.query(DEAD, &[&plan]).await }).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default())).collect())
    }

    /// How many stand where.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn counts(&self) -> Result<Counts, RevocationError> {
        let (plan, live) = (self.plan.clone(), self.from.as_str());
        let row = self
            .link
            .run("count revocations", |client| async move { client.query_one(COUNTS, &[&plan, &live]).await })
            .await?;
        Ok(Counts {
            captured: row.get(0),
            replayed: row.get(1),
            proved: row.get(2),
            dead: row.get(3),
            refused: row.get(4),
        })
    }

    /// What keeps a move from being made.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn unfinished(&self) -> Result<Unfinished, RevocationError> {
        let (plan, live) = (self.plan.clone(), self.from.as_str());
        let ask = |client: Arc<Client>| async move { client.query_one(UNFINISHED, &[&plan, &live]).await };
        let row = self.link.run("count what is not done with revocations", ask).await?;
        Ok(Unfinished { not_replayed: row.get(0), not_proved: row.get(1), dead: row.get(2) })
    }

    async fn fail(&self, id: Uuid, why: String, most: i32) -> Result<(), RevocationError> {
        self.link
            .run("note a failed replay", |client| async move { client.execute(FAILED, &[&id, &why, &most]).await })
            .await?;
        Ok(())
    }

    async fn mark(&self, statement: &'static str, ids: &[Uuid]) -> Result<(), RevocationError> {
        for page in ids.chunks(PAGE) {
            let ids = page.to_vec();
            let mark = |client: Arc<Client>| async move { client.execute(statement, &[&ids]).await };
            self.link.run("note how far revocations have come", mark).await?;
        }
        Ok(())
    }
}

/// The event of a row of [`COLUMNS`].
pub(super) fn event(row: &Row) -> Result<Event, RevocationError> {
    let id: Uuid = row.get(0);
    let malformed = |why: String| RevocationError::Malformed { id, why };
    let chain: Chain = serde_json::from_value(row.get(7)).map_err(|error| malformed(error.to_string()))?;
    let door: Door = row.get::<_, &str>(6).parse().map_err(&malformed)?;
    let live: Side = row.get::<_, &str>(4).parse().map_err(&malformed)?;
    let captured = Captured {
        door,
        chain,
        live,
        epoch: row.get(5),
        blue: seen(row.get(8)).ok_or_else(|| malformed("what blue knew".to_owned()))?,
        green: seen(row.get(9)).ok_or_else(|| malformed("what green knew".to_owned()))?,
    };
    let outcome = if row.get::<_, &str>(10) == "executed" { Outcome::Executed } else { Outcome::Captured };
    Ok(Event { id, incarnation: row.get(1), seq: row.get(2), captured_at: row.get(3), what: captured, outcome })
}

fn seen(word: &str) -> Option<Seen> {
    [Seen::Found, Seen::Unknown, Seen::NoTables, Seen::Unreachable].into_iter().find(|seen| seen.as_str() == word)
}
