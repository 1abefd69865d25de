//! `run`, `flip` and `rollback`: the verbs that act. Running one again continues where the journal stands.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{Asked, Session, prepare};
use super::standing;
use crate::engine::{Halt, Outcome, RunPhase, StepId};
use crate::plan::Side;
use crate::steps::{self, flip, live};
use serde_json::json;
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

/// Arguments of `rollback`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    act: ActArgs,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

/// `cutover run`: everything up to the flip point.
pub(super) async fn run(arguments: &RunArgs) -> Ending {
    let through = arguments.through.clone().map_or(steps::FLIP_POINT, StepId::named);
    act(&arguments.act, "run", true, Some(through)).await
}

/// `cutover flip`: level, and then the lockstep.
pub(super) async fn flip(arguments: &ActArgs) -> Ending {
    act(arguments, "flip", false, Some(flip::ID)).await
}

/// `cutover rollback`: back to blue, with nothing of ours left on it.
pub(super) async fn rollback(arguments: &RollbackArgs) -> Ending {
    // Before the decision going back costs nothing but the work done on green, so nothing is asked.
    let _ = arguments.yes;
    act(&arguments.act, "rollback", false, None).await
}

async fn act(arguments: &ActArgs, verb: &str, may_begin: bool, through: Option<StepId>) -> Ending {
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
        Ok(()) => carry_out(&session, through.as_ref()).await,
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

/// The act itself; `through` is none for a rollback.
async fn carry_out(session: &Session, through: Option<&StepId>) -> Result<(), CommandError> {
    let outcome = match through {
        Some(through) => session.advance(Some(through)).await,
        None => {
            refuse_after_decision(session).await?;
            session.unwind().await
        }
    };
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Halted(halt) => Err(halt.into()),
    }
}

async fn refuse_after_decision(session: &Session) -> Result<(), CommandError> {
    let decided = steps::is_decided(&session.world).await.map_err(|error| CommandError::from(Halt::from(error)))?;
    if decided {
        let why = "the flip is decided: blue is sealed; going back from there is not built yet, nothing was changed";
        return Err(CommandError::new(
            Ending::Refused,
            why,
            "stay on green; a flip that is not finished: cutover flip PLAN",
        ));
    }
    Ok(())
}

/// Nothing was changed by this command.
fn ended_before(plan: &PlanArgs, screen: Screen, live: &str, error: &CommandError) -> Ending {
    let error = CommandError { next: plan.fill(&error.next), ..error.clone() };
    screen.error(live, &error);
    screen.summary(error.ending, json!({ "live": live, "why": error.why, "next": error.next }));
    error.ending
}

async fn tell(session: &Session, plan: &PlanArgs, screen: Screen, result: Result<(), CommandError>) -> Ending {
    let live = live::live(&session.world).await;
    let (phase, at, receipts, next) = match session.survey().await {
        Ok((survey, state)) => {
            let next = standing::next_command(plan, survey.phase);
            (survey.phase, standing::words(Some(&survey)), steps::figures(&state), next)
        }
        Err(error) => (RunPhase::Stuck, String::new(), json!({ "journal": error.why }), error.next),
    };
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
