//! `revocations waive`: a named person answers for a revocation that is not proved, a message that nobody understands, or what a lost gateway may
//! have sent; recorded in control and in the journal.
//!
//! The verdict stands in control before anything else is tried. The gate before a move names it once more in its receipt, so the journal has
//! it also when another process holds the lease now.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::super::session::{Asked, Session, holder, journal_failed};
use super::desk::{Desk, ended, failed};
use crate::engine::Halt;
use crate::revocations::{Because, EventState, Told};
use crate::steps::lives_on_live_side;
use serde_json::{Value, json};
use uuid::Uuid;

/// The verb, for the journal.
const VERB: &str = "revocations waive";
/// Longest reason.
const LONGEST: usize = 1000;

/// Arguments of `revocations waive`.
#[derive(Debug, clap::Args)]
pub(super) struct WaiveArgs {
    /// The revocation or message, as `list` and `dead` name it, or the incarnation of a gateway that a refused flip names.
    id: Uuid,
    #[command(flatten)]
    plan: PlanArgs,
    /// Why it may stay unproved; kept for ever.
    #[arg(long, value_name = "REASON")]
    because: String,
}

pub(super) async fn run(arguments: &WaiveArgs) -> Ending {
    ended(&arguments.plan, async |desk| waive(arguments, desk).await).await
}

async fn waive(arguments: &WaiveArgs, desk: Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let because = reason(&arguments.because)?;
    let because = Because { who: holder(), why: because };
    let Some(told) = desk.find(arguments.id).await? else { return unread(arguments, desk, &because).await };
    let lives = may_be_waived(&desk, &told).await?;
    let is_new = desk.verdicts().waive(told.id, because.clone(), lives.is_some()).await.map_err(failed)?;
    let loss = match &lives {
        Some(why) => format!("this revocation does not hold on {}: {why}", told.live),
        None => format!("this revocation may not hold on the side that opens ({})", other(&told.live)),
    };
    let state = match (is_new, &told.waived) {
        (true, _) => format!("waived by {}; {loss}", because.who),
        (false, Some(said)) => format!("waived before, by {}: {}; {loss}", said.by, said.because),
        (false, None) => "it has been proved meanwhile: there is nothing to waive".to_owned(),
    };
    let mut said = desk.standing(state, arguments.plan.command("status")).await;
    said["id"] = json!(told.id);
    said["state"] = json!(if is_new || told.waived.is_some() { "waived" } else { "proved" });
    if is_new {
        let screen = desk.screen;
        let body = json!({ "verb": VERB, "revocation": told.id, "door": told.door, "by": because.who, "because": because.why });
        let journalled = journalled(desk, body).await;
        screen.say(&journalled.words());
        said["journalled"] = json!(journalled == Journalled::Yes);
    }
    Ok((Ending::Done, said))
}

/// What is no revocation yet: a message that cannot be understood, or the end of a gateway that is lost with what it may have sent.
async fn unread(arguments: &WaiveArgs, desk: Desk<'_>, because: &Because) -> Result<(Ending, Value), CommandError> {
    let id = arguments.id;
    let ledger = desk.ledger().ok_or_else(|| desk.no_such(id))?;
    let kept = format!("{}: {}", because.who, because.why);
    let what = if ledger.waive_message(id, &kept).await.map_err(failed)? {
        "a message that nobody understands: what it may have revoked is replayed nowhere"
    } else if ledger.waive_end(id, &kept).await.map_err(failed)? {
        "the end of a gateway's incarnation: what it may still have sent is waited for no more"
    } else {
        return Err(desk.no_such(id));
    };
    let state = format!("waived by {}: {what}", because.who);
    let mut said = desk.standing(state, arguments.plan.command("status")).await;
    said["id"] = json!(id);
    said["state"] = json!("waived");
    let screen = desk.screen;
    let body = json!({ "verb": VERB, "id": id, "what": what, "by": because.who, "because": because.why });
    let journalled = journalled(desk, body).await;
    screen.say(&journalled.words());
    said["journalled"] = json!(journalled == Journalled::Yes);
    Ok((Ending::Done, said))
}

fn reason(because: &str) -> Result<String, CommandError> {
    let because = because.trim();
    if because.is_empty() || because.len() > LONGEST || because.chars().any(char::is_control) {
        let why = format!("--because must be one line of 1 to {LONGEST} bytes; nothing was changed");
        return Err(CommandError::new(Ending::Usage, why, "say why this revocation may stay unproved"));
    }
    Ok(because.to_owned())
}

/// Why it lives where it was made, when that is why it may be waived.
async fn may_be_waived(desk: &Desk<'_>, told: &Told) -> Result<Option<String>, CommandError> {
    let refused = |why: String| {
        let next = desk.plan.command(&format!("revocations show {}", told.id));
        Err(CommandError::new(Ending::Refused, format!("{why}; nothing was changed"), next))
    };
    match told.state {
        EventState::Refused => refused("the engine refused it: it revoked nothing, and stops nothing".to_owned()),
        EventState::Proved => {
            let lives = lives_on_live_side(&desk.world, told.id).await;
            match lives.map_err(|error| CommandError::from(Halt::from(error)))? {
                None => refused("it is proved: there is nothing to waive".to_owned()),
                some => Ok(some),
            }
        }
        _ => Ok(None),
    }
}

fn other(live: &str) -> &'static str {
    if live == "blue" { "green" } else { "blue" }
}

/// Whether the run's journal has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Journalled {
    Yes,
    /// No run is under way.
    NoRun,
    /// Somebody else is at work, or a server does not answer.
    NotNow(String),
}

impl Journalled {
    fn words(&self) -> String {
        match self {
            Self::Yes => "recorded in control, and in the run's journal".to_owned(),
            Self::NoRun => "recorded in control; no run is under way".to_owned(),
            Self::NotNow(why) => {
                format!(
                    "recorded in control; the run's journal has it once the gate before the move has honoured it ({why})"
                )
            }
        }
    }
}

async fn journalled(desk: Desk<'_>, body: Value) -> Journalled {
    match has_run(&desk).await {
        Ok(true) => {}
        Ok(false) => return Journalled::NoRun,
        Err(error) => return Journalled::NotNow(error.why),
    }
    let sets = &desk.plan.sets;
    let asked = Asked { verb: VERB, sets, take_over: None, may_begin: false, waiver: None };
    let session = match Session::open(desk.world, desk.runbook, &asked, desk.screen).await {
        Ok(session) => session,
        Err((_, error)) => return Journalled::NotNow(error.why),
    };
    let written = session.arrived(body).await;
    session.close().await;
    written.map_or_else(|error| Journalled::NotNow(error.why), |()| Journalled::Yes)
}

async fn has_run(desk: &Desk<'_>) -> Result<bool, CommandError> {
    let Some(journal) = &desk.journal else { return Ok(false) };
    let run = journal.last_run(&desk.world.plan.name).await.map_err(journal_failed)?;
    Ok(run.is_some_and(|run| run.finished_at.is_none()))
}
