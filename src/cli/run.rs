//! `run`, `flip` and `rollback`: the verbs that act. Running one again continues where the journal stands.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{Asked, Session, prepare};
use super::{standing, way_back};
use crate::engine::{Facts, FailureKind, Halt, Outcome, RunPhase, Runbook, StepId, Survey, Waiver};
use crate::gates::Verdict;
use crate::journal::{RunState, StepPhase};
use crate::plan::{Plan, Side};
use crate::steps::flip::{self, Route};
use crate::steps::{
    self, Action, World, abandon_green, compare_plans, compat, diff, finalize, lint_migrations, live, prepare,
    probe_green, soak,
};
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
    /// Lets this repair of the plan change rows of green, should its invariant not hold. Kept in the journal.
    #[arg(long = "allow-repair", value_name = "NAME")]
    allow_repairs: Vec<String>,
    #[command(flatten)]
    waive: WaiveArgs,
}

/// Arguments of `flip`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FlipArgs {
    #[command(flatten)]
    act: ActArgs,
    #[command(flatten)]
    waive: WaiveArgs,
}

/// Arguments of the verbs that ask once.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SureArgs {
    #[command(flatten)]
    act: ActArgs,
    /// Agrees without being asked: to the cost of going back after the flip, or to giving up the way back.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    waive: WaiveArgs,
}

/// Arguments of the verbs with a gate that a person may answer for.
#[derive(Debug, Clone, clap::Args)]
struct WaiveArgs {
    /// Answers for a gate in this call instead of asking it: `compare-plans`, `diff`, `probe-green`, `lint-migrations` or `compat` of run, `probe-green` of flip,
    /// `soak` of finalize, `green-isolated` of rollback.
    /// Kept in the journal.
    #[arg(long, value_name = "GATE", requires = "because")]
    waive: Option<String>,
    /// Why the gate is waived.
    #[arg(long, value_name = "WHY", requires = "waive")]
    because: Option<String>,
}

impl WaiveArgs {
    /// The waiver, when one of `gates` is named and a reason is given; no other gate of the verb may be waived.
    fn waiver(&self, gates: &[StepId]) -> Result<Option<Waiver>, CommandError> {
        let Some(named) = &self.waive else { return Ok(None) };
        let because = self.because.as_deref().unwrap_or_default().trim().to_owned();
        match gates.iter().find(|gate| gate.as_str() == named) {
            Some(gate) if !because.is_empty() => Ok(Some(Waiver { gate: gate.clone(), because })),
            _ => {
                let known: Vec<&str> = gates.iter().map(StepId::as_str).collect();
                let known = known.join(" or ");
                let why = format!("--waive {named}: only {known} may be waived here, and for a reason");
                let next = format!("write --waive {known} --because 'why'; nothing was touched");
                Err(CommandError::new(Ending::Usage, why, next))
            }
        }
    }
}

/// `cutover run`: everything up to the flip point.
pub(super) async fn run(arguments: &RunArgs) -> Ending {
    let through = arguments.through.clone().map(StepId::named);
    let waiver = arguments.waive.waiver(&[
        compare_plans::ID,
        diff::ID,
        probe_green::ID,
        lint_migrations::ID,
        compat::ID,
        prepare::JWT_GATE,
    ]);
    act(&arguments.act, "run", true, Aim::Step(through), waiver, &arguments.allow_repairs).await
}

/// `cutover flip`: level, and then the lockstep.
pub(super) async fn flip(arguments: &FlipArgs) -> Ending {
    let waiver = arguments.waive.waiver(&[probe_green::ID]);
    act(&arguments.act, "flip", false, Aim::Step(Some(flip::ID)), waiver, &[]).await
}

/// `cutover rollback`: back to blue, from any state. Before green opens that leaves nothing of ours on blue; afterwards the traffic
/// moves back, and what was filled stays, so that one can flip again.
pub(super) async fn rollback(arguments: &SureArgs) -> Ending {
    let waiver = arguments.waive.waiver(&[abandon_green::GATE]);
    act(&arguments.act, "rollback", false, Aim::Blue { is_sure: arguments.yes }, waiver, &[]).await
}

/// `cutover finalize`: after the soak, nothing of ours is left on either side, and there is no way back.
pub(super) async fn finalize(arguments: &SureArgs) -> Ending {
    let waiver = arguments.waive.waiver(&[soak::ID]);
    act(&arguments.act, "finalize", false, Aim::Over { is_sure: arguments.yes }, waiver, &[]).await
}

/// Where a verb goes.
#[derive(Debug, Clone)]
enum Aim {
    /// Forward, up to and with this step; to the flip point when none is named.
    Step(Option<StepId>),
    /// Back to blue; asks before clients feel it, unless the person is sure.
    Blue { is_sure: bool },
    /// To the end; asks before the way back is gone.
    Over { is_sure: bool },
}

type Waived = Result<Option<Waiver>, CommandError>;

async fn act(arguments: &ActArgs, verb: &str, may_begin: bool, aim: Aim, waiver: Waived, repairs: &[String]) -> Ending {
    let screen = Screen::new(arguments.plan.json);
    let prepared = match &waiver {
        Ok(_) => arguments.plan.load(&screen).and_then(|plan| allowed(plan, repairs)),
        Err(error) => Err(error.clone()),
    };
    let (mut world, runbook) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return ended_before(&arguments.plan, screen, "not asked", &error),
    };
    let waiver = waiver.unwrap_or_default();
    if matches!(aim, Aim::Blue { .. }) {
        if let Some((run, known)) = way_back::taken(&world, &runbook).await {
            return told(&world, run, Ok(known), &arguments.plan, screen, Ok(())).await;
        }
        match way_back::gone(&world, waiver.as_ref()).await {
            Ok(gone) => world.gone = gone,
            Err(error) => return refused_live(&arguments.plan, screen, &world, &error).await,
        }
    }
    let (sets, take_over) = (&arguments.plan.sets, arguments.take_over);
    let asked = Asked { verb, sets, take_over, may_begin, waiver: waiver.as_ref() };
    let mut session = match Session::open(world, runbook, &asked, screen).await {
        Ok(session) => session,
        Err((world, error)) => return refused_live(&arguments.plan, screen, &world, &error).await,
    };
    let result = match before(&session, screen, verb).await {
        Ok(()) => carry_out(&mut session, screen, &aim).await,
        Err(error) => Err(error),
    };
    let ending = tell(&session, &arguments.plan, screen, result).await;
    session.close().await;
    ending
}

/// The world and the runbook, with the repairs that the person allows; each is one of the plan's.
fn allowed(plan: Plan, repairs: &[String]) -> Result<(World, Runbook<Action>), CommandError> {
    let known: Vec<String> = plan.repairs.iter().map(|repair| repair.name.clone()).collect();
    if let Some(other) = repairs.iter().find(|name| !known.contains(name)) {
        let list = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        let why = format!("--allow-repair {other}: the plan has no such repair ({list})");
        return Err(CommandError::new(Ending::Usage, why, "nothing was touched"));
    }
    let (mut world, runbook) = prepare(plan)?;
    world.allowed_repairs = repairs.iter().cloned().collect();
    Ok((world, runbook))
}

/// Nothing was changed by this command; says which side is live all the same.
async fn refused_live(plan: &PlanArgs, screen: Screen, world: &World, error: &CommandError) -> Ending {
    let live = live::live(world).await.words();
    ended_before(plan, screen, &live, error)
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

async fn carry_out(session: &mut Session, screen: Screen, aim: &Aim) -> Result<(), CommandError> {
    let outcome = match aim {
        Aim::Step(through) => {
            let through = through.clone().unwrap_or_else(|| steps::flip_point(&session.world.plan));
            forward(session, screen, &through).await?
        }
        Aim::Over { is_sure } => finish(session, screen, *is_sure).await?,
        Aim::Blue { is_sure } => way_back::go(session, screen, *is_sure).await?,
    };
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Halted(halt) => Err(halt.into()),
    }
}

/// The end asks once whether anything speaks against it, before it asks the person; what speaks against it is told at once.
async fn finish(session: &Session, screen: Screen, is_sure: bool) -> Result<Outcome, CommandError> {
    let (survey, state) = session.survey().await?;
    let is_begun = state.step(finalize::ID.as_str()).is_some();
    if !is_begun && state.step(flip::ID.as_str()).is_none_or(|flip| flip.phase != StepPhase::Done) {
        let why = format!("green does not serve: {}", standing::words(Some(&survey)));
        return Err(CommandError::new(Ending::Refused, why, "cutover status PLAN"));
    }
    let (world, soak) = (&session.world, session.world.plan.window.soak);
    let obstacles = steps::obstacles(world, session.run(), &Facts::of(&state), soak).await;
    if let Verdict::NoGo(why) | Verdict::Unclear(why) = obstacles.map_err(Halt::from)? {
        let next = "nothing was changed; watch on: cutover run PLAN --through soak; the way back is still open: cutover rollback PLAN";
        return Err(CommandError::new(Ending::Refused, why, next));
    }
    if !is_sure && !screen.is_asked("After this there is no way back to blue. Finalize? [y/N] ") {
        let why = "nobody agreed to give up the way back; nothing was changed";
        return Err(CommandError::new(Ending::Refused, why, "agree to it: cutover finalize PLAN --yes"));
    }
    Ok(session.advance(Some(&finalize::ID)).await)
}

/// Goes forward. When green does worse than the plan's soak allows and the plan says so, the traffic goes back by itself.
async fn forward(session: &Session, screen: Screen, through: &StepId) -> Result<Outcome, CommandError> {
    let outcome = session.advance(Some(through)).await;
    let Outcome::Halted(halt) = &outcome else { return Ok(outcome) };
    let is_worse = halt.kind == FailureKind::FailedOnGreen && halt.step.as_ref() == Some(&soak::ID);
    if !is_worse || !session.world.plan.soak.returns {
        return Ok(outcome);
    }
    let why = halt.why.clone();
    screen.line(&format!("going back to blue by itself: {why}"), &json!({ "event": "returning", "why": why }));
    let (_, state) = session.survey().await?;
    way_back::tell_cost(session, &Facts::of(&state), screen, true).await?;
    match session.advance(Some(&Route::Back.id())).await {
        Outcome::Done => Err(CommandError::new(Ending::Returned, format!("went back to blue: {why}"), "")),
        halted => Ok(halted),
    }
}

/// Nothing was changed by this command.
fn ended_before(plan: &PlanArgs, screen: Screen, live: &str, error: &CommandError) -> Ending {
    let error = CommandError { next: plan.fill(&error.next), ..error.clone() };
    screen.error(live, &error);
    screen.summary(error.ending, json!({ "live": live, "why": error.why, "next": error.next }));
    error.ending
}

async fn tell(session: &Session, plan: &PlanArgs, screen: Screen, result: Result<(), CommandError>) -> Ending {
    told(&session.world, session.run(), session.survey().await, plan, screen, result).await
}

async fn told(
    world: &World,
    run: Uuid,
    known: Result<(Survey, RunState), CommandError>,
    plan: &PlanArgs,
    screen: Screen,
    result: Result<(), CommandError>,
) -> Ending {
    let (phase, at, receipts, next, known) = match known {
        Ok((survey, state)) => {
            let next = standing::next_command(plan, &survey);
            (survey.phase, standing::words(Some(&survey)), steps::figures(&state), next, Some(state))
        }
        Err(error) => (RunPhase::Stuck, String::new(), json!({ "journal": error.why }), error.next, None),
    };
    let live = standing::live(world, known.as_ref()).await;
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
    let failed = known.as_ref().map(steps::failed_invariants).unwrap_or_default();
    let mut summary = json!({
        "run": run, "live": live.words(), "state": phase, "why": result.err().map(|error| error.why),
        "next": next, "epoch": live.epoch, "figures": receipts,
    });
    if !failed.is_empty() {
        summary["failed_invariants"] = json!(failed);
    }
    screen.summary(ending, summary);
    ending
}

fn first_said(hint: &str, otherwise: String) -> String {
    if hint.is_empty() { otherwise } else { hint.to_owned() }
}
