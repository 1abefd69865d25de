//! Chains that died where people are served although nobody revoked them through a door: a refresh token or a code was used twice, or somebody
//! wrote to the tables. Keeping level carries them; they are counted, so that a person can see what the queue does not explain.

use super::error::RevocationError;
use super::link::Link;
use super::shape::Shape;
use super::touched::TouchedRows;
use crate::plan::{Secret, Side};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, GenericClient};

/// Most that one batch names.
const PER_BATCH: usize = 1000;
/// Most that are kept of a plan; a count that stands there means as many or more.
const KEPT: i64 = 10_000;
/// Most that are shown.
const SHOWN: i64 = 20;

const NOTE: &str = "insert into cutover.revocation_unasked (plan, side, request, client)
select $1, $2, u.request, u.client from unnest($3::text[], $4::text[]) as u (request, client)
where (select count(*) from cutover.revocation_unasked k where k.plan = $1) < $5
on conflict (plan, side, request) do nothing";
const COUNT: &str = "select count(*) from cutover.revocation_unasked where plan = $1";
const FIRST: &str =
    "select side || ': request ' || request || ' of client ' || client from cutover.revocation_unasked where plan = $1
order by seen_at desc, request limit $2";

/// A chain that died.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadChain {
    /// Its request id.
    pub request: String,
    /// Its client.
    pub client: String,
}

/// Those chains of touched rows that hold nothing alive, in the transaction that touched them and before it kills anything by itself. Those that
/// revocations explain are among them: see [`super::Known::unexplained`].
///
/// # Errors
/// When the server refuses.
pub async fn dead_chains(
    target: &impl GenericClient,
    shape: &Shape,
    rows: &[TouchedRows],
) -> Result<Vec<DeadChain>, tokio_postgres::Error> {
    let (Some(refresh), Some(access)) = (shape.refresh(), shape.access()) else { return Ok(Vec::new()) };
    let Some(touched) = rows.iter().find(|rows| rows.table == refresh) else { return Ok(Vec::new()) };
    // A rotated chain has another refresh token that is active; the offset has each asked for by its index.
    let query = format!(
        "select distinct t.request_id::text, t.client_id::text from (select t.* from {}) t where not t.active
  and not exists (select from {refresh} r where r.request_id = t.request_id and r.active offset 0)
  and not exists (select from {access} a where a.request_id = t.request_id offset 0) order by 1 limit {PER_BATCH}",
        touched.from
    );
    let found = target.query_typed(&query, &[]).await?;
    Ok(found.iter().map(|row| DeadChain { request: row.get(0), client: row.get(1) }).collect())
}

/// What of this is kept in control.
pub struct Unasked {
    link: Link,
    plan: String,
}

impl Unasked {
    /// Of `plan`, in `control`; no call takes longer than `limit`.
    #[must_use]
    pub fn new(control: &Secret, plan: &str, limit: Duration) -> Self {
        Self { link: Link::new(control.clone(), "control", limit), plan: plan.to_owned() }
    }

    /// Notes chains that died on `side`; one that is noted already stays as it is.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn note(&self, side: Side, chains: &[DeadChain]) -> Result<(), RevocationError> {
        let (plan, side) = (self.plan.clone(), side.as_str());
        let requests: Vec<String> = chains.iter().map(|chain| chain.request.clone()).collect();
        let clients: Vec<String> = chains.iter().map(|chain| chain.client.clone()).collect();
        let note = |client: Arc<Client>| async move {
            client.execute(NOTE, &[&plan, &side, &requests, &clients, &KEPT]).await
        };
        self.link.run("note chains that nobody revoked through a door", note).await.map(drop)
    }

    /// How many there are, and the last of them.
    ///
    /// # Errors
    /// When control does not answer.
    pub async fn told(&self) -> Result<(i64, Vec<String>), RevocationError> {
        let plan = self.plan.clone();
        let ask = |client: Arc<Client>| async move {
            let count = client.query_one(COUNT, &[&plan]).await?;
            let first = client.query(FIRST, &[&plan, &SHOWN]).await?;
            Ok((count.get(0), first.iter().map(|row| row.get(0)).collect()))
        };
        self.link.run("list chains that nobody revoked through a door", ask).await
    }
}
