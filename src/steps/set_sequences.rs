//! `set-copied-sequences` and `set-sequences`: green's sequences are put ahead of blue's; done once more under the fence.

use super::failure::fail;
use super::flip::Route;
use super::levelling::SEQUENCE_MARGIN;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::sequences;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{Side, TableName};
use std::collections::BTreeMap;
use std::time::Duration;

/// Puts green's sequences ahead.
#[derive(Debug, Clone)]
pub struct SetSequences {
    /// Whose schema green has: of blue's own they are set before migrations draw from them.
    pub form: Form,
}

impl SetSequences {
    fn renamed(&self, world: &World) -> BTreeMap<TableName, TableName> {
        match self.form {
            Form::Blue => BTreeMap::new(),
            Form::Final => world.renamed(Route::Out),
        }
    }
}

impl Step for SetSequences {
    type World = World;

    fn id(&self) -> StepId {
        match self.form {
            Form::Blue => StepId::new("set-copied-sequences"),
            Form::Final => StepId::new("set-sequences"),
        }
    }

    fn summary(&self) -> String {
        format!("put green's sequences {SEQUENCE_MARGIN} values ahead of blue's")
    }

    fn undo_summary(&self) -> String {
        "none: a sequence only ever moves onward".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::Monotone
    }

    fn limits(&self) -> Limits {
        Limits::retried(Duration::from_secs(30), 3, Duration::from_secs(1))
    }

    async fn verify(&self, world: &World, _context: &Context) -> Result<Standing, StepError> {
        let (blue, green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let behind = sequences::behind(&blue, &green, &self.renamed(world)).await;
        let behind = behind.map_err(|error| fail("compare the sequences", error))?;
        Ok(if behind.is_empty() { Standing::present() } else { Standing::Partial(behind.join("; ")) })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let (blue, mut green) = (world.side(Side::Blue).await?, world.side(Side::Green).await?);
        let carried = sequences::carry(&blue, &mut green, &context.term(), SEQUENCE_MARGIN, &self.renamed(world)).await;
        let carried = carried.map_err(|error| fail("carry the sequences", error))?;
        Ok(serde_json::json!({ "sequences": carried.len() }).into())
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
