//! `rollback`: which way leads back to blue from here, what it costs, and whether green has to be left out.

use super::exit::{CommandError, Ending};
use super::screen::Screen;
use super::session::Session;
use crate::database::client::connect;
use crate::engine::{Facts, Halt, Outcome, RunPhase, Runbook, StepId, Survey, Waiver, chain};
use crate::journal::{Journal, RunState, StepPhase};
use crate::plan::Side;
use crate::steps::flip::{self, Route};
use crate::steps::{self, Action, Gone, WayBack, World, abandon_green, live};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// A green that does not answer is asked so often before it counts as dead, with a pause in between.
const KNOCKS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The plan's last run, when the way back has taken it back whole and blue serves: nothing is left to do, however often it is asked. Whoever
/// did not hear its answer asks again.
pub(super) async fn taken(world: &World, runbook: &Runbook<Action>) -> Option<(Uuid, (Survey, RunState))> {
    // What cannot be read here is told by the verb itself, which reads it too.
    let journal = Journal::look(&world.plan.control).await.ok()??;
    let info = journal.last_run(&world.plan.name).await.ok()??;
    let state = journal.state(&info).await.ok()?;
    let survey = Survey::of(runbook, &state);
    let is_over = info.finished_at.is_some() && survey.phase == RunPhase::RolledBack;
    let is_back = is_over && live::live(world).await.side == Some(Side::Blue);
    is_back.then_some((info.id, (survey, state)))
}

/// Whether green does not answer and may be left out: a person says that it is cut off, or the plan has a command for it.
///
/// # Errors
/// `stuck` when green is dead and nobody has cut it off; `refused` when a person calls a green dead that answers.
pub(super) async fn gone(world: &World, waiver: Option<&Waiver>) -> Result<Option<Gone>, CommandError> {
    match (silence(world).await, waiver) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let why = "green answers: it is sealed and read on the way back, and nothing of it is lost";
            Err(CommandError::new(Ending::Refused, why, "without the waiver: cutover rollback PLAN"))
        }
        (Some(_), Some(waiver)) => Ok(Some(Gone::Said(waiver.because.clone()))),
        (Some(_), None) if world.plan.isolate_green.is_some() => Ok(Some(Gone::ByCommand)),
        (Some(why), None) => Err(CommandError::new(
            Ending::Stuck,
            format!("green does not answer, so it cannot be sealed: {why}; nothing was changed"),
            "bring green back; or cut it off from every client for good, and then: cutover rollback PLAN --waive green-isolated --because 'how it was cut off'",
        )),
    }
}

/// Why green does not answer, if it does not.
async fn silence(world: &World) -> Option<String> {
    let mut why = String::new();
    for knock in 0..KNOCKS {
        if knock > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        why = match tokio::time::timeout(PATIENCE, connect(world.url(Side::Green), "green")).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
    }
    Some(why)
}

/// Goes back to blue by whatever way leads there; asks before clients feel it, unless the person is sure.
pub(super) async fn go(session: &mut Session, screen: Screen, is_sure: bool) -> Result<Outcome, CommandError> {
    let (_, state) = session.survey().await?;
    match way_back(session, &state).await? {
        WayBack::Undo => Ok(session.unwind().await),
        WayBack::Move => {
            agree(session, &state, screen, is_sure).await?;
            let through = if session.world.gone.is_some() { abandon_green::ID } else { Route::Back.id() };
            Ok(session.advance(Some(&through)).await)
        }
    }
}

/// A way back that was begun is finished as such, even when blue serves already.
async fn way_back(session: &mut Session, state: &RunState) -> Result<WayBack, CommandError> {
    let phase = |step: &StepId| state.step(step.as_str()).map(|known| known.phase);
    let is_unsettled = |step: &StepId| phase(step).is_some_and(|at| !matches!(at, StepPhase::Done | StepPhase::Undone));
    match phase(&abandon_green::ID) {
        // Green was given up and may hold what was lost: it is left as it is, also when it answers again.
        Some(StepPhase::Done) => {
            session.world.gone.get_or_insert_with(|| Gone::Said("green was left behind".to_owned()));
            return Ok(WayBack::Undo);
        }
        Some(_) if is_unsettled(&abandon_green::ID) && session.world.gone.is_none() => {
            let why = "the way back without green was begun, and green answers again";
            let next =
                "cut green off, and then: cutover rollback PLAN --waive green-isolated --because 'how it was cut off'";
            return Err(CommandError::new(Ending::Stuck, why, next));
        }
        _ => {}
    }
    if session.world.gone.is_some() {
        let moves = phase(&flip::ID) == Some(StepPhase::Done) || is_unsettled(&abandon_green::ID);
        return Ok(if moves { WayBack::Move } else { WayBack::Undo });
    }
    if is_unsettled(&Route::Back.id()) {
        return Ok(WayBack::Move);
    }
    steps::way_back(&session.world).await.map_err(|error| Halt::from(error).into())
}

/// Shows what the way back will cost, and asks once.
async fn agree(session: &Session, state: &RunState, screen: Screen, is_sure: bool) -> Result<(), CommandError> {
    tell_cost(session, &Facts::of(state), screen, is_sure).await?;
    if is_sure || screen.is_asked("Go back to blue? [y/N] ") {
        return Ok(());
    }
    let why = "nobody agreed to the cost; nothing was changed";
    Err(CommandError::new(Ending::Refused, why, "agree to it: cutover rollback PLAN --yes"))
}

/// Shows what the way back will cost. Whoever is sure goes back at any cost, also at one that is not known.
pub(super) async fn tell_cost(
    session: &Session,
    facts: &Facts,
    screen: Screen,
    is_sure: bool,
) -> Result<(), CommandError> {
    if session.world.gone.is_some() {
        let cost = steps::cost_alone(&session.world, facts).await;
        screen.line(&cost.words(), &cost_event(&cost));
        return Ok(());
    }
    match steps::cost(&session.world, session.run(), facts).await {
        Ok(cost) => screen.line(&cost.words(), &cost_event(&cost)),
        Err(error) if is_sure => {
            let why = error.why();
            screen.line(&format!("the cost is not known: {why}"), &json!({ "event": "cost", "unknown": why }));
        }
        Err(error) => return Err(Halt::from(error).into()),
    }
    Ok(())
}

fn cost_event(cost: &impl Serialize) -> Value {
    let mut event = json!({ "event": "cost" });
    if let (Some(fields), Ok(Value::Object(said))) = (event.as_object_mut(), serde_json::to_value(cost)) {
        fields.extend(said);
    }
    event
}
