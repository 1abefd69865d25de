//! What the verbs of revocations have in common: the plan, its revocations in control, the three lines, how one is told.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::super::screen::{Screen, Standing};
use super::super::session::{journal_failed, prepare};
use crate::engine::Runbook;
use crate::journal::Journal;
use crate::plan::{Secret, Side};
use crate::revocations::{EventState, Ledger, Overview, RevocationError, Told, Totals, Verdicts};
use crate::steps::{Action, World, live};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for an answer of control.
const PATIENCE: Duration = Duration::from_secs(10);

/// The revocations of a plan, and the screen to tell of them.
pub(super) struct Desk<'a> {
    pub(super) plan: &'a PlanArgs,
    pub(super) screen: Screen,
    pub(super) world: World,
    pub(super) runbook: Runbook<Action>,
    /// Our tables in control; without them nothing was ever captured.
    pub(super) journal: Option<Journal>,
}

impl<'a> Desk<'a> {
    /// Reads the plan and finds our tables in control, brought to this version.
    pub(super) async fn open(plan: &'a PlanArgs, screen: Screen) -> Result<Self, CommandError> {
        let (world, runbook) = prepare(plan.load(&screen)?)?;
        if world.plan.revocations.is_none() {
            let why = format!("plan {} has no revocations: section", world.plan.name);
            return Err(CommandError::new(
                Ending::Usage,
                why,
                "write one, see the plan reference; nothing was touched",
            ));
        }
        let control = &world.plan.control;
        let journal = match Journal::look(control).await.map_err(journal_failed)? {
            None => None,
            Some(_) => Some(Journal::open(control).await.map_err(journal_failed)?),
        };
        Ok(Self { plan, screen, world, runbook, journal })
    }

    fn control(&self) -> (&Secret, &str) {
        (&self.world.plan.control, &self.world.plan.name)
    }

    pub(super) fn overview(&self) -> Overview {
        let (control, name) = self.control();
        Overview::new(control, name, PATIENCE)
    }

    pub(super) fn verdicts(&self) -> Verdicts {
        let (control, name) = self.control();
        Verdicts::new(control, name, PATIENCE)
    }

    /// How many stand where.
    pub(super) async fn totals(&self) -> Result<Totals, CommandError> {
        match &self.journal {
            None => Ok(Totals::default()),
            Some(_) => self.overview().totals().await.map_err(failed),
        }
    }

    /// What the queue has come to in control; none when nothing was ever captured.
    pub(super) fn ledger(&self) -> Option<Ledger> {
        self.journal.as_ref().and_then(|_| self.world.ledger(Side::Blue))
    }

    /// One event of the plan.
    pub(super) async fn one(&self, id: Uuid) -> Result<Told, CommandError> {
        self.find(id).await?.ok_or_else(|| self.no_such(id))
    }

    /// One event of the plan, if there is one of that name.
    pub(super) async fn find(&self, id: Uuid) -> Result<Option<Told>, CommandError> {
        match &self.journal {
            None => Ok(None),
            Some(_) => self.overview().one(id).await.map_err(failed),
        }
    }

    pub(super) fn no_such(&self, id: Uuid) -> CommandError {
        let why = format!("plan {} has no revocation {id}; nothing was changed", self.world.plan.name);
        CommandError::new(Ending::Refused, why, self.plan.command("revocations list"))
    }

    /// The three lines, for people; gives them back for the summary.
    pub(super) async fn standing(&self, state: String, next: String) -> Value {
        let live = live::live(&self.world).await.words();
        let said = json!({ "live": live, "why": state, "next": next });
        self.screen.standing(&Standing { live, state, next });
        said
    }
}

/// Runs a verb to its end: what it says of itself, or its error with the three lines first.
pub(super) async fn ended(
    plan: &PlanArgs,
    act: impl AsyncFnOnce(Desk<'_>) -> Result<(Ending, Value), CommandError>,
) -> Ending {
    let screen = Screen::new(plan.json);
    let result = match Desk::open(plan, screen).await {
        Ok(desk) => act(desk).await,
        Err(error) => Err(error),
    };
    match result {
        Ok((ending, summary)) => {
            screen.summary(ending, summary);
            ending
        }
        Err(error) => {
            let error = CommandError { next: plan.fill(&error.next), ..error };
            screen.refused("not asked", &error)
        }
    }
}

pub(super) fn failed(error: RevocationError) -> CommandError {
    CommandError::failed("revocations", &error, "see to it, and run the same command again")
}

/// A line for people.
pub(super) fn line(told: &Told) -> String {
    let at = told.captured_at.strftime("%Y-%m-%d %H:%M:%SZ");
    let chain = told.chain.as_ref().map_or_else(|| "cannot be understood".to_owned(), |chain| chain.words());
    let note = match told.state {
        EventState::Waived => told.waived.as_ref().map(|said| format!("{}: {}", said.by, said.because)),
        EventState::Dead | EventState::Queued => told.last_error.as_ref().map(|why| tried(told.attempts, why)),
        _ => None,
    };
    let note = note.map(|note| format!("  ({note})")).unwrap_or_default();
    format!("{}  {:<8}  {at}  {:<13}  {chain}{note}", told.id, told.state.as_str(), told.door)
}

fn tried(attempts: i32, why: &str) -> String {
    if attempts == 0 { why.to_owned() } else { format!("failed {attempts} times, last: {why}") }
}

/// The event for programs.
pub(super) fn event(told: &Told) -> Value {
    let mut event = json!({ "event": "revocation" });
    if let (Some(fields), Ok(Value::Object(said))) = (event.as_object_mut(), serde_json::to_value(told)) {
        fields.extend(said);
    }
    event
}
