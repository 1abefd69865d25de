//! The revocations on one side alone: proved on the one that serves, and replayed and proved on blue when green cannot be asked.

use super::queue::{PER_PROOF, PER_REPLAY, objection, replay_on, settle_time};
use crate::engine::{Context, StepError};
use crate::plan::Side;
use crate::revocations::gaps;
use crate::revocations::proof::{Proof, prove_alone, prove_on_target};
use crate::steps::failure::fail;
use crate::steps::statements::ways;
use crate::steps::witnessed::waived;
use crate::steps::world::World;
use std::collections::BTreeSet;
use std::time::Duration;

/// The first revocation that does not hold on `side`, as far as it alone can tell; none when all hold or the plan has no queue.
///
/// # Errors
/// When control or the side does not answer.
pub(in crate::steps) async fn unproved(world: &World, side: Side) -> Result<Option<String>, StepError> {
    let Some(ledger) = world.ledger(side.other()) else { return Ok(None) };
    let client = world.side(side).await?;
    let ways = ways(world, &client, side).await?;
    let read = |error| fail("read the queue of revocations", error);
    let mut proof = Proof::default();
    for page in ledger.effective_ids(settle_time(world)).await.map_err(read)?.chunks(PER_PROOF) {
        let found = prove_on_target(&client, &ways, &ledger.events(page).await.map_err(read)?).await;
        proof.add(found.map_err(|error| fail("prove revocations", error))?);
    }
    let waived = if proof.open.is_empty() { BTreeSet::new() } else { waived(world).await? };
    Ok(objection(&proof.open, &waived))
}

/// Replays on blue every revocation that was made while green served, and proves all of them there, without green. One that may not have
/// been executed is replayed too: nobody was told that its token lives.
///
/// # Errors
/// `stuck` when one does not hold on blue afterwards; it must not open then.
pub(in crate::steps) async fn replay_alone(world: &World, context: &Context) -> Result<(), StepError> {
    let Some(ledger) = world.ledger(Side::Green) else { return Ok(()) };
    let mut blue = world.side(Side::Blue).await?;
    let ways = ways(world, &blue, Side::Blue).await?;
    let read = |error| fail("read the queue of revocations", error);
    for page in ledger.pending_ids(Duration::ZERO).await.map_err(read)?.chunks(PER_REPLAY) {
        let pending = ledger.events(page).await.map_err(read)?;
        replay_on(&mut blue, &context.term(), &ledger, &ways, &pending, Vec::new()).await?;
    }
    let mut proof = Proof::default();
    for page in ledger.effective_ids(Duration::ZERO).await.map_err(read)?.chunks(PER_PROOF) {
        let found = prove_alone(&blue, &ways, &ledger.events(page).await.map_err(read)?).await;
        proof.add(found.map_err(|error| fail("prove revocations", error))?);
    }
    ledger.proved(&proof.proved).await.map_err(|error| fail("note what is proved", error))?;
    let dead = ledger.dead().await.map_err(read)?.len();
    let missing = gaps(&ledger).await.map_err(read)?;
    let waived = if proof.open.is_empty() { BTreeSet::new() } else { waived(world).await? };
    let why = match objection(&proof.open, &waived) {
        None if dead == 0 && missing.is_empty() => return Ok(()),
        None if dead == 0 => format!("revocations may still be on their way: {}", missing.join("; ")),
        None => format!("{dead} revocations could not be read or replayed"),
        Some(why) => why,
    };
    Err(StepError::stuck(format!("blue must not open: {why}"), "cutover status PLAN"))
}
