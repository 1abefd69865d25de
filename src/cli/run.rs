//! `run`, `flip` and `rollback`: the verbs that act. Running one again continues where the journal stands.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{Asked, Session, prepare};
use super::standing;
use crate::engine::{Facts, Halt, Outcome, RunPhase, StepId};
use crate::journal::{StepPhase, StepState};
use crate::plan::Side;
use crate::steps::flip::{self, Route};
use crate::steps::{self, Cost, WayBack, finalize, live};
use serde_json::{Value, json};
use uuid::Uuid;

/// Arguments of the verbs that act.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Takes the lease over from the process that holds it; the error of a locked run names it.
    #[arg(long, value_name = "LEASE")]
    take_over: Option<Uuid>,
}

/// Arguments of `run`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    act: ActArgs,
    /// Stops after this step; with `flip`, goes through the flip.
    #[arg(long, value_name = "STEP")]
    through: Option<String>,
}

/// Arguments of the verbs that ask once.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SureArgs {
    #[command(flatten)]
    act: ActArgs,
    /// Agrees without being asked: to the cost of going back after the flip, or to giving up the way back.
    #[arg(long)]
    yes: bool,
}

/// `cutover run`: everything up to the flip point.
pub(super) async fn run(arguments: &RunArgs) -> Ending {
    let through = arguments.through.clone().map_or(steps::FLIP_POINT, StepId::named);
    act(&arguments.act, "run", true, Aim::Step(through)).await
}

/// `cutover flip`: level, and then the lockstep.
pub(super) async fn flip(arguments: &ActArgs) -> Ending {
    act(arguments, "flip", false, Aim::Step(flip::ID)).await
}

/// `cutover rollback`: back to blue, from any state. Before green opens that leaves nothing of ours on blue; afterwards the traffic
/// moves back, and what was filled stays, so that one can flip again.
pub(super) async fn rollback(arguments: &SureArgs) -> Ending {
    act(&arguments.act, "rollback", false, Aim::Blue { is_sure: arguments.yes }).await
}

/// `cutover finalize`: after the soak, nothing of ours is left on either side, and there is no way back.
pub(super) async fn finalize(arguments: &SureArgs) -> Ending {
    act(&arguments.act, "finalize", false, Aim::Over { is_sure: arguments.yes }).await
}

/// Where a verb goes.
#[derive(Debug, Clone)]
enum Aim {
    /// Forward, up to and with this step.
    Step(StepId),
    /// Back to blue; asks before clients feel it, unless the person is sure.
    Blue { is_sure: bool },
    /// To the end; asks before the way back is gone.
    Over { is_sure: bool },
}

async fn act(arguments: &ActArgs, verb: &str, may_begin: bool, aim: Aim) -> Ending {
    let screen = Screen::new(arguments.plan.json);
    let (world, runbook) = match arguments.plan.load(&screen).and_then(prepare) {
        Ok(prepared) => prepared,
        Err(error) => return ended_before(&arguments.plan, screen, "not asked", &error),
    };
    let asked = Asked { verb, sets: &arguments.plan.sets, take_over: arguments.take_over, may_begin };
    let session = match Session::open(world, runbook, &asked, screen).await {
        Ok(session) => session,
        Err((world, error)) => {
            let live = live::live(&world).await.words();
            return ended_before(&arguments.plan, screen, &live, &error);
        }
    };
    let result = match before(&session, screen, verb).await {
        Ok(()) => carry_out(&session, screen, &aim).await,
        Err(error) => Err(error),
    };
    let ending = tell(&session, &arguments.plan, screen, result).await;
    session.close().await;
    ending
}

/// The three lines before the act.
async fn before(session: &Session, screen: Screen, verb: &str) -> Result<(), CommandError> {
    let (survey, _) = session.survey().await?;
    let live = live::live(&session.world).await;
    let next = format!("let it work; Ctrl-C or cutover pause parks it, and cutover {verb} goes on from there");
    screen.standing(&Standing { live: live.words(), state: standing::words(Some(&survey)), next });
    screen.say("");
    Ok(())
}

async fn carry_out(session: &Session, screen: Screen, aim: &Aim) -> Result<(), CommandError> {
    let outcome = match aim {
        Aim::Step(through) => session.advance(Some(through)).await,
        Aim::Over { is_sure } => {
            let (survey, state) = session.survey().await?;
            let is_begun = state.step(finalize::ID.as_str()).is_some();
            if !is_begun && state.step(flip::ID.as_str()).is_none_or(|flip| flip.phase != StepPhase::Done) {
                let why = format!("green does not serve: {}", standing::words(Some(&survey)));
                return Err(CommandError::new(Ending::Refused, why, "cutover status PLAN"));
            }
            let question = "After this there is no way back to blue. Finalize? [y/N] ";
            if !is_sure && !screen.is_asked(question) {
                let why = "nobody agreed to give up the way back; nothing was changed";
                return Err(CommandError::new(Ending::Refused, why, "agree to it: cutover finalize PLAN --yes"));
            }
            session.advance(Some(&finalize::ID)).await
        }
        Aim::Blue { is_sure } => match way_back(session).await? {
            WayBack::Undo => session.unwind().await,
            WayBack::Move => {
                agree(session, screen, *is_sure).await?;
                session.advance(Some(&Route::Back.id())).await
            }
        },
    };
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Halted(halt) => Err(halt.into()),
    }
}

/// A way back that was begun is finished as such, even when blue serves already.
async fn way_back(session: &Session) -> Result<WayBack, CommandError> {
    let (_, state) = session.survey().await?;
    let unsettled = |known: &StepState| !matches!(known.phase, StepPhase::Done | StepPhase::Undone);
    if state.step(Route::Back.id().as_str()).is_some_and(unsettled) {
        return Ok(WayBack::Move);
    }
    steps::way_back(&session.world).await.map_err(|error| Halt::from(error).into())
}

/// Shows what the way back will cost, and asks once.
async fn agree(session: &Session, screen: Screen, is_sure: bool) -> Result<(), CommandError> {
    let (_, state) = session.survey().await?;
    let cost = steps::cost(&session.world, session.run(), &Facts::of(&state)).await;
    match cost {
        Ok(cost) => screen.line(&cost.words(), &cost_event(&cost)),
        // Whoever is sure goes back at any cost; it is only not known.
        Err(error) if is_sure => {
            let why = error.why();
            screen.line(&format!("the cost is not known: {why}"), &json!({ "event": "cost", "unknown": why }));
        }
        Err(error) => return Err(Halt::from(error).into()),
    }
    if is_sure {
        return Ok(());
    }
    if screen.is_asked("Go back to blue? [y/N] ") {
        return Ok(());
    }
    let why = "nobody agreed to the cost; nothing was changed";
    Err(CommandError::new(Ending::Refused, why, "agree to it: cutover rollback PLAN --yes"))
}

fn cost_event(cost: &Cost) -> Value {
    let mut event = json!({ "event": "cost" });
    if let (Some(fields), Ok(Value::Object(said))) = (event.as_object_mut(), serde_json::to_value(cost)) {
        fields.extend(said);
    }
    event
}

/// Nothing was changed by this command.
fn ended_before(plan: &PlanArgs, screen: Screen, live: &str, error: &CommandError) -> Ending {
    let error = CommandError { next: plan.fill(&error.next), ..error.clone() };
    screen.error(live, &error);
    screen.summary(error.ending, json!({ "live": live, "why": error.why, "next": error.next }));
    error.ending
}

async fn tell(session: &Session, plan: &PlanArgs, screen: Screen, result: Result<(), CommandError>) -> Ending {
    let (phase, at, receipts, next) = match session.survey().await {
        Ok((survey, state)) => {
            let next = standing::next_command(plan, survey.phase);
            (survey.phase, standing::words(Some(&survey)), steps::figures(&state), next)
        }
        Err(error) => (RunPhase::Stuck, String::new(), json!({ "journal": error.why }), error.next),
    };
    let live = standing::live(&session.world, Some(phase)).await;
    let ending = match &result {
        Ok(()) => Ending::Done,
        Err(error) if live.side == Some(Side::Green) && error.ending == Ending::Failed => Ending::FailedOnGreen,
        Err(error) => error.ending,
    };
    let (state, next) = match &result {
        Ok(()) => (at, next),
        Err(error) => (format!("{}: {}", ending.word(), error.why), first_said(&plan.fill(&error.next), next)),
    };
    screen.say("");
    screen.standing(&Standing { live: live.words(), state, next: next.clone() });
    let summary = json!({
        "run": session.run(), "live": live.words(), "state": phase, "why": result.err().map(|error| error.why),
        "next": next, "epoch": live.epoch, "figures": receipts,
    });
    screen.summary(ending, summary);
    ending
}

fn first_said(hint: &str, otherwise: String) -> String {
    if hint.is_empty() { otherwise } else { hint.to_owned() }
}
