//! Blue opens without green, which does not answer and is cut off: nothing of green's can be sealed, read or carried back. What is left of
//! the promises is kept: every revocation in the queue is replayed and proved on blue before it opens.
//!
//! Used by `abandon-green`, and by a flip that was decided for a green that never opened and is gone now.

use super::counted_out::count_out;
use super::{FORWARD_PATIENCE, FORWARD_PAUSE, QUIET_LOCK, Route, last_proposal, lockstep_failed, proposal, released};
use crate::database::refusal::{self, Refusal};
use crate::database::{migrate, sequences};
use crate::engine::{Context, FailureKind, StepError};
use crate::plan::Side;
use crate::steps::failure::fail;
use crate::steps::levelling::replay_alone;
use crate::steps::world::{Gone, World};
use crate::traffic::Lockstep;
use crate::traffic::register::{self, Change, Register, State};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Bound on the command that cuts green off.
const ISOLATE: Duration = Duration::from_secs(60);
/// Values that blue's sequences skip: green may have given them out, and cannot be asked.
const SKIPPED: u32 = 1_000_000;

/// Cuts green off, brings blue as far as the queue goes, opens it and releases the systems to it. Made again after a crash, it goes on.
pub(in crate::steps) async fn open_blue_alone(world: &World, context: &Context) -> Result<Value, StepError> {
    cut_off(world, context).await?;
    // Before anything is proposed: the night that took green may have taken a gateway with it.
    count_out(world, context, Route::Back).await?;
    let found = blue(world).await?;
    let lockstep = match last_proposal(&context.notes()) {
        // Opened by a process that died before it had released everybody.
        Some((epoch, nonce)) if found.state == State::Open && found.epoch == epoch => {
            proposal(world, context, epoch, nonce)
        }
        _ if found.state == State::Open => {
            let why = "blue's register is open, and this step did not open it";
            return Err(StepError::stuck(why, "cutover status PLAN"));
        }
        _ => open(world, context, found).await?,
    };
    release(world, context, &lockstep).await?;
    Ok(released(context, lockstep.epoch()).unwrap_or_default())
}

/// Blue's register; green's cannot be asked.
pub(in crate::steps) async fn blue(world: &World) -> Result<Register, StepError> {
    let client = world.side(Side::Blue).await?;
    let row = register::read(&client).await.map_err(|error| fail("read blue's register", error))?;
    row.ok_or_else(|| StepError::stuck("blue has no register", "cutover status PLAN"))
}

async fn cut_off(world: &World, context: &Context) -> Result<(), StepError> {
    let by = match (&world.gone, &world.plan.isolate_green) {
        (Some(Gone::Said(because)), _) => json!({ "phase": "isolated", "said": because }),
        (Some(Gone::ByCommand), Some(command)) => {
            let tell = |line: &str| context.progress(0, None, "lines", line);
            let ran = migrate::command(&command.run, &command.env, &world.plan.folder, ISOLATE, &tell).await;
            ran.map_err(|error| fail("cut green off", error))?;
            json!({ "phase": "isolated", "by": command.run.first() })
        }
        _ => return Err(StepError::stuck("nobody has cut green off", "cutover rollback PLAN")),
    };
    context.note(by).await
}

/// Proposes an epoch above everybody's, lets our own login write blue, replays, and opens.
async fn open(world: &World, context: &Context, found: Register) -> Result<Lockstep, StepError> {
    let hold = world.plan.window.hold;
    let asked = proposal(world, context, 0, Uuid::nil()).highest_epoch(hold).await;
    let accepted = asked.map_err(|error| lockstep_failed("ask the systems for their epoch", error))?;
    let flipped = context.facts().receipt(&super::ID).and_then(|receipt| receipt["epoch"].as_i64()).unwrap_or(0);
    let closed_at = found.epoch.max(flipped) + 1;
    let (epoch, nonce) = (closed_at.max(accepted) + 1, Uuid::new_v4());
    context.note(json!({ "phase": "propose", "epoch": epoch, "nonce": nonce })).await?;
    let lockstep = proposal(world, context, epoch, nonce);
    let prepared = lockstep.prepare_serving(Side::Blue, hold).await;
    prepared.map_err(|error| lockstep_failed("see blue's engine answer on every system's path", error))?;
    let closed_at = close(world, context, &found, closed_at).await?;
    replay_alone(world, context).await?;
    skip_sequences(world, context).await?;
    let mut client = world.side(Side::Blue).await?;
    context.note(json!({ "phase": "opening" })).await?;
    let change = Change::open(closed_at, epoch, nonce).raise_sql();
    let opened = Refusal::Closed.lift(&mut client, &context.term(), context.run(), &change).await;
    opened.map_err(|error| fail("open blue", error))?;
    Ok(lockstep)
}

/// A sealed blue lets our own login pass, to be written; gives the epoch of its register.
async fn close(world: &World, context: &Context, found: &Register, epoch: i64) -> Result<i64, StepError> {
    if found.state == State::Closed {
        return Ok(found.epoch);
    }
    let mut client = world.side(Side::Blue).await?;
    let change = Change::shut(found.epoch, epoch, Uuid::new_v4()).raise_sql();
    let shut = refusal::shut(&mut client, &context.term(), context.run(), QUIET_LOCK, &change).await;
    shut.map_err(|error| fail("let our own login write blue", error))?;
    Ok(epoch)
}

async fn skip_sequences(world: &World, context: &Context) -> Result<(), StepError> {
    let phase = "sequences";
    if context.notes().iter().any(|note| note["phase"] == phase) {
        return Ok(());
    }
    let mut client = world.side(Side::Blue).await?;
    let skipped = sequences::skip(&mut client, &context.term(), SKIPPED).await;
    let skipped = skipped.map_err(|error| fail("let blue's sequences skip what green may have given out", error))?;
    context.note(json!({ "phase": phase, "skipped": skipped })).await
}

/// Forward only: blue is open.
async fn release(world: &World, context: &Context, lockstep: &Lockstep) -> Result<(), StepError> {
    let until = Instant::now() + FORWARD_PATIENCE;
    while let Err(error) = lockstep.release(Side::Blue, world.plan.window.hold).await {
        let error = lockstep_failed("release the systems to blue", error);
        if error.kind == FailureKind::Locked {
            return Err(error);
        }
        if Instant::now() >= until {
            let why = format!("blue is open, and not every system is released to it: {}", error.why());
            return Err(StepError::stuck(why, "go on: cutover rollback PLAN"));
        }
        tracing::warn!(error = %error.why(), "blue is open; trying again");
        tokio::time::sleep(FORWARD_PAUSE).await;
    }
    if released(context, lockstep.epoch()).is_none() {
        context.note(json!({ "phase": "released", "epoch": lockstep.epoch(), "live": "blue" })).await?;
    }
    Ok(())
}
