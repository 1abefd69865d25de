//! What a person says of one revocation: put back a dead one, or answer for one that is not proved. Writes control alone.

use super::error::RevocationError;
use super::link::Link;
use crate::plan::Secret;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

const DURABLE: &str = "set synchronous_commit = on";
/// Proved once more from the beginning: what was noted of it was noted of another attempt.
const PUT_BACK: &str =
    "update cutover.revocation set attempts = 0, dead_at = null, replayed_at = null, proved_at = null
where plan = $1 and id = $2 and dead_at is not null";
/// One that is proved meanwhile, or was refused, needs nobody to answer for it; unless it lives where it was made.
///
/// Nobody proves it any more, so it arrives once more, in its turn, for every gateway to deny it for good.
const WAIVE: &str =
    "with turn as materialized (select pg_advisory_xact_lock(hashtextextended('cutover.received ' || $1, 0))),
said as (insert into cutover.revocation_verdict (event, plan, said_by, because)
  select r.id, r.plan, $3, $4 from turn, cutover.revocation r
  where r.plan = $1 and r.id = $2 and r.outcome <> 'refused' and ($5 or r.dead_at is not null or r.proved_at is null)
  on conflict (event) do nothing returning event)
update cutover.revocation r set retired_at = null, arrived = default from said where r.id = said.event";
const WAIVED: &str = "select event from cutover.revocation_verdict where plan = $1";
const ASKED: &str = "insert into cutover.revocation_asked (event, plan, actor, because) values ($2, $1, $3, $4)
on conflict (event) do nothing";
/// Found dead where it was made; nobody had known before whether it was executed.
const EXECUTED: &str = "update cutover.revocation set outcome = 'executed', status = coalesce($3, status)
where plan = $1 and id = $2 and outcome = 'captured'";

/// Verdicts over the revocations of one plan.
pub struct Verdicts {
    link: Link,
    plan: String,
}

/// Who answers for something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
}

impl Verdicts {
    /// Over the revocations of `plan` in `control`; no call takes longer than `limit`.
    #[must_use]
    pub fn new(control: &Secret, plan: &str, limit: Duration) -> Self {
        Self { link: Link::new(control.clone(), "control", limit), plan: plan.to_owned() }
    }

    /// Puts a dead revocation back, so that the worker replays it; false when it is not dead.
    ///
    /// # Errors
    /// When control does not answer; whether it was put back is unknown then, and may be asked for again.
    pub async fn put_back(&self, id: Uuid) -> Result<bool, RevocationError> {
        let plan = self.plan.clone();
        let put = |client: Arc<Client>| async move {
            client.batch_execute(DURABLE).await?;
            client.execute(PUT_BACK, &[&plan, &id]).await
        };
        Ok(self.link.run("put a dead revocation back", put).await? == 1)
    }

    /// Writes that a person answers for a revocation, which stops no move any more; false when it needs nobody to, or somebody does
    /// already. `lives_on` when it lives on the side where it was made, whatever is proved elsewhere.
    ///
    /// # Errors
    /// When control does not answer; whether it was written is unknown then, and may be asked for again.
    pub async fn waive(&self, id: Uuid, because: Because, lives_on: bool) -> Result<bool, RevocationError> {
        let plan = self.plan.clone();
        let waive = |client: Arc<Client>| async move {
            client.batch_execute(DURABLE).await?;
            client.execute(WAIVE, &[&plan, &id, &because.who, &because.why, &lives_on]).await
        };
        Ok(self.link.run("waive a revocation", waive).await? == 1)
    }

    /// The revocations that somebody answers for.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn waived(&self) -> Result<BTreeSet<Uuid>, RevocationError> {
        let plan = self.plan.clone();
        let ask = |client: Arc<Client>| async move { client.query(WAIVED, &[&plan]).await };
        let rows = self.link.run("list waived revocations", ask).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Notes that a revocation was executed on the side where it was made, and found dead there.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn executed(&self, id: Uuid, status: Option<u16>) -> Result<(), RevocationError> {
        let (plan, status) = (self.plan.clone(), status.map(i32::from));
        let note = |client: Arc<Client>| async move { client.execute(EXECUTED, &[&plan, &id, &status]).await };
        self.link.run("note that a revocation was executed", note).await.map(drop)
    }

    /// Writes who asked for a revocation that came in by no door of the engine.
    ///
    /// # Errors
    /// When control does not answer; the revocation stands all the same.
    pub async fn asked(&self, id: Uuid, because: Because) -> Result<(), RevocationError> {
        let plan = self.plan.clone();
        let write = |client: Arc<Client>| async move {
            client.batch_execute(DURABLE).await?;
            client.execute(ASKED, &[&plan, &id, &because.who, &because.why]).await
        };
        self.link.run("note who asked for a revocation", write).await.map(drop)
    }
}
