//! `strip-green`: indexes and keys of the carried tables are journalled and dropped, so that rows come fast and in any order.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::indexes::{self, Definitions};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::Value;
use std::time::Duration;

/// The step's name.
pub(super) const ID: StepId = StepId::new("strip-green");

/// Drops indexes and keys of green's carried tables.
#[derive(Debug, Clone)]
pub struct StripGreen {
    /// By which mapping tables are carried.
    pub form: Form,
}

/// The definitions that the step journalled before it dropped them.
pub(super) fn definitions(context: &Context) -> Result<Definitions, StepError> {
    context.facts().get(&ID)
}

impl StripGreen {
    async fn standing(&self, world: &World, context: &Context) -> Result<Definitions, StepError> {
        let green = world.side(Side::Green).await?;
        let read = indexes::read(&green, &self.form.mapping(context)?.carried()).await;
        read.map_err(|error| fail("read green's indexes and keys", error))
    }
}

impl Step for StripGreen {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "drop indexes and keys of green's carried tables; they are built once, after the rows".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing by itself: they go with green's tables".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(Duration::from_secs(60), 3, Duration::from_secs(1))
    }

    async fn before(&self, world: &World, context: &Context) -> Result<Value, StepError> {
        Ok(Receipt::of(&self.standing(world, context).await?).into_body())
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let found = self.standing(world, context).await?;
        let stripped = found.indexes.is_empty() && found.foreign_keys.is_empty();
        Ok(match (stripped, context.before()) {
            (true, before) if !before.is_null() => Standing::Present(before.clone().into()),
            _ => Standing::Absent,
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let before = context.before().clone();
        let definitions: Definitions =
            serde_json::from_value(before.clone()).map_err(|error| fail("read the journalled definitions", error))?;
        let mut green = world.side(Side::Green).await?;
        let stripped = indexes::strip(&mut green, &context.term(), &definitions).await;
        // Whoever reads green meanwhile may be in the way, and is gone in a moment.
        stripped.map_err(|error| fail("drop green's indexes and keys", error).retry())?;
        Ok(before.into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
