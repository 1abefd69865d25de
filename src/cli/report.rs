//! `report`: what people have answered for in the plan's last run: gates, revocations, messages and gateways, with who, when and why. Looks only.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{journal_failed, prepare};
use super::standing;
use crate::engine::Survey;
use crate::journal::{Journal, Stored};
use crate::revocations::{Overview, Waived};
use crate::steps::live;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest wait for an answer of control.
const PATIENCE: Duration = Duration::from_secs(10);

/// One thing that a person answers for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Waiver {
    /// `gate`, `revocation`, `message` or `gateway`.
    what: &'static str,
    /// Which: the gate's step, or an id.
    which: String,
    /// What is known of it.
    of: String,
    by: String,
    at: Timestamp,
    because: String,
}

/// `cutover report`.
pub(super) async fn run(arguments: &PlanArgs) -> Ending {
    let screen = Screen::new(arguments.json);
    screen.looked("not asked (nothing was touched)", look(arguments, screen).await)
}

async fn look(arguments: &PlanArgs, screen: Screen) -> Result<Value, CommandError> {
    let (world, runbook) = prepare(arguments.load(&screen)?)?;
    let (mut waivers, mut run, mut survey) = (Vec::new(), None, None);
    if Journal::look(&world.plan.control).await.map_err(journal_failed)?.is_some() {
        // Brought to this version: all that is asked for below is there.
        let journal = Journal::open(&world.plan.control).await.map_err(journal_failed)?;
        let overview = Overview::new(&world.plan.control, &world.plan.name, PATIENCE);
        let waived = overview.waived().await.map_err(|error| {
            CommandError::failed("list what was waived", &error, "see to it, and run the same command again")
        })?;
        waivers.extend(waived.into_iter().map(revocation));
        if let Some(info) = journal.last_run(&world.plan.name).await.map_err(journal_failed)? {
            waivers.extend(gates(&journal.stored(&info).await.map_err(journal_failed)?));
            survey = Some(Survey::of(&runbook, &journal.state(&info).await.map_err(journal_failed)?));
            run = Some(info.id);
        }
    }
    waivers.sort_by_key(|waiver| waiver.at);
    let (live, next) = (live::live(&world).await.words(), standing::next_after(arguments, survey.as_ref()));
    let state = standing::words(survey.as_ref());
    screen.standing(&Standing { live: live.clone(), state: state.clone(), next: next.clone() });
    tell(screen, &waivers);
    Ok(json!({ "run": run, "live": live, "why": state, "next": next, "waived": waivers.len() }))
}

fn tell(screen: Screen, waivers: &[Waiver]) {
    if waivers.is_empty() {
        screen.say("nobody has answered for anything: every gate and every revocation stands by itself");
    }
    for waiver in waivers {
        let Waiver { what, which, of, by, at, because } = waiver;
        let text = format!("waived: {what} {which} ({of})\n  by {by}, {}\n  because: {because}", at.strftime("%F %TZ"));
        let mut event = json!({ "event": "waived" });
        if let (Some(event), Ok(Value::Object(fields))) = (event.as_object_mut(), serde_json::to_value(waiver)) {
            event.extend(fields);
        }
        screen.line(&text, &event);
    }
}

fn revocation(waived: Waived) -> Waiver {
    let Waived { what, id, of, by, at, because } = waived;
    Waiver { what, which: id.to_string(), of, by, at, because }
}

/// Gates that a verb was told to pass: the record of its beginning says so.
fn gates(records: &[Stored]) -> Vec<Waiver> {
    let opened = records.iter().filter(|record| record.kind == "opened");
    let waived = opened.filter_map(|record| {
        let body: Value = serde_json::from_str(&record.body).ok()?;
        let word = |value: &Value| value.as_str().map(str::to_owned);
        Some(Waiver {
            what: "gate",
            which: word(&body["waived"]["gate"])?,
            of: format!("cutover {}", body["verb"].as_str().unwrap_or_default()),
            by: word(&body["holder"]).unwrap_or_default(),
            at: record.at,
            because: word(&body["waived"]["because"]).unwrap_or_default(),
        })
    });
    waived.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_waived_by_whoever_began_the_verb() {
        let record = |seq, kind: &str, body: Value| Stored {
            seq,
            at: Timestamp::UNIX_EPOCH,
            term: 1,
            kind: kind.to_owned(),
            step: None,
            body: body.to_string(),
        };
        let waived = json!({ "gate": "ready-to-flip", "because": "asked the owner" });
        let records = [
            record(1, "opened", json!({ "verb": "run", "holder": "ann@desk pid 1", "waived": null })),
            record(2, "opened", json!({ "verb": "flip", "holder": "bob@desk pid 2", "waived": waived })),
            record(3, "done", json!({ "waived": "asked the owner" })),
        ];
        let told = gates(&records);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].which.as_str(), told[0].by.as_str()), ("ready-to-flip", "bob@desk pid 2"));
        assert_eq!(told[0].because, "asked the owner");
    }
}
