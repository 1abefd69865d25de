//! From a plan to its runbook. Reads as a table of contents: this is what happens, in this order.

use super::abandon_green::{AbandonGreen, GreenIsolated};
use super::account_rows::AccountRows;
use super::action::Action;
use super::analyze_green::AnalyzeGreen;
use super::assert_cleaned::AssertCleaned;
use super::build_indexes::Build;
use super::capture::Capture;
use super::check_servers::CheckServers;
use super::claim_sides::{self, ClaimSides};
use super::compare_plans::ComparePlans;
use super::compat::HoldStatements;
use super::copy_rows::CopyRows;
use super::copy_schema::CopySchema;
use super::diff::DiffSides;
use super::fence_green::FenceGreen;
use super::finalize::Finalize;
use super::flip::{self, Flip, Route};
use super::freeze::{Freeze, Thaw};
use super::invariants::Invariants;
use super::issue_canaries::IssueCanaries;
use super::level_backlog::LevelBacklog;
use super::lint_migrations::LintMigrations;
use super::migrate::{Migrate, Rows};
use super::migrate_live::MigrateLive;
use super::park_rows::ParkRows;
use super::prepare::{GiveBack, LengthenJwt, SetOutside};
use super::prepare_green::{PrepareGreen, RestoreGreen};
use super::prewarm_green::PrewarmGreen;
use super::probe_blue::ProbeBlue;
use super::probe_dirty_data::ProbeDirtyData;
use super::probe_green::ProbeGreen;
use super::probing;
use super::ready_to_flip::ReadyToFlip;
use super::ready_to_return::ReadyToReturn;
use super::repair::Repair;
use super::resolve_mapping::{Form, ResolveMapping};
use super::revoke_canaries::RevokeCanaries;
use super::revoke_canaries_on_green::RevokeCanariesOnGreen;
use super::set_sequences::SetSequences;
use super::soak::Soak;
use super::soaked::Soaked;
use super::strip_green::StripGreen;
use super::sweep_rows::{self, SweepRows};
use crate::engine::{Runbook, RunbookError, StepId};
use crate::plan::{CleanupRule, Condition, CopyMethod, Migration, Plan, Probe, Side};
use std::time::Duration;

/// The last step of `run`: everything is ready, and nothing of the traffic has moved.
#[must_use]
pub fn flip_point(plan: &Plan) -> StepId {
    match plan.migrate.iter().rfind(|migration| !migration.contract) {
        _ if !plan.databases.is_in_place => StepId::new("capture-green"),
        Some(last) => StepId::named(format!("migrate-{}", last.name)),
        None if plan.databases.is_in_place && !plan.cleanup.is_empty() => sweep_rows::ID,
        None => claim_sides::ID,
    }
}

/// Compiles a plan into its runbook.
///
/// # Errors
/// A runbook that breaks the engine's rules: a bug of this function.
pub fn compile(plan: &Plan) -> Result<Runbook<Action>, RunbookError> {
    let until = (!plan.systems.is_empty()).then_some(flip::ID);
    if plan.databases.is_in_place {
        return Runbook::new(in_place(plan));
    }
    let mut steps = vec![Action::CheckServers(CheckServers)];
    steps.extend(probes_on_blue(plan));
    steps.extend(lengthen_jwt(plan));
    steps.push(Action::ClaimSides(ClaimSides));
    steps.extend(plan.prepare.iter().map(|one| Action::SetOutside(SetOutside { prepare: one.clone() })));
    let probes = canaries(plan);
    steps.extend(probes.map(|probes| Action::IssueCanaries(IssueCanaries { probes })));
    steps.extend(match plan.copy.method {
        CopyMethod::Carry => carried(plan, until.as_ref()),
        CopyMethod::Logical => copied(plan, until.as_ref()),
    });
    steps.extend(proved(plan));
    // After everything that changes green's rows before the flip; an invariant says more than a row that differs.
    steps.extend(plan.diff.step.then(|| Action::DiffSides(DiffSides::of(plan))));
    // After every index that green gets, and before time is spent on its memory.
    steps.extend(plan.hot_queries.clone().map(|hot| Action::ComparePlans(ComparePlans { hot })));
    if plan.copy.prewarm {
        steps.push(Action::PrewarmGreen(PrewarmGreen { bound: plan.window.migrate }));
    }
    if !plan.probes.is_empty() {
        steps.push(Action::ProbeGreen(ProbeGreen { bound: probing::bound(plan) }));
    }
    steps.push(Action::SetSequences(SetSequences { form: Form::Final }));
    if !plan.freeze.is_empty() {
        steps.push(Action::Freeze(Freeze { jobs: plan.freeze.clone() }));
    }
    steps.extend([Action::Capture(Capture::of(plan, Side::Green, Form::Final, until))]);
    if !plan.systems.is_empty() {
        steps.push(Action::ReadyToFlip(ReadyToFlip));
        steps.push(Action::Flip(Flip::of(plan, Route::Out)));
        // Green serves still, so that its capture brings it to blue.
        steps.extend(probes.map(|probes| Action::RevokeCanariesOnGreen(RevokeCanariesOnGreen { probes })));
        steps.push(Action::ReadyToReturn(ReadyToReturn));
        steps.push(Action::Flip(Flip::of(plan, Route::Back)));
        steps.push(Action::GreenIsolated(GreenIsolated));
        steps.push(Action::AbandonGreen(AbandonGreen { hold: plan.window.hold, count_out: flip::counting_out(plan) }));
        let rounds = if plan.probes.is_empty() { Duration::ZERO } else { probing::bound(plan) };
        steps.push(Action::Soak(Soak { time: plan.window.soak, limits: plan.soak, rounds }));
        steps.push(Action::Soaked(Soaked { soak: plan.window.soak }));
        if !plan.freeze.is_empty() {
            steps.push(Action::Thaw(Thaw { jobs: plan.freeze.clone() }));
        }
        steps.extend(plan.prepare.iter().rev().map(|one| Action::GiveBack(GiveBack { prepare: one.clone() })));
        steps.push(Action::Finalize(Finalize));
    }
    Runbook::new(steps)
}

/// What holds on blue holds on green, once rows that may be put right are.
fn proved(plan: &Plan) -> Vec<Action> {
    let (invariants, repairs) = (plan.invariants.clone(), plan.repairs.clone());
    if invariants.is_empty() {
        return Vec::new();
    }
    let questions = u32::try_from(invariants.len() + 2).unwrap_or(u32::MAX);
    let bound = plan.window.level + plan.window.invariants.saturating_mul(questions);
    let is_before_flip = !plan.systems.is_empty();
    let one = |repair: &crate::plan::Repair| Action::Repair(Repair { repair: repair.clone(), bound });
    let mut steps: Vec<Action> = repairs.iter().map(one).collect();
    steps.push(Action::Invariants(Invariants { invariants, repairs, is_before_flip, bound }));
    steps
}

/// What the plan's probes find on blue itself, before anything is touched.
fn probes_on_blue(plan: &Plan) -> Option<Action> {
    let (probes, bound) = (plan.probes.len(), probing::bound(plan));
    (probes > 0).then_some(Action::ProbeBlue(ProbeBlue { probes, bound }))
}

/// Tokens that nobody can end live longer only when a person answers for it, asked before anything is touched.
fn lengthen_jwt(plan: &Plan) -> Option<Action> {
    let names: Vec<String> = plan.prepare.iter().filter(|one| one.lengthens_jwt).map(|one| one.name.clone()).collect();
    (!names.is_empty()).then_some(Action::LengthenJwt(LengthenJwt { names }))
}

/// How many probes have grants on blue before the first row is copied.
fn canaries(plan: &Plan) -> Option<u32> {
    let keeps = |probe: &&Probe| matches!(probe, Probe::Oauth(oauth) if oauth.canaries.is_some());
    let probes = u32::try_from(plan.probes.iter().filter(keeps).count()).unwrap_or(u32::MAX);
    (probes > 0).then_some(probes)
}

/// One database: it is migrated while it serves, the engine's versions change places, and what only the older one needs goes last.
fn in_place(plan: &Plan) -> Vec<Action> {
    let live = |contract: bool| {
        plan.migrate.iter().filter(move |migration| migration.contract == contract).map(|migration| {
            Action::MigrateLive(MigrateLive { migration: migration.clone(), bound: plan.window.migrate })
        })
    };
    // Asked before anything of ours is on it.
    let mut steps = vec![Action::CheckServers(CheckServers), Action::LintMigrations(LintMigrations)];
    let held = plan.compat.clone().map(|compat| HoldStatements { compat, bound: plan.window.migrate });
    steps.extend(held.map(Action::HoldStatements));
    steps.push(Action::ClaimSides(ClaimSides));
    if !plan.cleanup.is_empty() {
        // The migrations would break on these rows, or carry them along.
        steps.push(Action::SweepRows(SweepRows { rules: plan.cleanup.clone(), bound: plan.window.migrate }));
    }
    steps.extend(live(false));
    if plan.systems.is_empty() {
        return steps;
    }
    steps.extend([
        Action::ReadyToFlip(ReadyToFlip),
        Action::Flip(Flip::of(plan, Route::Out)),
        Action::ReadyToReturn(ReadyToReturn),
        Action::Flip(Flip::of(plan, Route::Back)),
        Action::Soak(Soak { time: plan.window.soak, limits: plan.soak, rounds: Duration::ZERO }),
        Action::Soaked(Soaked { soak: plan.window.soak }),
    ]);
    steps.extend(live(true));
    steps.push(Action::Finalize(Finalize));
    steps
}

/// Green gets its final schema while it is empty, and rows come in their final form.
fn carried(plan: &Plan, until: Option<&StepId>) -> Vec<Action> {
    let mut steps: Vec<Action> = migrations(plan, |one| (!one.after_copy).then_some(Rows::None)).collect();
    steps.push(Action::ResolveMapping(ResolveMapping { form: Form::Final, written: plan.carry.len() }));
    steps.extend(filled(plan, Form::Final, until));
    steps.extend(migrations(plan, |one| one.after_copy.then_some(Rows::Carried)));
    steps
}

/// Green gets blue's own schema and blue's rows; then the migrations run over them, and the mapping takes over.
fn copied(plan: &Plan, until: Option<&StepId>) -> Vec<Action> {
    let mut steps = vec![
        Action::CopySchema(CopySchema { bound: plan.window.migrate }),
        Action::ResolveMapping(ResolveMapping { form: Form::Blue, written: 0 }),
    ];
    steps.extend(filled(plan, Form::Blue, until));
    // A migration that makes rows draws their numbers from green's sequences.
    steps.push(Action::SetSequences(SetSequences { form: Form::Blue }));
    steps.extend(migrations(plan, |_| Some(Rows::Copied)));
    steps.extend([
        Action::ResolveMapping(ResolveMapping { form: Form::Final, written: plan.carry.len() }),
        Action::AnalyzeGreen(AnalyzeGreen { form: Form::Final, again: true, bound: plan.window.migrate }),
    ]);
    // In green's final form only, and right before a batch that fills it.
    steps.extend(parked(plan));
    steps.push(Action::LevelBacklog(LevelBacklog { form: Form::Final, again: true, bound: plan.window.level }));
    steps.extend(cleaned(plan));
    steps
}

/// From a schema without rows to one with all rows, indexes and keys, level with blue.
fn filled(plan: &Plan, form: Form, until: Option<&StepId>) -> Vec<Action> {
    let bound = plan.window.migrate;
    let mut steps = Vec::new();
    if !plan.dirty.is_empty() || !plan.cleanup.is_empty() {
        // While green's foreign keys stand, and nothing has been moved.
        let (dirty, rules) = (plan.dirty.clone(), plan.cleanup.len());
        steps.push(Action::ProbeDirtyData(ProbeDirtyData { form, dirty, rules, bound }));
    }
    steps.extend([
        Action::FenceGreen(FenceGreen),
        Action::Capture(Capture::of(plan, Side::Blue, form, until.cloned())),
        Action::StripGreen(StripGreen { form }),
        Action::PrepareGreen(PrepareGreen { form, load: plan.copy.load }),
        Action::CopyRows(CopyRows {
            form,
            workers: plan.copy.workers,
            bound: plan.window.copy,
            rules: plan.cleanup.len(),
            throttle: plan.copy.throttle,
        }),
        Action::AccountRows(AccountRows { form }),
        Action::Build(Build { form, foreign_keys: false, bound }),
        // Without statistics the planner reads whole tables for every batch and every proof.
        Action::AnalyzeGreen(AnalyzeGreen { form, again: false, bound }),
    ]);
    if form == Form::Final {
        steps.extend(parked(plan));
    }
    // Tokens that are born after the copy and revoked there; the batches that follow bring it to green before any gate asks.
    steps.extend(canaries(plan).map(|probes| Action::RevokeCanaries(RevokeCanaries { probes })));
    steps.extend([
        Action::LevelBacklog(LevelBacklog { form, again: false, bound: plan.window.level }),
        Action::Build(Build { form, foreign_keys: true, bound }),
        Action::RestoreGreen(RestoreGreen { form, load: plan.copy.load }),
    ]);
    if form == Form::Final {
        steps.extend(cleaned(plan));
    }
    steps
}

/// An archive for what cleanup rules leave behind.
fn parked(plan: &Plan) -> Option<Action> {
    let rules = names(plan, |rule| rule.park);
    (!rules.is_empty()).then_some(Action::ParkRows(ParkRows { rules, bound: plan.window.migrate }))
}

/// Nothing that orphan rules leave behind is on green.
fn cleaned(plan: &Plan) -> Option<Action> {
    let rules = names(plan, |rule| matches!(rule.condition, Condition::OrphanOf(_)));
    (!rules.is_empty()).then_some(Action::AssertCleaned(AssertCleaned { rules, bound: plan.window.migrate }))
}

fn names(plan: &Plan, is_meant: impl Fn(&CleanupRule) -> bool) -> Vec<String> {
    plan.cleanup.iter().filter(|rule| is_meant(rule)).map(|rule| rule.name.clone()).collect()
}

/// The migrations for which `rows` says what green holds when they run.
fn migrations(plan: &Plan, rows: impl Fn(&Migration) -> Option<Rows>) -> impl Iterator<Item = Action> {
    plan.migrate.iter().filter_map(move |migration| {
        let rows = rows(migration)?;
        Some(Action::Migrate(Migrate { migration: migration.clone(), rows, bound: plan.window.migrate }))
    })
}
