//! The proof of a mapping: what it makes of blue against what the engine's own migrations make of a copy of blue, row by row.
//!
//! Both are of one snapshot of blue. The copy lies in a scratch database beside green; blue and green are only read.

use super::diff;
use super::failure::fail;
use super::levelling::SEQUENCE_MARGIN;
use super::migrate::beside;
use super::world::World;
use crate::database::catalog::{self, Catalog, Table};
use crate::database::copy::ExportedSnapshot;
use crate::database::diff::{Class, Declared, DiffOptions, DiffProgress, Ended, Found, Meant};
use crate::database::mapping::{self, Mapping, MappingProblem};
use crate::database::migrate::{self, Apply, Pace, Source};
use crate::database::schema::{PgDump, SchemaCopy};
use crate::database::scratch::{Scratch, ScratchError};
use crate::database::term::{self, Term};

use crate::database::{claim, sequences};
use crate::engine::StepError;
use crate::plan::{CopyMethod, DeclaredRows, Migration, MigrationSource, Plan, Side, TableName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// Longest wait for another runner, and for the locks of one statement.
const PATIENCE: Duration = Duration::from_secs(60);
const HINT: &str = "blue and green are as they were";

/// Proves the mapping of a plan whose green has its final schema; tells of each stage and of each part.
///
/// # Errors
/// When something cannot be read, copied, migrated or compared; a scratch database that is left is dropped by the next call.
pub async fn prove_mapping(world: &World, tell: &(dyn Fn(&str) + Sync)) -> Result<Found, StepError> {
    let digest: String = world.plan.digest.chars().take(12).collect();
    let scratch = Scratch::create(world.url(Side::Green), &format!("cutover_proof_{digest}")).await;
    let scratch = scratch.map_err(|error| scratched("make room for a copy of blue", error))?;
    let proof = Proof { world, scratch: &scratch, run: Uuid::new_v4(), term: Term { term: 1, nonce: Uuid::new_v4() } };
    let found = proof.compare(tell).await;
    let removed = scratch.remove().await.map_err(|error| scratched("drop the copy of blue", error));
    let found = found?;
    removed?;
    Ok(found)
}

fn scratched(what: &str, error: ScratchError) -> StepError {
    fail(what, error).hint("let our login create databases on green's server; blue and green are as they were")
}

/// What was found, for the record of a rehearsal: rows compared, rows that differ as the plan declares, and all others.
#[must_use]
pub fn body(found: &Found) -> Value {
    let told = diff::body(found);
    json!({
        "rows": found.rows, "declared": found.declared.values().sum::<u64>(), "undeclared": found.differences(),
        "missing": found.missing, "extra": found.extra, "changed": found.changed,
        "declared_by": found.declared, "differences": told["rows"],
    })
}

struct Proof<'a> {
    world: &'a World,
    scratch: &'a Scratch,
    run: Uuid,
    term: Term,
}

impl Proof<'_> {
    async fn compare(&self, tell: &(dyn Fn(&str) + Sync)) -> Result<Found, StepError> {
        let blue = self.world.side(Side::Blue).await?;
        let catalog = catalog::read(&blue).await.map_err(|error| fail("read blue's catalog", error))?;
        let all: Vec<TableName> = catalog.roots().map(|table| table.name.clone()).collect();
        let snapshot = ExportedSnapshot::export(self.world.url(Side::Blue), "blue", &all).await;
        let snapshot = snapshot.map_err(|error| fail("export a snapshot of blue", error))?;
        tell(&format!("restoring a copy of blue: {} tables", all.len()));
        self.restore(&blue, &snapshot, &all).await?;
        for migration in &self.world.plan.migrate {
            tell(&format!("migrating the copy: {}", migration.name));
            self.migrate(migration, tell).await?;
        }
        tell("comparing what the mapping makes with what the migrations have made");
        let (mapping, declared) = self.mapping(&blue, &catalog).await?;
        self.diff(&snapshot, &mapping, &declared, tell).await
    }

    /// Blue's schema and rows as of the snapshot, in one transaction.
    async fn restore(&self, blue: &Client, snapshot: &ExportedSnapshot, all: &[TableName]) -> Result<(), StepError> {
        let what = "restore a copy of blue";
        let world = self.world;
        let mut scratch = self.connect().await?;
        term::install(&scratch, &self.term).await.map_err(|error| fail(what, error))?;
        claim::claim(&mut scratch, self.run, Side::Green).await.map_err(|error| fail(what, error))?;
        let program = PgDump::find(world.programs.as_deref(), blue).await.map_err(|error| fail(what, error))?;
        let dump = program.schema(world.url(Side::Blue), world.plan.window.migrate).await;
        let dump = dump.map_err(|error| fail(what, error))?;
        let databases = &world.plan.databases;
        let roles = (databases.blue.role.as_str(), databases.green.role.as_str());
        let copy = SchemaCopy { run: self.run, term: self.term, roles, own: all };
        snapshot.enter(blue).await.map_err(|error| fail(what, error))?;
        copy.apply(blue, &mut scratch, &dump).await.map_err(|error| fail(what, error))?;
        let carried = sequences::carry(blue, &mut scratch, &self.term, SEQUENCE_MARGIN, &BTreeMap::new()).await;
        carried.map_err(|error| fail(what, error))?;
        Ok(())
    }

    async fn connect(&self) -> Result<Client, StepError> {
        let url = self.scratch.url();
        let client = crate::database::client::connect(&url, "the scratch database").await;
        client.map_err(|error| fail("reach the scratch database", error))
    }

    /// One source of migrations over the copy, as our login.
    async fn migrate(&self, migration: &Migration, tell: &(dyn Fn(&str) + Sync)) -> Result<(), StepError> {
        let (plan, what) = (&self.world.plan, format!("apply migrations {} to the copy of blue", migration.name));
        match &migration.source {
            MigrationSource::Command { run, env } => {
                let env = self.scratch.redirected(env).filter(|_| !self.scratch.is_named_in(run));
                let Some(env) = env else {
                    let why = format!("{what}: its `env` holds no URL of green that could lead to the copy instead");
                    return Err(StepError::refused(
                        why,
                        format!("name green by its URL in `env` of the command; {HINT}"),
                    ));
                };
                let ran = migrate::command(run, &env, &plan.folder, plan.window.migrate, tell).await;
                ran.map(drop).map_err(|error| fail(what, error))
            }
            MigrationSource::Refinery { folder, .. } | MigrationSource::Engine { folder, .. } => {
                let (url, pace) = (self.scratch.url(), Pace::closed(PATIENCE));
                let apply = Apply { url: &url, side: "the copy", term: &self.term, owner: None, pace, tell };
                let source = Source { name: &migration.name, folder, history: None };
                let applied = match &migration.source {
                    MigrationSource::Engine { versions, .. } => {
                        migrate::engine_folder(&apply, source, versions, &beside(self.world, migration)).await
                    }
                    _ => migrate::refinery_folder(&apply, source).await,
                };
                applied.map(drop).map_err(|error| fail(what, error))
            }
        }
    }

    /// The plan's mapping of every row, and what may differ: against the copy's own values, since an engine draws some at random.
    async fn mapping(&self, blue: &Client, source: &Catalog) -> Result<(Mapping, Vec<Declared>), StepError> {
        let (plan, scratch) = (&self.world.plan, self.connect().await?);
        let read = |error| fail("read the catalogs of green and of the copy", error);
        let green = catalog::read(&self.world.side(Side::Green).await?).await.map_err(read)?;
        let copied = catalog::read(&scratch).await.map_err(read)?;
        require_alike(&green, &copied)?;
        let values = mapping::ask_values(&scratch, &plan.values).await;
        let values = values.map_err(|error| fail("ask the copy for the plan's values", error))?;
        let left = copied.roots().map(|table| &table.name).filter(|name| green.table(name).is_none());
        // Every row is compared, those of cleanup rules too; and what is left of blue's own tables has no counterpart.
        let method = crate::plan::Copy { method: CopyMethod::Logical, ..plan.copy.clone() };
        let drop = plan.drop.iter().chain(left).cloned().collect();
        let all = Plan { cleanup: Vec::new(), copy: method, drop, ..plan.clone() };
        let mapping = mapping::resolve(&all, source, &copied, &values).map_err(unresolved)?;
        let problems = mapping::judge(&mapping, Side::Blue, blue).await;
        let problems = problems.map_err(|error| fail("ask blue whether it understands the mapping", error))?;
        let declared = plan.proof.iter().map(|one| Declared {
            table: one.table.clone(),
            what: match one.rows {
                None => Meant::Columns(one.columns.clone()),
                Some(DeclaredRows::Mapped) => Meant::Rows(Class::Missing),
                Some(DeclaredRows::Migrated) => Meant::Rows(Class::Extra),
            },
            predicate: one.predicate.as_ref().map(|sql| sql.with_values(|name| values.get(name).cloned())),
            because: one.because.clone(),
        });
        if problems.is_empty() { Ok((mapping, declared.collect())) } else { Err(unresolved(problems)) }
    }

    async fn diff(
        &self,
        snapshot: &ExportedSnapshot,
        mapping: &Mapping,
        declared: &[Declared],
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Found, StepError> {
        use crate::database::diff::{diff, found};
        let (plan, scratch) = (&self.world.plan, self.scratch.url());
        let options = DiffOptions {
            blue: self.world.url(Side::Blue),
            green: &scratch,
            term: self.term,
            workers: plan.copy.workers,
            bound: plan.window.copy,
            throttle: plan.copy.throttle,
            listed: plan.diff.listed,
            declared,
            rows_in_part: None,
        };
        let told = |told: DiffProgress<'_>| tell(&format!("{} of {} parts: {}", told.done, told.parts, told.table));
        let what = "compare the mapping with the migrations";
        match diff(&options, mapping, snapshot.id(), &told).await.map_err(|error| fail(what, error))? {
            Ended::Whole => {
                found(&self.connect().await?, mapping, plan.diff.listed).await.map_err(|error| fail(what, error))
            }
            Ended::Part { why } => {
                Err(StepError::refused(format!("{what}: {why}"), format!("try again later; {HINT}")))
            }
        }
    }
}

/// The migrations give the same tables over rows as on an empty database.
fn require_alike(green: &Catalog, copied: &Catalog) -> Result<(), StepError> {
    let shape = |table: &Table| {
        let mut columns: Vec<String> =
            table.columns.iter().map(|column| format!("{} {}", column.name, column.type_sql)).collect();
        columns.sort();
        columns
    };
    let other = |table: &&Table| copied.table(&table.name).map(shape) != Some(shape(table));
    let others: Vec<String> = green.roots().filter(other).map(|table| table.name.to_string()).collect();
    if others.is_empty() {
        return Ok(());
    }
    let why = format!("the migrations make other tables over rows than on an empty database: {}", others.join(", "));
    Err(StepError::refused(why, format!("see which migration depends on rows; {HINT}")))
}

fn unresolved(problems: Vec<MappingProblem>) -> StepError {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let why = format!("the mapping cannot be compared with the migrations: {}", words.join("; "));
    StepError::refused(why, format!("correct the plan; {HINT}"))
}
