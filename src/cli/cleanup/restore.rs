//! `cleanup restore`: rows of one rule from green's archive back into its table, once green serves; shown first, and journalled.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::super::screen::Screen;
use super::super::session::{Asked, Session, prepare};
use super::{event, refused};
use crate::engine::Halt;
use crate::plan::Side;
use crate::report::words::count;
use crate::steps::{Parked, live};
use serde_json::json;
use uuid::Uuid;

/// The verb, for the journal.
const VERB: &str = "cleanup restore";

/// Arguments of `cleanup restore`.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// The cleanup rule whose rows come back.
    #[arg(long, value_name = "NAME")]
    rule: String,
    /// Only the row with this key; may be given several times. A key of several columns is a JSON list of texts.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Agrees to what is shown without being asked.
    #[arg(long)]
    yes: bool,
    /// Takes the lease over from the process that holds it; the error of a locked run names it.
    #[arg(long, value_name = "LEASE")]
    take_over: Option<Uuid>,
}

pub(super) async fn run(arguments: &RestoreArgs) -> Ending {
    let screen = Screen::new(arguments.plan.json);
    let prepared = arguments.plan.load(&screen).and_then(prepare);
    let (world, runbook) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return refused(&arguments.plan, screen, "not asked (nothing was touched)", &error),
    };
    let live = live::live(&world).await;
    if live.side != Some(Side::Green) {
        let why = "green does not serve: what is left behind there is what the plan says";
        let next = "change the rule in the plan and begin anew: cutover rollback PLAN, then cutover run PLAN";
        let error = CommandError::new(Ending::Refused, why, next);
        return refused(&arguments.plan, screen, &live.words(), &error);
    }
    let (sets, take_over) = (&arguments.plan.sets, arguments.take_over);
    let asked = Asked { verb: VERB, sets, take_over, may_begin: false, waiver: None };
    let session = match Session::open(world, runbook, &asked, screen).await {
        Ok(session) => session,
        Err((_, error)) => return refused(&arguments.plan, screen, &live.words(), &error),
    };
    let ending = match restore(arguments, &session, screen).await {
        Ok(()) => Ending::Done,
        Err(error) => refused(&arguments.plan, screen, &live.words(), &error),
    };
    session.close().await;
    ending
}

async fn restore(arguments: &RestoreArgs, session: &Session, screen: Screen) -> Result<(), CommandError> {
    let keys = arguments.keys.iter().map(|key| columns(key)).collect();
    let context = session.context(VERB).await?;
    let halted = |error| CommandError::from(Halt::from(error));
    let parked = Parked::find(&session.world, &context, &arguments.rule, keys).await.map_err(halted)?;
    let found = parked.preview(&session.world, &context).await.map_err(halted)?;
    let words = format!(
        "{}: {} parked rows asked for; {} can come back, {} have a row of their key on green now, {} would point to nothing there",
        arguments.rule,
        count(found.parked),
        count(found.restorable),
        count(found.present),
        count(found.hanging)
    );
    screen.line(&words, &event("restorable", &found));
    if !arguments.yes && !screen.is_asked("Restore them? [y/N] ") {
        let why = "nobody agreed to restore them; nothing was changed";
        return Err(CommandError::new(Ending::Refused, why, "agree to it: the same command with --yes"));
    }
    let restored = parked.restore(&session.world, &context).await.map_err(halted)?;
    let body = json!({ "verb": VERB, "rule": arguments.rule, "keys": arguments.keys.len(), "restored": restored });
    session.arrived(body).await?;
    let next = arguments.plan.command("status");
    screen.say(&format!(
        "{} rows restored, {} rows revoked again at once\nnext:  {next}",
        count(restored.rows),
        count(restored.revoked)
    ));
    let said = json!({ "rule": arguments.rule, "asked": found, "restored": restored, "next": next });
    screen.summary(Ending::Done, said);
    Ok(())
}

/// The values of a key as it was typed.
fn columns(key: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<String>>(key) {
        Ok(values) => values,
        Err(_) => vec![key.to_owned()],
    }
}
