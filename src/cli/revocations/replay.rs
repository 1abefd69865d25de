//! `revocations replay`: puts a dead revocation back, so that the worker that writes the closed side replays it once more, or looks at a message
//! once more that could not be understood; or, with `--live`, executes one on the side that serves, where nobody knows whether it was.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::super::session::{Asked, Session};
use super::desk::{Desk, ended, failed};
use crate::engine::Halt;
use crate::revocations::{Again, EventState, Told};
use crate::steps::{ExecutedLive, execute_live};
use serde_json::{Value, json};
use uuid::Uuid;

/// The verb, for the journal.
const VERB: &str = "revocations replay --live";

/// Arguments of `revocations replay`.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The revocation, as `dead` and `list` name it.
    id: Uuid,
    #[command(flatten)]
    plan: PlanArgs,
    /// Executes it on the side that serves, and asks the tables there whether it holds.
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(arguments: &ReplayArgs) -> Ending {
    ended(&arguments.plan, async |desk| match arguments.live {
        true => on_live(arguments, desk).await,
        false => put_back(arguments, &desk).await,
    })
    .await
}

async fn put_back(arguments: &ReplayArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let (id, plan) = (arguments.id, &arguments.plan);
    let Some(told) = desk.find(id).await? else { return read_again(arguments, desk).await };
    if !desk.verdicts().put_back(id).await.map_err(failed)? {
        return refused(arguments, &told, "is not dead");
    }
    let state = format!("revocation {id} is queued again: run and flip replay it with their next batch");
    let mut said = desk.standing(state, plan.command(&format!("revocations show {id}"))).await;
    said["id"] = json!(id);
    said["state"] = json!("queued");
    Ok((Ending::Done, said))
}

/// A message that could not be understood is looked at once more, by this program.
async fn read_again(arguments: &ReplayArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let (id, plan) = (arguments.id, &arguments.plan);
    let ledger = desk.ledger().ok_or_else(|| desk.no_such(id))?;
    match ledger.read_again(id).await.map_err(failed)? {
        Again::NoSuch => Err(desk.no_such(id)),
        Again::StillDead(why) => {
            let why = format!("message {id} is not understood by this version either: {why}");
            let next = plan.command(&format!("revocations waive {id} --because \"…\""));
            Err(CommandError::new(Ending::Refused, why, next))
        }
        Again::TakenIn => {
            let state = format!("message {id} was understood and taken in");
            let mut said = desk.standing(state, plan.command("revocations list")).await;
            said["id"] = json!(id);
            said["state"] = json!("queued");
            Ok((Ending::Done, said))
        }
    }
}

fn refused(arguments: &ReplayArgs, told: &Told, why: &str) -> Result<(Ending, Value), CommandError> {
    let why = format!("revocation {} {why} ({}): nothing was changed", told.id, told.state.as_str());
    let next = arguments.plan.command(&format!("revocations show {}", told.id));
    Err(CommandError::new(Ending::Refused, why, next))
}

async fn on_live(arguments: &ReplayArgs, desk: Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let (id, plan) = (arguments.id, &arguments.plan);
    let told = desk.one(id).await?;
    if told.state == EventState::Refused {
        return refused(arguments, &told, "was refused by the engine");
    }
    let (screen, sets) = (desk.screen, &plan.sets);
    let asked = Asked { verb: VERB, sets, take_over: None, may_begin: false, waiver: None };
    let session = Session::open(desk.world, desk.runbook, &asked, screen).await.map_err(|(_, error)| error)?;
    let done = executed(&session, id).await;
    session.close().await;
    let ExecutedLive { side, alive } = done?;
    if let Some(why) = alive {
        let why = format!("revocation {id} is not executed on {side}: {why}");
        return Err(CommandError::new(Ending::Failed, why, plan.command(&format!("revocations replay --live {id}"))));
    }
    let (state, next) = (format!("revocation {id} holds on {side}"), plan.command(&format!("revocations show {id}")));
    let said = json!({ "live": side.to_string(), "why": state, "next": next, "id": id });
    screen.say(&format!("live:  {side}\nstate: {state}\nnext:  {next}"));
    Ok((Ending::Done, said))
}

async fn executed(session: &Session, id: Uuid) -> Result<ExecutedLive, CommandError> {
    let context = session.context(VERB).await?;
    let done =
        execute_live(&session.world, &context, id).await.map_err(|error| CommandError::from(Halt::from(error)))?;
    session.arrived(json!({ "verb": VERB, "revocation": id, "side": done.side, "alive": done.alive })).await?;
    Ok(done)
}
