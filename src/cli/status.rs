//! `status`: which side is live, where the run stands and why, and what to do next. Looks only; needs no lease.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{journal_failed, prepare};
use super::standing;
use crate::engine::Survey;
use crate::journal::Journal;
use crate::steps::standing as world_standing;
use serde_json::{Value, json};

/// `cutover status`.
pub(super) async fn run(arguments: &PlanArgs) -> Ending {
    let screen = Screen::new(arguments.json);
    screen.looked("unknown: the plan or the journal could not be read", look(arguments, screen).await)
}

async fn look(arguments: &PlanArgs, screen: Screen) -> Result<Value, CommandError> {
    let (world, runbook) = prepare(arguments.load(&screen)?)?;
    let journal = Journal::look(&world.plan.control).await.map_err(journal_failed)?;
    let (mut run, mut known, mut holder) = (None, None, None);
    if let Some(journal) = &journal
        && let Some(info) = journal.last_run(&world.plan.name).await.map_err(journal_failed)?
    {
        let state = journal.state(&info).await.map_err(journal_failed)?;
        run = Some((info.id, Survey::of(&runbook, &state), crate::steps::figures(&state)));
        known = Some(state);
        holder = journal.lease_holder().await.map_err(journal_failed)?;
    }
    let survey = run.as_ref().map(|(_, survey, _)| survey);
    let live = standing::live(&world, known.as_ref()).await;
    let why = survey.map(|survey| survey.why.clone()).unwrap_or_default();
    let next = standing::next_after(arguments, survey);
    screen.standing(&Standing { live: live.words(), state: standing::words(survey), next: next.clone() });
    if let Some(holder) = &holder {
        screen.say(&format!("at work now: {holder}"));
    }
    let details = world_standing::standing(&world, run.as_ref().map(|(id, ..)| *id), holder.is_some()).await;
    screen.say(&details.words());
    let failed = known.as_ref().map(crate::steps::failed_invariants).unwrap_or_default();
    let mut said = json!({
        "live": live.words(), "state": run.as_ref().map(|(_, survey, _)| survey.phase), "why": why, "next": next, "epoch": live.epoch,
        "run": run.as_ref().map(|(id, ..)| id), "step": run.as_ref().and_then(|(_, survey, _)| survey.step.clone()),
        "lag_s": details.lag_s, "lag_keys": details.lag_keys, "wal_kept_bytes": details.kept.map(|kept| kept.bytes), "revocations": details.revocations, "systems": details.systems,
        "fingerprints": details.fingerprints, "versions": details.versions,
        "holder": holder.map(|holder| holder.to_string()), "figures": run.map(|(.., figures)| figures),
    });
    if !failed.is_empty() {
        said["failed_invariants"] = json!(failed);
    }
    Ok(said)
}
