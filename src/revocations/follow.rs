//! Following the events of a plan as they arrive in control, whichever gateway captured them: for those who deny what was revoked. Writes
//! only how far they came.
//!
//! Whoever takes messages in takes turns until the commit (`taking`), so that a highest number of arrival says what was seen, whatever order
//! a queue delivers in.

use super::collector::Collector;
use super::error::RevocationError;
use super::event::{Chain, Door, Outcome};
use super::link::Link;
use super::queue::Queue;
use crate::plan::Secret;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Most events in one answer.
const PAGE: i64 = 2000;
/// A gateway that has said nothing for this long has confirmed nothing.
const FRESH_S: f64 = 10.0;
/// What was captured this shortly ago may still be on its way to the other gateways.
const ON_ITS_WAY_S: f64 = 2.0;

const NEWS: &str = "select id, arrived, door, chain, outcome from cutover.revocation
where plan = $1 and arrived > $2 and retired_at is null order by arrived limit $3";
const OUTCOMES: &str = "select id, outcome from cutover.revocation where id = any($1) and outcome <> 'captured'";
const CONFIRM: &str = "insert into cutover.overlay_seen (plan, gateway, incarnation, up_to, entries)
values ($1, $2, $3, $4, $5) on conflict (plan, gateway) do update
set incarnation = excluded.incarnation, up_to = excluded.up_to, entries = excluded.entries, at = clock_timestamp()";
const UNCONFIRMED: &str = "select g.gateway, coalesce(s.at > clock_timestamp() - make_interval(secs => $2), false),
  (select count(*) from cutover.revocation r where r.plan = $1 and r.arrived > coalesce(s.up_to, 0) and r.outcome <> 'refused' and r.retired_at is null
     and r.captured_at < clock_timestamp() - make_interval(secs => $3))
from (select distinct gateway from cutover.producer where plan = $1 and ended_at is null) g
left join cutover.overlay_seen s on s.plan = $1 and s.gateway = g.gateway order by g.gateway";

/// One event as the queue tells it to those who deny it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its identity.
    pub id: Uuid,
    /// Its door.
    pub door: Door,
    /// What it kills.
    pub chain: Chain,
    /// What became of it.
    pub outcome: Outcome,
}

/// The queue of one plan, followed by one gateway.
pub struct Follower {
    link: Link,
    collector: Collector,
    plan: String,
    gateway: String,
    process: Uuid,
    /// The highest number of arrival that was seen.
    seen: i64,
}

impl Follower {
    /// From the beginning of the queue; no call on it takes longer than `limit`.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, control: &Secret, plan: &str, gateway: &str, limit: Duration) -> Self {
        let link = Link::new(control.clone(), "control", limit);
        let collector = Collector::new(queue, control, plan, limit);
        let (plan, gateway) = (plan.to_owned(), gateway.to_owned());
        Self { link, collector, plan, gateway, process: Uuid::new_v4(), seen: 0 }
    }

    /// Takes what is still in the queue into control: a gateway that was killed may have acknowledged what nobody has taken in yet.
    ///
    /// # Errors
    /// When the queue or control does not answer.
    pub async fn gather(&self) -> Result<(), RevocationError> {
        self.collector.empty(self.link.limit()).await.map(drop)
    }

    /// What was appended since the last call, and whether there may be more at once; what has retired is passed over.
    ///
    /// # Errors
    /// When control does not answer; nothing counts as seen then.
    pub async fn news(&mut self) -> Result<(Vec<Followed>, bool), RevocationError> {
        let (plan, seen) = (self.plan.clone(), self.seen);
        let ask = |client: Arc<Client>| async move { client.query(NEWS, &[&plan, &seen, &PAGE]).await };
        let rows = self.link.run("read new revocations", ask).await?;
        self.seen = rows.last().map_or(self.seen, |row| row.get(1));
        let is_more = i64::try_from(rows.len()).is_ok_and(|count| count >= PAGE);
        Ok((rows.iter().filter_map(followed).collect(), is_more))
    }

    /// Of these events, those whose outcome is known by now.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn outcomes(&self, ids: Vec<Uuid>) -> Result<Vec<(Uuid, Outcome)>, RevocationError> {
        let ask = |client: Arc<Client>| async move { client.query(OUTCOMES, &[&ids]).await };
        let rows = self.link.run("read what became of revocations", ask).await?;
        Ok(rows.iter().filter_map(|row| Some((row.get(0), outcome(row.get(1))?))).collect())
    }

    /// How far it has come; grows only.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.seen
    }

    /// Tells everybody that all events seen so far are denied here.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn confirm(&self, entries: i64) -> Result<(), RevocationError> {
        let (plan, gateway, process, up_to) = (self.plan.clone(), self.gateway.clone(), self.process, self.seen);
        let tell = |client: Arc<Client>| async move {
            client.execute(CONFIRM, &[&plan, &gateway, &process, &up_to, &entries]).await
        };
        self.link.run("confirm that revocations are denied", tell).await.map(drop)
    }
}

/// Which living gateways do not deny every revocation yet, in sentences for a person; what was captured within the last two seconds may
/// still be on its way and does not count.
///
/// # Errors
/// When control does not answer: then nothing is confirmed.
pub async fn unconfirmed(control: &Client, plan: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = control.query(UNCONFIRMED, &[&plan, &FRESH_S, &ON_ITS_WAY_S]).await?;
    let reason = |row: &Row| {
        let (gateway, is_fresh, unseen): (String, bool, i64) = (row.get(0), row.get(1), row.get(2));
        match (is_fresh, unseen) {
            (false, _) => Some(format!("gateway {gateway} has not said for {FRESH_S} s which revocations it denies")),
            (true, 0) => None,
            (true, unseen) => Some(format!("gateway {gateway} does not deny {unseen} revocations yet")),
        }
    };
    Ok(rows.iter().filter_map(reason).collect())
}

/// What cannot be understood is left to the queue's consumer, who makes it a dead letter that blocks every move.
fn followed(row: &Row) -> Option<Followed> {
    let id: Uuid = row.get(0);
    let door = row.get::<_, &str>(2).parse::<Door>();
    let chain = serde_json::from_value(row.get(3));
    match (door, chain, outcome(row.get(4))) {
        (Ok(door), Ok(chain), Some(outcome)) => Some(Followed { id, door, chain, outcome }),
        _ => {
            tracing::error!(%id, "a queued revocation cannot be understood and is not denied here");
            None
        }
    }
}

fn outcome(word: &str) -> Option<Outcome> {
    [Outcome::Captured, Outcome::Executed, Outcome::Refused].into_iter().find(|outcome| outcome.as_str() == word)
}
