//! The default queue: a table of the control database, for several producers and several consumers.
//!
//! A message under way is one row. A lease ends with its time, by the server's clock, or with the session that took it: a consumer that
//! was killed keeps nobody waiting. An ended incarnation cannot publish any more: its row is held until the commit.

use super::{Call, Delivery, Depth, Lane, Lease, Parcel, Queue, Stillness, Terms};
use crate::plan::Secret;
use crate::revocations::error::RevocationError;
use crate::revocations::link::Link;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

const NAME: &str = "the queue in control";

/// Whoever ends the incarnation waits for this commit: the row's share lock is held until then.
const PUBLISH: &str = "with alive as (
  select 1 from cutover.producer where incarnation = $3 and ended_at is null for share),
room as (
  select count(*) + cardinality($4::uuid[]) <= $6::bigint as is_free
  from (select from cutover.message where plan = $1 and is_dead = $2 limit $6::bigint) waiting),
put as (
  insert into cutover.message (plan, is_dead, id, body)
  select $1, $2, e.id, e.body from unnest($4::uuid[], $5::bytea[]) as e (id, body), room
  where room.is_free and ($3::uuid is null or exists (select from alive))
  on conflict do nothing returning 1)
select $3::uuid is null or exists (select from alive), (select is_free from room), (select count(*) from put)";

/// `not in` is one hashed look at the sessions, and none when no lease stands.
const FREE: &str = "(leased_until is null or leased_until <= clock_timestamp()
  or (holder is not null and (holder, holder_since) not in (
    select pid, backend_start from pg_stat_activity where pid is not null and backend_start is not null)))";
/// A lease, or an acknowledgement, that a crash of the server takes back means one more delivery: nobody waits for the disk.
const LEASE: &str = "update cutover.message m set lease = gen_random_uuid(), attempts = attempts + 1,
  leased_until = clock_timestamp() + make_interval(secs => $4),
  holder = pg_backend_pid(), holder_since = (select backend_start from pg_stat_activity where pid = pg_backend_pid())
from taken, (select set_config('synchronous_commit', 'off', true)) as soon where m.place = taken.place
returning m.place, m.lease, m.id, m.body, m.attempts";
const BURY: &str = "with old as (
  delete from cutover.message where place in (
    select place from cutover.message where plan = $1 and not is_dead and attempts >= $2 and {free} for update skip locked)
  returning plan, id, body)
insert into cutover.message (plan, is_dead, id, body) select plan, true, id, body from old on conflict do nothing";
const ACK: &str = "delete from cutover.message m
using unnest($3::bigint[], $4::uuid[]) as done (place, lease), (select set_config('synchronous_commit', 'off', true)) as soon
where m.plan = $1 and m.is_dead = $2 and m.place = done.place and m.lease = done.lease";
const RETRY: &str = "update cutover.message m set lease = null, holder = null,
  leased_until = clock_timestamp() + make_interval(secs => $4)
from unnest($2::bigint[], $3::uuid[]) as back (place, lease)
where m.plan = $1 and not m.is_dead and m.place = back.place and m.lease = back.lease";
const DEPTH: &str = "select count(*) filter (where not is_dead), count(*) filter (where is_dead)
from cutover.message where plan = $1";
const WAITING: &str = "select count(*) from cutover.message where plan = $1 and not is_dead";

/// A queue in the control database.
pub struct PostgresQueue {
    link: Link,
    plan: String,
    terms: Terms,
}

impl PostgresQueue {
    /// The queue of `plan` in `control`; nothing is asked yet. Its tables are made with the journal's.
    #[must_use]
    pub fn new(control: &Secret, plan: &str, terms: Terms) -> Self {
        Self { link: Link::new(control.clone(), "control", terms.limit), plan: plan.to_owned(), terms }
    }

    async fn put(&self, lane: Lane, parcels: &[Parcel], fence: Option<Uuid>) -> Result<(), RevocationError> {
        let ids: Vec<Uuid> = parcels.iter().map(|parcel| parcel.id).collect();
        let bodies: Vec<&[u8]> = parcels.iter().map(|parcel| parcel.body.as_slice()).collect();
        let (is_dead, room) = (lane == Lane::Dead, i64::from(self.terms.room));
        let plan = &self.plan;
        let put = |client: Arc<Client>| async move {
            client.query_one(PUBLISH, &[plan, &is_dead, &fence, &ids, &bodies, &room]).await
        };
        let row = self.link.run("publish messages", put).await?;
        match (row.get(0), row.get(1)) {
            (false, _) => Err(RevocationError::Ended),
            (true, false) => Err(RevocationError::full(NAME, self.terms.room)),
            (true, true) => Ok(()),
        }
    }

    async fn take(&self, lane: Lane, most: usize) -> Result<Vec<Delivery>, RevocationError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let take = format!(
            "with taken as (select place from cutover.message where plan = $1 and is_dead = $2 and {FREE}
  order by place limit $3 for update skip locked) {LEASE}"
        );
        let (is_dead, seconds) = (lane == Lane::Dead, self.terms.visibility.as_secs_f64());
        let plan = &self.plan;
        let work = |client: Arc<Client>| async move { client.query(&take, &[plan, &is_dead, &most, &seconds]).await };
        let rows = self.link.run("pull messages", work).await?;
        Ok(rows.iter().map(delivery).collect())
    }

    /// Before each pull: what came too often is a dead letter, and is not delivered once more.
    async fn bury(&self) -> Result<(), RevocationError> {
        let most = i32::try_from(self.terms.most_deliveries).unwrap_or(i32::MAX);
        let bury = BURY.replace("{free}", FREE);
        let plan = &self.plan;
        let work = |client: Arc<Client>| async move { client.execute(&bury, &[plan, &most]).await };
        self.link.run("set dead letters apart", work).await.map(drop)
    }

    async fn count(&self) -> Result<Depth, RevocationError> {
        let plan = &self.plan;
        let row =
            self.link.run("count messages", |client| async move { client.query_one(DEPTH, &[plan]).await }).await?;
        let count = |index| row.get::<_, i64>(index).unsigned_abs();
        Ok(Depth { live: count(0), dead: count(1) })
    }
}

fn delivery(row: &Row) -> Delivery {
    let (place, lease): (i64, Uuid) = (row.get(0), row.get(1));
    let attempts = row.get::<_, i32>(4).unsigned_abs();
    Delivery { lease: Lease(format!("{place}:{lease}")), id: Some(row.get(2)), body: row.get(3), attempts }
}

/// Leases as columns; one that is not of this queue holds nothing here.
fn columns(leases: &[Lease]) -> (Vec<i64>, Vec<Uuid>) {
    let parse = |Lease(text): &Lease| {
        let (place, lease) = text.split_once(':')?;
        Some((place.parse::<i64>().ok()?, lease.parse::<Uuid>().ok()?))
    };
    leases.iter().filter_map(parse).unzip()
}

impl Queue for PostgresQueue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_outside(&self) -> bool {
        false
    }

    fn publish<'a>(&'a self, lane: Lane, parcels: &'a [Parcel], fence: Option<Uuid>) -> Call<'a, ()> {
        Box::pin(self.put(lane, parcels, fence))
    }

    fn pull(&self, lane: Lane, most: usize) -> Call<'_, Vec<Delivery>> {
        Box::pin(async move {
            if lane == Lane::Live {
                self.bury().await?;
            }
            self.take(lane, most).await
        })
    }

    fn ack<'a>(&'a self, lane: Lane, leases: &'a [Lease]) -> Call<'a, ()> {
        Box::pin(async move {
            let (places, leases) = columns(leases);
            let (plan, is_dead) = (&self.plan, lane == Lane::Dead);
            let work =
                |client: Arc<Client>| async move { client.execute(ACK, &[plan, &is_dead, &places, &leases]).await };
            self.link.run("acknowledge messages", work).await.map(drop)
        })
    }

    fn retry<'a>(&'a self, leases: &'a [Lease], delay: Duration) -> Call<'a, ()> {
        Box::pin(async move {
            let (places, leases) = columns(leases);
            let (plan, seconds) = (&self.plan, delay.as_secs_f64());
            let work =
                |client: Arc<Client>| async move { client.execute(RETRY, &[plan, &places, &leases, &seconds]).await };
            self.link.run("give messages back", work).await.map(drop)
        })
    }

    fn depth(&self) -> Call<'_, Depth> {
        Box::pin(self.count())
    }

    fn stillness(&self) -> Call<'_, Stillness> {
        Box::pin(async move {
            let plan = &self.plan;
            let look = |client: Arc<Client>| async move { client.query_one(WAITING, &[plan]).await };
            match self.link.run("see whether messages wait", look).await?.get::<_, i64>(0) {
                0 => Ok(Stillness::Empty),
                waiting => Ok(Stillness::Waiting(waiting.unsigned_abs())),
            }
        })
    }

    fn check(&self) -> Call<'_, ()> {
        Box::pin(async move { self.count().await.map(drop) })
    }
}
