//! What clients were answered lately, for the baseline before a flip and for the soak after it: through the gateways of a plan, added up, and
//! by each other system that counts.

use super::failure::fail;
use super::flip::may_be_counted_out;
use super::world::World;
use crate::engine::StepError;
use crate::plan::Side;
use crate::traffic::Lockstep;
use crate::traffic::figures::{Answers, Refreshes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for one gateway's figures.
const PATIENCE: Duration = Duration::from_secs(2);
const ACT: &str = "ask a system what it has seen";

/// What was seen of one side.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    /// Through all gateways; none when the plan has no gateway.
    pub(super) answers: Option<Answers>,
    /// Refreshes by client, through all gateways.
    pub(super) clients: Vec<Refreshes>,
    /// Of the systems that stand outside the gateways and count, by name.
    pub(super) dependants: BTreeMap<String, Answers>,
}

/// What `side` was asked within the last `seconds`.
///
/// # Errors
/// When a system does not answer; nothing was changed.
pub(super) async fn seen(world: &World, side: Side, seconds: u64) -> Result<Seen, StepError> {
    let lockstep = Lockstep::new(&world.plan, &world.http, Uuid::nil(), 0, Uuid::nil());
    let (mut seen, mut clients, mut silent) = (Seen::default(), Vec::new(), None);
    for system in lockstep.systems() {
        let figures = match system.figures(seconds, PATIENCE).await {
            // The others of its system serve on without it.
            Err(error) if may_be_counted_out(&world.plan, system, &error) => {
                silent = Some(error);
                continue;
            }
            answered => answered.map_err(|error| fail(ACT, error).retry())?,
        };
        let Some(figures) = figures else { continue };
        let answers = *figures.of(side);
        if system.is_gateway() {
            seen.answers = Some(seen.answers.map_or(answers, |sum| sum.and(answers)));
            clients.extend(figures.clients_of(side).iter().cloned());
        } else {
            seen.dependants.insert(system.name().to_owned(), answers);
        }
    }
    if let (None, Some(error)) = (seen.answers, silent) {
        return Err(fail(ACT, error).retry());
    }
    seen.clients = Refreshes::sum(clients);
    Ok(seen)
}
