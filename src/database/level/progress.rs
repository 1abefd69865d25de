//! The target's position: name, nonce and end of what was consumed, stored in the transaction that consumed it.
//!
//! The end is a position in the write-ahead log, or the mark of a trigger log; either only grows. One that does not
//! belong to the list, or lies before it, means that changes were lost; it is refused, never mended.

use super::{LevelError, fanned};
use crate::database::capture::{Capture, Captured, Relations};
use crate::database::pgoutput::Lsn;
use crate::database::repair;
use crate::database::term::{self, Term};
use crate::plan::Side;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient, Transaction};
use uuid::Uuid;

const PROGRESS: &str = "create table if not exists cutover.progress (
  slot text primary key,
  nonce uuid not null,
  lsn pg_lsn not null,
  batches bigint not null,
  relations text not null, leveled_at timestamptz not null default clock_timestamp())";
const BEGIN_PROGRESS: &str = "insert into cutover.progress (slot, nonce, lsn, batches, relations)
values ($1, $2, '0/0'::pg_lsn + $3::bigint::numeric, 0, $4)
on conflict (slot) do update set lsn = excluded.lsn where progress.nonce = excluded.nonce and progress.lsn < excluded.lsn";
const FORGET: &str = "drop table if exists cutover.unexplained";
const READ_PROGRESS: &str =
    "select nonce, (lsn - '0/0'::pg_lsn)::bigint, batches, relations from cutover.progress where slot = $1";
const END_PROGRESS: &str = "delete from cutover.progress where slot = $1";
const STORE_PROGRESS: &str =
    "update cutover.progress set lsn = '0/0'::pg_lsn + $4::bigint::numeric, batches = batches + 1, relations = $5, leveled_at = clock_timestamp() - make_interval(secs => $6)
where slot = $1 and nonce = $2 and lsn = '0/0'::pg_lsn + $3::bigint::numeric";

/// Seconds that the target is behind the source: the age of the snapshot which it equals since the last batch, by the target's own clock;
/// none before the first batch can be. What was committed after that snapshot, and what it did not see, is not on the target yet.
///
/// # Errors
/// When the target does not answer.
pub async fn age_s(target: &impl GenericClient) -> Result<Option<f64>, tokio_postgres::Error> {
    let exists = target.query_one("select to_regclass('cutover.progress') is not null", &[]).await?;
    if !exists.get::<_, bool>(0) {
        return Ok(None);
    }
    let age = "select extract(epoch from clock_timestamp() - max(leveled_at))::float8 from cutover.progress";
    Ok(target.query_one(age, &[]).await?.get(0))
}

/// Writes where keeping level begins, before the first batch; what an earlier time left unexplained is forgotten. Found again, it must be
/// of the same slot, and goes ahead to where the capture was skipped to.
///
/// # Errors
/// `LostSlot` when the target's position belongs to a slot made earlier.
pub async fn begin_progress(target: &mut Client, term: &Term, captured: &Captured) -> Result<(), LevelError> {
    let on_target = |what| LevelError::on(captured.side.other(), what);
    let relations = serde_json::to_string(&captured.relations).expect("plain text is JSON");
    let transaction = target.transaction().await.map_err(on_target("begin"))?;
    term::hold(&transaction, term).await?;
    let create = format!("{PROGRESS}; {}; {}", fanned::CREATE, repair::CREATE);
    transaction.batch_execute(&create).await.map_err(on_target("create table cutover.progress"))?;
    let begun = transaction
        .execute(BEGIN_PROGRESS, &[&captured.name, &captured.nonce, &captured.start.cast_signed(), &relations])
        .await
        .map_err(on_target("store the first position"))?;
    if begun > 0 {
        let forget = format!("{FORGET}; {}", fanned::FORGET);
        transaction.batch_execute(&forget).await.map_err(on_target("forget what was before"))?;
    }
    let progress = read_progress(&transaction, captured.side.other(), &captured.name).await?;
    if progress.is_none_or(|progress| progress.nonce != captured.nonce) {
        return Err(LevelError::LostSlot { why: "the target's position belongs to a slot made earlier".to_owned() });
    }
    transaction.commit().await.map_err(on_target("store the first position"))
}

/// Whether the target holds a position for the capture's slot.
///
/// # Errors
/// When the target does not answer.
pub async fn has_position(target: &Client, capture: &Capture) -> Result<bool, LevelError> {
    Ok(read_progress(target, capture.side.other(), &capture.name()).await?.is_some())
}

/// Forgets the position for the capture's slot, for a target that was emptied or is level no more.
///
/// # Errors
/// When another process took over or the target does not answer; nothing was changed.
pub async fn end_progress(target: &mut Client, term: &Term, capture: &Capture) -> Result<(), LevelError> {
    if !has_position(target, capture).await? {
        return Ok(());
    }
    let on_target = |what| LevelError::on(capture.side.other(), what);
    let transaction = target.transaction().await.map_err(on_target("begin"))?;
    term::hold(&transaction, term).await?;
    transaction.execute(END_PROGRESS, &[&capture.name()]).await.map_err(on_target("forget the position"))?;
    transaction.commit().await.map_err(on_target("forget the position"))
}

#[derive(Debug)]
pub(super) struct Progress {
    nonce: Uuid,
    pub(super) lsn: Lsn,
    pub(super) relations: Relations,
}

async fn read_progress(target: &impl GenericClient, side: Side, slot: &str) -> Result<Option<Progress>, LevelError> {
    let row = match target.query_opt(READ_PROGRESS, &[&slot]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
        other => other.map_err(LevelError::on(side, "read the position"))?,
    };
    let Some(row) = row else { return Ok(None) };
    let relations = serde_json::from_str(row.get(3))
        .map_err(|error| LevelError::LostSlot { why: format!("the target's position cannot be read: {error}") })?;
    Ok(Some(Progress { nonce: row.get(0), lsn: row.get::<_, i64>(1).cast_unsigned(), relations }))
}

pub(super) async fn matching_progress(target: &mut Client, captured: &Captured) -> Result<Progress, LevelError> {
    let on_target = |what| LevelError::on(captured.side.other(), what);
    let transaction = target.transaction().await.map_err(on_target("begin"))?;
    let progress = read_progress(&transaction, captured.side.other(), &captured.name).await?;
    transaction.rollback().await.map_err(on_target("read the position"))?;
    let lost = |why: &str| LevelError::LostSlot { why: why.to_owned() };
    let progress = progress.ok_or_else(|| lost("the target has no position for this slot"))?;
    if progress.nonce == captured.nonce {
        Ok(progress)
    } else {
        Err(lost("the target's position belongs to another slot"))
    }
}

pub(super) async fn store_progress(
    target: &Transaction<'_>,
    captured: &Captured,
    before: Lsn,
    lsn: Lsn,
    relations: &Relations,
    age: Duration,
) -> Result<(), LevelError> {
    let relations = serde_json::to_string(relations).expect("plain text is JSON");
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&captured.name, &captured.nonce, &before.cast_signed(), &lsn.cast_signed(), &relations, &age.as_secs_f64()];
    let stored = target.execute(STORE_PROGRESS, &parameters).await;
    match stored.map_err(LevelError::on(captured.side.other(), "store the position"))? {
        1 => Ok(()),
        _ => Err(LevelError::AnotherWorker { what: "the target's position was moved".to_owned() }),
    }
}
