//! From a plan to its runbook. Reads as a table of contents: this is what happens, in this order.

use super::abandon_green::{AbandonGreen, GreenIsolated};
use super::account_rows::AccountRows;
use super::action::Action;
use super::analyze_green::AnalyzeGreen;
use super::build_indexes::Build;
use super::capture::Capture;
use super::check_servers::CheckServers;
use super::claim_sides::ClaimSides;
use super::compare_plans::ComparePlans;
use super::copy_rows::CopyRows;
use super::fence_green::FenceGreen;
use super::finalize::Finalize;
use super::flip::{self, Flip, Route};
use super::level_backlog::LevelBacklog;
use super::migrate::Migrate;
use super::prepare_green::{PrepareGreen, RestoreGreen};
use super::prewarm_green::PrewarmGreen;
use super::ready_to_flip::ReadyToFlip;
use super::ready_to_return::ReadyToReturn;
use super::resolve_mapping::ResolveMapping;
use super::set_sequences::SetSequences;
use super::soak::Soak;
use super::soaked::Soaked;
use super::strip_green::StripGreen;
use crate::engine::{Runbook, RunbookError, StepId};
use crate::plan::{Plan, Side};

/// The last step of `run`: everything is ready, and nothing of the traffic has moved.
pub const FLIP_POINT: StepId = StepId::new("capture-green");

/// Compiles a plan into its runbook.
///
/// # Errors
/// A runbook that breaks the engine's rules: a bug of this function.
pub fn compile(plan: &Plan) -> Result<Runbook<Action>, RunbookError> {
    let until = (!plan.systems.is_empty()).then_some(flip::ID);
    let mut steps = vec![Action::CheckServers(CheckServers), Action::ClaimSides(ClaimSides)];
    steps.extend(migrations(plan, false));
    steps.extend([
        Action::ResolveMapping(ResolveMapping { written: plan.carry.len() }),
        Action::FenceGreen(FenceGreen),
        Action::Capture(Capture::of(plan, Side::Blue, until.clone())),
        Action::StripGreen(StripGreen),
        Action::PrepareGreen(PrepareGreen { load: plan.copy.load }),
        Action::CopyRows(CopyRows {
            workers: plan.copy.workers,
            bound: plan.window.copy,
            rules: plan.cleanup.len(),
            throttle: plan.copy.throttle,
        }),
        Action::AccountRows(AccountRows),
        Action::Build(Build { foreign_keys: false, bound: plan.window.migrate }),
        // Without statistics the planner reads whole tables for every batch and every proof.
        Action::AnalyzeGreen(AnalyzeGreen { bound: plan.window.migrate }),
        Action::LevelBacklog(LevelBacklog { bound: plan.window.level }),
        Action::Build(Build { foreign_keys: true, bound: plan.window.migrate }),
        Action::RestoreGreen(RestoreGreen { load: plan.copy.load }),
    ]);
    steps.extend(migrations(plan, true));
    // After every index that green gets, and before time is spent on its memory.
    steps.extend(plan.hot_queries.clone().map(|hot| Action::ComparePlans(ComparePlans { hot })));
    if plan.copy.prewarm {
        steps.push(Action::PrewarmGreen(PrewarmGreen { bound: plan.window.migrate }));
    }
    steps.extend([Action::SetSequences(SetSequences), Action::Capture(Capture::of(plan, Side::Green, until))]);
    if !plan.systems.is_empty() {
        steps.push(Action::ReadyToFlip(ReadyToFlip));
        steps.push(Action::Flip(Flip::of(plan, Route::Out)));
        steps.push(Action::ReadyToReturn(ReadyToReturn));
        steps.push(Action::Flip(Flip::of(plan, Route::Back)));
        steps.push(Action::GreenIsolated(GreenIsolated));
        steps.push(Action::AbandonGreen(AbandonGreen { hold: plan.window.hold }));
        steps.push(Action::Soak(Soak { time: plan.window.soak, limits: plan.soak }));
        steps.push(Action::Soaked(Soaked { soak: plan.window.soak }));
        steps.push(Action::Finalize(Finalize));
    }
    Runbook::new(steps)
}

fn migrations(plan: &Plan, after_copy: bool) -> impl Iterator<Item = Action> {
    let chosen = plan.migrate.iter().filter(move |migration| migration.after_copy == after_copy);
    chosen.map(|migration| Action::Migrate(Migrate { migration: migration.clone(), bound: plan.window.migrate }))
}
