//! `pause`: asks the verb that is at work on a plan, on any machine, to park, and waits until it has.
//!
//! The request is durable in the control database and belongs to the lease that is at work now: a later run never sees it. A flip
//! that is decided is not parked but finished.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{holder, journal_failed, prepare};
use super::standing;
use crate::engine::{Runbook, Survey};
use crate::journal::{Journal, LeaseHolder};
use crate::steps::{Action, World, live};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How long the verb at work is waited for: longer than a dead one's lease lives, shorter than a person's patience. What it is
/// busy with may take longer (a command of the plan's has `window.migrate`); the request stands then.
const BOUND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);

/// `cutover pause`.
pub(super) async fn run(arguments: &PlanArgs) -> Ending {
    let screen = Screen::new(arguments.json);
    match pause(arguments, screen).await {
        Ok((ending, summary)) => {
            screen.summary(ending, summary);
            ending
        }
        Err(error) => screen.refused("not asked", &error),
    }
}

async fn pause(arguments: &PlanArgs, screen: Screen) -> Result<(Ending, Value), CommandError> {
    let (world, runbook) = prepare(arguments.load(&screen)?)?;
    let at = |journal| Place { arguments, screen, world: &world, runbook: &runbook, journal };
    if Journal::look(&world.plan.control).await.map_err(journal_failed)?.is_none() {
        return Ok(at(None).end(Ending::Done, "nothing is at work", None).await);
    }
    // Opened, not looked at: the request needs the tables of this version.
    let journal = Journal::open(&world.plan.control).await.map_err(journal_failed)?;
    let place = at(Some(&journal));
    let Some(holder) = ask(&journal, &world.plan.name).await? else {
        return Ok(place.end(Ending::Done, "nothing is at work", None).await);
    };
    place.begin(&holder).await;
    if parked(&journal, &holder).await? {
        return Ok(place.end(Ending::Done, "nothing is at work any more", Some(holder.lease)).await);
    }
    let bound = humantime::format_duration(BOUND);
    let (who, lease) = (&holder.holder, holder.lease);
    let why = format!("asked, and not parked within {bound}; the request to {who} (lease {lease}) stands");
    Ok(place.end(Ending::Locked, &why, Some(lease)).await)
}

/// Asks whoever is at work on the plan; none when nobody is.
async fn ask(journal: &Journal, plan: &str) -> Result<Option<LeaseHolder>, CommandError> {
    let Some(at_work) = journal.at_work(plan).await.map_err(journal_failed)? else { return Ok(None) };
    let asked = journal.ask_to_pause(at_work.lease, &holder()).await.map_err(journal_failed)?;
    Ok(asked.then_some(at_work))
}

/// Waits until the lease is not at work any more; false when it still is at the end of the bound.
async fn parked(journal: &Journal, holder: &LeaseHolder) -> Result<bool, CommandError> {
    let until = Instant::now() + BOUND;
    loop {
        let at_work = journal.at_work(&holder.plan).await.map_err(journal_failed)?;
        if at_work.is_none_or(|at_work| at_work.lease != holder.lease) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        sleep(POLL).await;
    }
}

/// What the screens of a pause are made from.
struct Place<'a> {
    arguments: &'a PlanArgs,
    screen: Screen,
    world: &'a World,
    runbook: &'a Runbook<Action>,
    journal: Option<&'a Journal>,
}

impl Place<'_> {
    /// The three lines before the wait, and its bound.
    async fn begin(&self, holder: &LeaseHolder) {
        let bound = humantime::format_duration(BOUND);
        let live = live::live(self.world).await.words();
        let state = format!("asked to park: {holder}");
        let next = format!("it parks at its next safe point; waiting for at most {bound}");
        self.screen.standing(&Standing { live, state, next });
        self.screen.say("");
        let (lease, holder, bound_s) = (holder.lease, &holder.holder, BOUND.as_secs());
        self.screen.event(&json!({ "event": "pause_asked", "lease": lease, "holder": holder, "bound_s": bound_s }));
    }

    /// The three lines at the end; `said` goes before where the run stands.
    async fn end(&self, ending: Ending, said: &str, lease: Option<Uuid>) -> (Ending, Value) {
        let (words, next, phase) = match self.survey().await {
            Ok(survey) => {
                let next = standing::next_after(self.arguments, survey.as_ref());
                (standing::words(survey.as_ref()), next, survey.map(|survey| survey.phase))
            }
            // Whoever was at work is parked all the same.
            Err(error) => (error.why, self.arguments.fill(&error.next), None),
        };
        let next = if ending == Ending::Done { next } else { self.arguments.command("status") };
        let (live, state) = (live::live(self.world).await.words(), format!("{said}; {words}"));
        self.screen.standing(&Standing { live: live.clone(), state: state.clone(), next: next.clone() });
        (ending, json!({ "live": live, "state": phase, "why": state, "next": next, "lease": lease }))
    }

    async fn survey(&self) -> Result<Option<Survey>, CommandError> {
        let Some(journal) = self.journal else { return Ok(None) };
        let run = journal.last_run(&self.world.plan.name).await.map_err(journal_failed)?;
        let Some(run) = run else { return Ok(None) };
        let state = journal.state(&run).await.map_err(journal_failed)?;
        Ok(Some(Survey::of(self.runbook, &state)))
    }
}
