//! The consuming end of the queue: what is still to be replayed and proved, what is dead, whether all of it is drained.
//!
//! A revocation was made on the side that was live then, and must be replayed and proved on the other before that opens. Called by the
//! one worker that writes the closed side, by the flip and by `status`. Never touches blue or green.

use super::error::RevocationError;
use super::event::{Captured, Chain, Door, Event, Outcome, Seen};
use super::link::Link;
use crate::plan::{Secret, Side};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
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
const REPLAYED: &str =
    "update cutover.revocation set replayed_at = clock_timestamp() where id = any($1) and replayed_at is null";
const PROVED: &str =
    "update cutover.revocation set proved_at = clock_timestamp() where id = any($1) and proved_at is null";
const FAILED: &str = "update cutover.revocation set attempts = attempts + 1, last_error = $2,
  dead_at = case when attempts + 1 >= $3 then clock_timestamp() end where id = $1";
const DEAD: &str =
    "select id, last_error from cutover.revocation where plan = $1 and dead_at is not null order by captured_at";
const COUNTS: &str = "select count(*) filter (where live = $2 and outcome <> 'refused'),
  count(*) filter (where live = $2 and outcome <> 'refused' and replayed_at is not null),
  count(*) filter (where live = $2 and outcome <> 'refused' and proved_at is not null),
  count(*) filter (where dead_at is not null),
  count(*) filter (where outcome = 'refused')
from cutover.revocation where plan = $1";
const QUEUE_EXISTS: &str = "select to_regclass('cutover.revocation') is not null";
const PRODUCERS: &str = "select p.gateway, p.incarnation, p.ended_at is not null, b.last_seq,
  count(r.seq), coalesce(min(r.seq), 0), coalesce(max(r.seq), 0)
from cutover.producer p
left join cutover.barrier b on b.plan = p.plan and b.epoch = $2 and b.incarnation = p.incarnation
left join cutover.revocation r on r.incarnation = p.incarnation
where p.plan = $1 group by p.gateway, p.incarnation, p.ended_at, b.last_seq, p.started_at order by p.gateway, p.started_at";

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

/// What the queue knows of one incarnation of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The gateway's name.
    pub gateway: String,
    /// Which incarnation.
    pub incarnation: Uuid,
    /// A later incarnation of the gateway has ended it.
    pub is_ended: bool,
    /// Its barrier for the epoch asked for.
    pub barrier: Option<i64>,
    /// How many events it has queued.
    pub count: i64,
    /// Lowest number it has queued, 0 when none.
    pub first: i64,
    /// Highest number it has queued, 0 when none.
    pub last: i64,
}

/// The queue of one plan, as its consumer sees it.
pub struct Ledger {
    link: Link,
    plan: String,
    from: Side,
}

impl Ledger {
    /// The queue of `plan` in `control`, as seen when `from` is left: what was made while it was live is to be replayed on the other
    /// side. No call on it takes longer than `limit`.
    #[must_use]
    pub fn new(control: &Secret, plan: &str, from: Side, limit: Duration) -> Self {
        Self { link: Link::new(control.clone(), "control", limit), plan: plan.to_owned(), from }
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

    /// Events to replay on the other side now. An event whose outcome is unknown counts once it is older than `settle`; under the hold, when
    /// nothing is in flight, that is zero. An event that cannot be read becomes dead and is not among them.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn pending(&self, settle: Duration) -> Result<Vec<Event>, RevocationError> {
        self.pending_among(settle, &mut BTreeMap::new()).await
    }

    /// The same, for one who knows many events already: only those that do not stand in `known` are read, and added to it.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn pending_among(
        &self,
        settle: Duration,
        known: &mut BTreeMap<Uuid, Event>,
    ) -> Result<Vec<Event>, RevocationError> {
        let ids = self.ids(&format!("live = '{}' and replayed_at is null", self.from.as_str()), settle).await?;
        self.read_new(&ids, known).await?;
        Ok(ids.iter().filter_map(|id| known.get(id)).cloned().collect())
    }

    /// All events, whichever side was live, replayed or not: what a level batch re-applies, and what must hold when a side opens.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn effective(&self, settle: Duration) -> Result<Vec<Event>, RevocationError> {
        let mut events = BTreeMap::new();
        let ids = self.ids("true", settle).await?;
        self.read_new(&ids, &mut events).await?;
        Ok(ids.iter().filter_map(|id| events.remove(id)).collect())
    }

    /// The same, kept by one who asks often: of events that stand in `known` only the ids are asked for, since what an event kills never
    /// changes. Those that count no more are taken out.
    ///
    /// # Errors
    /// When control does not answer; `known` is then not to be relied on.
    pub async fn refresh(&self, settle: Duration, known: &mut BTreeMap<Uuid, Event>) -> Result<(), RevocationError> {
        let ids = self.ids("true", settle).await?;
        let counting: BTreeSet<&Uuid> = ids.iter().collect();
        known.retain(|id, _| counting.contains(id));
        self.read_new(&ids, known).await
    }

    /// Ids of events that count, oldest first.
    async fn ids(&self, condition: &str, settle: Duration) -> Result<Vec<Uuid>, RevocationError> {
        let query = format!(
            "select id from cutover.revocation where {ALIVE} and {SETTLED} and {condition} order by captured_at, incarnation, seq"
        );
        let rows = self.rows(query, settle.as_secs_f64()).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Reads those that are not known yet, a page at a time, so that a long queue does not outlast the bound of a call.
    async fn read_new(&self, ids: &[Uuid], known: &mut BTreeMap<Uuid, Event>) -> Result<(), RevocationError> {
        let new: Vec<Uuid> = ids.iter().filter(|id| !known.contains_key(id)).copied().collect();
        for page in new.chunks(PAGE) {
            let rows = self.rows(format!("{COLUMNS} where plan = $1 and id = any($2)"), page.to_vec()).await?;
            for row in &rows {
                match event(row) {
                    Ok(event) => drop(known.insert(event.id, event)),
                    Err(error) => {
                        tracing::error!(%error, "a queued revocation cannot be understood");
                        self.fail(row.get(0), error.to_string(), 0).await?;
                    }
                }
            }
        }
        Ok(())
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

    /// The dead letters, with what was wrong.
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

    /// Every incarnation ever registered for the plan, with its barrier for `epoch`.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn producers(&self, epoch: i64) -> Result<Vec<Standing>, RevocationError> {
        let plan = self.plan.clone();
        let rows = self
            .link
            .run("list the producers of revocations", |client| async move {
                client.query(PRODUCERS, &[&plan, &epoch]).await
            })
            .await?;
        Ok(rows.iter().map(standing).collect())
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

fn standing(row: &Row) -> Standing {
    Standing {
        gateway: row.get(0),
        incarnation: row.get(1),
        is_ended: row.get(2),
        barrier: row.get(3),
        count: row.get(4),
        first: row.get(5),
        last: row.get(6),
    }
}

fn event(row: &Row) -> Result<Event, RevocationError> {
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
