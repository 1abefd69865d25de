//! Which messages of each gateway have arrived in control. What is known to be whole is not counted again: under a hold nobody waits for the
//! numbers of a long queue.

use super::error::RevocationError;
use super::ledger::Ledger;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_postgres::Row;
use uuid::Uuid;

/// Numbers above the closing one are void, whether they arrived or not. Those up to `whole` have all arrived, and none is ever taken away, unless
/// the last of them is gone: then control itself has gone back, and everything is counted again. The others are looked up by their index,
/// producer by producer.
const PRODUCERS: &str = "select p.gateway, p.incarnation, p.ended_at is not null, b.last_seq, p.closed_seq,
  k.whole + n.arrived, case when k.whole > 0 then 1 else n.lowest end, greatest(k.whole, n.highest),
  coalesce((select max(e.seq) from cutover.revocation e where e.incarnation = p.incarnation), 0), p.waived_at is not null
from cutover.producer p
left join cutover.barrier b on b.plan = p.plan and b.epoch = $2 and b.incarnation = p.incarnation
cross join lateral (
  select least(p.closed_seq, coalesce(max(w.seq), 0)) as whole from unnest($3::uuid[], $4::bigint[]) as w (incarnation, seq)
  where w.incarnation = p.incarnation
    and exists (select from cutover.received r where r.incarnation = w.incarnation and r.seq = w.seq)) k
cross join lateral (
  select count(*) filter (where r.seq <= coalesce(p.closed_seq, r.seq)) as arrived, coalesce(min(r.seq), 0) as lowest,
    coalesce(max(r.seq), 0) as highest
  from cutover.received r where r.incarnation = p.incarnation and r.seq > k.whole) n
where p.plan = $1 order by p.gateway, p.started_at";

/// What the queue knows of one incarnation of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The gateway's name.
    pub gateway: String,
    /// Which incarnation.
    pub incarnation: Uuid,
    /// A later incarnation of the gateway has ended it.
    pub is_ended: bool,
    /// The number of its barrier for the epoch asked for.
    pub barrier: Option<i64>,
    /// The number at which a later incarnation closed it: what has a higher one is void.
    pub closed: Option<i64>,
    /// How many messages of it have arrived, of any kind; void ones left out.
    pub count: i64,
    /// Lowest number that has arrived, 0 when none.
    pub first: i64,
    /// Highest number that has arrived, 0 when none.
    pub last: i64,
    /// Highest number of a revocation among them, 0 when none.
    pub last_event: i64,
    /// A person has answered for what is missing of it; counts only once it has ended.
    pub is_waived: bool,
}

/// Up to which number everything of an incarnation was seen to have arrived.
#[derive(Debug, Default)]
pub(super) struct Whole(Mutex<BTreeMap<Uuid, i64>>);

impl Whole {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Uuid, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is closed has void numbers too, which say nothing of what is whole.
    fn learn(&self, standings: &[Standing]) {
        let whole = standings.iter().filter(|one| one.closed.is_none() && one.first == 1 && one.count == one.last);
        self.known().extend(whole.map(|one| (one.incarnation, one.last)));
    }
}

impl Ledger {
    /// Every incarnation ever registered for the plan, with its barrier for `epoch`. What this ledger saw to be whole before is not counted again.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn producers(&self, epoch: i64) -> Result<Vec<Standing>, RevocationError> {
        let plan = self.plan.clone();
        let (incarnations, numbers): (Vec<Uuid>, Vec<i64>) = self.whole.known().clone().into_iter().unzip();
        let rows = self
            .link
            .run("list the producers of revocations", |client| async move {
                client.query(PRODUCERS, &[&plan, &epoch, &incarnations, &numbers]).await
            })
            .await?;
        let standings: Vec<Standing> = rows.iter().map(standing).collect();
        self.whole.learn(&standings);
        Ok(standings)
    }

    /// Counts what has arrived before anybody waits for it.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn count_ahead(&self) -> Result<(), RevocationError> {
        self.producers(0).await.map(drop)
    }
}

fn standing(row: &Row) -> Standing {
    Standing {
        gateway: row.get(0),
        incarnation: row.get(1),
        is_ended: row.get(2),
        barrier: row.get(3),
        closed: row.get(4),
        count: row.get(5),
        first: row.get(6),
        last: row.get(7),
        last_event: row.get(8),
        is_waived: row.get(9),
    }
}
