//! `check-servers`: everything about the servers that would stop the night, asked before anything is touched.

use super::world::World;
use crate::database::preflight::{self, Severity};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::gates;
use serde_json::json;
use std::time::Duration;

/// Asks the servers.
#[derive(Debug, Clone)]
pub struct CheckServers;

impl Step for CheckServers {
    type World = World;

    fn id(&self) -> StepId {
        StepId::new("check-servers")
    }

    fn summary(&self) -> String {
        "gate: versions, privileges, settings, keys and roles of blue, green and control".to_owned()
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

    fn limits(&self) -> Limits {
        Limits::once(Duration::from_secs(60))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let run = context.run().to_string();
        let mut findings = preflight::check(&world.plan, Some(&run), world.programs.as_deref()).await;
        findings.extend(gates::engine_grace(&world.http, &world.plan).await);
        let against: Vec<String> = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| format!("{}: {}: {}", finding.server, finding.what, finding.why))
            .collect();
        if against.is_empty() {
            return Ok(json!({ "findings": findings }).into());
        }
        Err(StepError::refused(against.join("; "), "cutover check PLAN lists them one by one"))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}
