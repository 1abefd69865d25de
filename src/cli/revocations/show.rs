//! `revocations show`: all that is kept of one revocation; touches nothing.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::desk::{Desk, ended, event};
use crate::revocations::{EventState, Said, Told};
use serde_json::Value;
use uuid::Uuid;

/// Arguments of `revocations show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The revocation, as `list` names it.
    id: Uuid,
    #[command(flatten)]
    plan: PlanArgs,
}

pub(super) async fn run(arguments: &ShowArgs) -> Ending {
    ended(&arguments.plan, async |desk| show(arguments, &desk).await).await
}

async fn show(arguments: &ShowArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let told = desk.one(arguments.id).await?;
    let next = match told.state {
        EventState::Dead => format!("revocations replay {}", told.id),
        _ => "revocations list".to_owned(),
    };
    let said = desk.standing(meaning(told.state).to_owned(), arguments.plan.command(&next)).await;
    desk.screen.say(&words(&told));
    desk.screen.event(&event(&told));
    Ok((Ending::Done, said))
}

fn meaning(state: EventState) -> &'static str {
    match state {
        EventState::Queued => "queued: it is not replayed on the other side yet",
        EventState::Replayed => "replayed on the other side, and not proved there yet",
        EventState::Proved => "proved: its chain was found dead on the other side",
        EventState::Dead => "dead: it could not be read or replayed, and stops every move",
        EventState::Waived => "waived: a person answers for it; it stops nothing, and may not hold on the other side",
        EventState::Refused => "refused by the engine: it revoked nothing and is never replayed",
    }
}

fn words(told: &Told) -> String {
    let mut lines = vec![
        format!("id         {}", told.id),
        format!("state      {}", told.state.as_str()),
        format!("door       {}", told.door),
        format!("captured   {} while {} was live (epoch {})", told.captured_at, told.live, told.epoch),
        format!("number     {} of {}", told.seq, told.incarnation),
        format!("seen       blue {}, green {}", told.blue, told.green),
        format!("outcome    {}{}", told.outcome, told.status.map(|code| format!(" ({code})")).unwrap_or_default()),
    ];
    match &told.chain {
        None => lines.push("chain      cannot be understood".to_owned()),
        Some(chain) => {
            let kinds = [
                ("requests", &chain.requests),
                ("consents", &chain.consents),
                ("sessions", &chain.sessions),
                ("clients", &chain.clients),
                ("signatures", &chain.signatures),
            ];
            let listed = kinds.iter().filter(|(_, ids)| !ids.is_empty());
            lines.extend(listed.map(|(kind, ids)| format!("{kind:<10} {}", ids.join(" "))));
            lines.extend(chain.subject.iter().map(|subject| format!("subject    {subject}")));
            lines.extend(chain.until.iter().map(|until| format!("until      {until}")));
        }
    }
    let times = [("replayed", told.replayed_at), ("proved", told.proved_at), ("dead", told.dead_at)];
    lines.extend(times.iter().filter_map(|(word, at)| Some(format!("{word:<10} {}", (*at)?))));
    lines.push(format!("attempts   {}", told.attempts));
    lines.extend(told.last_error.iter().map(|why| format!("last error {why}")));
    let said = [("asked by", &told.asked), ("waived by", &told.waived)];
    lines.extend(said.iter().filter_map(|(word, said)| Some(answer(word, said.as_ref()?))));
    lines.join("\n")
}

fn answer(word: &str, said: &Said) -> String {
    let at = said.at.map(|at| format!(" at {at}")).unwrap_or_default();
    format!("{word:<10} {}{at}: {}", said.by, said.because)
}
