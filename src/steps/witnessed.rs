//! The second witness, asked before a move: what the queue says is revoked must be dead in the tables of the side that serves.

use super::failure::fail;
use super::levelling::{settle_time, sink};
use super::live::live;
use super::statements::ways;
use super::world::World;
use crate::engine::{Context, StepError};
use crate::gates::{self, Verdict};
use crate::plan::Side;
use crate::revocations::live::execute;
use crate::revocations::unasked::Unasked;
use crate::revocations::{Event, Outcome, Verdicts, Witness};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for control.
const PATIENCE: Duration = Duration::from_secs(5);
/// Revocations that the side is asked of at a time.
const PAGE: usize = 2000;
/// Most revocations that a receipt names of each kind.
const NAMED: usize = 20;

/// What was asked, for the gate and its receipt.
pub(super) struct Witnessed {
    pub(super) verdict: Verdict,
    /// What the journal keeps of it.
    pub(super) receipt: Value,
}

/// Asks the side that is to be left, `from`, of every revocation that counts.
pub(super) async fn witnessed(world: &World, from: Side) -> Result<Witnessed, StepError> {
    let Some(ledger) = world.ledger(from) else {
        return Ok(Witnessed { verdict: Verdict::Go, receipt: Value::Null });
    };
    let read = |error| fail("read the queue of revocations", error);
    let ids = ledger.effective_ids(settle_time(world)).await.map_err(read)?;
    let client = world.side(from).await?;
    let ways = ways(world, &client, from).await?;
    let mut found = Witness::default();
    for page in ids.chunks(PAGE) {
        let asked = Witness::ask(&client, &ways, &ledger.events(page).await.map_err(read)?).await;
        found.add(asked.map_err(|error| fail(format!("ask {from} of its revocations"), error))?);
    }
    let waived = waived(world).await?;
    let mut alive = found.stopping(world.plan.databases.is_in_place);
    alive.retain(|(id, _)| !waived.contains(id));
    let words: Vec<String> = alive.iter().take(NAMED).map(|(id, why)| format!("{id}: {why}")).collect();
    let verdict = gates::witness(from, alive.len(), &words);
    let named = |list: &[(Uuid, String)]| -> Vec<String> {
        list.iter().take(NAMED).map(|(id, why)| format!("{id}: {why}")).collect()
    };
    let unasked = Unasked::new(&world.plan.control, &world.plan.name, PATIENCE).told().await;
    let (unasked, unasked_named) = unasked.map_err(|error| fail("count chains that nobody revoked", error))?;
    let receipt = json!({
        "asked": ids.len(), "dead": found.dead.len(), "alive": alive.len(), "alive_named": words,
        "alive_ids": alive.iter().take(NAMED).map(|(id, _)| id).collect::<Vec<_>>(),
        "rotated": found.rotated.len(), "rotated_named": named(&found.rotated),
        "late": found.late.len(), "late_named": named(&found.late),
        "idle": found.idle.len(), "idle_named": named(&found.idle),
        "unsettled": found.unsettled.len(), "unsettled_named": named(&found.unsettled),
        "unasked": unasked, "unasked_named": unasked_named,
        "waived": waived.len(), "waived_named": waived.iter().take(NAMED).collect::<Vec<_>>(),
    });
    Ok(Witnessed { verdict, receipt })
}

/// What the gate before a move would say of revocations, for a person who looks: counts by kind, and the first of each under `…_named`.
///
/// # Errors
/// When control or the side does not answer.
pub async fn second_witness(world: &World, side: Side) -> Result<Value, StepError> {
    witnessed(world, side).await.map(|found| found.receipt)
}

/// The revocations that somebody answers for; none when the plan has no queue.
pub(super) async fn waived(world: &World) -> Result<BTreeSet<Uuid>, StepError> {
    if world.ledger(Side::Blue).is_none() {
        return Ok(BTreeSet::new());
    }
    verdicts(world).waived().await.map_err(|error| fail("list waived revocations", error))
}

fn verdicts(world: &World) -> Verdicts {
    Verdicts::new(&world.plan.control, &world.plan.name, PATIENCE)
}

/// A revocation of the plan that counts, by its id.
async fn event(world: &World, id: Uuid) -> Result<Option<Event>, StepError> {
    let Some(ledger) = world.ledger(Side::Blue) else { return Ok(None) };
    let read = |error| fail("read the queue of revocations", error);
    let ids = ledger.effective_ids(Duration::ZERO).await.map_err(read)?;
    if !ids.contains(&id) {
        return Ok(None);
    }
    Ok(ledger.events(&[id]).await.map_err(read)?.pop())
}

/// Why a revocation lives on the side that served when it was made, although the engine there has said that it executed it.
///
/// # Errors
/// When control or the side does not answer.
pub async fn lives_on_live_side(world: &World, id: Uuid) -> Result<Option<String>, StepError> {
    let event = event(world, id).await?.filter(|event| event.outcome == Outcome::Executed);
    let Some(event) = event else { return Ok(None) };
    let client = world.side(event.what.live).await?;
    let ways = ways(world, &client, event.what.live).await?;
    let found = Witness::ask(&client, &ways, std::slice::from_ref(&event)).await;
    let found = found.map_err(|error| fail(format!("ask {} of a revocation", event.what.live), error))?;
    Ok(found.alive.into_iter().chain(found.late).next().map(|(_, why)| why))
}

/// What came of executing a revocation on the side that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutedLive {
    /// That side.
    pub side: Side,
    /// Why it still lives there, if it does.
    pub alive: Option<String>,
}

/// Executes one revocation on the side that serves: by the engine's API where that means the same, by chain otherwise.
///
/// # Errors
/// `refused` when no side serves or the plan has no such revocation; when a server does not answer.
pub async fn execute_live(world: &World, context: &Context, id: Uuid) -> Result<ExecutedLive, StepError> {
    let next = "see which side serves: cutover status PLAN";
    let side = live(world).await.side.ok_or_else(|| StepError::refused("no side serves that is known", next))?;
    let Some(event) = event(world, id).await? else {
        let why = format!("revocation {id} cannot be read, or does not count");
        return Err(StepError::refused(why, "see it: cutover revocations dead PLAN"));
    };
    let mut client = world.side(side).await?;
    let ways = ways(world, &client, side).await?;
    let sink = sink(world, side)?;
    let done = execute(&mut client, &ways, &context.term(), sink.as_deref(), std::slice::from_ref(&event)).await;
    let done = done.map_err(|error| fail(format!("execute a revocation on {side}"), error))?;
    if let Some((_, status)) = done.dead.first().filter(|_| side == event.what.live) {
        let noted = verdicts(world).executed(id, *status).await;
        noted.map_err(|error| fail("note what was executed", error))?;
    }
    Ok(ExecutedLive { side, alive: done.alive.into_iter().next().map(|(_, why)| why) })
}
