//! `build-indexes` and `build-foreign-keys`: what was dropped before the rows is built again and compared with the journal.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::strip_green::definitions;
use super::world::World;
use crate::database::{copy, indexes};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Side, TableName};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::Client;

/// Builds green's indexes, or its foreign keys, again.
#[derive(Debug, Clone)]
pub struct Build {
    /// By which mapping tables are carried.
    pub form: Form,
    /// Foreign keys, which come after the backlog, and unique indexes that had to wait for it; indexes otherwise.
    pub foreign_keys: bool,
    /// Bound on the whole step.
    pub bound: Duration,
}

impl Build {
    async fn missing(&self, world: &World, context: &Context) -> Result<Vec<String>, StepError> {
        let green = world.side(Side::Green).await?;
        let standing = indexes::read(&green, &self.form.mapping(context)?.carried()).await;
        let standing = standing.map_err(|error| fail("read green's indexes and keys", error))?;
        let mixed = self.mixed(&green).await?;
        Ok(indexes::missing(&definitions(context)?, &standing, self.foreign_keys, &mixed))
    }

    /// Tables of which a unique index may have to wait for the backlog; none afterwards.
    async fn mixed(&self, green: &Client) -> Result<BTreeSet<TableName>, StepError> {
        if self.foreign_keys {
            return Ok(BTreeSet::new());
        }
        let copied = copy::read_copied(green).await.map_err(|error| fail("read what was copied", error))?;
        let mixed = copied.into_iter().flatten().filter(|table| table.is_mixed);
        Ok(mixed.map(|table| table.table).collect())
    }
}

impl Step for Build {
    type World = World;

    fn id(&self) -> StepId {
        if self.foreign_keys { StepId::new("build-foreign-keys") } else { StepId::new("build-indexes") }
    }

    fn summary(&self) -> String {
        if self.foreign_keys {
            "add green's foreign keys again and validate each against every row".to_owned()
        } else {
            "build green's indexes and keys again, the largest tables first, and compare them with the journal"
                .to_owned()
        }
    }

    fn undo_summary(&self) -> String {
        "nothing by itself: they go with green's tables".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound, 2, Duration::from_secs(1))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let missing = self.missing(world, context).await?;
        let wanted = definitions(context)?;
        let built = wanted.indexes.len() + if self.foreign_keys { wanted.foreign_keys.len() } else { 0 };
        Ok(match missing.len() {
            0 => Standing::Present(json!({ "built": built }).into()),
            _ => Standing::Partial(format!("missing or different: {}", missing.join(", "))),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let wanted = definitions(context)?;
        let mixed = self.mixed(&world.side(Side::Green).await?).await?;
        let tell = |done: usize, total: usize, name: &str| {
            context.progress(done as u64, Some(total as u64), "indexes", name);
        };
        let (url, copy) = (world.url(Side::Green), &world.plan.copy);
        let memory = copy.load.index_memory_bytes;
        let built = indexes::build(url, &context.term(), &wanted, copy.workers, memory, &mixed, &tell).await;
        built.map_err(|error| fail("build green's indexes", error))?;
        if self.foreign_keys {
            let tell = |done: usize, total: usize, name: &str| {
                context.progress(done as u64, Some(total as u64), "foreign keys", name);
            };
            let built = indexes::build_foreign_keys(url, &context.term(), &wanted, copy.workers, memory, &tell).await;
            built.map_err(|error| fail("build green's foreign keys", error))?;
            return Ok(json!({ "built": wanted.foreign_keys.len() }).into());
        }
        Ok(json!({ "built": wanted.indexes.len() }).into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
