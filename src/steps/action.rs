//! The closed list of steps. A new step is one file and one line here.

use super::abandon_green::{AbandonGreen, GreenIsolated};
use super::account_rows::AccountRows;
use super::analyze_green::AnalyzeGreen;
use super::assert_cleaned::AssertCleaned;
use super::build_indexes::Build;
use super::capture::Capture;
use super::check_servers::CheckServers;
use super::claim_sides::ClaimSides;
use super::compare_plans::ComparePlans;
use super::compat::HoldStatements;
use super::copy_rows::CopyRows;
use super::copy_schema::CopySchema;
use super::diff::DiffSides;
use super::fence_green::FenceGreen;
use super::finalize::Finalize;
use super::flip::Flip;
use super::freeze::{Freeze, Thaw};
use super::invariants::Invariants;
use super::issue_canaries::IssueCanaries;
use super::level_backlog::LevelBacklog;
use super::lint_migrations::LintMigrations;
use super::log_guard;
use super::migrate::{Migrate, Rows};
use super::migrate_live::MigrateLive;
use super::park_rows::ParkRows;
use super::prepare::{GiveBack, LengthenJwt, SetOutside};
use super::prepare_green::{PrepareGreen, RestoreGreen};
use super::prewarm_green::PrewarmGreen;
use super::probe_blue::ProbeBlue;
use super::probe_dirty_data::ProbeDirtyData;
use super::probe_green::ProbeGreen;
use super::ready_to_flip::ReadyToFlip;
use super::ready_to_return::ReadyToReturn;
use super::repair::Repair;
use super::resolve_mapping::ResolveMapping;
use super::revoke_canaries::RevokeCanaries;
use super::revoke_canaries_on_green::RevokeCanariesOnGreen;
use super::set_sequences::SetSequences;
use super::soak::Soak;
use super::soaked::Soaked;
use super::strip_green::StripGreen;
use super::sweep_rows::SweepRows;
use super::world::World;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::Value;

macro_rules! actions {
    ($($name:ident: $meaning:literal),* $(,)?) => {
        /// One step of a cutover.
        #[derive(Debug, Clone)]
        pub enum Action {
            $(#[doc = $meaning] $name($name),)*
        }

        impl Step for Action {
            type World = World;

            fn id(&self) -> StepId {
                match self { $(Self::$name(step) => step.id(),)* }
            }
            fn summary(&self) -> String {
                match self { $(Self::$name(step) => step.summary(),)* }
            }
            fn undo_summary(&self) -> String {
                match self { $(Self::$name(step) => step.undo_summary(),)* }
            }
            fn reversal(&self) -> Reversal {
                match self { $(Self::$name(step) => step.reversal(),)* }
            }
            fn limits(&self) -> Limits {
                match self { $(Self::$name(step) => step.limits(),)* }
            }
            fn is_gate(&self) -> bool {
                match self { $(Self::$name(step) => step.is_gate(),)* }
            }
            fn may_be_cut(&self) -> bool {
                match self { $(Self::$name(step) => step.may_be_cut(),)* }
            }
            fn takes_back(&self) -> Option<StepId> {
                match self { $(Self::$name(step) => step.takes_back(),)* }
            }
            fn goes_with(&self) -> Option<StepId> {
                match self { $(Self::$name(step) => step.goes_with(),)* }
            }
            fn holds_until(&self) -> Option<StepId> {
                match self { $(Self::$name(step) => step.holds_until(),)* }
            }
            async fn before(&self, world: &World, context: &Context) -> Result<Value, StepError> {
                match self { $(Self::$name(step) => step.before(world, context).await,)* }
            }
            async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
                if self.is_gone(world) {
                    return Ok(Standing::Absent);
                }
                match self { $(Self::$name(step) => step.verify(world, context).await,)* }
            }
            async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
                // On the heap: the futures of all steps together, once more inside the watch, are more than a stack holds.
                let work = Box::pin(async move {
                    match self { $(Self::$name(step) => step.forward(world, context).await,)* }
                });
                match self.log_kept() {
                    None => work.await,
                    Some(kind) => log_guard::beside(world, context, kind, work).await,
                }
            }
            async fn settle(&self, world: &World, context: &Context) -> Result<(), StepError> {
                if self.is_gone(world) {
                    return Ok(());
                }
                match self { $(Self::$name(step) => step.settle(world, context).await,)* }
            }
            async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
                match self { $(Self::$name(step) => step.undo(world, context).await,)* }
            }
        }
    };
}

actions! {
    CheckServers: "Every server is as the plan needs it.",
    LintMigrations: "No migration would keep clients of the database that serves waiting.",
    HoldStatements: "Statements of the engine that serves live with the new schema.",
    LengthenJwt: "A person answers for tokens that nobody can end.",
    ClaimSides: "Our schema, identity, term and register on both sides.",
    SetOutside: "A value outside is set before the window.",
    GiveBack: "A value outside is as it was before the run.",
    CopySchema: "Green gets blue's own schema.",
    Migrate: "Green gets its schema, or a change of it.",
    SweepRows: "Rows that rules match leave the database that serves.",
    MigrateLive: "The database that serves gets a change of its schema.",
    ResolveMapping: "Every table has its mapping.",
    ProbeDirtyData: "No row of blue would break or hang in the air.",
    FenceGreen: "Green refuses every write but ours.",
    Capture: "Touched rows of a side are noted.",
    StripGreen: "Indexes and keys of carried tables are dropped.",
    PrepareGreen: "Green's settings are fit for a load.",
    CopyRows: "Rows go from blue into green.",
    Build: "Indexes or foreign keys are built again.",
    RestoreGreen: "Green's settings are as they were.",
    ParkRows: "Rows that are left behind have an archive.",
    LevelBacklog: "What was written during the copy is on green.",
    AssertCleaned: "Green holds no orphan that a rule leaves behind.",
    SetSequences: "Green's sequences are ahead of blue's.",
    AnalyzeGreen: "Green's planner has statistics.",
    AccountRows: "Every row is accounted for.",
    DiffSides: "Green is what the mapping makes of blue.",
    Repair: "Rows of green are put right.",
    Invariants: "What holds on blue holds on green.",
    ComparePlans: "Green plans hot queries as well as blue.",
    ProbeBlue: "The plan's probes hold on blue.",
    IssueCanaries: "Grants on blue that green must know.",
    RevokeCanaries: "One of them is revoked while blue serves.",
    ProbeGreen: "A closed green knows them.",
    PrewarmGreen: "Green's tables are in its memory.",
    Freeze: "Jobs outside stand still.",
    ReadyToFlip: "The gate before the flip.",
    Flip: "The traffic moves, out or back.",
    RevokeCanariesOnGreen: "One of them is revoked while green serves, before the way back.",
    ReadyToReturn: "The gate before the way back.",
    GreenIsolated: "The gate before the way back without green.",
    AbandonGreen: "Blue opens without a green that is dead.",
    Soak: "Green is watched for the planned time.",
    Soaked: "The gate before the end.",
    Thaw: "Jobs outside go on.",
    Finalize: "Nothing of ours is left, and there is no way back.",
}

impl Action {
    /// Whether blue keeps log for as long as it takes.
    fn log_kept(&self) -> Option<log_guard::Work> {
        match self {
            Self::CopyRows(_)
            | Self::AccountRows(_)
            | Self::Build(_)
            | Self::AnalyzeGreen(_)
            | Self::DiffSides(_)
            | Self::ParkRows(_)
            | Self::AssertCleaned(_)
            | Self::PrewarmGreen(_) => Some(log_guard::Work::Fills),
            Self::LevelBacklog(_) => Some(log_guard::Work::Levels),
            // A command over rows is not killed half-way for a limit that a person can still act on.
            Self::Migrate(Migrate { rows: Rows::Copied, .. }) => Some(log_guard::Work::Levels),
            _ => None,
        }
    }

    /// Whether its effect is on green alone, and green is cut off: nothing of it acts on anybody any more.
    fn is_gone(&self, world: &World) -> bool {
        let is_on_green = match self {
            Self::CopySchema(_)
            | Self::Migrate(_)
            | Self::FenceGreen(_)
            | Self::StripGreen(_)
            | Self::PrepareGreen(_)
            | Self::CopyRows(_)
            | Self::RestoreGreen(_)
            | Self::Build(_)
            | Self::ParkRows(_)
            | Self::LevelBacklog(_)
            | Self::SetSequences(_)
            | Self::Repair(_)
            | Self::AnalyzeGreen(_) => true,
            Self::Capture(capture) => capture.side == Side::Green,
            _ => false,
        };
        is_on_green && world.gone.is_some()
    }
}
