//! `revocations move`: what waits in the queue of an older plan goes into the queue of this one, as when a plan changes its queue.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::desk::{Desk, ended, failed};
use crate::plan::{self, Plan};
use crate::revocations::queue::{self, Depth};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Bound of one call on a queue.
const CALL: Duration = Duration::from_secs(10);
/// How long messages that somebody else holds are waited for.
const HELD: Duration = Duration::from_secs(60);

/// Arguments of `revocations move`.
#[derive(Debug, clap::Args)]
pub(super) struct MoveArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// The plan as it was before its queue changed; read with the same environment.
    #[arg(long, value_name = "PLAN")]
    from: PathBuf,
}

pub(super) async fn run(arguments: &MoveArgs) -> Ending {
    ended(&arguments.plan, async |desk| moved(arguments, &desk).await).await
}

async fn moved(arguments: &MoveArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let before = PlanArgs { plan: arguments.from.clone(), sets: Vec::new(), ..arguments.plan.clone() };
    let (before, now) = (before.load(&desk.screen)?, &desk.world.plan);
    let (from, to) = queues(&before, now)?;
    let source = queue::open(from, &before.control, &before.name, CALL);
    let target = queue::open(to, &now.control, &now.name, CALL);
    for one in [&source, &target] {
        one.check().await.map_err(failed)?;
    }
    let Depth { live, dead } = queue::move_all(source.as_ref(), target.as_ref(), HELD).await.map_err(failed)?;
    let state = format!("{} messages went from {} to {}", live + dead, source.name(), target.name());
    let mut said = desk.standing(state, arguments.plan.command("revocations list")).await;
    said["moved"] = json!(live + dead);
    Ok((Ending::Done, said))
}

/// Both queues, when messages of the one belong into the other.
fn queues<'a>(before: &'a Plan, now: &'a Plan) -> Result<(&'a plan::Queue, &'a plan::Queue), CommandError> {
    let usage = |why: &str, next: &str| CommandError::new(Ending::Usage, format!("{why}; nothing was moved"), next);
    if before.name != now.name {
        return Err(usage(
            "the plans have different names, and messages belong to a plan by its name",
            "name the same plan as it was before",
        ));
    }
    let queue = |plan: &'a Plan| plan.revocations.as_ref().map(|revocations| &revocations.queue);
    let (Some(from), Some(to)) = (queue(before), queue(now)) else {
        return Err(usage("one of the plans has no revocations: section", "name a plan that captures revocations"));
    };
    if from.is_the_same_as(to) && before.control.expose() == now.control.expose() {
        return Err(usage("both plans have the same queue", "name the plan as it was before its queue changed"));
    }
    Ok((from, to))
}
