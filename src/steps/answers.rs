//! What the gateways of a plan have seen of their clients lately, added up: for the baseline before a flip and for the soak after it.

use super::failure::fail;
use super::world::World;
use crate::engine::StepError;
use crate::plan::Side;
use crate::traffic::Lockstep;
use crate::traffic::figures::Answers;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for one gateway's figures.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `side` was asked through all gateways within the last `seconds`; none when the plan has no gateway.
///
/// # Errors
/// When a gateway does not answer; nothing was changed.
pub(super) async fn answers(world: &World, side: Side, seconds: u64) -> Result<Option<Answers>, StepError> {
    let lockstep = Lockstep::new(&world.plan.systems, &world.http, Uuid::nil(), 0, Uuid::nil());
    let mut sum: Option<Answers> = None;
    for system in lockstep.systems() {
        let figures = system.figures(seconds, PATIENCE).await;
        let figures = figures.map_err(|error| fail("ask a gateway what it has seen", error).retry())?;
        if let Some(figures) = figures {
            let answers = *figures.of(side);
            sum = Some(sum.map_or(answers, |sum| sum.and(answers)));
        }
    }
    Ok(sum)
}
