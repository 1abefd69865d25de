//! `prepare-green` and `restore-green`: green's settings for the time of the load, and back as they were.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::load_settings::{self, Settings};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{LoadSettings, Side};
use serde_json::Value;
use std::time::Duration;

const PREPARE: StepId = StepId::new("prepare-green");

async fn settings(world: &World, context: &Context, form: Form, load: &LoadSettings) -> Result<Settings, StepError> {
    let green = world.side(Side::Green).await?;
    let read = load_settings::read(&green, &form.mapping(context)?.carried(), load).await;
    read.map_err(|error| fail("read green's settings", error))
}

async fn give_back(
    world: &World,
    context: &Context,
    form: Form,
    before: &Settings,
    load: &LoadSettings,
) -> Result<(), StepError> {
    let tables = form.mapping(context)?.carried();
    let back = load_settings::give_back(world.url(Side::Green), &context.term(), before, &tables, load).await;
    back.map_err(|error| fail("set green's settings back", error))
}

fn limits() -> Limits {
    Limits::retried(Duration::from_secs(60), 3, Duration::from_secs(1))
}

/// Sets green up for a load.
#[derive(Debug, Clone)]
pub struct PrepareGreen {
    /// By which mapping tables are carried.
    pub form: Form,
    /// What the plan wants.
    pub load: LoadSettings,
}

impl PrepareGreen {
    /// As it was before we changed it.
    fn before_change(context: &Context) -> Result<Settings, StepError> {
        let before = serde_json::from_value(context.before().clone());
        before.map_err(|error| fail("read the journalled settings", error))
    }
}

impl Step for PrepareGreen {
    type World = World;

    fn id(&self) -> StepId {
        PREPARE
    }

    fn summary(&self) -> String {
        let mut words = "switch autovacuum off for green's carried tables while they are filled".to_owned();
        if let Some(bytes) = self.load.max_wal_size_bytes {
            words.push_str(&format!(", max_wal_size {} MB", bytes >> 20));
        }
        if let Some(time) = self.load.checkpoint_timeout {
            words.push_str(&format!(", checkpoint_timeout {}", humantime::format_duration(time)));
        }
        words
    }

    fn undo_summary(&self) -> String {
        "set them back as they were".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        limits()
    }

    async fn before(&self, world: &World, context: &Context) -> Result<Value, StepError> {
        Ok(Receipt::of(&settings(world, context, self.form, &self.load).await?).into_body())
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let now = settings(world, context, self.form, &self.load).await?;
        if context.before().is_null() {
            return Ok(Standing::Absent);
        }
        let before = Self::before_change(context)?;
        Ok(if load_settings::is_set(&now, &self.load) {
            Standing::Present(context.before().clone().into())
        } else if load_settings::is_given_back(&now, &before, &self.load) {
            Standing::Absent
        } else {
            // Killed between two settings: those that stand are undone like all of them.
            Standing::Partial("some of green's settings are those of a load".to_owned())
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let before = Self::before_change(context)?;
        let set = load_settings::set(world.url(Side::Green), &context.term(), &before, &self.load).await;
        set.map_err(|error| fail("set green up for a load", error))?;
        Ok(context.before().clone().into())
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        give_back(world, context, self.form, &Self::before_change(context)?, &self.load).await
    }
}

/// Sets green's settings back.
#[derive(Debug, Clone)]
pub struct RestoreGreen {
    /// By which mapping tables are carried.
    pub form: Form,
    /// What the plan wanted for the load.
    pub load: LoadSettings,
}

impl Step for RestoreGreen {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("restore-green")
    }

    fn summary(&self) -> String {
        "set green's settings back as they were before the load, and see that they are".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing: they are as they were".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        limits()
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let now = settings(world, context, self.form, &self.load).await?;
        let is_back = load_settings::is_given_back(&now, &context.facts().get(&PREPARE)?, &self.load);
        Ok(if is_back { Standing::present() } else { Standing::Absent })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        give_back(world, context, self.form, &context.facts().get(&PREPARE)?, &self.load).await?;
        Ok(Receipt::none())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
