//! `probe-dirty-data`: the gate before a row moves. Blue is asked for rows that would break or change unseen, and for rows that would hang on
//! what the cleanup rules leave behind.

use super::failure::fail;
use super::resolve_mapping::{Form, left_behind};
use super::world::World;
use crate::database::cleanup::{self, Hanging};
use crate::database::dirty::{self, Found};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Dirty, Side};
use serde_json::json;
use std::time::Duration;

/// Asks blue for dirty rows.
#[derive(Debug, Clone)]
pub struct ProbeDirtyData {
    /// By which mapping rows will be copied.
    pub form: Form,
    /// The plan's questions.
    pub dirty: Vec<Dirty>,
    /// How many cleanup rules leave rows behind.
    pub rules: usize,
    /// Bound on one question.
    pub bound: Duration,
}

impl ProbeDirtyData {
    /// What would hang on rows that are left behind.
    async fn hanging(&self, world: &World, context: &Context) -> Result<Vec<Hanging>, StepError> {
        if self.rules == 0 {
            return Ok(Vec::new());
        }
        let mapping = self.form.mapping(context)?;
        let (left, green) = left_behind(world, self.form).await?;
        let blue = world.side(Side::Blue).await?;
        let hanging = cleanup::hanging(&blue, &mapping, &left, &green).await;
        hanging.map_err(|error| fail("count what hangs on rows that are left behind", error).retry())
    }

    async fn found(&self, world: &World, context: &Context) -> Result<Vec<Found>, StepError> {
        let mut blue = world.side(Side::Blue).await?;
        let mut all = Vec::new();
        for (index, dirty) in self.dirty.iter().enumerate() {
            let found = dirty::ask(&mut blue, dirty, self.bound).await;
            let hint = "correct find: in the plan, or give it more time with window.migrate";
            let found = found.map_err(|error| fail("ask blue for dirty rows", error).hint(hint))?;
            context.progress(index as u64 + 1, Some(self.dirty.len() as u64), "questions", found.words());
            all.push(found);
        }
        Ok(all)
    }
}

impl Step for ProbeDirtyData {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("probe-dirty-data")
    }

    fn summary(&self) -> String {
        format!(
            "gate: ask blue {} questions for rows that would break or change unseen, and whether anything hangs on rows that {} rules \
             leave behind",
            self.dirty.len(),
            self.rules
        )
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
        let questions = u32::try_from(self.dirty.len() + self.rules).unwrap_or(u32::MAX).max(1);
        Limits::retried(self.bound.saturating_mul(questions), 3, Duration::from_secs(2))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let (found, hanging) = (self.found(world, context).await?, self.hanging(world, context).await?);
        let body = json!({ "found": found, "hanging": hanging });
        let refused = found.iter().filter(|found| found.is_refused()).map(Found::words);
        let refused: Vec<String> = refused.chain(hanging.iter().map(ToString::to_string)).collect();
        if refused.is_empty() {
            return Ok(body.into());
        }
        context.note(body).await?;
        let hint = "no row has moved. Mend the rows on blue, or name what deals with them (handled_by:); for rows that hang on others add a \
                    rule with orphan_of:, and begin anew: cutover rollback PLAN, then cutover run PLAN";
        Err(StepError::refused(refused.join("; "), hint))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
