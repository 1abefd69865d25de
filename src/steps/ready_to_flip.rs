//! `ready-to-flip`: the gate before the one-way step. Reads only, and is asked again right before the flip.

use super::failure::fail;
use super::flip::{self, Registers, Route};
use super::freeze::still_frozen;
use super::prepare::still_set;
use super::witnessed::witnessed;
use super::world::World;
use crate::database::refusal::{self, Refusal};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId, chain};
use crate::gates::{self, SystemReading, Verdict};
use crate::plan::Side;
use crate::traffic::Lockstep;
use crate::traffic::protocol::State as Participant;
use crate::traffic::register::State;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for one system's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says whether the flip may begin.
#[derive(Debug, Clone)]
pub struct ReadyToFlip;

impl Step for ReadyToFlip {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("ready-to-flip")
    }

    fn summary(&self) -> String {
        "gate: window, registers, green's fence, the capture of blue, every system reachable and on blue, every frozen job frozen, every executed revocation dead on blue, the grace period that the plan relies on".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn holds_until(&self) -> Option<StepId> {
        Some(flip::ID)
    }

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(60))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let found = Registers::read(world).await?;
        if found.blue.state != State::Open {
            // Decided already: the flip only has to be finished, and nothing here may stop it.
            return Ok(json!({ "decided": true }).into());
        }
        let witnessed = witnessed(world, Side::Blue).await?;
        let mut verdicts = vec![gates::window(&world.plan.window, jiff::Timestamp::now())];
        if !world.plan.databases.is_in_place {
            verdicts.push(green_closed(world, context).await?);
            verdicts.push(captured(world, context).await?);
        }
        verdicts.extend(systems_that_go(world, context.run(), Route::Out, found.blue.epoch).await);
        verdicts.extend(still_frozen(world, context).await);
        verdicts.push(witnessed.verdict);
        verdicts.extend(still_set(world, context).await);
        verdicts.extend(graces(world).await);
        match Verdict::all(verdicts) {
            Verdict::Go => Ok(json!({ "blue_epoch": found.blue.epoch, "revocations": witnessed.receipt }).into()),
            Verdict::NoGo(why) | Verdict::Unclear(why) => Err(StepError::refused(
                why,
                "see to it, then: cutover flip PLAN; going back is always possible: cutover rollback PLAN",
            )),
        }
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

async fn green_closed(world: &World, context: &Context) -> Result<Verdict, StepError> {
    let mut green = world.side(Side::Green).await?;
    let standing = Refusal::Closed.verify(&green, context.run()).await;
    let verdict = gates::green_closed(&standing.map_err(|error| fail("look at green's fence", error))?);
    // Trying as the application itself needs a superuser; without one the catalog's word is all there is.
    match refusal::accepting_writes(&mut green, &world.plan.databases.green.role).await {
        Ok(accepting) => Ok(Verdict::all([verdict, gates::refused_everywhere(&accepting)])),
        Err(error) if error.is_privilege() => Ok(verdict),
        Err(error) => Err(fail("try to write on green as the application", error)),
    }
}

/// Engines that do not have the grace period that the plan relies on, or do not answer: one may have been started since it was first asked for.
async fn graces(world: &World) -> Vec<Verdict> {
    let findings = gates::engine_grace(&world.http, &world.plan).await;
    findings.into_iter().map(|finding| Verdict::NoGo(format!("{}: {}", finding.what, finding.why))).collect()
}

/// The capture can deliver. How much it keeps is asked once green is level: a run that has waited for the night keeps much of it, and
/// levelling lets it go.
async fn captured(world: &World, context: &Context) -> Result<Verdict, StepError> {
    let blue = world.side(Side::Blue).await?;
    let kept = world.capture(context.run(), Side::Blue).kept(&blue).await;
    let kept = kept.map_err(|error| fail("look at the capture on blue", error))?;
    Ok(gates::captured(Side::Blue, kept.lost))
}

/// Whether every system answers and serves the side to be left.
pub(super) async fn systems(world: &World, run: Uuid, route: Route) -> Vec<Verdict> {
    systems_that_go(world, run, route, i64::MAX).await
}

/// The same before a move. A system that refuses since a proposal above the open register lost its owner is no reason against it: the move begins by
/// settling that proposal, and nothing else would.
pub(super) async fn systems_that_go(world: &World, run: Uuid, route: Route, open_at: i64) -> Vec<Verdict> {
    let lockstep = Lockstep::new(&world.plan, &world.http, run, 0, Uuid::nil());
    let mut verdicts = Vec::new();
    for system in lockstep.systems() {
        let reading = match system.standing(PATIENCE).await {
            Err(error) if flip::may_be_counted_out(&world.plan, system, &error) => continue,
            Err(error) => SystemReading::Silent(chain(&error)),
            Ok(standing) if standing.state == Participant::Refusing && standing.epoch > open_at => continue,
            Ok(standing) if standing.state == Participant::Refusing => SystemReading::Refuses,
            Ok(standing) => SystemReading::Serves(standing.side),
        };
        verdicts.push(gates::system(system.name(), route.from(), reading));
    }
    verdicts
}
