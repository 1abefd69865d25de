//! `migrate-NAME`: one source of migrations is applied to green, before the rows come, after they stand, or over rows that are blue's still.
//!
//! In the last case green is closed already and a command runs as our login. What it makes is ours, so that the application cannot write
//! it, until the same transaction closes it and hands it over.

use super::failure::fail;
use super::world::World;
use crate::database::foretold::{self, Foretold};
use crate::database::inventory::{self, Object};
use crate::database::migrate::{self, Applied, Apply, Beside, Pace, Source};
use crate::database::{claim, quiet, refusal};
use crate::engine::{Context, Effect, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Migration, MigrationSource, Secret, Side};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Client;

/// Longest wait for another runner, and for the locks of one statement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest wait for the lock of one table of green when what is new is closed.
const LOCK: Duration = Duration::from_secs(30);

/// What green holds when migrations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Nothing.
    None,
    /// The carried rows, in their final form.
    Carried,
    /// Blue's rows, one to one.
    Copied,
}

/// Applies one source of migrations.
#[derive(Debug, Clone)]
pub struct Migrate {
    /// The source.
    pub migration: Migration,
    /// What green holds when it runs.
    pub rows: Rows,
    /// Bound on the whole of it.
    pub bound: Duration,
}

impl Migrate {
    fn name(&self) -> String {
        format!("migrate-{}", self.migration.name)
    }

    /// Runs the source; gives what it counted and measured.
    async fn apply(&self, world: &World, context: &Context) -> Result<Value, StepError> {
        match &self.migration.source {
            MigrationSource::Command { run, env } => self.command(world, context, run, env).await,
            MigrationSource::Refinery { folder, .. } | MigrationSource::Engine { folder, .. } => {
                self.folder(world, context, folder).await
            }
        }
    }

    fn act(&self) -> String {
        format!("apply migrations {} to green", self.migration.name)
    }

    async fn command(
        &self,
        world: &World,
        context: &Context,
        run: &[String],
        env: &BTreeMap<String, Secret>,
    ) -> Result<Value, StepError> {
        let before = versions(world).await?;
        let tell = |line: &str| context.progress(0, None, "lines", line);
        if self.rows == Rows::Copied {
            let green = world.side(Side::Green).await?;
            quiet::wait(&green, self.bound, &tell).await.map_err(|error| fail(self.act(), error))?;
        }
        let watcher = world.side(Side::Green).await?;
        let watch = Beside::begin(&watcher).await.map_err(|error| fail("measure what the migrations do", error))?;
        let (ran, locks) = watch.attend(migrate::command(run, env, &world.plan.folder, self.bound, &tell)).await;
        ran.map_err(|error| fail(self.act(), error))?;
        let measured = watch.end(&self.migration.name, &locks).await;
        let measured = measured.map_err(|error| fail("measure what the migrations did", error))?;
        let applied = versions(world).await?.saturating_sub(before);
        Ok(json!({ "migrations_applied": applied, "files": [measured] }))
    }

    async fn folder(&self, world: &World, context: &Context, folder: &Path) -> Result<Value, StepError> {
        let tell = |line: &str| context.progress(0, None, "lines", line);
        let role = Some(world.plan.databases.green.role.as_str()).filter(|_| self.rows != Rows::Copied);
        let (url, term) = (world.url(Side::Green), context.term());
        let source = Source { name: &self.migration.name, folder, history: None };
        let foretold = self.foretell(world, source, &tell).await?;
        let pace = Pace::closed(PATIENCE);
        let apply = Apply { url, side: "green", term: &term, owner: role, pace, tell: &tell };
        let applied = match &self.migration.source {
            MigrationSource::Engine { versions, .. } => {
                let beside = beside(world, &self.migration);
                migrate::engine_folder(&apply, source, versions, &beside).await
            }
            _ => migrate::refinery_folder(&apply, source).await,
        };
        Ok(beside_foretold(&applied.map_err(|error| fail(self.act(), error))?, &foretold))
    }

    /// What lint expects of each file; that it cannot say is no reason to stop where nobody waits.
    async fn foretell(
        &self,
        world: &World,
        source: Source<'_>,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<BTreeMap<String, Foretold>, StepError> {
        let green = world.side(Side::Green).await?;
        let foretold = foretold::foretell(&green, &self.migration, &source.history()).await;
        Ok(foretold.unwrap_or_else(|error| {
            tell(&format!("lint cannot say what to expect: {}", crate::engine::chain(&error)));
            BTreeMap::new()
        }))
    }
}

impl Migrate {
    /// What green had before the step began.
    fn before(context: &Context) -> Result<Vec<Object>, StepError> {
        let before = serde_json::from_value(context.before().clone());
        before.map_err(|error| fail("read what was on green before the migrations", error))
    }

    /// Objects on green that can only come from it. What it only changed cannot be told.
    async fn begun(&self, green: &Client, context: &Context) -> Result<usize, StepError> {
        match self.rows {
            Rows::None => {
                let there = claim::contents(green).await.map_err(|error| fail("look at green", error))?;
                Ok(there.len())
            }
            Rows::Copied if !context.before().is_null() => {
                let now = inventory::read(green).await.map_err(|error| fail("look at green", error))?;
                Ok(inventory::made(&Self::before(context)?, &now).len())
            }
            Rows::Carried | Rows::Copied => Ok(0),
        }
    }

    /// Closes what the migrations have made, and hands it over to the application.
    async fn adopt(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let what = "close what the migrations made and hand it over";
        let mut green = world.side(Side::Green).await?;
        let ours = inventory::read_ours(&green).await.map_err(|error| fail(what, error))?;
        let made = inventory::made(&Self::before(context)?, &ours);
        let handed = inventory::hand_over_sql(&made, &world.plan.databases.green.role);
        let closed = refusal::close_and(&mut green, &context.term(), context.run(), LOCK, &handed).await;
        closed.map_err(|error| fail(what, error))
    }

    /// Drops what is on green and was not there before.
    async fn empty(&self, green: &mut Client, context: &Context) -> Result<(), StepError> {
        let what = "drop what the migrations made on green";
        if self.rows == Rows::None {
            return claim::empty(green, &context.term()).await.map_err(|error| fail("empty green", error));
        }
        let now = inventory::read(&*green).await.map_err(|error| fail(what, error))?;
        let made = inventory::made(&Self::before(context)?, &now);
        inventory::remove(green, &context.term(), &made).await.map_err(|error| fail(what, error))
    }
}

/// The folders of other entries whose versions stand in the same table of the engine's.
pub(super) fn beside<'a>(world: &'a World, migration: &Migration) -> Vec<&'a Path> {
    let MigrationSource::Engine { versions: ours, .. } = &migration.source else { return Vec::new() };
    let others = world.plan.migrate.iter().filter(|other| other.name != migration.name);
    let folder = |other: &'a Migration| match &other.source {
        MigrationSource::Engine { folder, versions } if versions == ours => Some(folder.as_path()),
        _ => None,
    };
    others.filter_map(folder).collect()
}

/// What a folder's run counted and measured, with what lint had said of each file and where the server did otherwise.
pub(super) fn beside_foretold(applied: &Applied, foretold: &BTreeMap<String, Foretold>) -> Value {
    let Applied { applied: count, indexes_concurrent, files } = applied;
    let mut body = json!({ "migrations_applied": count, "indexes_concurrent": indexes_concurrent, "files": files });
    for (at, measured) in files.iter().enumerate() {
        if let Some(said) = foretold.get(&measured.file) {
            body["files"][at]["foretold"] = json!(said);
            body["files"][at]["otherwise"] = json!(foretold::otherwise(said, measured));
        }
    }
    body
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
        let when = match self.rows {
            Rows::None => "while it is empty",
            Rows::Carried => "with its rows in place",
            Rows::Copied => "over the rows that were copied",
        };
        match &self.migration.source {
            MigrationSource::Command { run, .. } => format!("run {} on green {when}", run.join(" ")),
            MigrationSource::Refinery { folder, .. } | MigrationSource::Engine { folder, .. } => {
                format!("apply the migrations in {} to green {when}", folder.display())
            }
        }
    }

    fn undo_summary(&self) -> String {
        match self.rows {
            Rows::None => "drop every table, type and function from green, which was empty before".to_owned(),
            Rows::Carried => "nothing by itself: undoing the first migrations empties green".to_owned(),
            Rows::Copied => {
                "drop what it made on green; rows it changed go with their tables, by undoing copy-schema".to_owned()
            }
        }
    }

    fn reversal(&self) -> Reversal {
        match self.rows {
            Rows::Carried => Reversal::Monotone,
            Rows::None | Rows::Copied => Reversal::Undo,
        }
    }

    fn limits(&self) -> Limits {
        Limits::once(self.bound + Duration::from_secs(30))
    }

    /// Our own runner takes up where it was cut; a command of the engine's is not killed half-way when it can end by itself.
    fn may_be_cut(&self) -> bool {
        !matches!(self.migration.source, MigrationSource::Command { .. })
    }

    async fn before(&self, world: &World, _context: &Context) -> Result<Value, StepError> {
        if self.rows != Rows::Copied {
            return Ok(Value::Null);
        }
        let green = world.side(Side::Green).await?;
        let there = inventory::read(&green).await.map_err(|error| fail("list what is on green", error))?;
        Ok(Receipt::of(&there).into_body())
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let noted = claim::noted(&green, context.run(), &self.name()).await;
        if let Some(body) = noted.map_err(|error| fail("see what was migrated", error))? {
            return Ok(Standing::Present(body.into()));
        }
        let begun = self.begun(&green, context).await?;
        Ok(if begun > 0 { Standing::Partial(format!("green has {begun} objects of it")) } else { Standing::Absent })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let body = self.apply(world, context).await.map_err(|error| error.effect(Effect::Unknown))?;
        if self.rows == Rows::Copied {
            self.adopt(world, context).await?;
        }
        let mut green = world.side(Side::Green).await?;
        let noted = claim::note(&mut green, &context.term(), context.run(), &self.name(), &body).await;
        noted.map_err(|error| fail("note what was migrated", error))?;
        Ok(body.into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        if self.rows == Rows::Carried {
            return Ok(());
        }
        let mut green = world.side(Side::Green).await?;
        self.empty(&mut green, context).await?;
        if let MigrationSource::Refinery { folder, .. } | MigrationSource::Engine { folder, .. } =
            &self.migration.source
        {
            let source = Source { name: &self.migration.name, folder, history: None };
            let forgotten = migrate::forget(&mut green, &context.term(), source).await;
            forgotten.map_err(|error| fail("forget the history of the migrations", error))?;
        }
        let forgotten = claim::forget(&mut green, &context.term(), &self.name()).await;
        forgotten.map_err(|error| fail("forget what was migrated", error))
    }
}
