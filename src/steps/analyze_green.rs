//! `analyze-green` and `analyze-migrated`: the planner of green learns what its tables hold, before batches and proofs ask it.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::account;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;

/// Runs ANALYZE on green.
#[derive(Debug, Clone)]
pub struct AnalyzeGreen {
    /// By which mapping tables are carried.
    pub form: Form,
    /// Whether it is done once more, after migrations have made other tables of those that were filled.
    pub again: bool,
    /// Bound on the whole step.
    pub bound: Duration,
}

impl Step for AnalyzeGreen {
    type World = World;

    fn id(&self) -> StepId {
        if self.again { StepId::new("analyze-migrated") } else { StepId::new("analyze-green") }
    }

    fn summary(&self) -> String {
        let when = if self.again { " as the migrations left them" } else { "" };
        format!("ANALYZE green's carried tables{when}")
    }

    fn undo_summary(&self) -> String {
        "none: statistics harm nobody".to_owned()
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
        let green = world.side(Side::Green).await?;
        let analyzed = account::analyzed(&green, &self.form.mapping(context)?.carried()).await;
        let analyzed = analyzed.map_err(|error| fail("look at green's statistics", error))?;
        Ok(if analyzed { Standing::present() } else { Standing::Absent })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let tables = self.form.mapping(context)?.carried();
        let tell = |table: &str| context.progress(0, Some(tables.len() as u64), "tables", table);
        let (url, workers) = (world.url(Side::Green), world.plan.copy.workers);
        let analyzed = account::analyze(url, &context.term(), &tables, workers, &tell).await;
        analyzed.map_err(|error| fail("analyze green's tables", error))?;
        Ok(json!({ "tables": tables.len() }).into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
