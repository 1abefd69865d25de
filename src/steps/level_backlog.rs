//! `level-backlog` and `level-migrated`: what was written on blue during the copy is brought to green before foreign keys are built, and
//! what was written during migrations after them.

use super::failure::fail;
use super::flip::Route;
use super::levelling::Levelling;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::{claim, copy};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;

/// The steps' names, and their marks on green.
const FIRST: &str = "level-backlog";
const AGAIN: &str = "level-migrated";

/// Brings green level for the first time, or for the first time since migrations ran over its rows.
#[derive(Debug, Clone)]
pub struct LevelBacklog {
    /// By which mapping.
    pub form: Form,
    /// Whether migrations ran since green was level; the worker goes on from the position that it had then.
    pub again: bool,
    /// Bound on the whole step.
    pub bound: Duration,
}

impl LevelBacklog {
    fn name(&self) -> &'static str {
        if self.again { AGAIN } else { FIRST }
    }
}

/// By its second mapping green is only kept level from where the first has brought it.
async fn require_level(world: &World, context: &Context) -> Result<(), StepError> {
    let green = world.side(Side::Green).await?;
    let noted = claim::noted(&green, context.run(), FIRST).await;
    if noted.map_err(|error| fail("see whether green was levelled", error))?.is_some() {
        return Ok(());
    }
    let why = format!("green was never level before its migrations: {FIRST} is not noted there");
    Err(StepError::refused(why, "begin anew: cutover rollback PLAN, then cutover run PLAN"))
}

/// A chunk that is written after a batch would bring back what the batch took away: every one stands before the first.
async fn require_copied(world: &World, context: &Context, form: Form) -> Result<(), StepError> {
    let green = world.side(Side::Green).await?;
    let copied = copy::read_copied(&green).await.map_err(|error| fail("read what was copied", error))?;
    let copied = copied.unwrap_or_default();
    let wanted = form.mapping(context)?.carried();
    match wanted.iter().find(|table| !copied.iter().any(|copied| copied.table == **table)) {
        None => Ok(()),
        Some(missing) => {
            let why = format!("the copy of {missing} is not whole, and a chunk written later would undo a batch");
            Err(StepError::refused(why, "begin anew: cutover rollback PLAN, then cutover run PLAN"))
        }
    }
}

impl Step for LevelBacklog {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new(self.name())
    }

    fn summary(&self) -> String {
        let since = if self.again { "meanwhile" } else { "since the snapshot" };
        format!("bring what was written and revoked on blue {since} to green, batch by batch")
    }

    fn undo_summary(&self) -> String {
        if self.again || self.form == Form::Blue {
            return "nothing by itself: undoing copy-schema drops green's tables".to_owned();
        }
        "nothing by itself: undoing the copy empties green's tables".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound * 2, 3, Duration::from_secs(2))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let green = world.side(Side::Green).await?;
        let noted = claim::noted(&green, context.run(), self.name()).await;
        let noted = noted.map_err(|error| fail("see whether green was levelled", error))?;
        Ok(noted.map_or(Standing::Absent, |body| Standing::Present(body.into())))
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if self.again {
            require_level(world, context).await?;
        } else {
            require_copied(world, context, self.form).await?;
        }
        let mut levelling = Levelling::open_by(world, context, Route::Out, self.form).await?;
        let report = levelling.until_level(self.bound, context).await?;
        let body = json!({ "lag_ms": report.lag_ms, "keys": report.keys, "position": report.lsn.to_string() });
        let mut green = world.side(Side::Green).await?;
        let noted = claim::note(&mut green, &context.term(), context.run(), self.name(), &body).await;
        noted.map_err(|error| fail("note that green is level", error))?;
        Ok(body.into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
