//! `migrate-NAME`: one source of migrations is applied to green, before the rows come or after they stand.

use super::failure::fail;
use super::world::World;
use crate::database::claim;
use crate::database::migrate::{self, Source};
use crate::engine::{Context, Effect, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Migration, MigrationSource, Side};
use serde_json::{Value, json};
use std::time::Duration;

/// Longest wait for another runner, and for the locks of one statement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Applies one source of migrations.
#[derive(Debug, Clone)]
pub struct Migrate {
    /// The source.
    pub migration: Migration,
    /// Bound on the whole of it.
    pub bound: Duration,
}

impl Migrate {
    fn name(&self) -> String {
        format!("migrate-{}", self.migration.name)
    }

    /// Runs the source; gives what it counted.
    async fn apply(&self, world: &World, context: &Context) -> Result<Value, StepError> {
        let what = format!("apply migrations {} to green", self.migration.name);
        match &self.migration.source {
            MigrationSource::Command { run, env } => {
                let before = versions(world).await?;
                let tell = |line: &str| context.progress(0, None, "lines", line);
                let ran = migrate::command(run, env, &world.plan.folder, self.bound, &tell).await;
                ran.map_err(|error| fail(what, error))?;
                Ok(json!({ "migrations_applied": versions(world).await?.saturating_sub(before) }))
            }
            MigrationSource::Refinery { folder } => {
                let tell = |line: &str| context.progress(0, None, "lines", line);
                let role = Some(world.plan.databases.green.role.as_str());
                let (url, term) = (world.url(Side::Green), context.term());
                let source = Source { name: &self.migration.name, folder };
                let applied = migrate::refinery_folder(url, &term, source, role, PATIENCE, &tell).await;
                let applied = applied.map_err(|error| fail(what, error))?;
                Ok(json!({ "migrations_applied": applied.applied, "indexes_concurrent": applied.indexes_concurrent }))
            }
        }
    }
}

async fn versions(world: &World) -> Result<u64, StepError> {
    let green = world.side(Side::Green).await?;
    let versions = migrate::engine_versions(&green).await;
    Ok(versions.map_err(|error| fail("count the engine's migrations", error))?.unwrap_or(0))
}

impl Step for Migrate {
    type World = World;

    fn id(&self) -> StepId {
        StepId::named(self.name())
    }

    fn summary(&self) -> String {
        let when = if self.migration.after_copy { "with its rows in place" } else { "while it is empty" };
        match &self.migration.source {
            MigrationSource::Command { run, .. } => format!("run {} on green {when}", run.join(" ")),
            MigrationSource::Refinery { folder } => {
                format!("apply the migrations in {} to green {when}", folder.display())
            }
        }
    }

    fn undo_summary(&self) -> String {
        if self.migration.after_copy {
            "nothing by itself: undoing the first migrations empties green".to_owned()
        } else {
            "drop every table, type and function from green, which was empty before".to_owned()
        }
    }

    fn reversal(&self) -> Reversal {
        if self.migration.after_copy { Reversal::Monotone } else { Reversal::Undo }
    }

    fn limits(&self) -> Limits {
        Limits::once(self.bound + Duration::from_secs(30))
    }

    /// Our own runner takes up where it was cut; a command of the engine's is not killed half-way when it can end by itself.
    fn may_be_cut(&self) -> bool {
        matches!(self.migration.source, MigrationSource::Refinery { .. })
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let noted = claim::noted(&green, context.run(), &self.name()).await;
        if let Some(body) = noted.map_err(|error| fail("see what was migrated", error))? {
            return Ok(Standing::Present(body.into()));
        }
        let there = claim::contents(&green).await.map_err(|error| fail("look at green", error))?;
        let begun = !there.is_empty() && !self.migration.after_copy;
        Ok(if begun { Standing::Partial(format!("green has {} objects", there.len())) } else { Standing::Absent })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let body = self.apply(world, context).await.map_err(|error| error.effect(Effect::Unknown))?;
        let mut green = world.side(Side::Green).await?;
        let noted = claim::note(&mut green, &context.term(), context.run(), &self.name(), &body).await;
        noted.map_err(|error| fail("note what was migrated", error))?;
        Ok(body.into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        if self.migration.after_copy {
            return Ok(());
        }
        let mut green = world.side(Side::Green).await?;
        claim::empty(&mut green, &context.term()).await.map_err(|error| fail("empty green", error))?;
        if let MigrationSource::Refinery { folder } = &self.migration.source {
            let source = Source { name: &self.migration.name, folder };
            let forgotten = migrate::forget(&mut green, &context.term(), source).await;
            forgotten.map_err(|error| fail("forget the history of the migrations", error))?;
        }
        let forgotten = claim::forget(&mut green, &context.term(), &self.name()).await;
        forgotten.map_err(|error| fail("forget what was migrated", error))
    }
}
