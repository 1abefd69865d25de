//! The ways by which revocations take effect on a side, and the plan's own statements held against its server before anything hangs on them.

use super::failure::fail;
use super::world::World;
use crate::engine::StepError;
use crate::plan::Side;
use crate::revocations::sinks::Flaw;
use crate::revocations::{Shape, Ways};
use tokio_postgres::Client;

/// The engine's tables on a side, and the plan's statements for it.
pub(super) async fn ways(world: &World, client: &Client, side: Side) -> Result<Ways, StepError> {
    let replay = world.plan.revocations.as_ref().map(|revocations| &revocations.replay);
    Ways::of(client, side, replay).await.map_err(|error| fail("look at the engine's tables", error))
}

/// The engine's tables alone, where the side has not the schema yet that the plan's statements are for.
pub(super) async fn engine_ways(client: &Client) -> Result<Ways, StepError> {
    Shape::detect(client).await.map(Ways::from).map_err(|error| fail("look at the engine's tables", error))
}

/// [`ways`], once the side has its last schema: a statement that cannot run there would make every revocation a dead letter.
pub(super) async fn sound_ways(world: &World, client: &Client, side: Side) -> Result<Ways, StepError> {
    let ways = ways(world, client, side).await?;
    let flaws = ways.sql().examine(client).await;
    let flaws = flaws.map_err(|error| fail("prepare the plan's statements for revocations", error))?;
    let said: Vec<String> = flaws.into_iter().map(|flaw| flaw.what).collect();
    if said.is_empty() {
        return Ok(ways);
    }
    let why = format!("{side} does not take the plan's statements for revocations: {}", said.join("; "));
    Err(StepError::refused(why, "mend them in a new plan; a run keeps the one that it began with: cutover check PLAN"))
}

/// What the servers say against the plan's statements for revocations, with the side that says so. Green's tables may not be there yet.
///
/// # Errors
/// When a server does not answer.
pub async fn flaws(world: &World) -> Result<Vec<(Side, Flaw)>, StepError> {
    let is_asked = world.plan.revocations.as_ref().is_some_and(|revocations| !revocations.replay.sql.is_empty());
    let mut all = Vec::new();
    for side in [Side::Blue, Side::Green].into_iter().filter(|_| is_asked) {
        let client = world.side(side).await?;
        let ways = ways(world, &client, side).await?;
        let flaws = ways.sql().examine(&client).await;
        let flaws = flaws.map_err(|error| fail("prepare the plan's statements for revocations", error))?;
        all.extend(flaws.into_iter().filter(|flaw| side == Side::Blue || !flaw.is_absent).map(|flaw| (side, flaw)));
    }
    Ok(all)
}
