//! `copy-schema`: green gets blue's own schema, read by PostgreSQL's `pg_dump`, before blue's rows come.

use super::failure::fail;
use super::world::World;
use crate::database::schema::{self, Noted, PgDump, SchemaCopy, SchemaError, SchemaStanding};
use crate::engine::{Context, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;

/// Copies the schema.
#[derive(Debug, Clone)]
pub struct CopySchema {
    /// Bound on reading it and applying it.
    pub bound: Duration,
}

fn copy<'a>(world: &'a World, context: &Context) -> SchemaCopy<'a> {
    let (databases, own) = (&world.plan.databases, &world.plan.own);
    SchemaCopy { run: context.run(), term: context.term(), roles: (&databases.blue.role, &databases.green.role), own }
}

fn receipt(noted: &Noted) -> Receipt {
    json!({ "objects": noted.made.len(), "own_rows": noted.own_rows, "digest": noted.digest }).into()
}

fn failed(what: &str, error: SchemaError) -> StepError {
    let is_refused = error.is_refused();
    let failed = fail(what, error);
    if is_refused {
        StepError { kind: FailureKind::Refused, ..failed }.hint("cutover check PLAN says what to do")
    } else {
        failed
    }
}

impl Step for CopySchema {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("copy-schema")
    }

    fn summary(&self) -> String {
        "give green blue's own schema (pg_dump), owners and grants as on blue, closed to the application, in one transaction".to_owned()
    }

    fn undo_summary(&self) -> String {
        "drop what it made on green, as noted there".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound, 2, Duration::from_secs(1))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let standing = schema::verify(&green, context.run()).await;
        Ok(match standing.map_err(|error| failed("look at green's schema", error))? {
            SchemaStanding::Absent => Standing::Absent,
            SchemaStanding::Present(noted) => Standing::Present(receipt(&noted)),
            SchemaStanding::Changed(_) => {
                Standing::Partial("it was copied, and green's tables are others by now".to_owned())
            }
            SchemaStanding::Foreign(what) => {
                Standing::Foreign(format!("green has what this run did not make: {}", what.join(", ")))
            }
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let what = "copy blue's schema to green";
        let (blue, mut green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let program = PgDump::find(world.programs.as_deref(), &blue).await.map_err(|error| failed(what, error))?;
        context.progress(0, None, "objects", format!("pg_dump {}", program.version));
        let dump = program.schema(world.url(Side::Blue), self.bound).await.map_err(|error| failed(what, error))?;
        let noted = copy(world, context).apply(&blue, &mut green, &dump).await;
        Ok(receipt(&noted.map_err(|error| failed(what, error))?))
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let mut green = world.side(Side::Green).await?;
        let removed = copy(world, context).remove(&mut green).await;
        removed.map_err(|error| failed("drop the copied schema", error))
    }
}
