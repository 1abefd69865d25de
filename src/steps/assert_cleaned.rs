//! `assert-cleaned`: no row of green points to nothing where a rule leaves orphans behind, foreign key or not.

use super::failure::fail;
use super::world::World;
use crate::database::cleanup::dangling;
use crate::database::{catalog, mapping};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;

/// Asks green for orphans.
#[derive(Debug, Clone)]
pub struct AssertCleaned {
    /// Rules that leave orphans behind.
    pub rules: Vec<String>,
    /// Bound on the whole step.
    pub bound: Duration,
}

impl Step for AssertCleaned {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("assert-cleaned")
    }

    fn summary(&self) -> String {
        format!("gate: no carried row is an orphan that {} would leave behind", self.rules.join(", "))
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        Limits::retried(self.bound, 3, Duration::from_secs(2))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, _context: &Context) -> Result<Receipt, StepError> {
        let (blue, green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let read = |error| fail("read the catalogs of blue and green", error).retry();
        let on_blue = catalog::read(&blue).await.map_err(read)?;
        let on_green = catalog::read(&green).await.map_err(read)?;
        let pointing = mapping::pointing(&world.plan, &on_blue, &on_green);
        let found = dangling(&green, &pointing).await;
        let found = found.map_err(|error| fail("look for orphans on green", error).retry())?;
        let asked: Vec<&String> = pointing.iter().map(|one| &one.rule).collect();
        if found.is_empty() {
            // A rule whose parent green does not hold cannot be asked there; the mapping alone answers for it.
            let unasked: Vec<&String> = self.rules.iter().filter(|rule| !asked.contains(rule)).collect();
            return Ok(json!({ "asked": asked, "not_on_green": unasked }).into());
        }
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        let why = format!("green is not clean: {}", words.join("; "));
        Err(StepError::refused(why, "begin anew: cutover rollback PLAN, then cutover run PLAN"))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
