//! `revocations dead`: revocations that could not be replayed, and messages that could not be understood, each of which stops every move; exit 3
//! when there are any.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::desk::{Desk, ended, event, failed, line};
use super::list::page;
use crate::revocations::EventState;
use serde_json::{Value, json};

/// Arguments of `revocations dead`.
#[derive(Debug, clap::Args)]
pub(super) struct DeadArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Most that are listed.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn run(arguments: &DeadArgs) -> Ending {
    ended(&arguments.plan, async |desk| dead(arguments, &desk).await).await
}

async fn dead(arguments: &DeadArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let totals = desk.totals().await?;
    let page = page(desk, Some(EventState::Dead), None, arguments.limit).await?;
    let messages = match desk.ledger() {
        Some(ledger) => ledger.dead_messages(arguments.limit).await.map_err(failed)?,
        None => Vec::new(),
    };
    let state = match (totals.dead, messages.len()) {
        (0, 0) => "no revocation is dead".to_owned(),
        (dead, unread) => {
            let what = format!("{dead} revocations are dead, and {unread} messages could not be understood");
            format!("{what}: each stops every move until it is replayed or waived by name")
        }
    };
    let first = page.events.first().map(|told| told.id).or(messages.first().map(|(id, _)| *id));
    let next = match first {
        None => arguments.plan.command("status"),
        Some(first) => format!(
            "once its cause is mended: {}; or answer for it: {} --because \"…\"",
            arguments.plan.command(&format!("revocations replay {first}")),
            arguments.plan.command(&format!("revocations waive {first}"))
        ),
    };
    let mut said = desk.standing(state, next).await;
    for told in &page.events {
        desk.screen.line(&line(told), &event(told));
    }
    for (id, why) in &messages {
        desk.screen.line(&format!("{id}  {why}"), &json!({ "event": "dead_message", "id": id, "why": why }));
    }
    said["dead"] = json!(totals.dead);
    said["messages"] = json!(messages.len());
    said["listed"] = json!(page.events.len());
    said["more"] = json!(page.is_more);
    Ok((if totals.dead > 0 || !messages.is_empty() { Ending::Refused } else { Ending::Done }, said))
}
