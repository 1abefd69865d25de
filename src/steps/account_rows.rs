//! `account-rows`: every source row is either on green or left behind by a rule, table by table; refused otherwise.

use super::failure::fail;
use super::resolve_mapping::Form;
use super::world::World;
use crate::database::account;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;

/// Accounts for every row, before the first change is brought to green.
#[derive(Debug, Clone)]
pub struct AccountRows {
    /// By which mapping rows were copied.
    pub form: Form,
}

impl Step for AccountRows {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("account-rows")
    }

    fn summary(&self) -> String {
        "count: rows on blue at the snapshot = rows on green + rows left behind by a rule".to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(1800))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let green = world.side(Side::Green).await?;
        let accounts = account::count(&green, &self.form.mapping(context)?.carried()).await;
        let accounts = accounts.map_err(|error| fail("count green's rows", error))?;
        let wrong = account::judge(&accounts);
        if wrong.is_empty() {
            return Ok(json!({ "tables": accounts.len() }).into());
        }
        let words: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        let why = format!("rows are not accounted for: {}", words.join("; "));
        Err(StepError::refused(why, "begin anew: cutover rollback PLAN, then cutover run PLAN"))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
