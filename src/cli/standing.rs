//! The words for where a run stands, which side is live, and the next safe command there.

use super::arguments::PlanArgs;
use crate::engine::{RunPhase, Survey};
use crate::journal::RunState;
use crate::plan::Side;
use crate::steps::live::{self, Live};
use crate::steps::{World, abandon_green, finalize};

/// The next safe command at each phase of a run.
pub(super) fn next_command(plan: &PlanArgs, survey: &Survey) -> String {
    match survey.phase {
        RunPhase::AtFlipPoint => plan.command("flip"),
        RunPhase::Flipped => {
            let (watch, end, back) = (plan.command("run"), plan.command("finalize"), plan.command("rollback"));
            format!("watch green: {watch} --through soak; after the soak: {end}; the way back: {back}")
        }
        RunPhase::Finalized => "nothing: it is over".to_owned(),
        RunPhase::Returned if is_abandoned(survey) => {
            format!(
                "leave nothing on blue: {}, and then fill a new green: {}",
                plan.command("rollback"),
                plan.command("run")
            )
        }
        RunPhase::Returned => {
            format!("flip again: {}, or leave nothing: {}", plan.command("flip"), plan.command("rollback"))
        }
        RunPhase::RolledBack => plan.command("run"),
        RunPhase::RollingBack => plan.command("rollback"),
        RunPhase::Stuck => plan.command("status"),
        _ => plan.command("run"),
    }
}

/// The next safe command where a run stands: what its stop named, or what its phase does.
pub(super) fn next_after(plan: &PlanArgs, survey: Option<&Survey>) -> String {
    match survey {
        None => plan.command("run"),
        Some(survey) if survey.hint.is_empty() => next_command(plan, survey),
        Some(survey) => plan.fill(&survey.hint),
    }
}

/// Which side is live: what the registers say, and once finalizing has removed them, what the journal says.
pub(super) async fn live(world: &World, state: Option<&RunState>) -> Live {
    let is_finalizing = state.is_some_and(|state| state.step(finalize::ID.as_str()).is_some());
    match live::live(world).await {
        // No register at all: nobody but finalize removes those of a run that has flipped.
        Live { side: Some(Side::Blue), epoch: 0, .. } if is_finalizing => {
            Live { side: Some(Side::Green), epoch: 0, is_unreachable: false }
        }
        live => live,
    }
}

/// Whether blue serves without a green that was left for dead.
fn is_abandoned(survey: &Survey) -> bool {
    survey.crossed == Some(abandon_green::ID)
}

/// Where a run stands, and why.
pub(super) fn words(survey: Option<&Survey>) -> String {
    let Some(survey) = survey else { return "no run of this plan was ever begun".to_owned() };
    let at = survey.step.as_ref().map(|step| format!(" at {step}")).unwrap_or_default();
    let phase = match survey.phase {
        RunPhase::Fresh => "begun, nothing done yet".to_owned(),
        RunPhase::Running => format!("under way, or its process died{at}"),
        RunPhase::AtFlipPoint => "at the flip point: everything is ready, nothing of the traffic has moved".to_owned(),
        RunPhase::Flipped => "flipped: green serves".to_owned(),
        RunPhase::Finalized => "finalized: green serves, nothing of ours is left".to_owned(),
        RunPhase::Returned if is_abandoned(survey) => {
            "went back without green, which was cut off and is left as it was: blue serves".to_owned()
        }
        RunPhase::Returned => "went back: blue serves, green is kept and closed".to_owned(),
        RunPhase::Parked => format!("parked{at}"),
        RunPhase::Failed => format!("failed{at}"),
        RunPhase::Refused => format!("refused{at}"),
        RunPhase::Stuck => format!("stuck{at}"),
        RunPhase::RollingBack => format!("rolling back, or its process died{at}"),
        RunPhase::RolledBack => "rolled back: nothing of it is left".to_owned(),
    };
    let why = if survey.why.is_empty() { String::new() } else { format!(": {}", survey.why) };
    format!("{phase} ({} of {} steps done){why}", survey.done, survey.of)
}
