//! `check`: the plan's text, and then every server it names, before anything is touched.

use super::arguments::PlanArgs;
use super::exit::Ending;
use super::screen::{Screen, Standing};
use super::session::prepare;
use crate::database::preflight::{self, Finding, Severity};
use crate::gates;
use crate::journal::Journal;
use crate::plan::Side;
use crate::revocations::queue;
use crate::revocations::sinks::Flaw;
use crate::steps::{World, flaws, live};
use serde_json::json;
use std::time::Duration;

/// `cutover check`.
pub(super) async fn run(arguments: &PlanArgs) -> Ending {
    let screen = Screen::new(arguments.json);
    let world = match arguments.load(&screen).and_then(prepare) {
        Ok((world, _)) => world,
        Err(error) => return screen.refused("not asked (nothing was touched)", &error),
    };
    let mut findings =
        preflight::check(&world.plan, unfinished_run(&world).await.as_deref(), world.programs.as_deref()).await;
    findings.extend(preflight::dirty(&world.plan).await);
    findings.extend(queue(&world).await);
    findings.extend(statements(&world).await);
    findings.extend(gates::engine_grace(&world.http, &world.plan).await);
    findings.sort_by_key(|finding| finding.severity);
    for finding in &findings {
        tell(screen, finding);
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let (ending, state, next) = match errors {
        0 => (Ending::Done, "every server is as the plan needs it".to_owned(), arguments.command("run")),
        _ => (
            Ending::Refused,
            format!("{errors} findings stand against it; nothing was touched"),
            arguments.command("check"),
        ),
    };
    let live = live::live(&world).await;
    screen.standing(&Standing { live: live.words(), state: state.clone(), next: next.clone() });
    let warnings = findings.len() - errors;
    let why = (errors > 0).then_some(state);
    screen.summary(
        ending,
        json!({ "live": live.words(), "why": why, "next": next, "errors": errors, "warnings": warnings }),
    );
    ending
}

fn tell(screen: Screen, finding: &Finding) {
    let word = if finding.severity == Severity::Error { "error" } else { "warning" };
    let text =
        format!("{word}: {}: {}\n  why: {}\n  do:  {}\n", finding.server, finding.what, finding.why, finding.next);
    let mut event = json!({ "event": "finding" });
    if let (Some(event), Ok(serde_json::Value::Object(fields))) = (event.as_object_mut(), serde_json::to_value(finding))
    {
        event.extend(fields);
    }
    screen.line(&text, &event);
}

/// Longest wait for one call on the queue.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

/// A queue outside control is asked whether it can lose nothing; the one in control comes with the journal's tables.
async fn queue(world: &World) -> Option<Finding> {
    let revocations = world.plan.revocations.as_ref()?;
    let queue = queue::open(&revocations.queue, &world.plan.control, &world.plan.name, QUEUE_PATIENCE);
    let error = if queue.is_outside() { queue.check().await.err()? } else { return None };
    Some(Finding {
        severity: Severity::Error,
        server: "queue",
        what: crate::engine::chain(&error),
        why: "revocations could not be kept, or could be lost on their way; gateways would refuse them".to_owned(),
        next: "set it up as docs/revocations.md says, then check again".to_owned(),
    })
}

/// The plan's own statements for revocations, prepared on both sides. A side that cannot be asked is told of already.
async fn statements(world: &World) -> Vec<Finding> {
    let told = |(side, flaw): (Side, Flaw)| Finding {
        severity: Severity::Error,
        server: side.as_str(),
        what: flaw.what,
        why: "revocations could not be replayed there, and the traffic would not move".to_owned(),
        next: "correct the statement, then check again".to_owned(),
    };
    flaws(world).await.unwrap_or_default().into_iter().map(told).collect()
}

/// The run whose marks on both sides are no finding, if one is under way.
async fn unfinished_run(world: &World) -> Option<String> {
    let journal = Journal::look(&world.plan.control).await.ok()??;
    let info = journal.last_run(&world.plan.name).await.ok()??;
    info.finished_at.is_none().then(|| info.id.to_string())
}
