//! `migrate-NAME` in place: one folder of migrations is applied to the database that serves, under its clients, and stays.
//!
//! What expands the schema comes before the flip, and both versions of the engine live with it; going back is their matter, the schema stays.
//! What contracts it comes after the soak, and is the end of the way back.

use super::failure::fail;
use super::migrate::{beside, beside_foretold};
use super::world::World;
use crate::database::claim;
use crate::database::foretold;
use crate::database::migrate::{Apply, Pace, Source, engine_folder, refinery_folder};
use crate::database::pending::usual_history;
use crate::engine::{Context, Effect, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Migration, MigrationSource, Side};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Noted before a contracting folder is begun.
pub(super) const CONTRACTING: &str = "contracting";

/// Applies one folder to the database that serves.
#[derive(Debug, Clone)]
pub struct MigrateLive {
    /// The folder, and how it goes about clients.
    pub migration: Migration,
    /// Bound on the whole of it.
    pub bound: Duration,
}

impl MigrateLive {
    fn name(&self) -> String {
        format!("migrate-{}", self.migration.name)
    }

    fn folder(&self) -> String {
        match &self.migration.source {
            MigrationSource::Refinery { folder, .. } | MigrationSource::Engine { folder, .. } => {
                folder.display().to_string()
            }
            MigrationSource::Command { run, .. } => run.join(" "),
        }
    }
}

impl Step for MigrateLive {
    type World = World;

    fn id(&self) -> StepId {
        StepId::named(self.name())
    }

    fn summary(&self) -> String {
        let live = &self.migration.live;
        let (lock, block) = (humantime::format_duration(live.lock_timeout), humantime::format_duration(live.block));
        let when = if self.migration.contract { "; no way back from it" } else { "" };
        format!(
            "apply the migrations in {} to blue while it serves: {lock} for a lock, no client kept waiting longer than {block}{when}",
            self.folder()
        )
    }

    fn undo_summary(&self) -> String {
        if self.migration.contract {
            "none: the engine of before does not work on it".to_owned()
        } else {
            "nothing: the schema stays, and the engine of before works on it".to_owned()
        }
    }

    /// Never undone, also where it contracts: that comes behind the flip, where no undo reaches, and it bars the way back by its note.
    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::once(self.bound)
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let blue = world.side(Side::Blue).await?;
        let noted = claim::noted(&blue, context.run(), &self.name()).await;
        let noted = noted.map_err(|error| fail("see what was migrated", error))?;
        Ok(noted.map_or(Standing::Absent, |body| Standing::Present(body.into())))
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let (what, term) = (format!("apply migrations {} to blue", self.migration.name), context.term());
        let mut blue = world.side(Side::Blue).await?;
        if self.migration.contract {
            let noted = claim::note(&mut blue, &term, context.run(), CONTRACTING, &json!({})).await;
            noted.map_err(|error| fail("note that the schema is contracted", error))?;
        }
        let tell = |line: &str| context.progress(0, None, "lines", line);
        let foretold = foretold::foretell(&blue, &self.migration, &usual_history()).await.unwrap_or_else(|error| {
            tell(&format!("lint cannot say what to expect: {}", crate::engine::chain(&error)));
            BTreeMap::new()
        });
        let (pace, owner) = (Pace::live(&self.migration.live), Some(world.plan.databases.blue.role.as_str()));
        let apply = Apply { url: world.url(Side::Blue), side: "blue", term: &term, owner, pace, tell: &tell };
        let name = &self.migration.name;
        let applied = match &self.migration.source {
            MigrationSource::Engine { folder, versions } => {
                let beside = beside(world, &self.migration);
                engine_folder(&apply, Source { name, folder, history: None }, versions, &beside).await
            }
            MigrationSource::Refinery { folder, history } => {
                let usual = usual_history();
                let history = Some(history.as_ref().unwrap_or(&usual));
                refinery_folder(&apply, Source { name, folder, history }).await
            }
            MigrationSource::Command { .. } => {
                return Err(StepError::refused(
                    "a command in a plan in place",
                    "give its files as `engine: { folder: … }`",
                ));
            }
        };
        let applied = applied.map_err(|error| fail(what, error).effect(Effect::Unknown))?;
        let body = beside_foretold(&applied, &foretold);
        let noted = claim::note(&mut blue, &term, context.run(), &self.name(), &body).await;
        noted.map_err(|error| fail("note what was migrated", error))?;
        Ok(body.into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
