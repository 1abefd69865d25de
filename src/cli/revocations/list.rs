//! `revocations list`: captured revocations, oldest first, page by page; touches nothing.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::desk::{Desk, ended, event, failed, line};
use crate::revocations::{EventState, Page, Totals};
use serde_json::{Value, json};
use uuid::Uuid;

/// Arguments of `revocations list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Only those that stand so: queued, replayed, proved, dead, waived or refused.
    #[arg(long, value_name = "STATE")]
    state: Option<EventState>,
    /// Most that are listed.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only those behind this one; the summary of a page names it.
    #[arg(long, value_name = "ID")]
    after: Option<Uuid>,
}

pub(super) async fn run(arguments: &ListArgs) -> Ending {
    ended(&arguments.plan, async |desk| list(arguments, &desk).await).await
}

async fn list(arguments: &ListArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let totals = desk.totals().await?;
    let page = page(desk, arguments.state, arguments.after, arguments.limit).await?;
    let after = page.events.last().filter(|_| page.is_more).map(|last| last.id);
    let next = match after {
        Some(after) => more(arguments, after),
        None => next(arguments, &totals),
    };
    let mut said = desk.standing(totals.words(), next).await;
    for told in &page.events {
        desk.screen.line(&line(told), &event(told));
    }
    if page.is_more {
        desk.screen.say("… and more; the next page is the command above");
    }
    said["listed"] = json!(page.events.len());
    said["more"] = json!(page.is_more);
    said["after"] = json!(after);
    said["totals"] = json!(totals);
    Ok((Ending::Done, said))
}

/// A page; an empty one when nothing was ever captured.
pub(super) async fn page(
    desk: &Desk<'_>,
    state: Option<EventState>,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Page, CommandError> {
    match &desk.journal {
        None => Ok(Page { events: Vec::new(), is_more: false }),
        Some(_) => desk.overview().page(state, after, limit).await.map_err(failed),
    }
}

fn more(arguments: &ListArgs, after: Uuid) -> String {
    let state = arguments.state.map(|state| format!(" --state {}", state.as_str())).unwrap_or_default();
    let limit = arguments.limit;
    format!("{}{state} --limit {limit} --after {after}", arguments.plan.command("revocations list"))
}

fn next(arguments: &ListArgs, totals: &Totals) -> String {
    arguments.plan.command(if totals.dead > 0 { "revocations dead" } else { "status" })
}
