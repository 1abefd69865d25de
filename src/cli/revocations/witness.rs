//! `revocations witness`: asks the tables of the side that serves of everything that was revoked, as the gate before a move does; touches nothing.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::desk::{Desk, ended};
use crate::engine::Halt;
use crate::steps::{live, second_witness};
use serde_json::{Value, json};

pub(super) async fn run(arguments: &PlanArgs) -> Ending {
    ended(arguments, async |desk| witness(arguments, &desk).await).await
}

async fn witness(arguments: &PlanArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let Some(side) = live::live(&desk.world).await.side else {
        let why = "no side serves that is known: nobody can be asked";
        return Err(CommandError::new(Ending::Failed, why, arguments.command("status")));
    };
    if desk.journal.is_none() {
        let said = desk.standing("nothing was ever captured".to_owned(), arguments.command("status")).await;
        return Ok((Ending::Done, said));
    }
    let found = second_witness(&desk.world, side).await.map_err(|error| CommandError::from(Halt::from(error)))?;
    let (asked, alive) = (&found["asked"], found["alive"].as_u64().unwrap_or_default());
    let state = format!(
        "{asked} revocations asked for on {side}: {alive} executed, says the engine, and alive; {} rotated; {} late; {} idle; {} unsettled; {} chains died that nobody revoked through a door",
        found["rotated"], found["late"], found["idle"], found["unsettled"], found["unasked"]
    );
    let next = match found["alive_ids"][0].as_str() {
        Some(id) => arguments.command(&format!("revocations replay --live {id}")),
        None => arguments.command("status"),
    };
    let mut said = desk.standing(state, next).await;
    for kind in ["alive", "rotated", "late", "idle", "unsettled", "unasked"] {
        for one in found[format!("{kind}_named")].as_array().into_iter().flatten().filter_map(Value::as_str) {
            desk.screen.line(&format!("{kind}  {one}"), &json!({ "event": "witness", "kind": kind, "said": one }));
        }
    }
    said["witness"] = found;
    Ok((if alive > 0 { Ending::Refused } else { Ending::Done }, said))
}
