//! Gateways that do not answer before the hold: cut off by the plan's command and left out of this move, or a reason not to begin it.
//!
//! A gateway that serves has no lease that would run out: it goes on with the side it knows until somebody tells it otherwise. So silence
//! alone proves nothing, and only a command that ends it does. Started again it asks the registers before it serves.

use super::Route;
use crate::database::migrate;
use crate::engine::{Context, StepError};
use crate::plan::{Adapter, Isolate, Plan, Secret, Side};
use crate::revocations::end_producer;
use crate::steps::failure::fail;
use crate::steps::world::World;
use crate::traffic::Lockstep;
use crate::traffic::adapters::{AdapterError, Member};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Bound on the command that cuts one gateway off.
const ISOLATE: Duration = Duration::from_secs(30);
/// Longest wait for a gateway's answer, and for control's.
const PATIENCE: Duration = Duration::from_secs(2);
/// The note's phase.
const PHASE: &str = "counted-out";

/// Names of the gateways that the newest attempt does without.
pub(in crate::steps) fn counted_out(notes: &[Value]) -> Vec<String> {
    let newest = notes.iter().rev().find(|note| note["phase"] == PHASE);
    let names = newest.and_then(|note| note["gateways"].as_array()).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether this error of a member is no reason to stay: it is a gateway that may be counted out, and does not answer.
pub(in crate::steps) fn may_be_counted_out(plan: &Plan, member: &Member, error: &AdapterError) -> bool {
    let is_named = |(name, _, _): (&str, _, _)| name == member.system();
    matches!(error, AdapterError::Silent { .. }) && replaceable(plan).any(is_named)
}

/// The most time that counting out may take.
pub(in crate::steps) fn bound(plan: &Plan) -> Duration {
    replaceable(plan)
        .map(|(_, _, gateways)| (ISOLATE + PATIENCE * 2) * u32::try_from(gateways).unwrap_or(u32::MAX))
        .sum()
}

/// Systems that go on without one of their gateways: the name, what cuts one off, how many they have.
fn replaceable(plan: &Plan) -> impl Iterator<Item = (&str, &Isolate, usize)> {
    plan.systems.iter().filter_map(|system| match &system.adapter {
        Adapter::Gateway(gateways) => {
            Some((system.name.as_str(), gateways.count_out.as_ref()?, gateways.controls.len()))
        }
        _ => None,
    })
}

/// Cuts off whoever may be left out and does not answer, and notes who is left out from here on; by `route` everybody else goes.
pub(super) async fn count_out(world: &World, context: &Context, route: Route) -> Result<(), StepError> {
    let before = counted_out(&context.notes());
    let everybody = Lockstep::new(&world.plan, &world.http, context.run(), 0, Uuid::nil());
    let mut gone = Vec::new();
    for (system, isolate, _) in replaceable(&world.plan) {
        let gateways = everybody.systems().iter().filter(|member| member.system() == system);
        let asked = gateways.map(async |member| (member, member.standing(PATIENCE).await));
        let answers = futures_util::future::join_all(asked).await;
        let silent = answers.iter().filter_map(|(member, answer)| match answer {
            Err(error @ AdapterError::Silent { .. }) => Some((member.gateway()?, error)),
            _ => None,
        });
        let silent: Vec<_> = silent.collect();
        if silent.len() == answers.len() {
            let why = format!("no gateway of {system} answers");
            return Err(StepError::refused(why, format!("start them, then: {}", route.command())));
        }
        for (gateway, error) in silent {
            tracing::warn!(%error, gateway, "counting a gateway out that does not answer");
            cut_off(world, context, isolate, gateway).await?;
            gone.push(gateway.to_owned());
        }
    }
    if gone != before {
        context.note(json!({ "phase": PHASE, "gateways": gone })).await?;
    }
    Ok(())
}

/// Ends a gateway, and then what it has begun as a producer of revocations: nobody waits for its barrier any more.
async fn cut_off(world: &World, context: &Context, isolate: &Isolate, gateway: &str) -> Result<(), StepError> {
    let mut env = isolate.env.clone();
    env.insert("CUTOVER_GATEWAY".to_owned(), Secret::new(gateway));
    let tell = |line: &str| context.progress(0, None, "lines", line);
    let ran = migrate::command(&isolate.run, &env, &world.plan.folder, ISOLATE, &tell).await;
    ran.map_err(|error| fail(format!("cut the gateway {gateway} off"), error))?;
    if world.ledger(Side::Blue).is_none() {
        return Ok(());
    }
    let ended = end_producer(&world.plan.control, &world.plan.name, gateway, PATIENCE).await;
    ended.map_err(|error| fail(format!("end what the gateway {gateway} queues"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_attempt_says_who_is_left_out() {
        let notes = [
            json!({ "phase": PHASE, "gateways": ["west"] }),
            json!({ "phase": "propose", "epoch": 2 }),
            json!({ "phase": PHASE, "gateways": [] }),
        ];
        assert_eq!(counted_out(&notes[..2]), ["west"]);
        assert!(counted_out(&notes).is_empty(), "it came back");
        assert!(counted_out(&[]).is_empty());
    }
}
